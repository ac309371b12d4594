"""What happens at the ends of every range, as docs/trust.md has it.

``GRIDGRAD_HUGE=1`` adds grids of more than 2^31 numbers, which take 9 GB of memory, one at a time.
"""

import itertools
import math
import os

import pytest
import torch
from support.reference import Reference
from support.scenes import DENSITY_BAR, DERIVATIVE_BAR, assert_close, assert_same_bits

import gridgrad as gg

ORIGIN = torch.zeros(3)
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
TAILS = pytest.mark.parametrize("tail", ["quadratic", "quintic", "truncated"])
huge = pytest.mark.skipif("GRIDGRAD_HUGE" not in os.environ, reason="takes 9 GB of memory: GRIDGRAD_HUGE=1")


def some_atoms(n_atoms, n_types, reach, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coords = reach * (2 * torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64) - 1)
    types = 0.5 + torch.rand(n_atoms, n_types, generator=generator, dtype=torch.float64)
    return [x.to(dtype) for x in (coords, types, torch.full((n_atoms,), 1.7, dtype=torch.float64))]


def all_orders(maker, center, coords, types, radii, lengths=1.0, weights=1.0):
    """Return the outputs of orders 0, 1 and 2 for cotangents of given sizes, random but for those."""
    generator = torch.Generator().manual_seed(1)
    density = maker.forward(center, coords, types, radii)

    def like(value, size):
        return size * torch.randn(value.shape, generator=generator, dtype=torch.float64).to(coords.dtype)

    grid = like(density, 1.0)
    directions = like(coords, lengths), like(types, weights), like(radii, lengths)
    first = maker.backward(center, coords, types, radii, grid)
    second = maker.backward_gradients(center, coords, types, radii, grid, *directions)
    return density, *first, *second


def assert_as_the_oracle(settings, center, coords, types, radii, lengths=1.0, weights=1.0):
    found = all_orders(gg.GridMaker(**settings), center, coords, types, radii, lengths, weights)
    expected = all_orders(Reference(**settings), center, coords, types, radii, lengths, weights)
    names = ("density", *("coords", "types", "radii"), "density, order 2", *("coords 2", "types 2", "radii 2"))
    for name, one, other in zip(names, found, expected):
        assert_close(one, other, (DENSITY_BAR if name == "density" else DERIVATIVE_BAR)[coords.dtype], name)
    return found


# --- coordinates ------------------------------------------------------------------------------------------------------


@PRECISIONS
@pytest.mark.parametrize("place", [1e8, -1e8])
def test_an_atom_that_is_far_away_is_outside(dtype, place):
    coords, types, radii = some_atoms(3, 2, 1.0, dtype)
    maker, far = gg.GridMaker(0.5, 4.0), coords + place
    for output in all_orders(maker, ORIGIN, far, types, radii):
        assert not output.any()
    here = all_orders(maker, ORIGIN, coords, types, radii)
    both = all_orders(maker, ORIGIN, torch.cat([coords, far]), types.repeat(2, 1), radii.repeat(2))
    assert_same_bits(both[0], here[0])


@PRECISIONS
def test_a_centre_that_is_far_away_with_its_atoms(dtype):
    """Subtracted exactly: what rounding 1e8 Å leaves of a place, 8 Å apart in float32, is gridded as it is."""
    coords, types, radii = some_atoms(4, 2, 12.0, dtype)
    center = torch.full((3,), 1e8, dtype=dtype)
    far = center + coords
    settings = {"resolution": 0.5, "dimension": (12.0, 11.5, 12.5)}
    shifted = all_orders(gg.GridMaker(**settings), center, far, types, radii)
    for one, other in zip(shifted, all_orders(gg.GridMaker(**settings), ORIGIN, far - center, types, radii)):
        assert_same_bits(one, other)
    assert shifted[0].any()


@PRECISIONS
def test_an_atom_at_next_to_nothing_is_at_the_point(dtype):
    coords, types, radii = some_atoms(3, 2, 1e-30, dtype)
    settings = {"resolution": 0.5, "dimension": 4.0}
    found = assert_as_the_oracle(settings, ORIGIN, coords, types, radii)
    for one, other in zip(found, all_orders(gg.GridMaker(**settings), ORIGIN, 0 * coords, types, radii)):
        assert_close(one, other.double(), DERIVATIVE_BAR[dtype])


# --- radii ------------------------------------------------------------------------------------------------------------


