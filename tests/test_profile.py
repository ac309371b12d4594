"""The radial profile and its first two derivatives: closed forms, finite differences, smoothness."""

import math

import numpy as np
import pytest
import torch
from support.reference import Reference
from support.scenes import DTYPES, assert_close, mode_id, tail_settings

import gridgrad as gg

MULTIPLES = (0.8, 1.0, 1.5, 2.0)
GAUSSIAN_TAILS = ("quadratic", "quintic", "truncated", "negative")
QUINTIC_FROM = math.sqrt(0.125)
EXTREMES = [
    (tail, multiple)
    for tail in GAUSSIAN_TAILS
    for multiple in (QUINTIC_FROM if tail == "quintic" else 1e-3, 0.5, 5.0, 30.0, 1e6)
]
IMPLEMENTATIONS = pytest.mark.parametrize("grid_class", [Reference, gg.GridMaker], ids=["oracle", "package"])


def jet(grid_class, settings, u, dtype=torch.float64):
    """Return profile, first and second derivative by the distance ``u`` (in radii): one voxel, one type an atom."""
    width = 2.0**-6
    grid = grid_class(resolution=0.5, dimension=width, **settings)
    count = len(u)
    coords, along_z = torch.full((count, 3), -width / 2, dtype=dtype), torch.zeros((count, 3), dtype=dtype)
    coords[:, 2] += torch.as_tensor(u).to(dtype)
    along_z[:, 2] = 1
    atoms = torch.zeros(3, dtype=dtype), coords, torch.arange(count), torch.ones(count, dtype=dtype)
    ones = torch.ones((count, 1, 1, 1), dtype=dtype)
    phi = grid.forward(*atoms, n_types=count)
    slope, _, _ = grid.backward(*atoms, ones)
    _, curvature, _, _ = grid.backward_gradients(*atoms, ones, along_z, None, None)
    assert phi.shape == ones.shape
    return phi.flatten(), slope[:, 2], curvature[:, 2]


def gaussian_jet(u):
    value = np.exp(-2 * u**2)
    return value, -4 * u * value, (16 * u**2 - 4) * value


def tail_jet(tail, multiple, u):
    """Closed forms beyond ``multiple``: a square, or the quintic in Hermite form."""
    if tail in ("truncated", "negative"):
        return 0 * u, 0 * u, 0 * u
    cutoff = multiple + 1 / (2 * multiple)
    gaussian = math.exp(-2 * multiple**2)
    if tail == "quadratic":
        scale = 4 * multiple**2 * gaussian
        return scale * (cutoff - u) ** 2, -2 * scale * (cutoff - u), 2 * scale + 0 * u
    width = cutoff - multiple
    value, slope, curvature = gaussian_jet(multiple)
    hermite = (
        value * np.polynomial.Polynomial([1, 0, 0, -10, 15, -6])
        + width * slope * np.polynomial.Polynomial([0, 1, 0, -6, 8, -3])
        + width**2 * curvature * np.polynomial.Polynomial([0, 0, 1, -3, 3, -1]) / 2
    )
    t = (u - multiple) / width
    return hermite(t), hermite.deriv(1)(t) / width, hermite.deriv(2)(t) / width**2


def closed_jet(tail, multiple, u):
    cutoff = multiple if tail in ("truncated", "negative") else multiple + 1 / (2 * multiple)
    parts = zip(gaussian_jet(u), tail_jet(tail, multiple, u))
    return [np.where(u <= multiple, core, np.where(u <= cutoff, tail, 0)) for core, tail in parts]


def distances(multiple):
    """Distances on both sides of every kink, the kinks themselves excluded."""
    u = np.linspace(0.0, 1.3 * (multiple + 1 / (2 * multiple)), 403)
    kinks = np.array([multiple, multiple + 1 / (2 * multiple)])
    return u[np.abs(u[:, None] - kinks).min(1) > 1e-5]


@IMPLEMENTATIONS
@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("tail", GAUSSIAN_TAILS)
def test_closed_forms(grid_class, tail, multiple):
    u = distances(multiple)
    found = jet(grid_class, tail_settings(tail, multiple), u)
    for name, value, expected in zip(("value", "slope", "curvature"), found, closed_jet(tail, multiple, u)):
        assert_close(value, expected, 1e-12, name)


@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize("tail", GAUSSIAN_TAILS)
def test_closed_forms_float32(tail, multiple):
    u = distances(multiple).astype(np.float32)
    found = jet(gg.GridMaker, tail_settings(tail, multiple), u, torch.float32)
    expected = closed_jet(tail, multiple, u.astype(np.float64))
    for name, value, target, bar in zip(("value", "slope", "curvature"), found, expected, (2e-6, 2e-5, 2e-5)):
        assert_close(value, target, bar, name)


