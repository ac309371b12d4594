"""torch.func.vmap against the oracle one by one: any mix of mapped arguments, nested, and over derivatives."""

import itertools
import re

import pytest
import torch
from support.rows import refused, row
from support.scenes import LAYOUTS, MODES, RADII, mode_id
from support.transforms import INPUTS, all_of, assert_agree, differentiable, functions, small_scene
from torch.func import grad, hessian, jvp, vmap
from torch.utils._pytree import tree_map

import gridgrad as gg
from gridgrad.autograd import ops

SIZE = 3


def stacked(scene, names, mapped):
    """Return (in_dims, leaves), the mapped ones SIZE times, each a little different."""
    factors = torch.linspace(0.97, 1.03, SIZE, dtype=torch.float64)
    leaves = [
        torch.stack([scene[name] * factor for factor in factors]) if name in mapped else scene[name] for name in names
    ]
    return tuple(0 if name in mapped else None for name in names), leaves


def one_by_one(function, dims, leaves):
    """Vmap as a loop."""
    found = [
        function(*(leaf if dim is None else leaf.select(dim, i) for leaf, dim in zip(leaves, dims)))
        for i in range(SIZE)
    ]
    return tree_map(lambda *parts: torch.stack(parts), *found)


SUBSETS = [subset for count in range(1, 5) for subset in itertools.combinations(INPUTS, count)]


@row("`vmap(f)`, any subset of center, coords, types, radii mapped")
@pytest.mark.parametrize(
    ("mode", "mapped"),
    [
        (mode, mapped)
        for mode in MODES
        for mapped in SUBSETS
        if mode[0] == "quadratic" and not (mode[2] == "index" and "types" in mapped)
    ],
    ids=mode_id,
)
def test_vmap(mode, mapped):
    scene = small_scene(mode)
    names = differentiable(scene)
    dims, leaves = stacked(scene, names, mapped)
    (density, _), (oracle, _) = functions(scene, names)
    assert_agree(vmap(density, dims)(*leaves), one_by_one(oracle, dims, leaves))


OVER_EXAMPLES = {
    "`vmap(grad(f))`": lambda f, count: grad(f, tuple(range(count))),
    "`vmap` of `jvp` of `grad`": lambda f, count: (
        lambda *x: jvp(grad(f, tuple(range(count))), x, tuple(torch.ones_like(y) for y in x))
    ),
}


@row(*OVER_EXAMPLES)
@pytest.mark.parametrize(
    ("mode", "mapped"),
    [(mode, INPUTS) for mode in MODES]
    + [(mode, mapped) for mode in MODES if mode[0] == "quintic" for mapped in (("coords",), ("types", "radii"))],
    ids=mode_id,
)
@pytest.mark.parametrize("name", OVER_EXAMPLES)
def test_vmap_of_derivatives(name, mode, mapped):
    scene = small_scene(mode)
    names = differentiable(scene)
    mapped = tuple(name for name in mapped if name in names)
    dims, leaves = stacked(scene, names, mapped)
    ours, oracle = (OVER_EXAMPLES[name](pair[1], len(names)) for pair in functions(scene, names))
    assert_agree(vmap(ours, dims)(*leaves), one_by_one(oracle, dims, leaves))


@row("`vmap(hessian(f))`")
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
def test_vmap_of_hessian(mode):
    scene = small_scene(mode)
    names = differentiable(scene)
    dims, leaves = stacked(scene, names, names)
    ours, oracle = (hessian(pair[1], all_of(leaves)) for pair in functions(scene, names))
    assert_agree(vmap(ours, dims)(*leaves), one_by_one(oracle, dims, leaves))


@row("`grad` of `vmap(f)`")
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
def test_grad_of_vmap(mode):
    """Arguments that are not mapped collect the gradients of all examples."""
    scene = small_scene(mode)
    names = differentiable(scene)
    dims, leaves = stacked(scene, names, ("coords",))
    (density, _), (oracle, _) = functions(scene, names)
    found = grad(lambda *x: vmap(density, dims)(*x).square().sum(), all_of(leaves))(*leaves)
    assert_agree(found, grad(lambda *x: one_by_one(oracle, dims, x).square().sum(), all_of(leaves))(*leaves))


