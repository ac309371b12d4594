"""What callers reasonably write: each is taken for what it means, gradients included."""

import functools

import numpy as np
import pytest
import torch
from support.scenes import (
    DENSITY_BAR,
    DERIVATIVE_BAR,
    DTYPES,
    LAYOUTS,
    RADII,
    TYPES,
    assert_close,
    assert_same_bits,
    evaluate,
    make_scene,
    mode_id,
)  # fmt: skip

import gridgrad as gg

CENTER = (0.1, -0.25, 1 / 3)


def assert_same_gradients(found, expected, leaves):
    assert_same_bits(found.detach(), expected.detach())
    gradients = [torch.autograd.grad(grid.square().sum(), leaves, retain_graph=True) for grid in (found, expected)]
    for value, target in zip(*gradients, strict=True):
        assert_same_bits(value, target)


def scalars():
    return [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in CENTER]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_sequence_of_tensors_as_center(kind):
    """It keeps their gradients, also beside numbers, and where all are zero."""
    scene = make_scene("quintic", center_per_example=False)
    grid = functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings))
    x, _, z = leaves = scalars()
    atoms = scene.inputs[1:]
    assert_same_gradients(grid(kind(leaves), *atoms), grid(torch.stack(leaves), *atoms), leaves)
    mixed = torch.stack([x, torch.tensor(2.0, dtype=torch.float64), z])
    assert_same_gradients(grid(kind([x, 2.0, z]), *atoms), grid(mixed, *atoms), [x, z])
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    expected = grid(torch.stack([zero, zero.detach(), zero.detach()]), *atoms)
    assert_same_gradients(grid(kind([zero, 0, 0]), *atoms), expected, [zero])


@pytest.mark.parametrize("layout", ["padded", "ragged"])
def test_a_sequence_of_centers(layout):
    scene = make_scene("quintic", layout=layout)
    grid = functools.partial(gg.coords2grid, gg.GridMaker(**scene.settings), **scene.grouping)
    center = scene.center.clone().requires_grad_()
    expected = grid(center, *scene.inputs[1:])
    assert_same_gradients(grid(list(center), *scene.inputs[1:]), expected, [center])
    assert_same_gradients(grid([list(row) for row in center], *scene.inputs[1:]), expected, [center])


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_center_of_another_precision(layout, dtype):
    """No centre is rounded to the precision of the coordinates. Gradients have the dtype of the centre."""
    scene = make_scene("quintic", layout=layout)
    maker = gg.GridMaker(**scene.settings)
    same = scene.to(dtype)
    numbers = gg.coords2grid(maker, scene.center.tolist(), *same.inputs[1:], **same.grouping)
    assert_same_bits(gg.coords2grid(maker, scene.center, *same.inputs[1:], **same.grouping), numbers)
    assert_same_bits(maker.forward(scene.center, *same.inputs[1:], **same.grouping), numbers)
    for precision in DTYPES:
        center = scene.center.to(precision, copy=True).requires_grad_()
        found = gg.coords2grid(maker, center, *same.inputs[1:], **same.grouping)
        (gradient,) = torch.autograd.grad(found.square().sum(), center)
        assert gradient.dtype == precision
        oracle = center.detach().clone().double().requires_grad_()
        expected = scene.reference().forward(oracle, *same.inputs[1:], **same.grouping)
        assert_close(found, expected, DENSITY_BAR[dtype])
        (target,) = torch.autograd.grad(expected.square().sum(), oracle)
        assert_close(gradient, target, max(DERIVATIVE_BAR[dtype], DERIVATIVE_BAR[precision]))
    single = scene.center.float()
    found = gg.coords2grid(maker, single, *same.inputs[1:], **same.grouping)
    assert_same_bits(found, gg.coords2grid(maker, single.tolist(), *same.inputs[1:], **same.grouping))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_center_per_call_of_the_module(layout):
    scene = make_scene("quintic", layout=layout)
    maker = gg.GridMaker(**scene.settings)
    module = gg.Coords2Grid(maker, CENTER)
    atoms, groups = scene.inputs[1:], {"batch": scene.batch, "batch_size": scene.batch_size}
    for center in (scene.center, scene.center.tolist(), scene.center.clone().requires_grad_()):
        expected = gg.coords2grid(maker, center, *atoms, **groups)
        assert_same_bits(module(*atoms, **groups, center=center).detach(), expected.detach())
    assert_same_bits(module(*atoms, **groups), gg.coords2grid(maker, CENTER, *atoms, **groups))
    with pytest.raises(ValueError, match=r"^center: shape \(2,\); expected \(3,\)"):
        module(*atoms, **groups, center=(0, 0))