@pytest.mark.parametrize(("dtype", "bars"), [(torch.float64, (1e-14,) * 3), (torch.float32, (1e-6,) * 3)], ids=mode_id)
@pytest.mark.parametrize(("tail", "multiple"), EXTREMES)
def test_range_of_the_multiple(tail, multiple, dtype, bars):
    """To the ends of the range each derivative is right, by its largest value, at distances that float32 can hold."""
    width = 1 / (2 * multiple)
    near = multiple + np.linspace(-1, 1.1, 301) * min(width, multiple)
    u = np.concatenate([np.linspace(0, 6, 301), near, np.geomspace(1e-4, 6, 100)])
    u = np.unique(u // 2.0**-20 * 2.0**-20)
    kinks = np.array([multiple, multiple + width])
    u = u[(np.abs(u[:, None] - kinks) > 1e-6 * kinks).all(1)]
    found, expected = jet(gg.GridMaker, tail_settings(tail, multiple), u, dtype), closed_jet(tail, multiple, u)
    for name, value, target, bar in zip(("value", "slope", "curvature"), found, expected, bars):
        error = np.abs(value.double().numpy() - target).max() / np.abs(target).max()
        assert error < bar, f"{name}: {error:.1e}"


@pytest.mark.parametrize("tail", GAUSSIAN_TAILS)
def test_multiples_out_of_range_are_refused(tail):
    lowest = QUINTIC_FROM if tail == "quintic" else 1e-3
    for multiple in (1e-100, 0.9999 * lowest, 1.0001e6, 1e100, 1e300):
        with pytest.raises(ValueError, match=r"^gaussian_radius_multiple: .*; expected .* from .* to 1e\+06 for"):
            gg.GridMaker(**tail_settings(tail, multiple))


def test_quintic_turns_negative_below_its_range():
    u = np.linspace(0, 3, 3001)
    for multiple, lowest in ((QUINTIC_FROM - 1e-2, -1e-4), (QUINTIC_FROM, 0)):
        settings = tail_settings("quintic", multiple)
        assert (Reference(**settings).profile(torch.from_numpy(u**2)).min() < -1e-9) == (lowest < 0)


@IMPLEMENTATIONS
@pytest.mark.parametrize("tail", GAUSSIAN_TAILS)
def test_finite_differences(grid_class, tail):
    """Central differences of the value give the slope, those of the slope the curvature."""
    step = 1e-5
    u = distances(1.0)
    u = u[(np.abs(u - 1.0) > 2 * step) & (np.abs(u - 1.5) > 2 * step) & (u > 2 * step)]
    below, here, above = (jet(grid_class, tail_settings(tail), u + shift) for shift in (-step, 0.0, step))
    for order in (0, 1):
        assert_close((above[order] - below[order]) / (2 * step), here[order + 1], 1e-8, f"derivative {order + 1}")


@IMPLEMENTATIONS
@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
def test_binary(grid_class, dtype):
    u = np.array([0.0, 0.25, 0.999, 0.9999, 1.0001, 1.001, 2.0])
    found = jet(grid_class, tail_settings("binary"), u, dtype)
    assert found[0].tolist() == [1, 1, 1, 1, 0, 0, 0]
    assert not found[1].any() and not found[2].any()


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
def test_sphere_of_binary_is_open(dtype):
    """``s < 1``: a voxel exactly on the surface is outside."""
    grid = gg.GridMaker(resolution=0.5, dimension=4, binary=True)
    center = torch.zeros(3, dtype=dtype)
    density = grid.forward(center, center[None], torch.ones((1, 1), dtype=dtype), torch.ones(1, dtype=dtype))
    line = density[0, :, 4, 4].tolist()
    assert line == [0, 0, 0, 1, 1, 1, 0, 0, 0]


@IMPLEMENTATIONS
@pytest.mark.parametrize("multiple", MULTIPLES)
@pytest.mark.parametrize(("tail", "orders"), [("quadratic", 2), ("quintic", 3)])
def test_smoothness(grid_class, tail, orders, multiple):
    """Value and slope (quintic: curvature too) approach the same limit from both sides of each kink."""
    gap = 1e-9
    kinks = np.array([multiple, multiple + 1 / (2 * multiple)])
    below, above = (jet(grid_class, tail_settings(tail, multiple), kinks + side) for side in (-gap, gap))
    for order in range(orders):
        assert torch.allclose(below[order], above[order], rtol=0, atol=1e-6), f"derivative {order}"
    if tail == "quadratic":
        jumps = (above[2] - below[2]).abs()
        assert (jumps > 0.01 * math.exp(-2 * multiple**2)).all(), "the curvature of the quadratic tail jumps"


@IMPLEMENTATIONS
@pytest.mark.parametrize("multiple", np.linspace(0.8, 2.0, 7).round(2).tolist())
def test_quintic_is_nonnegative_decreasing_convex(grid_class, multiple):
    u = np.linspace(multiple, multiple + 1 / (2 * multiple), 501)[1:-1]
    value, slope, curvature = jet(grid_class, tail_settings("quintic", multiple), u)
    scale = math.exp(-2 * multiple**2)
    assert (value > -1e-13 * scale).all() and (slope < 1e-12 * scale).all() and (curvature > -1e-10 * scale).all()


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_truncated_equals_a_negative_multiple(multiple):
    u = distances(multiple)
    first = jet(gg.GridMaker, tail_settings("truncated", multiple), u)
    second = jet(gg.GridMaker, tail_settings("negative", multiple), u)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize("tail", [*GAUSSIAN_TAILS, "binary"])
def test_final_radius_multiple(tail):
    """The attribute is the distance beyond which the profile is zero."""
    for multiple in MULTIPLES:
        settings = tail_settings(tail, multiple)
        cutoff = gg.GridMaker(**settings).final_radius_multiple
        assert cutoff == pytest.approx(Reference(**settings).cutoff, rel=1e-15)
        value, _, _ = jet(gg.GridMaker, settings, np.array([0.98 * cutoff, cutoff + 1e-9]))
        assert value[0] > 0 and value[1] == 0
