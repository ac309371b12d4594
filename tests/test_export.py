"""torch.export and the operators themselves."""

import io

import pytest
import torch
from support.rows import row
from support.scenes import TYPES, assert_close, make_scene
from torch.library import opcheck

import gridgrad as gg


class Network(torch.nn.Module):
    def __init__(self, scene):
        super().__init__()
        self.grid = gg.Coords2Grid(gg.GridMaker(**scene.settings), (0.1, 0.2, 0.3), scene.n_types)
        self.conv = torch.nn.Conv3d(scene.n_types, 2, 3, dtype=scene.dtype)

    def forward(self, coords, types, radii):
        return self.conv(self.grid(coords, types, radii))


@row("`torch.export` with dynamic N and B, `torch.export.save`, `load`")
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("type_mode", TYPES)
def test_export(type_mode, strict):
    scene = make_scene("quintic", "per_atom", type_mode, "padded")
    network, atoms = Network(scene), scene.inputs[1:]
    shapes = {0: torch.export.Dim("B"), 1: torch.export.Dim("N")}
    program = torch.export.export(network, atoms, strict=strict, dynamic_shapes=(shapes,) * 3)
    assert [str(node.target) for node in program.graph.nodes if "gridgrad" in str(node.target)] == [
        "gridgrad.density.default"
    ]
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    larger = [torch.cat([torch.cat([value, value], 1)] * 2) for value in atoms]
    assert_close(torch.export.load(file).module()(*larger), network(*larger), 1e-12)


@row("`torch.library.opcheck` of every operator")
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize(
    ("layout", "radius_mode", "type_mode"),
    [("single", "per_atom", "vector"), ("padded", "by_type", "vector"), ("ragged", "per_atom", "index")],
)
def test_opcheck(layout, radius_mode, type_mode, requires_grad):
    scene = make_scene("quadratic", radius_mode, type_mode, layout, n_atoms=3, dimension=(1.0, 0.5, 1.0))
    maker, operators = gg.GridMaker(**scene.settings), torch.ops.gridgrad

    def given(value):
        differentiable = requires_grad and value is not None and value.is_floating_point()
        return value.clone().requires_grad_() if differentiable else value

    offsets = None if scene.batch is None else operators.batch_offsets(scene.batch, scene.batch_size)
    atoms = (*map(given, scene.inputs[1:]), offsets, None if layout == "single" else scene.center)
    grad_density, *tangents = map(given, scene.cotangents())
    needs = [True, type_mode == "vector", True]
    fixed_atoms = [value if value is None else value.detach() for value in atoms]  # a third derivative is refused
    settings = maker.spec, [0.1, 0.2, 0.3], scene.n_types
    calls = {
        "density": (*atoms, *settings),
        "density_tangent": (*atoms, *tangents, *settings),
        "density_tangent_tangent": (*fixed_atoms, *tangents, *tangents, *settings),
        "density_backward": (*atoms, grad_density, *settings, needs),
    }
    if not requires_grad:
        calls["density_relevance"] = (*atoms, grad_density.abs(), grad_density, *settings)
        calls["density_backward_backward"] = (*atoms, grad_density, *tangents, *settings, needs)
    else:
        calls["density_backward_backward"] = (*fixed_atoms, grad_density, *tangents, *settings, needs)
    for name, arguments in calls.items():
        opcheck(getattr(operators, name).default, arguments)
    if scene.batch is not None:
        opcheck(operators.batch_offsets.default, (scene.batch, scene.batch_size))


def test_relevance_has_no_derivative():
    scene = make_scene("quadratic")
    maker = gg.GridMaker(**scene.settings)
    density = maker.forward(*scene.inputs)
    with pytest.raises(RuntimeError, match="density_relevance has no derivative"):
        torch.ops.gridgrad.density_relevance(
            scene.coords.clone().requires_grad_(),
            *scene.inputs[2:],
            None,
            None,
            density,
            density,
            maker.spec,
            (0, 0, 0),
            scene.n_types,
        )