@row("`vmap` of index types")
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_of_index_types(layout, radius_mode):
    scene = small_scene(("quadratic", radius_mode, "index", layout))
    types = torch.stack([scene.types, scene.types.flip(-1), torch.zeros_like(scene.types)])
    found = vmap(
        lambda index: gg.coords2grid(
            gg.GridMaker(**scene.settings), scene.center, scene.coords, index, scene.radii, **scene.grouping
        )
    )(types)
    reference = scene.reference()
    expected = [reference.forward(scene.center, scene.coords, index, scene.radii, **scene.grouping) for index in types]
    assert_agree(found, torch.stack(expected))


@row("`vmap(f, in_dims, out_dims, chunk_size=...)`")
@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_dimensions(layout, chunk_size):
    scene = small_scene(("quintic", "per_atom", "vector", layout))
    (density, _), (oracle, _) = functions(scene, INPUTS)
    dims, leaves = stacked(scene, INPUTS, INPUTS)
    moved = [leaf.movedim(0, -1) for leaf in leaves]
    found = vmap(density, -1, 2, chunk_size=chunk_size)(*moved)
    assert_agree(found.movedim(2, 0), one_by_one(oracle, dims, leaves))


@row("`vmap(vmap(f))`")
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_of_vmap(layout, radius_mode):
    scene = small_scene(("quintic", radius_mode, "vector", layout))
    (_, loss), (_, oracle) = functions(scene, ("coords", "radii"))
    _, (coords, radii) = stacked(scene, ("coords", "radii"), ("coords", "radii"))
    found = vmap(vmap(grad(loss, (0, 1)), (0, None)), (None, 0))(coords, radii)
    rows = [one_by_one(grad(oracle, (0, 1)), (0, None), (coords, radius)) for radius in radii]
    assert_agree(found, tree_map(lambda *parts: torch.stack(parts), *rows))


@row("`vmap` over `batch`, `batch_size` given")
def test_vmap_of_batch():
    scene = small_scene(("quintic", "per_atom", "vector", "ragged"))
    maker, reference = gg.GridMaker(**scene.settings), scene.reference()
    batches = torch.tensor([[0, 0, 0], [0, 1, 3], [3, 3, 3]])
    center = torch.zeros(3, dtype=torch.float64)
    found = vmap(lambda batch: gg.coords2grid(maker, center, *scene.inputs[1:], batch=batch, batch_size=4))(batches)
    assert_agree(found, torch.stack([reference.forward(center, *scene.inputs[1:], 2, batch, 4) for batch in batches]))
    with pytest.raises(ValueError, match=r"^batch: values from 0 to 3"):
        vmap(lambda batch: gg.coords2grid(maker, center, *scene.inputs[1:], batch=batch, batch_size=3))(batches)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vmap_is_one_launch(layout, monkeypatch):
    """One call of the kernel for all of them, forward and backward."""
    scene = small_scene(("quintic", "per_atom", "vector", layout))
    (_, loss), _ = functions(scene, INPUTS)
    calls, prepare = [], ops.Call.__init__
    monkeypatch.setattr(ops.Call, "__init__", lambda call, *atoms: calls.append(call) or prepare(call, *atoms))
    dims, leaves = stacked(scene, INPUTS, ("coords", "radii"))
    vmap(grad(loss, (0, 1, 2, 3)), dims)(*leaves)
    assert len(calls) == 2


ITEM = "vmap: It looks like you're calling .item() on a Tensor"


@row("`vmap` over `batch` without `batch_size`", outcome=refused(RuntimeError, ITEM))
def test_vmap_of_batch_without_batch_size():
    scene = small_scene(("quintic", "per_atom", "vector", "ragged"))
    center = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=re.escape(ITEM)):
        vmap(lambda batch: gg.coords2grid(gg.GridMaker(), center, *scene.inputs[1:], batch=batch))(
            torch.zeros(2, 3).long()
        )


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
def test_vmap_over_nothing(mode):
    """A mapped dimension of size 0 stays one, in derivatives too."""
    scene = small_scene(mode)
    _, loss = functions(scene, ("coords",))[0]
    nothing = scene.coords.new_empty(0, *scene.coords.shape)
    assert vmap(loss)(nothing).shape == (0,)
    assert vmap(grad(loss))(nothing).shape == nothing.shape
    assert vmap(hessian(loss))(nothing).shape == (0, *scene.coords.shape, *scene.coords.shape)
