"""What the tests of torch.func share: functions of any subset of the inputs, by the package and by the oracle."""

import functools

import torch
from support.scenes import assert_close, make_scene
from torch.utils._pytree import tree_leaves

import gridgrad as gg

BAR = 1e-10
INPUTS = ("center", "coords", "types", "radii")


@functools.cache
def small_scene(mode, seed=0):
    return make_scene(*mode, seed=seed, n_atoms=3, n_types=2, dimension=(1.0, 1.5, 1.0))


def differentiable(scene):
    return INPUTS if scene.types.is_floating_point() else tuple(name for name in INPUTS if name != "types")


def functions(scene, names):
    """Return (density, loss) as functions of the named inputs, by the package and by the oracle."""
    weights = scene.cotangents()[0]

    def pair(forward):
        def density(*leaves):
            given = dict(zip(names, leaves))
            return forward(*(given.get(name, scene[name]) for name in INPUTS), **scene.grouping)

        def loss(*leaves):
            grid = density(*leaves)
            return (weights * (grid + 0.3 * grid**2)).sum()

        return density, loss

    maker = gg.GridMaker(**scene.settings)
    return pair(functools.partial(gg.coords2grid, maker)), pair(scene.reference().forward)


def tangents_like(leaves):
    generator = torch.Generator().manual_seed(3)
    return tuple(torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves)


def assert_agree(found, expected):
    for i, (value, target) in enumerate(zip(tree_leaves(found), tree_leaves(expected), strict=True)):
        assert_close(value, target, BAR, f"output {i}")


def all_of(leaves):
    return tuple(range(len(leaves)))
