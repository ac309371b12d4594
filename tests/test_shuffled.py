"""Shuffled runs, examples and atoms: where the same bits are promised, and where only the same numbers.

docs/kernels.md says which is which.
"""

import functools
import itertools
import random

import pytest
import torch
from support.scenes import DERIVATIVE_BAR, DTYPES, TYPES, assert_close, assert_same_bits, evaluate, make_scene, mode_id

import gridgrad as gg

LARGE = {"resolution": 0.25, "dimension": (17.5, 17.5, 14.0)}  # more than 1 MiB a channel: atoms go by their row
OF_THE_GRID = ("density", "order 2 grad_grad_density")
PER_ATOM = ("relevance", "order 1 grad_coords", "order 1 grad_radii", "order 2 grad_coords", "order 2 grad_radii")
WEIGHTS = ("order 1 grad_types", "order 2 grad_types")


def scene(type_mode, layout="padded", large=False, dtype=torch.float32, n_atoms=40):
    size = LARGE if large else {"dimension": (7.0, 6.0, 8.0)}
    return make_scene(
        "quadratic", "per_atom", type_mode, layout, dtype=dtype, n_atoms=n_atoms, n_types=2, margin=0.0, **size
    )


def outputs(of, cotangents=None):
    found = evaluate(gg.GridMaker(**of.settings), of, cotangents or of.cotangents())
    return {name: value for name, value in found.items() if value is not None}


@functools.cache
def calls():
    """Calls that need scratch memory of different sizes, in both precisions."""
    scenes = [
        scene(type_mode, layout, dtype=dtype, n_atoms=n_atoms)
        for type_mode, layout, dtype, n_atoms in itertools.product(TYPES, ("single", "ragged"), DTYPES, (3, 40))
    ]
    scenes += [scene(type_mode, "single", large=True) for type_mode in TYPES]
    return [functools.partial(outputs, of) for of in scenes]


def test_calls_in_any_order(threads):
    """What a call leaves behind, memory that the next one takes over for one, changes no bit of a later one."""
    threads(1)
    expected = [call() for call in calls()]
    for seed in range(2):
        for number in random.Random(seed).sample(range(len(expected)), len(expected)):
            threads(1 + number % 2 if seed else 1)
            for name, value in calls()[number]().items():
                assert_same_bits(value, expected[number][name], f"{name} of call {number}, seed {seed}")


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("type_mode", TYPES)
def test_examples_in_any_order(type_mode, large, threads):
    """An example has the same bits wherever it stands in a batch, and alone."""
    threads(2)
    whole = scene(type_mode, large=large)
    cotangents, expected = whole.cotangents(), outputs(whole)
    for kept in ([2, 0, 1], [1, 2, 0], [1]):
        part = whole.replace(**{name: whole[name][kept] for name in ("center", "coords", "types", "radii")})
        found = outputs(part, [None if t is None else t[kept] for t in cotangents])
        for name, value in found.items():
            assert_same_bits(value, expected[name][kept], f"{name} of examples {kept}")


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("type_mode", TYPES)
def test_atoms_in_any_order(type_mode, dtype, large, threads):
    """What belongs to an atom keeps its bits; a voxel is a sum of atoms, which keeps its value up to rounding."""
    threads(2)
    first = scene(type_mode, "single", large, dtype)
    grad_density, *grad_grads = first.cotangents()
    expected = outputs(first)
    order = torch.randperm(len(first.coords), generator=torch.Generator().manual_seed(3))
    second = first.replace(**{name: first[name][order] for name in ("coords", "types", "radii")})
    found = outputs(second, [grad_density, *(None if t is None else t[order] for t in grad_grads)])
    assert found.keys() == expected.keys() == {*OF_THE_GRID, *PER_ATOM, *(WEIGHTS if type_mode == "vector" else ())}
    for name, value in found.items():
        if name in OF_THE_GRID:
            assert_close(value, expected[name], DERIVATIVE_BAR[dtype], name)
        elif name != "relevance":
            assert_same_bits(value, expected[name][order], name)
    # the relevance divides by the density, which is another by its rounding
    assert_close(found["relevance"], expected["relevance"][order], DERIVATIVE_BAR[dtype], "relevance")


def test_a_voxel_is_a_sum_in_the_order_of_the_atoms():
    """So its bits are those of the given order, and those of another order need not be."""
    coords = torch.zeros(3, 3)
    weights = torch.tensor([[1.0], [2**-24], [2**-24]])
    radii = torch.ones(3)
    maker = gg.GridMaker(resolution=0.5, dimension=1.0)
    (forth, back) = (
        gg.coords2grid(maker, (0, 0, 0), coords, weights[order], radii)[0, 1, 1, 1] for order in ([0, 1, 2], [1, 2, 0])
    )
    assert forth == 1.0
    assert back == 1.0 + 2**-23
