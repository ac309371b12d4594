"""Grids that no cache holds pass through a window: the numbers of small grids with the same points, and same bits."""

import functools

import pytest
import torch

import gridgrad as gg
from gridgrad.autograd import ops

POINTS = 257  # 68 MB a channel in float32: windows begin at 64 MiB
RESOLUTION = 0.75
PART = 41
SHARED = torch.tensor((64, 128, 200))  # points of the large grid on which parts are centred, along each axis


@pytest.fixture(autouse=True)
def used_memory(monkeypatch):
    """Write all grids into memory that has been written: windows are for such; a fresh grid is added up in place."""
    new_grid = ops.new_grid
    monkeypatch.setattr(ops, "new_grid", lambda *arguments: new_grid(*arguments).fill_(torch.nan))
    return new_grid


def gridmaker(points, **options):
    return gg.GridMaker(resolution=RESOLUTION, dimension=RESOLUTION * (points - 1), **options)


@functools.cache
def scene(n_types):
    generator = torch.Generator().manual_seed(0)
    near = (SHARED - POINTS // 2).to(torch.float64)[torch.randint(3, (300, 3), generator=generator)]
    coords = RESOLUTION * (near + 24 * (torch.rand(300, 3, generator=generator, dtype=torch.float64) - 0.5))
    coords[0] = -RESOLUTION * POINTS / 2  # half of it outside
    radii = 1 + torch.rand(300, generator=generator)
    index = torch.randint(-1, n_types, (300,), generator=generator)
    return coords.float(), index, torch.randn(300, n_types, generator=generator), radii


def parts(grid):
    """Yield the centre of a part of the large grid, and the part."""
    for number in ((0, 0, 0), (0, 1, 2), (1, 2, 0), (2, 2, 1), (1, 1, 1)):
        point = SHARED[list(number)]
        begin = (point - PART // 2).tolist()
        yield (
            tuple(RESOLUTION * (point - POINTS // 2).to(torch.float64)),
            grid[(slice(None), *(slice(first, first + PART) for first in begin))],
        )


def assert_parts(large, small, bar=2e-6):
    """Compare with the function `small` of a grid's maker and centre."""
    for center, part in parts(large):
        expected = small(gridmaker(PART), center)
        assert expected.abs().max() > 0.1
        assert (part - expected).abs().max() <= bar * expected.abs().max()


@pytest.mark.parametrize("types", ["index", "one-hot", "dense"])
def test_density(types):
    coords, index, weights, radii = scene(2 if types == "dense" else 1)
    if types == "index":
        weights = index
    elif types == "one-hot":
        weights = (index >= 0).float()[:, None]

    def density(maker, center):
        return gg.coords2grid(maker, center, coords, weights, radii, n_types=2 if types == "dense" else 1)

    large = density(gridmaker(POINTS), (0, 0, 0))
    assert_parts(large, density)
    # nothing outside of the parts but what atoms at their borders reach
    assert large.count_nonzero() < 300 * 600 * len(large)


@pytest.mark.parametrize("order", [1, 2])
def test_tangents(order):
    coords, _, weights, radii = scene(2)
    tangents = [torch.randn(t.shape, generator=torch.Generator().manual_seed(1)) for t in (coords, weights, radii)]

    def density(maker, center, *atoms):
        return gg.coords2grid(maker, center, *atoms)

    def along(maker, center):
        function = functools.partial(density, maker, center)
        for _ in range(order):
            inner = function
            function = lambda *atoms, inner=inner: torch.func.jvp(inner, atoms, tuple(tangents))[1]  # noqa: E731
        return function(coords, weights, radii)

    assert_parts(along(gridmaker(POINTS), (0, 0, 0)), along, bar=1e-5)


def test_threads_and_batches_have_the_same_bits():
    coords, index, _, radii = scene(1)
    maker = gridmaker(POINTS)
    grids = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            grids.append(gg.coords2grid(maker, (0, 0, 0), coords, index, radii, n_types=1))
        empty = torch.full_like(index, -1)
        both = [torch.stack(pair) for pair in ((coords, coords), (empty, index), (radii, radii))]
        grids.append(gg.coords2grid(maker, (0, 0, 0), *both, n_types=1)[1])
    finally:
        torch.set_num_threads(before)
    for grid in grids[1:]:
        assert torch.equal(grid, grids[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_fresh_memory_gets_the_same_bits(used_memory, monkeypatch, threads):
    coords, index, _, radii = scene(1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        used = gg.coords2grid(gridmaker(POINTS), (0, 0, 0), coords, index, radii, n_types=1)
        monkeypatch.setattr(ops, "new_grid", used_memory)
        fresh = gg.coords2grid(gridmaker(POINTS), (0, 0, 0), coords, index, radii, n_types=1)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(fresh, used)


def test_an_atom_wider_than_the_grid():
    maker = gridmaker(POINTS)
    coords, types, radius = torch.zeros(1, 3), torch.ones(1, 1), torch.tensor([400.0])
    density = gg.coords2grid(maker, (0, 0, 0), coords, types, radius)
    axis = RESOLUTION * (torch.arange(POINTS, dtype=torch.float64) - POINTS // 2) / 400
    expected = torch.exp(-2 * (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2))
    assert (density[0] - expected).abs().max() < 1e-6


@pytest.mark.parametrize("what", ["coords", "radii", "weight"])
def test_nan_fills_its_channel_alone(what):
    coords, _, weights, radii = (tensor.clone() for tensor in scene(2))
    weights[150, 0] = 0
    clean = gg.coords2grid(gridmaker(POINTS), (0, 0, 0), coords, weights, radii)
    {"coords": coords, "radii": radii, "weight": weights[:, 1:]}[what][150] = torch.nan
    spoilt = gg.coords2grid(gridmaker(POINTS), (0, 0, 0), coords, weights, radii)
    assert spoilt[1].isnan().all()
    assert torch.equal(spoilt[0], clean[0])
