"""Forward-mode differentiation without torch.func: dual numbers, and both modes nested."""

import functools

import pytest
import torch
from support.rows import refused, row
from support.scenes import MODES, assert_close, make_scene, mode_id
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import gridgrad as gg

BAR = 1e-10
INPUTS = ("center", "coords", "types", "radii")


@functools.cache
def scene_of(mode):
    return make_scene(*mode, n_atoms=2, n_types=2, dimension=(1.0, 0.5, 1.0), margin=1e-4, seed=5)


def differentiable(scene):
    return INPUTS if scene.types.is_floating_point() else tuple(name for name in INPUTS if name != "types")


def density_of(scene, names, forward=None):
    forward = forward or functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings))

    def density(*leaves):
        given = dict(zip(names, leaves))
        return forward(*(given.get(name, scene[name]) for name in INPUTS), **scene.grouping)

    return density


def duals(leaves):
    generator = torch.Generator().manual_seed(3)
    return [
        forward_ad.make_dual(leaf, torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype)) for leaf in leaves
    ]


@row("`torch.autograd.forward_ad`, dual numbers")
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_dual_numbers(mode):
    """For any subset of dual inputs; the others have no tangent."""
    scene = scene_of(mode)
    for names in (differentiable(scene), ("coords",), ("center", "radii")):
        results = []
        for forward in (None, scene.reference().forward):
            with forward_ad.dual_level():
                grid = density_of(scene, names, forward)(*duals([scene[name] for name in names]))
                results.append(forward_ad.unpack_dual(grid).tangent)
        if mode[0] == "binary":
            results = [torch.zeros(()) if result is None else result for result in results]
        assert_close(*results, BAR, f"tangent by {names}")


@row("forward mode over `backward` (dual numbers and `autograd.grad`)")
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
def test_forward_over_reverse(mode):
    scene = scene_of(mode)
    names = differentiable(scene)
    results = []
    for forward in (None, scene.reference().forward):
        with forward_ad.dual_level():
            leaves = duals([scene[name].clone().requires_grad_() for name in names])
            loss = density_of(scene, names, forward)(*leaves).square().sum()
            gradients = torch.autograd.grad(loss, leaves)
            results.append([forward_ad.unpack_dual(gradient).tangent for gradient in gradients])
    for name, found, expected in zip(names, *results):
        assert_close(found, expected, BAR, name)


@row("`gradcheck`, `gradgradcheck` with forward mode, batched and mixed")
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
def test_gradcheck(mode):
    scene = scene_of(mode)
    names = differentiable(scene)
    leaves = [scene[name].clone().requires_grad_() for name in names]
    density = density_of(scene, names)
    assert gradcheck(
        density, leaves, fast_mode=True, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert gradgradcheck(density, leaves, fast_mode=True, check_fwd_over_rev=True, check_rev_over_rev=True)


NESTED = "Nested forward mode AD is not supported at the moment"


@row("dual numbers of dual numbers", outcome=refused(RuntimeError, NESTED))
def test_nested_levels():
    """The limit is torch's."""
    with pytest.raises(RuntimeError, match=NESTED), forward_ad.dual_level(), forward_ad.dual_level():
        pass


@row("forward mode under `torch.no_grad`")
def test_no_grad():
    scene = scene_of(("quintic", "per_atom", "vector", "single"))
    with forward_ad.dual_level(), torch.no_grad():
        (coords,) = duals([scene.coords])
        found = forward_ad.unpack_dual(density_of(scene, ("coords",))(coords)).tangent
        expected = forward_ad.unpack_dual(density_of(scene, ("coords",), scene.reference().forward)(coords)).tangent
    assert_close(found, expected, BAR)
