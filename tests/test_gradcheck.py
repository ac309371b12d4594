"""gradcheck and gradgradcheck in float64, and every subset of the inputs against the oracle."""

import functools
import itertools

import pytest
import torch
from support.scenes import DERIVATIVE_BAR, LAYOUTS, MODES, RADII, TAILS, TYPES, assert_close, make_scene, mode_id
from torch.autograd import gradcheck, gradgradcheck

import gridgrad as gg

INPUTS = ("center", "coords", "types", "radii")
BOXES = {"single": (1.0, 1.5, 2.0), "padded": (1.0, 0.5, 1.0), "ragged": (1.0, 0.5, 1.0)}


@functools.cache
def small_scene(tail, radius_mode, type_mode, layout):
    """Three atoms, or three examples of two; no voxel within 1e-4 Å of a sphere where the profile is not smooth."""
    return make_scene(
        tail,
        radius_mode,
        type_mode,
        layout,
        n_atoms=2 if layout == "padded" else 3,
        n_types=2,
        dimension=BOXES[layout],
        margin=1e-4,
        seed=5,
    )


def differentiable(scene):
    return INPUTS if scene.types.is_floating_point() else tuple(name for name in INPUTS if name != "types")


def function_of(scene, names):
    """Return the density as a function of the named inputs only, and these inputs as leaves."""
    maker = gg.GridMaker(**scene.settings)

    def density(*leaves):
        given = dict(zip(names, leaves))
        return gg.coords2grid(maker, *(given.get(name, scene[name]) for name in INPUTS), **scene.grouping)

    return density, [scene[name].clone().requires_grad_() for name in names]


@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_all_inputs_together(mode):
    """Every element of both Jacobians, all mixed terms included, in reverse mode and in forward mode."""
    scene = small_scene(*mode)
    density, leaves = function_of(scene, differentiable(scene))
    assert gradcheck(density, leaves, check_forward_ad=True)
    assert gradgradcheck(density, leaves, check_fwd_over_rev=True)


@pytest.mark.parametrize("pair", list(itertools.combinations(INPUTS, 2)), ids=mode_id)
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_every_pair_of_inputs(mode, pair):
    """Two inputs ask for gradients and the rest do not: random projections of the same Jacobians."""
    scene = small_scene(*mode)
    names = [name for name in pair if name in differentiable(scene)]
    density, leaves = function_of(scene, names)
    assert gradcheck(density, leaves, fast_mode=True)
    assert gradgradcheck(density, leaves, fast_mode=True)


@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("tail", TAILS)
def test_atom_on_a_grid_point(tail, radius_mode, type_mode):
    """d = 0 is a smooth point of the density."""
    scene = small_scene(tail, radius_mode, type_mode, "single")
    maker = scene.reference()
    coords = scene.coords.clone()
    coords[0] = scene.center + maker.points[len(maker.points) // 2]
    scene = scene.replace(coords=coords)
    assert maker.margin(*scene.inputs, **scene.grouping) > 1e-4
    density, leaves = function_of(scene, differentiable(scene))
    assert gradcheck(density, leaves)
    assert gradgradcheck(density, leaves)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tail", TAILS)
def test_zero_weights(tail, layout):
    """The derivatives by weights and across weights hold where the weights are zero."""
    scene = small_scene(tail, "per_atom", "vector", layout)
    scene = scene.replace(types=torch.zeros_like(scene.types))
    density, leaves = function_of(scene, INPUTS)
    assert gradcheck(density, leaves)
    assert gradgradcheck(density, leaves)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
def test_every_subset_of_inputs(mode):
    """Whatever subset asks for gradients, both orders equal the oracle's, and the rest get none."""
    scene = make_scene(*mode)
    maker, reference = gg.GridMaker(**scene.settings), scene.reference()
    grad_density = scene.cotangents()[0]
    names = differentiable(scene)
    for count in range(1, len(names) + 1):
        for chosen in itertools.combinations(names, count):
            results = []
            for function in (functools.partial(gg.coords2grid, maker), reference.forward):
                leaves = {name: scene[name].clone().requires_grad_(name in chosen) for name in names}
                cotangent = grad_density.clone().requires_grad_()
                arrays = [leaves.get(name, scene[name]) for name in INPUTS]
                density = function(*arrays, **scene.grouping)
                asked = [leaves[name] for name in chosen]
                first = torch.autograd.grad(density, asked, cotangent, create_graph=True)
                total = sum((gradient**2).sum() for gradient in first)
                second = torch.autograd.grad(total, [cotangent, *asked], materialize_grads=True)
                results.append((*first, *second))
            labels = [f"{name} of {chosen}" for name in (*chosen, "grad_density", *chosen)]
            for name, found, expected in zip(labels, *results, strict=True):
                assert_close(found, expected, DERIVATIVE_BAR[scene.dtype], name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("type_mode", TYPES)
def test_only_the_cotangent_asks_twice(type_mode, layout):
    """Inputs without gradients still give ``grad_grad_density`` through a linear functional of the first order."""
    scene = make_scene("quadratic", "per_atom", type_mode, layout)
    grad_density, grad_grad_coords, _, _ = scene.cotangents()
    results = []
    for function in (functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings)), scene.reference().forward):
        coords = scene.coords.clone().requires_grad_()
        cotangent = grad_density.clone().requires_grad_()
        density = function(scene.center, coords, scene.types, scene.radii, **scene.grouping)
        (first,) = torch.autograd.grad(density, coords, cotangent, create_graph=True)
        results.append(torch.autograd.grad(first, cotangent, grad_grad_coords)[0])
    assert_close(*results, DERIVATIVE_BAR[scene.dtype], "grad_grad_density")