def test_a_module_with_a_center_of_tensors():
    leaves = scalars()
    scene = make_scene("quintic", center_per_example=False)
    maker = gg.GridMaker(**scene.settings)
    expected = gg.coords2grid(maker, torch.stack(leaves), *scene.inputs[1:])
    assert_same_gradients(gg.Coords2Grid(maker, leaves)(*scene.inputs[1:]), expected, leaves)


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("radius", [1.7, 2, np.float32(1.25), np.float64(1.25)], ids=repr)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("radius_mode", RADII)
def test_a_number_as_radius(radius_mode, layout, radius, dtype):
    scene = make_scene("quintic", radius_mode, "index", layout, dtype=dtype)
    maker = gg.GridMaker(**scene.settings)
    full = scene.replace(radii=torch.full_like(scene.radii, float(radius)))
    number = scene.replace(radii=radius)
    expected = evaluate(maker, full)
    found = evaluate(maker, number, full.cotangents())
    for name, value in expected.items():
        assert found[name] is value is None or assert_same_bits(found[name], value, name) is None
    assert_same_bits(gg.coords2grid(maker, *number.inputs, **number.grouping), expected["density"])
    arrays = [value.numpy() if isinstance(value, torch.Tensor) else value for value in number.inputs]
    groups = {**scene.grouping, "batch": None if scene.batch is None else scene.batch.numpy()}
    assert_same_bits(maker.forward(*arrays, **groups), expected["density"])


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">i8", ">u4"])
def test_indices_of_any_integer(dtype):
    scene = make_scene("quintic", type_mode="index")
    maker = gg.GridMaker(**scene.settings)
    types = scene.types.clamp(min=0)
    expected = maker.forward(scene.center, scene.coords, types, scene.radii, n_types=3)
    arrays = scene.center.numpy(), scene.coords.numpy(), types.numpy().astype(dtype), scene.radii.numpy()
    assert_same_bits(maker.forward(*arrays, n_types=3), expected)


@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("radius", [0.0, -1.0])
def test_radius_of_padding(radius, layout, radius_mode, type_mode):
    """An atom that counts nowhere, and a type that no atom has, may have any radius: every output is as without it."""
    scene = make_scene("quintic", radius_mode, type_mode, layout)
    maker = gg.GridMaker(**scene.settings)
    by_type, vectors = radius_mode == "by_type", type_mode == "vector"
    types, radii, cotangents = scene.types.clone(), scene.radii.clone(), scene.cotangents()
    if vectors:
        padding = (..., 1) if by_type else (..., 2, slice(None))
        types[padding] = cotangents[2][padding] = 0  # a weight's direction counts as well
    else:
        types[types == 1 if by_type else (..., 2)] = -1
    scene = scene.replace(types=types)
    expected = evaluate(maker, scene, cotangents)
    radii[..., 1 if by_type else 2] = radius
    found = evaluate(maker, scene.replace(radii=radii), cotangents)
    for name, value in expected.items():
        if value is None:
            assert found[name] is None
            continue
        if name.endswith("grad_types"):  # that of a weight of zero knows the radius
            assert not found[name][padding].any()
            value[padding] = 0
        assert_same_bits(found[name], value, name)


@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_radius_of_a_type_that_counts(layout, type_mode):
    """One atom of the type is enough for its radius to be refused."""
    scene = make_scene("quintic", "by_type", type_mode, layout)
    maker, types, radii = gg.GridMaker(**scene.settings), scene.types.clone(), scene.radii.clone()
    types[types == 1 if type_mode == "index" else (..., 1)] = -1 if type_mode == "index" else 0
    types.view(-1)[-1 if type_mode == "index" else -2] = 1
    radii[1] = 0
    with pytest.raises(ValueError, match=r"^radii: .*radius"):
        maker.forward(scene.center, scene.coords, types, radii, **scene.grouping)
