"""Coords2Grid as a module among others: conversion, copies, state, checkpoints, optimisers, parallel wrappers."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.data_parallel import Network
from support.rows import row
from support.scenes import assert_close, assert_same_bits, make_scene
from torch.utils.checkpoint import checkpoint

import gridgrad as gg


@pytest.fixture
def scene():
    return make_scene("quintic", "per_atom", "vector", "padded")


def layer(scene, center=(0.1, 0.2, 0.3)):
    return gg.Coords2Grid(gg.GridMaker(**scene.settings), center)


@row("`copy.deepcopy`, `pickle`, `torch.save` of `Coords2Grid`")
def test_copies(scene):
    module = layer(scene)
    expected = module(*scene.inputs[1:])
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)):
        assert other.gm == module.gm and other.center is not module.center
        assert_same_bits(other(*scene.inputs[1:]), expected)


@row("`state_dict`, `load_state_dict` of a network with `Coords2Grid`")
def test_state(scene):
    """The layer has no state: weights load into a network with another grid of the same shape."""
    network = Network(scene)
    state = network.state_dict()
    assert set(state) == {"conv.weight", "conv.bias"}
    other = Network(scene)
    other.grid = layer(scene, center=(1.0, 0.0, 0.0))
    other.load_state_dict(state)
    assert torch.equal(other.conv.weight, network.conv.weight)


@row("`module.to(dtype)`, `.half()`, `.double()`, `.to(device)`")
def test_conversion_keeps_the_precision_of_the_center(scene):
    center = (0.1, 1 / 3, 1e-9)
    expected = layer(scene, center)(*scene.inputs[1:])
    for module in (
        layer(scene, center).half(),
        layer(scene, center).float().to(torch.bfloat16).double(),
        layer(scene, center).to("cpu", torch.float32),
    ):
        assert module.center.dtype == torch.float64
        assert_same_bits(module(*scene.inputs[1:]), expected)
    assert layer(scene, center).to("meta").center.is_meta
    assert Network(scene).half().conv.weight.dtype == torch.float16


def test_the_center_is_a_copy(scene):
    center = torch.zeros(3, dtype=torch.float64)
    module = layer(scene, center)
    center += 1
    assert not module.center.any()


@row("a learnt centre: `Coords2Grid(gm, torch.nn.Parameter(...))`")
def test_learnt_center(scene):
    center = torch.nn.Parameter(torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    module = layer(scene, center)
    assert list(module.parameters()) == [center] and set(module.state_dict()) == {"center"}
    module(*scene.inputs[1:]).square().sum().backward()
    expected = center.detach().clone().requires_grad_()
    scene.reference().forward(expected, *scene.inputs[1:]).square().sum().backward()
    assert_close(center.grad, expected.grad, 1e-12)


@pytest.mark.parametrize("center", [(0, 0), "abc", None, [[0, 0, 0]], (0, 0, "a")])
def test_bad_center(scene, center):
    with pytest.raises((TypeError, ValueError), match=r"^center: .*; expected"):
        layer(scene, center)


@row("`torch.utils.checkpoint`, both kinds")
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint(scene, use_reentrant):
    gradients = []
    for run in (lambda f, *a: f(*a), lambda f, *a: checkpoint(f, *a, use_reentrant=use_reentrant)):
        coords = scene.coords.clone().requires_grad_()
        run(layer(scene), coords, *scene.inputs[2:]).square().sum().backward()
        gradients.append(coords.grad)
    assert_same_bits(*gradients)


@row("double backward through `torch.utils.checkpoint(use_reentrant=False)`")
def test_double_backward_through_a_checkpoint(scene):
    gradients = []
    for run in (lambda f, *a: f(*a), lambda f, *a: checkpoint(f, *a, use_reentrant=False)):
        coords = scene.coords.clone().requires_grad_()
        grid = run(layer(scene), coords, *scene.inputs[2:])
        (first,) = torch.autograd.grad(grid.square().sum(), coords, create_graph=True)
        first.square().sum().backward()
        gradients.append(coords.grad)
    assert_same_bits(*gradients)


@row("`torch.use_deterministic_algorithms(True)`")
def test_deterministic_algorithms(scene):
    """All orders and layouts; empty outputs are filled by torch in this mode, which must not disturb us."""
    torch.use_deterministic_algorithms(True)
    try:
        for layout in ("single", "padded", "ragged"):
            scene = make_scene("quintic", "by_type", "vector", layout)
            leaves = [leaf.clone().requires_grad_() for leaf in scene.inputs]
            grid = gg.coords2grid(gg.GridMaker(**scene.settings), *leaves, **scene.grouping)
            first = torch.autograd.grad(grid.square().sum(), leaves, create_graph=True)
            second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), leaves)
            oracle = scene.reference().forward(*leaves, **scene.grouping)
            expected = torch.autograd.grad(oracle.square().sum(), leaves, create_graph=True)
            expected = torch.autograd.grad(sum(gradient.square().sum() for gradient in expected), leaves)
            for name, found, target in zip(("center", "coords", "types", "radii"), second, expected):
                assert_close(found, target, 1e-12, name)
    finally:
        torch.use_deterministic_algorithms(False)


@row("`torch.optim.LBFGS`")
def test_lbfgs():
    """Atoms return to where they were from a distance of 0.2 angstrom, by the density alone."""
    maker = gg.GridMaker(0.5, 6.0, tail="quintic")
    start = torch.tensor([[-1.5, 0.0, 0.3], [1.2, 0.7, -0.4]], dtype=torch.float64)
    types, radii = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    target = gg.coords2grid(maker, (0, 0, 0), start, types, radii)
    coords = (start + torch.tensor([0.15, -0.1, 0.1])).requires_grad_()
    optimizer = torch.optim.LBFGS([coords], max_iter=50, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def closure():
        optimizer.zero_grad()
        loss = (gg.coords2grid(maker, (0, 0, 0), coords, types, radii) - target).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(coords, start, atol=1e-6)


@row("`torch.nn.DataParallel`")
def test_data_parallel(scene):
    network = Network(scene.to(torch.float32))
    atoms = scene.to(torch.float32).inputs[1:]
    assert_same_bits(torch.nn.DataParallel(network)(*atoms), network(*atoms))


@row("`DistributedDataParallel` (gloo)")
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_distributed_data_parallel():
    """Where gloo fails or hangs on torch's own layers, nothing can be said of ours."""
    command = [sys.executable, "-m", "support.data_parallel"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    ) as process:
        try:
            done, errors = process.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            process.kill()
            done, errors = process.communicate()
            errors += "took longer than 180 s"
    if not done:
        pytest.skip(f"gloo does not work here: {errors.strip().splitlines()[-1:]}")
    assert done.split() == ["torch", "gridgrad"], errors