@PRECISIONS
@TAILS
@pytest.mark.parametrize("radius", [1e-6, 1e-3, 1e3, 1e6])
def test_radii(dtype, tail, radius):
    """A tiny atom is seen by the point that it sits on; a huge one is the same for all points, and has derivatives."""
    maker = gg.GridMaker(0.5, 4.0, tail=tail)
    coords, types, _ = some_atoms(3, 2, 1.0 if radius > 1 else 0.3 * radius, dtype)
    radii = torch.full((3,), radius, dtype=dtype)
    settings = {"resolution": 0.5, "dimension": 4.0, "tail": tail}
    density = assert_as_the_oracle(settings, ORIGIN, coords, types, radii, lengths=radius)[0]
    if radius > 1:
        same = types.double().sum(0)[:, None, None, None].expand_as(density)
        assert_close(density, same, 60 / radius**2 + DENSITY_BAR[dtype])
    else:
        assert [bool(channel.count_nonzero() == 1) for channel in density] == [True, True]
        away = coords + torch.tensor([0.25, 0, 0], dtype=dtype)  # between the points
        assert not maker.forward(ORIGIN, away, types, radii).any()


# --- shapes -----------------------------------------------------------------------------------------------------------


@PRECISIONS
@TAILS
@pytest.mark.parametrize(
    ("dimension", "points"),
    [
        ((0.1, 0.1, 0.1), (1, 1, 1)),
        ((0.1, 0.1, 2047.5), (1, 1, 4096)),
        ((0.1, 2047.5, 0.1), (1, 4096, 1)),
        ((2047.5, 0.1, 0.1), (4096, 1, 1)),
    ],
)
def test_flat_grids(dtype, tail, dimension, points):
    settings = {"resolution": 0.5, "dimension": dimension, "tail": tail}
    coords, types, radii = some_atoms(6, 2, 0.5, dtype)
    coords = coords + torch.tensor(dimension, dtype=dtype) * torch.linspace(-0.5, 0.5, 6, dtype=dtype)[:, None]
    density = assert_as_the_oracle(settings, ORIGIN, coords, types, radii)[0]
    assert density.shape == (2, *points) and density.any()


