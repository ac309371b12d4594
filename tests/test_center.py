"""A constant centre is left to the kernels: exact however far from zero, for all or per example, without a copy."""

import pickle

import pytest
import torch
from support.rows import row
from support.scenes import (
    DENSITY_BAR,
    DERIVATIVE_BAR,
    DTYPES,
    LAYOUTS,
    MODES,
    assert_close,
    assert_outputs,
    assert_same_bits,
    evaluate,
    make_scene,
    mode_id,
)
from torch.utils._python_dispatch import TorchDispatchMode

import gridgrad as gg

FAR = 1e5
"""Å from zero: neighbouring float32 numbers lie 1/128 Å apart there, those of float64 1.5e-11 Å."""


def far_scene(mode, dtype):
    """Draw atoms where float32 can put them at 1e5 Å, on grids whose centres it cannot express: those stay float64."""
    for seed in range(100):
        scene = make_scene(*mode, n_atoms=12, dimension=(3.1, 2.3, 2.6), seed=seed)
        moved = scene.to(dtype).replace(coords=(scene.coords + FAR).float().to(dtype), center=scene.center + FAR)
        if moved.reference().margin(*moved.inputs, **moved.grouping) > 1e-5:
            return moved
    raise AssertionError("no scene without a voxel at a kink")


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_far_from_zero(mode, dtype):
    """All orders in every mode are as good at 1e5 Å as at 0, and no voxel is lost."""
    scene = far_scene(mode, dtype)
    found, expected = evaluate(gg.GridMaker(**scene.settings), scene), evaluate(scene.reference(), scene)
    assert_outputs(found, expected, dtype)
    assert expected["density"].any() and torch.equal(found["density"] != 0, expected["density"] != 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
def test_only_the_distance_from_the_centre_counts(dtype, layout):
    """Where coordinates and centre can be moved exactly, the bits do not change, of any order."""
    scene = make_scene("quintic", "by_type", "vector", layout, n_atoms=9)
    grain = 2.0**-6  # 2^17 + grain is a float32
    scene = scene.replace(coords=(scene.coords / grain).round() * grain).to(dtype)
    moved = scene.replace(coords=scene.coords + 2.0**17, center=scene.center.double() + 2.0**17)
    scene = scene.replace(center=moved.center - 2.0**17)
    maker, cotangents = gg.GridMaker(**scene.settings), scene.cotangents()
    expected = evaluate(maker, scene, cotangents)
    for name, value in evaluate(maker, moved, cotangents).items():
        assert_same_bits(value, expected[name], name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
def test_every_way_to_say_it_gives_the_same_bits(layout, dtype):
    scene = make_scene("quintic", layout=layout, dtype=dtype)
    scene = scene.replace(center=scene.center.double() + 0.1)
    maker, atoms = gg.GridMaker(**scene.settings), scene.inputs[1:]
    grouping = {name: scene[name] for name in ("batch", "batch_size")}
    expected = gg.coords2grid(maker, scene.center.tolist(), *atoms, **grouping)
    rows = scene.center.tolist()
    rows = tuple(rows) if layout == "single" else [tuple(entry) for entry in rows]
    for center in (rows, scene.center, scene.center.clone().numpy(), torch.nn.Parameter(scene.center, False)):
        assert_same_bits(gg.coords2grid(maker, center, *atoms, **grouping), expected)
        assert_same_bits(gg.Coords2Grid(maker)(*atoms, **grouping, center=center), expected)
    if layout != "single":
        shared = gg.coords2grid(maker, rows[0], *atoms, **grouping)
        same = scene.center[:1].expand(len(rows), 3)
        assert_same_bits(gg.coords2grid(maker, same, *atoms, **grouping), shared)
        assert_same_bits(gg.coords2grid(maker, scene.center[0], *atoms, **grouping), shared)
        assert_same_bits(gg.Coords2Grid(maker, rows[0])(*atoms, **grouping), shared)
    assert_close(expected, scene.reference().forward(*scene.inputs, **scene.grouping), DENSITY_BAR[dtype])


class Counting(TorchDispatchMode):
    """Lists the operators that run on floats."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if any(isinstance(value, torch.Tensor) and value.is_floating_point() for value in arguments):
            self.names.append(str(function))
        return function(*arguments, **(keywords or {}))


@row("a constant `center`, as numbers or one per example: no copy of the coordinates")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_operator_but_the_density(layout):
    """Numbers and float64 centres per example cost no operator of torch, forwards or backwards."""
    scene = make_scene("quintic", layout=layout)
    maker, center = gg.GridMaker(**scene.settings), scene.center
    if layout == "single":
        center = tuple(center.tolist())
    coords = scene.coords.clone().requires_grad_()
    with Counting() as counting:
        grid = gg.coords2grid(maker, center, coords, *scene.inputs[2:], batch=scene.batch, batch_size=scene.batch_size)
    assert [name for name in counting.names if name != "aten.expand.default"] == ["gridgrad.density.default"]
    grad_density = torch.ones_like(grid)
    with Counting() as counting:
        torch.autograd.grad(grid, coords, grad_density)
    assert [name for name in counting.names if name != "aten.detach.default"] == ["gridgrad.density_backward.default"]


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
def test_centers_of_a_batch(dtype):
    """A layer leaves the centres that an `AtomBatch` carries to the kernels."""
    scene = make_scene("quintic", layout="ragged", dtype=dtype)
    offsets = torch.ops.gridgrad.batch_offsets(scene.batch, scene.batch_size)
    batch = gg.data.AtomBatch(scene.coords, scene.types, scene.radii, offsets, center=scene.center)
    layer = gg.Coords2Grid(gg.GridMaker(**scene.settings), center=(7.0, 7.0, 7.0))
    with Counting() as counting:
        found = layer(batch)
    assert [name for name in counting.names if "aten.sub" in name] == []
    assert_close(found, scene.reference().forward(*scene.inputs, **scene.grouping), DENSITY_BAR[dtype])


@pytest.mark.parametrize("mode", [mode for mode in MODES if "ragged" in mode], ids=mode_id)
def test_float64_centers_beside_float32_coordinates(mode):
    """Centres that float32 does not hold stay as they are on every way of a batch into a layer."""
    scene = far_scene(mode, torch.float32)
    offsets = torch.ops.gridgrad.batch_offsets(scene.batch, scene.batch_size)
    n_types = None if scene.types.is_floating_point() else scene.n_types
    atoms, by_type = scene.inputs[1:], scene.settings["radius_type_indexed"]
    batch = gg.data.AtomBatch(*atoms, offsets, center=scene.center, radius_type_indexed=by_type)
    assert batch.dtype is torch.float32 and not torch.equal(batch.center, batch.center.float().double())
    layer = gg.Coords2Grid(gg.GridMaker(**scene.settings), n_types=n_types)
    expected = gg.coords2grid(layer.gm, *scene.inputs, **scene.grouping)
    again = gg.data.collate([batch[i] for i in range(len(batch))])
    for same in (batch, batch.to("cpu", torch.float32), pickle.loads(pickle.dumps(batch)), again):
        assert torch.equal(same.center, scene.center) and same.center.dtype is torch.float64
        assert_same_bits(layer(same), expected)
    moved, rigid = gg.data.RandomRigid(1.0)(batch)
    assert torch.equal(rigid.origin, scene.center) and torch.equal(moved.center, scene.center)


@pytest.mark.parametrize("kind", ["numbers", "per example"])
def test_not_a_number(kind):
    """A centre of NaN makes NaN of its grid, an infinite one is out of reach, of all orders; other grids stay."""
    scene = make_scene("quintic", "per_atom", "vector", "padded")
    maker, cotangents = gg.GridMaker(**scene.settings), scene.cotangents()
    good = evaluate(maker, scene, cotangents)
    for value, reached in ((torch.nan, True), (torch.inf, False), (-torch.inf, False), (1e300, False)):
        center = scene.center.clone()
        center[0, 1] = value
        if kind == "numbers":
            center = tuple(center[0].tolist())
        found = evaluate(maker, scene.replace(center=center), cotangents)
        for name, output in found.items():
            first = output[0]
            if kind == "per example":
                assert_same_bits(output[1:], good[name][1:], name)
            if reached:
                counts = (scene.types[0] != 0).any() if "density" in name else (scene.types[0] != 0).any(-1)
                assert first.isnan().any() and (first.isnan().all() or "grad_types" in name or counts.any()), name
            else:
                assert not first.any(), f"{name} {value}"


def test_a_derivative_with_respect_to_centers_is_refused():
    """Of the operator: `coords2grid` subtracts what torch wants a derivative of."""
    scene = make_scene("quintic", layout="padded")
    maker = gg.GridMaker(**scene.settings)
    center = scene.center.clone().requires_grad_()
    grid = torch.ops.gridgrad.density(*scene.inputs[1:], None, center, maker.spec, (0, 0, 0), scene.n_types)
    with pytest.raises(RuntimeError, match="centers: a derivative is asked for"):
        grid.sum().backward()
    with pytest.raises(RuntimeError, match="centers: a derivative is asked for"):
        torch.func.jvp(
            lambda x: torch.ops.gridgrad.density(*scene.inputs[1:], None, x, maker.spec, (0, 0, 0), scene.n_types),
            (scene.center,), (scene.center,),
        )  # fmt: skip


@pytest.mark.parametrize("mapped", ["coords", "centers", "both"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_of_the_operator(layout, mapped):
    """Centres per example under vmap, mapped or not, with derivatives."""
    scene = make_scene("quintic", layout=layout)
    maker = gg.GridMaker(**scene.settings)
    offsets = None if scene.batch is None else torch.ops.gridgrad.batch_offsets(scene.batch, scene.batch_size)
    centers = scene.center[None] if layout == "single" else scene.center

    def energy(coords, centers):
        return torch.ops.gridgrad.density(
            coords, scene.types, scene.radii, offsets, centers, maker.spec, (0, 0, 0), scene.n_types
        ).square().sum()  # fmt: skip

    many = torch.stack([scene.coords, scene.coords + 0.1]), torch.stack([centers, centers - 0.2])
    dims = {"coords": (0, None), "centers": (None, 0), "both": (0, 0)}[mapped]
    given = [value if dim == 0 else value[0] for value, dim in zip(many, dims)]
    found = torch.func.vmap(torch.func.grad(energy), dims)(*given)
    for i in range(2):
        pair = [value[i] if dim == 0 else value for value, dim in zip(given, dims)]
        assert_close(found[i], torch.func.grad(energy)(*pair), DERIVATIVE_BAR[torch.float64])


def test_centers_as_numbers_under_transforms():
    """Numbers, one centre per example, inside of vmap over coordinates; and a mapped centre, which is subtracted."""
    scene = make_scene("quintic", layout="padded")
    maker, many = gg.GridMaker(**scene.settings), torch.stack([scene.coords, scene.coords + 0.1])
    found = torch.func.vmap(lambda x: gg.coords2grid(maker, scene.center.tolist(), x, *scene.inputs[2:]))(many)
    for i in range(2):
        assert_close(found[i], gg.coords2grid(maker, scene.center, many[i], *scene.inputs[2:]), 1e-12)
    centers = torch.stack([scene.center, scene.center + 0.1])
    found = torch.func.vmap(lambda c: gg.coords2grid(maker, c, *scene.inputs[1:]))(centers)
    for i in range(2):
        assert_close(found[i], gg.coords2grid(maker, centers[i], *scene.inputs[1:]), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zeros_without_memory(dtype):
    maker, atoms = gg.GridMaker(0.5, 3.0), (torch.zeros(1, 3), torch.tensor([0]), torch.ones(1))
    expected = maker.forward((0.0, 0.0, 0.0), *atoms, n_types=1)
    center = torch._efficientzerotensor(3, dtype=dtype)
    assert torch.equal(maker.forward(center, *atoms, n_types=1), expected)
    assert torch.equal(gg.coords2grid(maker, center, *atoms, n_types=1), expected)
