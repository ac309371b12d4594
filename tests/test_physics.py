"""Symmetries and identities that hold for any scene, without an oracle."""

import pytest
import torch
from support.scenes import LAYOUTS, MODES, TAILS, TYPES, assert_close, assert_same_bits, evaluate, make_scene, mode_id

import gridgrad as gg

BAR = 1e-12


def evaluate_package(scene, cotangents=None):
    return evaluate(gg.GridMaker(**scene.settings), scene, cotangents)


def inner(*pairs):
    """Inner product of tuples of arrays; None counts as zero."""
    return sum((a * b).sum().item() for a, b in pairs if a is not None and b is not None)


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_translating_atoms_and_center_changes_nothing(mode):
    scene = make_scene(*mode)
    shift = torch.tensor([2.0, -16.0, 0.75], dtype=torch.float64)
    moved = scene.replace(center=scene.center + shift, coords=scene.coords + shift)
    found, expected = evaluate_package(moved), evaluate_package(scene)
    for name, value in expected.items():
        assert_close(found[name], value, BAR, name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("tail", TAILS)
def test_center_gradient_is_minus_the_sum_of_coordinate_gradients(tail, type_mode, layout):
    scene = make_scene(tail, "per_atom", type_mode, layout, center_per_example=False)
    center, coords = scene.center.clone().requires_grad_(), scene.coords.clone().requires_grad_()
    grid = gg.coords2grid(gg.GridMaker(**scene.settings), center, coords, scene.types, scene.radii, **scene.grouping)
    grad_center, grad_coords = torch.autograd.grad(grid, (center, coords), scene.cotangents()[0])
    assert grad_center.shape == (3,)
    assert_close(grad_center, -grad_coords.reshape(-1, 3).sum(0), BAR, "grad_center")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[3] == "single"], ids=mode_id)
