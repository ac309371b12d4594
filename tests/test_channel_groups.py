"""Gradients read the channels of grad_density in groups of four: any number of channels, any zeros among the weights.

What a group reads too much (a channel without weight, a voxel beyond the support) must not count, whatever is there.
"""

import pytest
import torch
from support.scenes import DERIVATIVE_BAR, DTYPES, assert_close, assert_outputs, evaluate, make_scene, mode_id

import gridgrad as gg

PRECISIONS = pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
NAN, INFINITY = float("nan"), float("inf")
ZEROS = ("none", "one-hot", "half", "all", "one channel")
GRADIENTS = tuple(f"order {order} grad_{name}" for order in (1, 2) for name in ("coords", "types", "radii"))


def with_zeros(weights, where, shift=0):
    """Weights (N, T) that are zero: never, but for one per atom, every other, all, in one channel."""
    n_atoms, n_types = weights.shape
    atom, channel = torch.arange(n_atoms)[:, None], torch.arange(n_types)
    zero = {
        "none": torch.zeros(n_atoms, n_types, dtype=torch.bool),
        "one-hot": channel != (atom + shift) % n_types,
        "half": (atom + channel + shift) % 2 == 0,
        "all": torch.ones(n_atoms, n_types, dtype=torch.bool),
        "one channel": (channel == (n_types - 1) * (shift % 2)).expand(n_atoms, n_types),
    }[where]
    return weights.masked_fill(zero, 0)


def scene_of(n_types, dtype, zeros="none", v_zeros="none", dimension=6.0, tail="quintic", n_atoms=9):
    """Atoms inside, cut by the faces and out of reach, and cotangents."""
    scene = make_scene(tail, "per_atom", "vector", dimension=dimension, n_types=n_types, n_atoms=n_atoms, dtype=dtype)
    coords = scene.coords.clone()
    coords[1::4] *= 1.8
    coords[2::4, 2] = scene.center[2] + 40
    scene = scene.replace(coords=coords, types=with_zeros(scene.types, zeros))
    cotangents = list(scene.cotangents())
    cotangents[2] = with_zeros(cotangents[2], v_zeros, 1)
    return scene, cotangents


def run(scene, cotangents):
    return evaluate(gg.GridMaker(**scene.settings), scene, cotangents)


@PRECISIONS
@pytest.mark.parametrize("n_types", [1, 2, 3, 4, 5, 6, 7, 8, 13])
@pytest.mark.parametrize("dimension", [6.0, 9.5])  # 13 and 20 points along z: below and above a chunk
def test_numbers_of_channels(dimension, n_types, dtype):
    scene, cotangents = scene_of(n_types, dtype, dimension=dimension)
    assert_outputs(run(scene, cotangents), evaluate(scene.reference(), scene, cotangents), dtype)


@PRECISIONS
@pytest.mark.parametrize("zeros", ZEROS)
@pytest.mark.parametrize("v_zeros", ZEROS)
def test_zeros_among_weights(zeros, v_zeros, dtype):
    scene, cotangents = scene_of(6, dtype, zeros, v_zeros, 9.5)
    assert_outputs(run(scene, cotangents), evaluate(scene.reference(), scene, cotangents), dtype)


def assert_gradients(found, expected, dtype, names=GRADIENTS):
    for name in names:
        assert_close(found[name], expected[name], DERIVATIVE_BAR[dtype], name)


@PRECISIONS
@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("channel", range(6))
def test_channels_without_weight(channel, value, dtype):
    """A channel of G that is not finite counts for the gradients of its own weights and for nothing else."""
    scene, cotangents = scene_of(6, dtype, dimension=9.5)
    scene.types[:, channel] = 0
    cotangents[2][:, channel] = 0
    expected = evaluate(scene.reference(), scene, cotangents)
    cotangents[0] = cotangents[0].clone()
    cotangents[0][channel] = value
    found = run(scene, cotangents)
    assert_gradients(found, expected, dtype, [name for name in GRADIENTS if "types" not in name])
    others = torch.arange(6) != channel
    for name in ("order 1 grad_types", "order 2 grad_types"):
        assert_close(found[name][:, others], expected[name][:, others], DERIVATIVE_BAR[dtype], name)
        reached = expected[name][:, others].any(1)
        assert reached.any() and not reached.all()
        assert not found[name][reached, channel].isfinite().any(), name
        assert not found[name][~reached, channel].any(), name


@PRECISIONS
@pytest.mark.parametrize("value", [NAN, INFINITY])
@pytest.mark.parametrize("n_types", [1, 4, 6])
@pytest.mark.parametrize("dimension", [6.0, 9.5])
def test_voxels_beyond_the_support(dimension, n_types, value, dtype):
    """G may be anything where no atom reaches, in the chunks of a row too."""
    scene, cotangents = scene_of(n_types, dtype, dimension=dimension, n_atoms=2)
    maker = gg.GridMaker(**scene.settings)
    reached = maker.forward(scene.center, scene.coords, torch.ones_like(scene.types), scene.radii) != 0
    assert reached.any() and not reached.all()
    expected = evaluate(scene.reference(), scene, cotangents)
    cotangents[0] = torch.where(reached, cotangents[0], value)
    assert_gradients(run(scene, cotangents), expected, dtype)
