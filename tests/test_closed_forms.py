"""Numbers that come out with pencil and paper: one atom, one type, radius 1, resolution 0.5, dimension 6."""

import math

import pytest
import torch
from support.scenes import DTYPES, mode_id

import gridgrad as gg

TYPE_MODES = pytest.mark.parametrize("type_mode", ["vector", "index"])


def density_at(maker, position, point, type_mode="vector", dtype=torch.float64):
    """Density at ``point``, a position on the grid, of one atom at ``position``."""
    types = torch.ones((1, 1), dtype=dtype) if type_mode == "vector" else torch.zeros(1, dtype=torch.int64)
    density = gg.coords2grid(maker, (0.0, 0.0, 0.0), position[None], types, torch.ones(1, dtype=dtype), n_types=1)
    return density[(0, *(round((value + 3.0) / 0.5) for value in point))]


def derivatives(maker, position, axis, **kwargs):
    """Return f, f' and ((f')^2)' for the density f at (1, 0, 0), or the point like it on another axis."""
    position = position.clone().requires_grad_()
    point = [0.0, 0.0, 0.0]
    point[axis] = 1.0
    value = density_at(maker, position, point, **kwargs)
    (first,) = torch.autograd.grad(value, position, create_graph=True)
    (second,) = torch.autograd.grad(first[axis] ** 2, position)
    return value.item(), first[axis].item(), second[axis].item()


@TYPE_MODES
@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_line_through_the_middle(dtype, type_mode, axis):
    types = torch.ones((1, 1), dtype=dtype) if type_mode == "vector" else torch.zeros(1, dtype=torch.int64)
    origin = torch.zeros((1, 3), dtype=dtype)
    density = gg.coords2grid(gg.GridMaker(0.5, 6), (0, 0, 0), origin, types, torch.ones(1, dtype=dtype), n_types=1)
    assert density.shape == (1, 13, 13, 13) and density.dtype == dtype
    line = density[0].movedim(axis, 0)[:, 6, 6].tolist()
    assert [round(value, 4) for value in line] == [0, 0, 0, 0, 0.1353, 0.6065, 1, 0.6065, 0.1353, 0, 0, 0, 0]
    assert line[6] == 1.0 and line[3] == 0.0 and line[9] == 0.0
    assert line[4] == pytest.approx(math.exp(-2), rel=4 * torch.finfo(dtype).eps)
    assert line[5] == pytest.approx(math.exp(-0.5), rel=4 * torch.finfo(dtype).eps)


@TYPE_MODES
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("tail", ["quadratic", "truncated", "quintic"])
def test_derivatives_at_one_radius(tail, type_mode, axis):
    """At s = m^2 the Gaussian side counts: 4 e^-2 and 96 e^-4 for every tail."""
    maker = gg.GridMaker(0.5, 6, tail=tail)
    value, first, second = derivatives(maker, torch.zeros(3, dtype=torch.float64), axis, type_mode=type_mode)
    assert value == pytest.approx(math.exp(-2), rel=1e-14)
    assert first == pytest.approx(4 * math.exp(-2), rel=1e-13) and round(first, 4) == 0.5413
    assert second == pytest.approx(96 * math.exp(-4), rel=1e-13) and round(second, 4) == 1.7583


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_cut_gaussian_along_an_axis(axis):
    """``gaussian_radius_multiple=-2``: with d = x - 1, ((f')^2)' = (32 d - 128 d^3) e^(-4 d^2)."""
    maker = gg.GridMaker(0.5, 6, gaussian_radius_multiple=-2)
    for x in torch.linspace(-1, 3, 33, dtype=torch.float64):
        position = torch.zeros(3, dtype=torch.float64)
        position[axis] = x
        d = x.item() - 1
        value, first, second = derivatives(maker, position, axis)
        assert value == pytest.approx(math.exp(-2 * d**2), rel=1e-13)
        assert first == pytest.approx(-4 * d * math.exp(-2 * d**2), rel=1e-13)
        assert second == pytest.approx((32 * d - 128 * d**3) * math.exp(-4 * d**2), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_default_tail_along_an_axis(axis):
    """Between one and one and a half radii f = 4 e^-2 (1.5 - |d|)^2."""
    maker = gg.GridMaker(0.5, 6)
    for d in (-1.45, -1.25, -1.05, 1.05, 1.3, 1.45):
        position = torch.zeros(3, dtype=torch.float64)
        position[axis] = 1 + d
        room, scale = 1.5 - abs(d), 4 * math.exp(-2)
        value, first, second = derivatives(maker, position, axis)
        slope = -2 * scale * room * math.copysign(1, d)
        assert value == pytest.approx(scale * room**2, rel=1e-13)
        assert first == pytest.approx(slope, rel=1e-13)
        assert second == pytest.approx(2 * slope * 2 * scale, rel=1e-12)


def test_radius_derivatives():
    """One atom of radius R at distance 1: f = e^(-2/R^2), f_R = 4 f / R^3, f_RR = (16 - 12 R^2) f / R^6."""
    maker = gg.GridMaker(0.5, 6)
    for radius in (1.0, 1.25, 1.7):
        radii = torch.tensor([radius], dtype=torch.float64, requires_grad=True)
        origin = torch.zeros((1, 3), dtype=torch.float64)
        density = gg.coords2grid(maker, (0, 0, 0), origin, torch.ones((1, 1), dtype=torch.float64), radii)
        (first,) = torch.autograd.grad(density[0, 8, 6, 6], radii, create_graph=True)
        (second,) = torch.autograd.grad(first, radii)
        value = math.exp(-2 / radius**2)
        assert first.item() == pytest.approx(4 * value / radius**3, rel=1e-13)
        assert second.item() == pytest.approx((16 - 12 * radius**2) * value / radius**6, rel=1e-12)


def test_two_atoms_add():
    """Weights multiply and atoms add; the mixed derivative by a weight and a coordinate is the bare slope."""
    maker = gg.GridMaker(0.5, 6)
    coords = torch.tensor([[0.0, 0, 0], [2.0, 0, 0]], dtype=torch.float64, requires_grad=True)
    types = torch.tensor([[0.5], [0.0]], dtype=torch.float64, requires_grad=True)
    density = gg.coords2grid(maker, (0, 0, 0), coords, types, torch.ones(2, dtype=torch.float64))
    value = density[0, 8, 6, 6]
    assert value.item() == pytest.approx(0.5 * math.exp(-2), rel=1e-13)
    grad_coords, grad_types = torch.autograd.grad(value, (coords, types), create_graph=True)
    assert grad_types.flatten().tolist() == pytest.approx([math.exp(-2)] * 2, rel=1e-13)
    assert grad_coords[:, 0].tolist() == pytest.approx([2 * math.exp(-2), 0], rel=1e-13)
    (mixed,) = torch.autograd.grad(grad_coords[:, 0].sum(), types)
    assert mixed.flatten().tolist() == pytest.approx([4 * math.exp(-2), -4 * math.exp(-2)], rel=1e-13)