def test_permuting_atoms_permutes_their_gradients(mode):
    scene = make_scene(*mode, n_atoms=9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    per_atom_radii = not scene.settings["radius_type_indexed"]
    grad_density, grad_grad_coords, grad_grad_types, grad_grad_radii = scene.cotangents()
    permuted = [
        grad_density,
        grad_grad_coords[order],
        None if grad_grad_types is None else grad_grad_types[order],
        grad_grad_radii[order] if per_atom_radii else grad_grad_radii,
    ]
    found = evaluate_package(scene.atoms(order), permuted)
    for name, value in evaluate_package(scene).items():
        by_atom = "density" not in name and (per_atom_radii or "radii" not in name)
        assert_close(found[name], value[order] if by_atom and value is not None else value, BAR, name)


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_adjointness(mode):
    """<J v, G> = <v, J^T G>: the second order's grid and the first order are transposes of each other."""
    scene = make_scene(*mode)
    maker = gg.GridMaker(**scene.settings)
    grad_density, *vectors = scene.cotangents()
    pushed, *_ = maker.backward_gradients(*scene.inputs, grad_density, *vectors, batch=scene.batch)
    pulled = maker.backward(*scene.inputs, grad_density, batch=scene.batch)
    scale = pushed.norm().item() * grad_density.norm().item()
    assert abs(inner((pushed, grad_density)) - inner(*zip(vectors, pulled))) <= BAR * scale


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_hessian_of_a_linear_functional_is_symmetric(mode):
    """<u, H v> = <v, H u> with H the second derivative of <G, density>, over all inputs at once."""
    scene = make_scene(*mode)
    maker = gg.GridMaker(**scene.settings)
    grad_density, *u = scene.cotangents(1)
    _, *v = scene.cotangents(2)
    by_u, by_v = (
        maker.backward_gradients(*scene.inputs, grad_density, *vector, batch=scene.batch)[1:] for vector in (u, v)
    )
    scale = sum(a.norm().item() * b.norm().item() for a, b in zip(by_u, v) if a is not None)
    assert abs(inner(*zip(v, by_u)) - inner(*zip(u, by_v))) <= BAR * max(scale, 1e-300)


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_second_order_is_linear(mode):
    """In the directions and, for the atoms' outputs, in ``grad_density``."""
    scene = make_scene(*mode)
    maker = gg.GridMaker(**scene.settings)
    first, second = scene.cotangents(1), scene.cotangents(2)
    mixed = [None if a is None else 2 * a - 3 * b for a, b in zip(first, second)]

    def run(grad_density, *vectors):
        return maker.backward_gradients(*scene.inputs, grad_density, *vectors, batch=scene.batch)

    for start, found, a, b in (
        (0, run(first[0], *mixed[1:]), run(*first), run(first[0], *second[1:])),
        (1, run(mixed[0], *first[1:]), run(*first), run(second[0], *first[1:])),
    ):
        for x, y, z in zip(found[start:], a[start:], b[start:]):
            if x is not None:
                assert_close(x, 2 * y - 3 * z, BAR, "combination")


@pytest.mark.parametrize("tail", TAILS)
def test_scaling_all_lengths_changes_nothing(tail):
    """Twice the resolution, box, coordinates and radii give the same grid, half the gradients."""
    scene = make_scene(tail)
    settings = {**scene.settings, "resolution": 1.0, "dimension": tuple(2 * x for x in scene.settings["dimension"])}
    doubled = scene.replace(settings=settings, center=2 * scene.center, coords=2 * scene.coords, radii=2 * scene.radii)
    maker, larger = gg.GridMaker(**scene.settings), gg.GridMaker(**settings)
    assert_same_bits(larger.forward(*doubled.inputs), maker.forward(*scene.inputs), "density")
    grad_density = scene.cotangents()[0]
    small, large = maker.backward(*scene.inputs, grad_density), larger.backward(*doubled.inputs, grad_density)
    for name, factor, a, b in zip(("grad_coords", "grad_types", "grad_radii"), (2, 1, 2), small, large):
        assert_close(factor * b, a, BAR, name)


@pytest.mark.parametrize("tail", TAILS)
def test_radius_scale_multiplies_the_radii(tail):
    scene = make_scene(tail, radius_scale=1.5)
    plain = scene.replace(settings={**scene.settings, "radius_scale": 1.0}, radii=1.5 * scene.radii)
    grad_density = scene.cotangents()[0]
    found, expected = (gg.GridMaker(**each.settings).backward(*each.inputs, grad_density)[2] for each in (scene, plain))
    assert_close(found, 1.5 * expected, BAR, "grad_radii")


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (1, 2, 0)], ids=mode_id)
@pytest.mark.parametrize("tail", TAILS)
def test_exchanging_axes(tail, axes):
    """The axes are alike: permuted coordinates in a permuted box give the permuted grid."""
    scene = make_scene(tail)
    axes = list(axes)
    settings = {**scene.settings, "dimension": tuple(scene.settings["dimension"][axis] for axis in axes)}
    turned = gg.GridMaker(**settings).forward(scene.center[axes], scene.coords[:, axes], scene.types, scene.radii)
    straight = gg.GridMaker(**scene.settings).forward(*scene.inputs)
    assert_close(turned, straight.permute(0, *(1 + axis for axis in axes)), BAR)


@pytest.mark.parametrize("tail", TAILS)
def test_mirrored_atoms_give_a_mirrored_grid(tail):
    scene = make_scene(tail)
    maker = gg.GridMaker(**scene.settings)
    mirrored = maker.forward(-scene.center, -scene.coords, scene.types, scene.radii)
    assert_close(mirrored, maker.forward(*scene.inputs).flip(1, 2, 3), BAR)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_density_is_linear_in_the_weights(layout):
    scene = make_scene("quintic", "by_type", "vector", layout)
    other = torch.rand(scene.types.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maker = gg.GridMaker(**scene.settings)

    def density(types):
        return maker.forward(scene.center, scene.coords, types, scene.radii, **scene.grouping)

    combined = density(2 * scene.types - 3 * other)
    assert_close(combined, 2 * density(scene.types) - 3 * density(other), BAR)


@pytest.mark.parametrize("radius_mode", ["per_atom", "by_type"])
def test_an_ignored_atom_is_no_atom(radius_mode):
    """Index -1 and its gradients of zero; any negative index counts."""
    scene = make_scene("quadratic", radius_mode, "index", n_atoms=6)
    kept = scene.types >= 0
    assert not kept.all()
    lower = scene.replace(types=torch.where(kept, scene.types, -7))
    assert_same_bits(evaluate_package(lower)["density"], evaluate_package(scene)["density"])
    for name, value in evaluate_package(lower).items():
        if name == "relevance" or "coords" in name or ("radii" in name and radius_mode == "per_atom"):
            assert not value[~kept].any(), name
            assert value[kept].any(), name
    assert_close(evaluate_package(lower)["density"], evaluate_package(scene.atoms(kept))["density"], BAR)