@row("`torch.inference_mode`")
def test_inference_mode(scene):
    expected = layer(scene)(*scene.inputs[1:])
    with torch.inference_mode():
        grid = layer(scene)(*scene.inputs[1:])
        assert grid.is_inference()
        assert_same_bits(grid.clone(), expected)


@row("meta tensors: shapes without memory")
@pytest.mark.parametrize("layout", ["single", "padded"])
def test_shapes_without_memory(layout):
    """A grid larger than this machine costs nothing on the meta device; the backward pass has the right shapes too."""
    scene = make_scene("quintic", "per_atom", "vector", layout)
    coords, types, radii = (leaf.to("meta").requires_grad_() for leaf in scene.inputs[1:])
    maker = gg.GridMaker(0.01, 200.0)
    grid = gg.coords2grid(maker, (0, 0, 0), coords, types, radii)
    assert grid.is_meta and grid.shape[-4:] == maker.grid_dimensions(3)
    grid.sum().backward()
    assert coords.grad.shape == coords.shape and types.grad.shape == types.shape and radii.grad.shape == radii.shape


@row("a pending sign, `z.conj().imag`; zeros without memory")
def test_lazy_views(scene):
    """The sign that torch leaves pending in a view is seen, and so are zeros that have no memory."""
    z = torch.complex(torch.zeros_like(scene.coords), scene.coords)
    coords = z.conj().imag
    assert coords.is_neg()
    maker = gg.GridMaker(**scene.settings)
    for given in (coords, coords.contiguous()):
        found = gg.coords2grid(maker, scene.center, given, *scene.inputs[2:])
        assert_same_bits(found, gg.coords2grid(maker, scene.center, -scene.coords, *scene.inputs[2:]))
        assert_same_bits(maker.forward(scene.center, given, *scene.inputs[2:]), found)
        zero_center = maker.forward((0, 0, 0), given, *scene.inputs[2:])
        assert_same_bits(zero_center, maker.forward((0, 0, 0), -scene.coords, *scene.inputs[2:]))
    zeros = torch._efficientzerotensor(scene.coords.shape, dtype=torch.float64)
    found = gg.coords2grid(maker, (0, 0, 0), zeros, *scene.inputs[2:])
    assert_same_bits(found, gg.coords2grid(maker, (0, 0, 0), torch.zeros_like(scene.coords), *scene.inputs[2:]))
