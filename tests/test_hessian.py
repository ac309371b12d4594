"""Hessian products of torch.autograd.functional against the oracle, and the end of the road: the third derivative."""

import functools

import pytest
import torch
from support.scenes import LAYOUTS, TAILS, assert_close, make_scene, mode_id
from torch.autograd import functional

import gridgrad as gg

INPUTS = ("center", "coords", "types", "radii")
BAR = 1e-12


def loss_functions(scene, names=INPUTS):
    """Return a nonlinear loss of the named inputs twice: by the package, by the oracle."""
    weights = scene.cotangents()[0]
    maker, reference = gg.GridMaker(**scene.settings), scene.reference()

    def with_density(density):
        def loss(*leaves):
            given = dict(zip(names, leaves))
            grid = density(*(given.get(name, scene[name]) for name in INPUTS))
            return (weights * (grid + 0.3 * grid**2)).sum()

        return loss

    return (
        with_density(lambda *inputs: gg.coords2grid(maker, *inputs, **scene.grouping)),
        with_density(lambda *inputs: reference.forward(*inputs, **scene.grouping)),
    )


def leaves_and_vectors(scene, names=INPUTS):
    generator = torch.Generator().manual_seed(3)
    leaves = tuple(scene[name].clone() for name in names)
    return leaves, tuple(torch.randn(leaf.shape, generator=generator, dtype=leaf.dtype) for leaf in leaves)


@pytest.mark.parametrize("product", [functional.hvp, functional.vhp])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tail", TAILS)
def test_hessian_products(tail, layout, product):
    scene = make_scene(tail, "per_atom", "vector", layout, n_atoms=3)
    leaves, vectors = leaves_and_vectors(scene)
    found, expected = (product(loss, leaves, vectors) for loss in loss_functions(scene))
    assert found[0].item() == pytest.approx(expected[0].item(), rel=BAR)
    for name, value, target in zip(INPUTS, found[1], expected[1]):
        assert_close(value, target, BAR, name)


@pytest.mark.parametrize("product", [functional.hvp, functional.vhp])
@pytest.mark.parametrize("names", [("coords",), ("types",), ("radii",), ("coords", "radii")], ids=mode_id)
def test_hessian_products_of_some_inputs(names, product):
    scene = make_scene("quintic", "by_type", "vector", "single", n_atoms=3)
    leaves, vectors = leaves_and_vectors(scene, names)
    found, expected = (product(loss, leaves, vectors)[1] for loss in loss_functions(scene, names))
    for name, value, target in zip(names, found, expected):
        assert_close(value, target, BAR, name)


@pytest.mark.parametrize("type_mode", ["vector", "index"])
@pytest.mark.parametrize("radius_mode", ["per_atom", "by_type"])
@pytest.mark.parametrize("tail", TAILS)
def test_hessian(tail, radius_mode, type_mode):
    """All blocks at once, symmetric and equal to the oracle's."""
    names = INPUTS if type_mode == "vector" else ("center", "coords", "radii")
    scene = make_scene(tail, radius_mode, type_mode, "single", n_atoms=3, n_types=2, dimension=(1.0, 1.5, 1.0))
    leaves, _ = leaves_and_vectors(scene, names)
    found, expected = (functional.hessian(loss, leaves) for loss in loss_functions(scene, names))
    sizes = [leaf.numel() for leaf in leaves]
    flat = [
        torch.cat([torch.cat([block.reshape(size, -1) for block in row], 1) for size, row in zip(sizes, rows)])
        for rows in (found, expected)
    ]
    assert_close(*flat, BAR, "hessian")
    assert_close(flat[0], flat[0].T, BAR, "transposed hessian")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_jacobian(layout):
    scene = make_scene("quadratic", "by_type", "vector", layout, n_atoms=2, n_types=2, dimension=(1.0, 0.5, 1.0))
    leaves, _ = leaves_and_vectors(scene)
    maker, reference = gg.GridMaker(**scene.settings), scene.reference()
    found, expected = (
        functional.jacobian(functools.partial(function, **scene.grouping), leaves)
        for function in (functools.partial(gg.coords2grid, maker), reference.forward)
    )
    for name, value, target in zip(INPUTS, found, expected):
        assert_close(value, target, BAR, name)


@pytest.mark.parametrize("name", ["coords", "types", "radii"])
@pytest.mark.parametrize("second", ["coords", "types", "radii"])
@pytest.mark.parametrize("tail", TAILS)
def test_third_derivative_raises(tail, second, name):
    """It is not implemented, so it must not come out as zero."""
    scene = make_scene(tail)
    leaves = {key: scene[key].clone().requires_grad_() for key in ("coords", "types", "radii")}
    density = gg.coords2grid(gg.GridMaker(**scene.settings), scene.center, *leaves.values())
    first = torch.autograd.grad(density.square().sum(), list(leaves.values()), create_graph=True)
    total = sum(gradient.square().sum() for gradient in first)
    (grad_grad,) = torch.autograd.grad(total, leaves[second], create_graph=True)
    with pytest.raises(RuntimeError, match="third"):
        torch.autograd.grad(grad_grad.square().sum(), leaves[name])


@pytest.mark.parametrize("name", ["coords", "radii"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_third_derivative_raises_with_index_types(layout, name):
    scene = make_scene("quadratic", "by_type", "index", layout)
    leaves = {key: scene[key].clone().requires_grad_() for key in ("coords", "radii")}
    maker = gg.GridMaker(**scene.settings)
    density = gg.coords2grid(maker, scene.center, leaves["coords"], scene.types, leaves["radii"], **scene.grouping)
    first = torch.autograd.grad(density.square().sum(), list(leaves.values()), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), list(leaves.values()), create_graph=True)
    with pytest.raises(RuntimeError, match="third"):
        torch.autograd.grad(sum(g.square().sum() for g in second), leaves[name])


def second_order(density, scene):
    """Return the leaves ``grad_density`` and ``grad_grad_coords`` and the order-2 gradients by cotangent and coords."""
    grad_density, grad_grad_coords, _, _ = scene.cotangents()
    coords = scene.coords.clone().requires_grad_()
    cotangent, direction = grad_density.clone().requires_grad_(), grad_grad_coords.clone().requires_grad_()
    grid = density(scene.center, coords, scene.types, scene.radii, **scene.grouping)
    (first,) = torch.autograd.grad(grid, coords, cotangent, create_graph=True)
    second = torch.autograd.grad((first * direction).sum(), (cotangent, coords), create_graph=True)
    return (cotangent, direction), second


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tail", TAILS)
def test_order_2_is_differentiable_in_the_direction(tail, layout):
    """Order 2 is linear in the vectors it was contracted with, and its derivative by them is right."""
    scene = make_scene(tail, layout=layout)
    results = []
    for density in (functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings)), scene.reference().forward):
        (_, direction), second = second_order(density, scene)
        total = sum(gradient.sin().sum() for gradient in second)
        results.append(torch.autograd.grad(total, direction)[0])
    assert_close(*results, BAR, "grad_grad_coords")
