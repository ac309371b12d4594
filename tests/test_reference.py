"""The oracle itself: against a loop over voxels and atoms, against finite differences, and between its layouts."""

import itertools
import math

import pytest
import torch
from support.reference import Reference, quadratic_coefficients, quintic_coefficients
from support.scenes import LAYOUTS, MODES, RADII, TAILS, assert_close, evaluate, make_scene, mode_id
from torch.autograd import gradcheck, gradgradcheck

ORDERS = ("density", "relevance", *(f"order {n} {name}" for n in (1, 2) for name in ("grad_coords", "grad_radii")))


def profile(tail, u):
    if tail == "binary":
        return float(u < 1)
    if u <= 1:
        return math.exp(-2 * u * u)
    if tail == "truncated" or u > 1.5:
        return 0.0
    room = 1.5 - u
    if tail == "quadratic":
        return 4 * math.exp(-2) * room**2
    return math.exp(-2) * room**3 * (8 + 16 * (u - 1) + 48 * (u - 1) ** 2)


@pytest.mark.parametrize("multiple", [0.8, 1.0, 1.5, 2.0])
def test_quadratic_tail_is_a_square(multiple):
    """A u^2 + B u + C has the double root x_f and meets the Gaussian in value and slope at m."""
    a, b, c = quadratic_coefficients(multiple)
    value = math.exp(-2 * multiple**2)
    assert b * b == pytest.approx(4 * a * c, rel=1e-15)
    assert -b / (2 * a) == pytest.approx(multiple + 1 / (2 * multiple), rel=1e-15)
    assert a * multiple**2 + b * multiple + c == pytest.approx(value, rel=1e-13)
    assert 2 * a * multiple + b == pytest.approx(-4 * multiple * value, rel=1e-13)


@pytest.mark.parametrize("multiple", [0.8, 1.0, 1.5, 2.0])
def test_quintic_tail_starts_with_the_third_power(multiple):
    """Value, slope and curvature vanish at the cutoff without rounding."""
    assert quintic_coefficients(multiple)[:3] == [0, 0, 0]


@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("tail", TAILS)
def test_density_by_hand(tail, radius_mode):
    """One number after the other, written down from the definition."""
    scene = make_scene(tail, radius_mode, n_atoms=3, dimension=(1.5, 1.0, 2.0), radius_scale=1.2)
    density = scene.reference().forward(*scene.inputs)
    assert density.shape == (3, 4, 3, 5)
    expected = torch.zeros_like(density)
    for k, x, y, z in itertools.product(range(3), range(4), range(3), range(5)):
        point = [
            center - length / 2 + 0.5 * i
            for center, length, i in zip(scene.center.tolist(), (1.5, 1.0, 2.0), (x, y, z))
        ]
        for i in range(3):
            radius = 1.2 * scene.radii[k if radius_mode == "by_type" else i].item()
            u = math.dist(point, scene.coords[i].tolist()) / radius
            expected[k, x, y, z] += scene.types[i, k] * profile(tail, u)
    assert_close(density, expected, 1e-13)


@pytest.mark.parametrize("tail", TAILS)
def test_derivatives_by_finite_differences(tail):
    scene = make_scene(tail, "by_type", n_atoms=2, n_types=2, dimension=(1.0, 0.5, 1.0), margin=1e-4)
    leaves = [array.clone().requires_grad_() for array in scene.inputs]
    reference = scene.reference()
    assert gradcheck(reference.forward, leaves)
    assert gradgradcheck(reference.forward, leaves, fast_mode=True)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[3] != "single"], ids=mode_id)
def test_batches_equal_single_examples(mode):
    """Every example of a batch equals the same example alone."""
    scene = make_scene(*mode)
    cotangents = scene.cotangents()
    whole = evaluate(scene.reference(), scene, cotangents)
    sums = dict.fromkeys(("order 1 grad_radii", "order 2 grad_radii"), 0.0)
    for example in range(len(cotangents[0])):
        member = scene.batch == example if scene.batch is not None else example
        atom_radii = not scene.settings["radius_type_indexed"]
        single = scene.replace(
            center=scene.center[example],
            coords=scene.coords[member],
            types=scene.types[member],
            radii=scene.radii[member] if atom_radii else scene.radii,
            batch=None,
            batch_size=None,
        )
        picked = [cotangents[0][example], *(None if array is None else array[member] for array in cotangents[1:3])]
        alone = evaluate(single.reference(), single, [*picked, cotangents[3][member] if atom_radii else cotangents[3]])
        for name, value in alone.items():
            if name in sums and not atom_radii:
                sums[name] = sums[name] + value
            elif value is not None:
                by_example = name in ("density", "order 2 grad_grad_density")
                assert_close(whole[name][example if by_example else member], value, 1e-13, name)
    for name, value in sums.items():
        if scene.settings["radius_type_indexed"]:
            assert_close(whole[name], value, 1e-13, name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("radius_mode", RADII)
def test_index_equals_one_hot(radius_mode, layout):
    scene = make_scene("quintic", radius_mode, "index", layout)
    one_hot = torch.nn.functional.one_hot(scene.types.clamp(min=0), scene.n_types) * (scene.types >= 0)[..., None]
    vector = scene.replace(types=one_hot.double())
    grad_density, grad_grad_coords, _, grad_grad_radii = scene.cotangents()
    cotangents = grad_density, grad_grad_coords, None, grad_grad_radii
    found, expected = (evaluate(each.reference(), each, cotangents) for each in (scene, vector))
    for name in ORDERS:
        assert_close(found[name], expected[name], 1e-13, name)


def test_relevance_is_shared_out():
    """What the atoms receive adds up to the relevance of the voxels that they reach."""
    scene = make_scene(n_atoms=4)
    reference = scene.reference()
    density = reference.forward(*scene.inputs)
    relevance = scene.cotangents()[0]
    shares = reference.backward_relevance(*scene.inputs, density, relevance)
    assert shares.sum().item() == pytest.approx(relevance[density != 0].sum().item(), rel=1e-12)


def test_float32_run_is_float32():
    scene = make_scene(dtype=torch.float32)
    reference = Reference(**scene.settings, dtype=torch.float32)
    assert all(value.dtype == torch.float32 for value in evaluate(reference, scene).values())
