"""float32 against float64: within the bars, and not much worse than a dense float32 calculation."""

import pytest
import torch
from support.scenes import DENSITY_BAR, DERIVATIVE_BAR, MODES, TAILS, evaluate, make_scene, mode_id, relative_error

import gridgrad as gg

MULTIPLE = 2.0
FLOOR = 4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_error_against_a_dense_float32_run(mode):
    """At most twice the error of plain torch in float32, or a few units in the last place."""
    scene = make_scene(*mode, dtype=torch.float32, n_atoms=20, n_types=3, dimension=(4.0, 3.5, 5.0), multiple=1.25)
    cotangents = scene.cotangents()
    exact = evaluate(scene.reference(), scene, cotangents)
    dense = evaluate(scene.reference(torch.float32), scene, cotangents)
    for name, value in evaluate(gg.GridMaker(**scene.settings), scene, cotangents).items():
        if value is None:
            continue
        error, plain = relative_error(value, exact[name]), relative_error(dense[name], exact[name])
        bar = (DENSITY_BAR if name == "density" else DERIVATIVE_BAR)[torch.float32]
        assert error <= bar, f"{name}: {error:.1e}"
        assert error <= MULTIPLE * plain + FLOOR, f"{name}: {error:.1e}, dense float32 {plain:.1e}"


@pytest.mark.parametrize("tail", TAILS)
def test_far_from_the_origin(tail):
    """Coordinates and centre around 100 Å, as in a PDB file: only what float32 cannot hold is lost."""
    scene = make_scene(tail, dtype=torch.float32, n_atoms=30, dimension=(4.0, 4.0, 4.0))
    shift = torch.tensor([104.0, -88.0, 56.0])
    scene = scene.replace(center=scene.center + shift, coords=scene.coords + shift)
    assert scene.reference().margin(*scene.inputs) > 1e-6
    exact = evaluate(scene.reference(), scene)
    for name, value in evaluate(gg.GridMaker(**scene.settings), scene).items():
        bar = (DENSITY_BAR if name == "density" else DERIVATIVE_BAR)[torch.float32]
        assert relative_error(value, exact[name]) <= bar, name


@pytest.mark.parametrize("tail", TAILS)
def test_many_atoms_on_a_usual_grid(tail):
    """A cube of 24 Å with a molecule's worth of atoms: sums over many voxels keep their digits."""
    scene = make_scene(tail, dtype=torch.float32, n_atoms=40, n_types=3, dimension=(12.0, 12.0, 12.0), margin=1e-6)
    exact = evaluate(scene.reference(), scene)
    for name, value in evaluate(gg.GridMaker(**scene.settings), scene).items():
        bar = (DENSITY_BAR if name == "density" else DERIVATIVE_BAR)[torch.float32]
        assert relative_error(value, exact[name]) <= bar, name


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quadratic"], ids=mode_id)
def test_autograd_stays_in_float32(mode):
    scene = make_scene(*mode, dtype=torch.float32)
    coords, radii = scene.coords.clone().requires_grad_(), scene.radii.clone().requires_grad_()
    density = gg.coords2grid(gg.GridMaker(**scene.settings), scene.center, coords, scene.types, radii, **scene.grouping)
    first = torch.autograd.grad(density.square().sum(), (coords, radii), create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), (coords, radii))
    assert {array.dtype for array in (density, *first, *second)} == {torch.float32}
