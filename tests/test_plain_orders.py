"""GridMaker's methods with tensors that have only a shape, or are zeros without memory: no kernel sees an address."""

import contextlib
import functools

import pytest
import torch
from support.rows import row
from support.scenes import LAYOUTS, RADII, TYPES, assert_same_bits, evaluate, make_scene
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import gridgrad as gg

ATOMS = ("center", "coords", "types", "radii", "batch")
KINDS = pytest.mark.parametrize("kind", ["meta", "fake"])


def bare(kind):
    """Return a conversion of tensors to those that have only a shape, and the context in which to use them."""
    mode = FakeTensorMode()
    return (mode.from_tensor, mode) if kind == "fake" else (lambda value: value.to("meta"), contextlib.nullcontext())


def converted(scene, convert):
    return scene.replace(**{name: convert(scene[name]) for name in ATOMS if scene[name] is not None})


@row("`gm.forward`, `gm.backward`, ... of meta and fake tensors: shapes without memory")
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("layout", LAYOUTS)
@KINDS
def test_shapes_only(kind, layout, radius_mode, type_mode):
    """Every order, the relevance and `out`: shape, dtype and device of the real thing."""
    scene = make_scene("quintic", radius_mode, type_mode, layout)
    maker = gg.GridMaker(**scene.settings)
    expected = evaluate(maker, scene)
    convert, context = bare(kind)
    shapes, out = converted(scene, convert), convert(torch.zeros_like(expected["density"]))
    cotangents = [None if value is None else convert(value) for value in scene.cotangents()]
    with context:
        found = evaluate(maker, shapes, cotangents)
        assert maker.forward(*shapes.inputs, **shapes.grouping, out=out) is out
    for name, value in expected.items():
        if value is None:
            assert found[name] is None
        else:
            assert found[name].shape == value.shape and found[name].dtype == value.dtype, name
            assert found[name].device.type == ("meta" if kind == "meta" else "cpu")


@KINDS
def test_size_of_a_batch_without_values(kind):
    scene = make_scene("quintic", layout="ragged")
    maker = gg.GridMaker(**scene.settings)
    convert, context = bare(kind)
    shapes = converted(scene, convert)
    for call in (maker.forward, functools.partial(gg.coords2grid, maker)):
        with context, pytest.raises(ValueError, match=r"^batch_size: None; expected an integer"):
            call(*shapes.inputs, batch=shapes.batch)


def test_mixed_with_real_ones():
    """A kernel that takes the address of one tensor takes those of all."""
    scene = make_scene("quintic")
    maker = gg.GridMaker(**scene.settings)
    for name in ("types", "radii"):
        inputs = scene.replace(**{name: scene[name].to("meta")}).inputs
        with pytest.raises(ValueError, match=rf"^{name}: on meta; expected cpu"):
            maker.forward(*inputs)
    with pytest.raises(ValueError, match=r"^out: on meta; expected cpu"):
        maker.forward(*scene.inputs, out=maker.forward(*scene.inputs).to("meta"))
    with pytest.raises(ValueError, match=r"^grad_density: on meta; expected cpu"):
        maker.backward(*scene.inputs, scene.cotangents()[0].to("meta"))


def test_a_dispatch_mode_sees_the_operators():
    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            seen.append(str(function))
            return function(*arguments, **(keywords or {}))

    scene, seen = make_scene("quintic"), []
    maker = gg.GridMaker(**scene.settings)
    with Record():
        evaluate(maker, scene)
    orders = ("density", "density_backward", "density_tangent", "density_backward_backward", "density_relevance")
    assert {f"gridgrad.{name}.default" for name in orders} <= set(seen)


@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("name", ["center", "coords", "types", "radii", "grad_density", "grad_grad_types"])
def test_zeros_without_memory(name, type_mode):
    """`torch._efficientzerotensor`, which autograd makes too, is zeros in every place; as a radius it is refused."""
    scene = make_scene("quintic", type_mode=type_mode)
    maker = gg.GridMaker(**scene.settings)
    arguments = {key: scene[key] for key in ("center", "coords", "types", "radii")}
    names = ("grad_density", "grad_grad_coords", "grad_grad_types", "grad_grad_radii")
    arguments.update(zip(names, scene.cotangents()))
    if arguments[name] is None:
        return
    like = arguments[name]
    results = []
    for zeros in (torch.zeros_like(like), torch._efficientzerotensor(like.shape, dtype=like.dtype)):
        given = {**arguments, name: zeros}
        if name == "radii":
            with pytest.raises(ValueError, match=r"^radii: element 0 is 0"):
                maker.backward_gradients(**given)
        else:
            atoms = [given[key] for key in ("center", "coords", "types", "radii")]
            results.append((maker.forward(*atoms, n_types=scene.n_types), *maker.backward_gradients(**given)))
    for found, expected in zip(*results) if results else ():
        assert found is expected is None or assert_same_bits(found, expected) is None
