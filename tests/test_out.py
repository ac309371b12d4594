"""``GridMaker.forward(out=...)``: written in place, seen by autograd, and refused where the numbers would be lost."""

import numpy as np
import pytest
import torch
from support.rows import refused, row
from support.scenes import LAYOUTS, assert_same_bits, make_scene

import gridgrad as gg


@pytest.fixture
def scene():
    return make_scene("quintic", center_per_example=False)


def shape_of(scene):
    return gg.GridMaker(**scene.settings).forward(*scene.inputs, **scene.grouping).shape


@pytest.mark.parametrize("layout", LAYOUTS)
def test_out_is_written_and_returned(layout):
    scene = make_scene("quintic", layout=layout)
    maker = gg.GridMaker(**scene.settings)
    expected = maker.forward(*scene.inputs, **scene.grouping)
    out = torch.full_like(expected, 7.0)
    assert maker.forward(*scene.inputs, **scene.grouping, out=out) is out
    assert_same_bits(out, expected)
    array = np.full(expected.shape, 7.0)
    arrays = [None if value is None else value.numpy() for value in (*scene.inputs, scene.batch)]
    grouping = {**scene.grouping, "batch": arrays.pop()}
    assert maker.forward(*arrays, **grouping, out=array) is array
    assert_same_bits(array, expected)


@row(
    "`gm.forward(..., out=out)` where `out` shares memory with the atoms",
    outcome=refused(ValueError, "out: shares memory with"),
)
@pytest.mark.parametrize("center", [(0, 0, 0), (0.1, 0.2, 0.3)])
@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
@pytest.mark.parametrize("name", ["coords", "types", "radii"])
def test_memory_of_an_input(scene, name, kind, center):
    """Even one element of an input inside of `out`, or strides that straddle it."""
    maker = gg.GridMaker(**scene.settings)
    atoms = {key: scene[key] for key in ("coords", "types", "radii")}
    shape, value = shape_of(scene), atoms[name]
    n_out, stride = int(np.prod(shape)), value[0].numel()
    for offset, step in ((0, 1), (n_out - 1, 1), (-value.numel() + 1, 1), (1 - n_out, n_out)):
        n_value = (len(value) - 1) * step * stride + stride
        begin, out_begin = max(offset, 0), max(-offset, 0)
        memory = torch.zeros(max(begin + n_value, out_begin + n_out), dtype=torch.float64)
        inside = memory[begin : begin + n_value].as_strided(value.shape, (step * stride, 1)[: value.dim()], begin)
        inside.copy_(value)
        before = memory.clone()
        given = {key: kind(array) for key, array in {**atoms, name: inside}.items()}
        out = kind(memory[out_begin : out_begin + n_out].view(shape))
        with pytest.raises(ValueError, match=rf"^out: shares memory with {name}; expected memory of its own"):
            maker.forward(center, **given, out=out)
        assert torch.equal(memory, before)


def test_memory_beside_an_input(scene):
    """What ends where the other begins does not overlap, nor does an input without atoms."""
    maker, shape = gg.GridMaker(**scene.settings), shape_of(scene)
    memory = torch.zeros(15 + int(np.prod(shape)), dtype=torch.float64)
    coords, out = memory[:15].view(5, 3), memory[15:].view(shape)
    coords.copy_(scene.coords)
    maker.forward(scene.center, coords, *scene.inputs[2:], out=out)
    assert_same_bits(out, maker.forward(*scene.inputs))
    nothing = memory[20:20]
    maker.forward((0, 0, 0), nothing.view(0, 3), nothing.view(0, 3), nothing, out=out)
    assert not out.any()


def test_indices_in_the_memory_of_out():
    scene = make_scene("quintic", type_mode="index")
    maker = gg.GridMaker(**scene.settings)
    out = torch.zeros((3, *maker.spatial_grid_dimensions()), dtype=torch.float64)
    types = out.view(torch.int64).flatten()[7:12]
    types.copy_(scene.types)
    with pytest.raises(ValueError, match=r"^out: shares memory with types"):
        maker.forward(scene.center, scene.coords, types, scene.radii, n_types=3, out=out)
    assert torch.equal(types, scene.types)


def test_pending_sign_and_missing_memory(scene):
    maker, shape = gg.GridMaker(**scene.settings), shape_of(scene)
    negated = torch._neg_view(torch.zeros(shape, dtype=torch.float64))
    assert negated.is_neg() and negated.is_contiguous()
    for out in (negated, torch._efficientzerotensor(shape, dtype=torch.float64)):
        with pytest.raises(ValueError, match=r"^out: .*; expected"):
            maker.forward(*scene.inputs, out=out)
    assert not negated.any()


@row("`gm.forward(..., out=out)` where `out` requires grad", outcome=refused(ValueError, "out: requires grad"))
@pytest.mark.parametrize("under", [torch.enable_grad, torch.no_grad])
def test_out_that_requires_grad(scene, under):
    maker, leaf = gg.GridMaker(**scene.settings), torch.zeros(shape_of(scene), dtype=torch.float64, requires_grad=True)
    for out in (leaf, leaf * 1.0):
        with under(), pytest.raises(ValueError, match=r"^out: requires grad; expected"):
            maker.forward(*scene.inputs, out=out)
    assert not leaf.any()


@row(
    "`gm.forward(..., out=out)`, where a graph needs `out`: its `backward`",
    outcome=refused(RuntimeError, "modified by an inplace operation"),
)
def test_a_graph_that_needs_out_notices(scene):
    """The version is counted up: backward raises instead of using the overwritten values."""
    maker, out = gg.GridMaker(**scene.settings), torch.ones(shape_of(scene), dtype=torch.float64)
    x = torch.ones((), dtype=torch.float64, requires_grad=True)
    for target in (out, out.view(-1).view(out.shape), out.detach()):
        loss = (x * out).sum()
        maker.forward(*scene.inputs, out=target)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    (x * out).sum().backward()
    assert x.grad == out.sum()


def test_inference_tensors(scene):
    """They have no version, and no graph needs them."""
    maker = gg.GridMaker(**scene.settings)
    with torch.inference_mode():
        out = torch.zeros(shape_of(scene), dtype=torch.float64)
        maker.forward(*scene.inputs, out=out)
    assert_same_bits(maker.forward(*scene.inputs, out=out), maker.forward(*scene.inputs))