@PRECISIONS
@pytest.mark.parametrize("index", [True, False], ids=["index", "vector"])
def test_1024_channels(dtype, index):
    maker, oracle = gg.GridMaker(0.5, 2.0), Reference(0.5, 2.0)
    coords, types, radii = some_atoms(300, 1024, 1.0, dtype)
    if index:
        types = torch.arange(300) * 3410 // 1000
        types[-1] = 1023
    found = maker.forward(ORIGIN, coords, types, radii, n_types=1024)
    assert found.shape == (1024, 5, 5, 5)
    assert_close(found, oracle.forward(ORIGIN, coords, types, radii, 1024), DENSITY_BAR[dtype])
    grid = torch.randn(found.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    gradients = (of.backward(ORIGIN, coords, types, radii, grid) for of in (maker, oracle))
    for one, other in zip(*gradients):
        assert_close(one, other, DERIVATIVE_BAR[dtype])


def test_a_million_atoms():
    """Density and gradients in float64, against the oracle, ten thousand atoms at a time."""
    n_atoms, settings = 1_000_000, {"resolution": 0.5, "dimension": 1.0}
    coords, types, radii = some_atoms(n_atoms, 1, 2.0, torch.float64)
    maker, oracle = gg.GridMaker(**settings), Reference(**settings)
    grid = torch.linspace(-1, 2, 27, dtype=torch.float64).reshape(1, 3, 3, 3)
    density = maker.forward(ORIGIN, coords, types, radii)
    gradients = maker.backward(ORIGIN, coords, types, radii, grid)
    parts = list(zip(*(x.split(10_000) for x in (coords, types, radii))))
    assert_close(density, sum(oracle.forward(ORIGIN, *part) for part in parts), 1e-11)
    for part in (0, 57, 99):
        expected = oracle.backward(ORIGIN, *parts[part], grid)
        for one, other in zip(gradients, expected):
            assert_close(one.split(10_000)[part], other, 1e-12)


NOTHING = list(itertools.product((0, 2), (0, 2), (0, 3), ("single", "padded", "ragged"), (True, False)))


@pytest.mark.parametrize(("examples", "n_atoms", "n_types", "layout", "index"), NOTHING)
def test_nothing_at_all(examples, n_atoms, n_types, layout, index):
    """No atoms and no examples give zeros and empty tensors at every order; no channels are refused."""
    if (layout == "single" and examples) or (layout == "ragged" and n_atoms and not examples):
        return  # there are no examples, or none that an atom could belong to
    lead = (examples, n_atoms) if layout == "padded" else (n_atoms,)
    coords, radii = torch.zeros(*lead, 3), torch.ones(lead)
    types = torch.full(lead, min(n_types, 1) - 1) if index else torch.ones(*lead, n_types)
    groups = {"batch": torch.zeros(n_atoms, dtype=torch.int64), "batch_size": examples} if layout == "ragged" else {}
    maker = gg.GridMaker(0.5, (1.0, 0.5, 2.0))
    if not n_types:
        with pytest.raises(ValueError, match="n_types: 0; expected an integer from 1"):
            maker.forward(ORIGIN, coords, types, radii, n_types=0, **groups)
        return
    leaves = [x.requires_grad_() for x in ((coords, radii) if index else (coords, types, radii))]
    density = gg.coords2grid(maker, ORIGIN, coords, types, radii, n_types=3, **groups)
    assert density.shape == (*((examples,) if layout != "single" else ()), 3, 3, 2, 5)
    assert bool(density.any()) == bool(n_atoms and (examples or layout == "single"))
    first = torch.autograd.grad(density.square().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(x.square().sum() for x in first), leaves, materialize_grads=True)
    for leaf, one, two in zip(leaves, first, second):
        assert leaf.shape == one.shape == two.shape


# --- weights ----------------------------------------------------------------------------------------------------------


@PRECISIONS
@pytest.mark.parametrize("weight", [1e-30, 1e30])
def test_weights(dtype, weight):
    """The density is linear in them, at every order."""
    coords, types, radii = some_atoms(4, 2, 1.0, dtype)
    assert_as_the_oracle({"resolution": 0.5, "dimension": 4.0}, ORIGIN, coords, types * weight, radii, weights=weight)


def test_what_float32_cannot_hold_is_infinite():
    coords, types, radii = some_atoms(4, 1, 0.2, torch.float32)
    types = torch.full_like(types, 3e38)
    density = gg.GridMaker(0.5, 4.0).forward(ORIGIN, coords, types, radii)
    exact = Reference(0.5, 4.0).forward(ORIGIN, coords, types, radii)
    largest = torch.finfo(torch.float32).max
    assert torch.equal(density.isinf(), exact > largest * (1 - 1e-5)) and density.isinf().any()
    assert not density.isnan().any()


# --- more than 2^31 numbers -------------------------------------------------------------------------------------------


@huge
@pytest.mark.parametrize("shape", [(1, 1291, 1291, 1291), (3, 900, 900, 900), (270_000, 20, 20, 20)])
def test_more_than_2_to_the_31_numbers(shape):
    """The last points of a volume, of a channel and of an example are what they are in a small grid."""
    assert math.prod(shape) > 2**31
    n_types, *points = shape
    maker = gg.GridMaker(0.5, tuple(0.5 * (n - 1) for n in points))
    corner = torch.tensor([0.25 * (n - 1) for n in points])  # the last point
    coords = torch.stack([corner - 0.3, corner - torch.tensor([0.1, 0.4, 0.7]), -corner])
    types, radii = torch.tensor([n_types - 1, n_types - 1, 0]), torch.full((3,), 1.7)
    density = maker.forward(ORIGIN, coords, types, radii, n_types=n_types)
    small = gg.GridMaker(0.5, 4.0)
    expected = small.forward(corner - 2, coords[:2], torch.zeros(2, dtype=torch.int64), radii[:2], n_types=1)[0]
    assert_close(density[-1, -9:, -9:, -9:], expected.double(), 1e-6)
    first = small.forward(2 - corner, coords[2:], torch.zeros(1, dtype=torch.int64), radii[2:], n_types=1)[0]
    assert_close(density[0, :9, :9, :9], first.double(), 1e-6)
    assert density.count_nonzero() == expected.count_nonzero() + first.count_nonzero()
    gradients = maker.backward(ORIGIN, coords, types, radii, density)
    there = small.backward(corner - 2, coords[:2], torch.zeros(2, dtype=torch.int64), radii[:2], expected[None])
    assert_close(gradients[0][:2], there[0].double(), 1e-5)
