"""torch.func against the oracle: transforms, compositions, vmap over any mix of arguments, and what is refused."""

import re

import pytest
import torch
from support.rows import refused, row
from support.scenes import LAYOUTS, MODES, TAILS, TYPES, mode_id
from support.transforms import INPUTS, all_of, assert_agree, differentiable, functions, small_scene, tangents_like
from torch.func import (
    functional_call,
    functionalize,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    vjp,
    vmap,
)
from torch.fx.experimental.proxy_tensor import make_fx

import gridgrad as gg

OF_THE_GRID = {
    "`vjp(f, *x)`": lambda f, x, v: vjp(f, *x)[1](torch.ones_like(f(*x))),
    "`jvp(f, x, v)`": lambda f, x, v: jvp(f, x, v),
    "`jacrev(f)`": lambda f, x, v: jacrev(f, all_of(x))(*x),
    "`jacfwd(f)`": lambda f, x, v: jacfwd(f, all_of(x))(*x),
}
OF_A_LOSS = {
    "`grad(f)`": lambda f, x, v: grad(f, all_of(x))(*x),
    "`grad_and_value(f)`": lambda f, x, v: grad_and_value(f, all_of(x))(*x),
    "`grad(grad(f))` (of a component)": lambda f, x, v: grad(lambda *y: grad(f, 1)(*y)[..., 0].sum(), all_of(x))(*x),
    "`jacrev(jacrev(f))`": lambda f, x, v: jacrev(jacrev(f, all_of(x)), all_of(x))(*x),
    "`jacrev(jacfwd(f))`": lambda f, x, v: jacrev(jacfwd(f, all_of(x)), all_of(x))(*x),
    "`grad` of `jvp`": lambda f, x, v: grad(lambda *y: jvp(f, y, v)[1], all_of(x))(*x),
    "`vjp` of `grad`": lambda f, x, v: vjp(grad(f, all_of(x)), *x)[1](v),
}
SECOND_ORDER = {
    "`hessian(f)`": lambda f, x, v: hessian(f, all_of(x))(*x),
    "`jacfwd(jacrev(f))`": lambda f, x, v: jacfwd(jacrev(f, all_of(x)), all_of(x))(*x),
    "`jvp` of `grad`": lambda f, x, v: jvp(grad(f, all_of(x)), x, v),
}


def check(transform, mode, of_a_loss):
    scene = small_scene(mode)
    names = differentiable(scene)
    leaves = tuple(scene[name] for name in names)
    ours, oracle = (pair[of_a_loss] for pair in functions(scene, names))
    assert_agree(transform(ours, leaves, tangents_like(leaves)), transform(oracle, leaves, tangents_like(leaves)))


@row(*OF_THE_GRID)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
@pytest.mark.parametrize("name", OF_THE_GRID)
def test_of_the_grid(name, mode):
    check(OF_THE_GRID[name], mode, of_a_loss=False)


@row(*OF_A_LOSS)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] == "quintic"], ids=mode_id)
@pytest.mark.parametrize("name", OF_A_LOSS)
def test_of_a_loss(name, mode):
    check(OF_A_LOSS[name], mode, of_a_loss=True)


@row(*SECOND_ORDER)
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order(name, mode):
    """For every tail: the mixed blocks of all inputs at once."""
    check(SECOND_ORDER[name], mode, of_a_loss=True)


@row("`linearize(f, *x)`")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_linearize(layout):
    scene = small_scene(("quadratic", "per_atom", "vector", layout))
    leaves = tuple(scene[name] for name in INPUTS)
    (density, _), (oracle, _) = functions(scene, INPUTS)
    value, derivative = linearize(density, *leaves)
    v = tangents_like(leaves)
    assert_agree((value, derivative(*v)), jvp(oracle, leaves, v))


# ---- with the rest of torch -----------------------------------------------------------------------------------------


@row("`functional.jacobian(f, x, vectorize=True)`, both strategies")
@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_vectorized_jacobian(strategy):
    scene = small_scene(("quintic", "per_atom", "vector", "padded"))
    leaves = tuple(scene[name] for name in INPUTS)
    (density, _), (oracle, _) = functions(scene, INPUTS)
    found = torch.autograd.functional.jacobian(density, leaves, vectorize=True, strategy=strategy)
    assert_agree(found, torch.autograd.functional.jacobian(oracle, leaves))


@row("`functional.hessian(f, x, vectorize=True)`, both strategies")
@pytest.mark.parametrize("outer", ["reverse-mode", "forward-mode"])
def test_vectorized_hessian(outer):
    scene = small_scene(("quintic", "by_type", "vector", "ragged"))
    leaves = tuple(scene[name] for name in INPUTS)
    (_, loss), (_, oracle) = functions(scene, INPUTS)
    found = torch.autograd.functional.hessian(loss, leaves, vectorize=True, outer_jacobian_strategy=outer)
    assert_agree(found, torch.autograd.functional.hessian(oracle, leaves))


@row("`torch.autograd.grad(..., is_grads_batched=True)`")
def test_batched_cotangents():
    scene = small_scene(("quadratic", "per_atom", "vector", "single"))
    (density, _), (oracle, _) = functions(scene, INPUTS)
    found = []
    for function in (density, oracle):
        leaves = [scene[name].clone().requires_grad_() for name in INPUTS]
        grid = function(*leaves)
        cotangents = torch.stack([torch.ones_like(grid), grid.detach(), grid.detach() ** 2])
        found.append(torch.autograd.grad(grid, leaves, cotangents, is_grads_batched=True))
    assert_agree(*found)


@row("`backward()` through `grad(f)` or `jvp` of a function of torch.func")
@pytest.mark.parametrize("inner", ["grad", "jvp"])
def test_autograd_outside_transforms_inside(inner):
    scene = small_scene(("quintic", "per_atom", "vector", "padded"))
    found = []
    for _, loss in functions(scene, INPUTS):
        leaves = tuple(scene[name].clone().requires_grad_() for name in INPUTS)
        if inner == "grad":
            outputs = grad(loss, (0, 1, 2, 3))(*leaves)
        else:
            outputs = [jvp(loss, leaves, tangents_like(leaves))[1]]
        sum(output.square().sum() for output in outputs).backward()
        found.append([leaf.grad for leaf in leaves])
    assert_agree(*found)


@row('`functional_call(module, {"center": ...}, ...)` under `grad`')
def test_functional_call():
    scene = small_scene(("quintic", "per_atom", "vector", "single"))
    module = gg.Coords2Grid(gg.GridMaker(**scene.settings))
    found = grad(lambda center: functional_call(module, {"center": center}, scene.inputs[1:]).square().sum())(
        scene.center
    )
    reference = scene.reference()
    assert_agree(found, grad(lambda center: reference.forward(center, *scene.inputs[1:]).square().sum())(scene.center))


@row("`make_fx(grad(f))`")
def test_tracing():
    scene = small_scene(("quintic", "per_atom", "vector", "single"))
    leaves = tuple(scene[name] for name in INPUTS)
    (_, loss), _ = functions(scene, INPUTS)
    other = tuple(leaf * 1.01 for leaf in leaves)
    assert_agree(make_fx(grad(loss, (0, 1, 2, 3)))(*leaves)(*other), grad(loss, (0, 1, 2, 3))(*other))


@row("`torch.ops.gridgrad.density` itself under `vmap`, `grad`, `jvp`, `hessian`")
def test_operator_itself():
    """The operator is what torch.compile and torch.export leave in a graph: it transforms as the function does."""
    scene = small_scene(("quintic", "per_atom", "vector", "single"))
    maker = gg.GridMaker(**scene.settings)
    atoms, center = (scene.types, scene.radii), scene.center.tolist()

    def operator(coords):
        return torch.ops.gridgrad.density(coords, *atoms, None, None, maker.spec, center, 2).square().sum()

    def oracle(coords):
        return scene.reference().forward(scene.center, coords, *atoms).square().sum()

    coords = torch.stack([scene.coords, scene.coords * 1.01])
    assert_agree(grad(operator)(coords[0]), grad(oracle)(coords[0]))
    assert_agree(vmap(operator)(coords), torch.stack([oracle(x) for x in coords]))
    assert_agree(jvp(operator, (coords[0],), (coords[1],)), jvp(oracle, (coords[0],), (coords[1],)))
    assert_agree(hessian(operator)(coords[0]), hessian(oracle)(coords[0]))


# ---- refused --------------------------------------------------------------------------------------------------------

THIRD = "gridgrad: a third derivative of the density"
REFUSED = {
    "`jacfwd(jacfwd(jacfwd(f)))`": lambda f: jacfwd(jacfwd(jacfwd(f))),
    "`jacfwd(hessian(f))`": lambda f: jacfwd(hessian(f)),
    "`jacrev(jacrev(jacrev(f)))`": lambda f: jacrev(jacrev(jacrev(f))),
    "`grad` of the trace of `hessian(f)`": lambda f: grad(lambda x: hessian(f)(x).sum()),
    "`grad` of `jvp` of `jvp`": lambda f: grad(lambda x: jvp(lambda y: jvp(f, (y,), (x,))[1], (x,), (x,))[1]),
    "`jvp` of `grad` of `grad`": lambda f: (
        lambda x: jvp(lambda z: grad(lambda y: grad(f)(y).square().sum())(z), (x,), (x,))
    ),
}


@row(*REFUSED, outcome=refused(RuntimeError, THIRD))
@pytest.mark.parametrize("name", REFUSED)
def test_third_derivative_is_refused(name):
    scene = small_scene(("quintic", "per_atom", "vector", "single"))
    (_, loss), _ = functions(scene, ("coords",))
    with pytest.raises(RuntimeError, match=re.escape(THIRD)):
        REFUSED[name](loss)(scene.coords)


FUNCTIONALIZE = "NYI: Functionalize rule for custom_function_call"


@row("`functionalize(f)`", outcome=refused(RuntimeError, FUNCTIONALIZE))
def test_functionalize():
    """The limit is torch's: it holds for every autograd.Function."""
    scene = small_scene(("quintic", "per_atom", "vector", "single"))
    (density, _), _ = functions(scene, INPUTS)
    with pytest.raises(RuntimeError, match=FUNCTIONALIZE):
        functionalize(density)(*(scene[name] for name in INPUTS))


NO_RULE = "GridMaker's methods have neither derivatives nor a rule for vmap"


@row("`gm.forward`, `gm.backward`, ... under `vmap`, `grad`, `jvp`", outcome=refused(RuntimeError, NO_RULE))
@pytest.mark.parametrize("transform", [vmap, grad, jacfwd])
def test_plain_orders_are_not_transformed(transform):
    """They are the orders without autograd; `coords2grid` is what transforms."""
    scene = small_scene(("quintic", "per_atom", "vector", "single"))
    maker = gg.GridMaker(**scene.settings)
    coords = scene.coords[None] if transform is vmap else scene.coords
    grad_density = scene.cotangents()[0]
    with pytest.raises(RuntimeError, match=NO_RULE):
        transform(lambda x: maker.forward(scene.center, x, *scene.inputs[2:]).sum())(coords)
    with pytest.raises(RuntimeError, match=NO_RULE):
        transform(lambda x: maker.backward(*scene.inputs, grad_density * x.sum())[0].sum())(coords)


@row("`functional.hvp`, `functional.vhp`, with `create_graph=True`")
def test_refusals_are_not_premature():
    """Second-order products with a graph of their own are fine as long as nobody asks for the third derivative."""
    scene = small_scene(("quintic", "per_atom", "vector", "single"))
    (_, loss), (_, oracle) = functions(scene, INPUTS)
    leaves = tuple(scene[name] for name in INPUTS)
    v = tangents_like(leaves)
    for product in (torch.autograd.functional.hvp, torch.autograd.functional.vhp):
        found, expected = (product(f, leaves, v, create_graph=True)[1] for f in (loss, oracle))
        assert_agree(found, expected)


def test_all_tails_are_tested():
    assert {mode[0] for mode in MODES} == set(TAILS) and {mode[2] for mode in MODES} == set(TYPES)


@pytest.mark.parametrize("by_type", [False, True])
@pytest.mark.parametrize("layout", ["single", "padded", "no examples", "ragged", "ragged, no examples"])
def test_no_atoms(layout, by_type):
    """Derivatives of nothing are empty, and zero by the radii of types; torch has no jacrev of jacfwd there."""
    maker = gg.GridMaker(0.5, (1.0, 1.5, 1.0), radius_type_indexed=by_type)
    lead = {"padded": (2, 0), "no examples": (0, 3)}.get(layout, (0,))
    grouping = {}
    if layout.startswith("ragged"):
        grouping = {"batch": torch.zeros(0, dtype=torch.int64), "batch_size": 3 if layout == "ragged" else 0}
    leaves = [torch.zeros(*lead, n, dtype=torch.float64) for n in (3, 2)]
    leaves.append(torch.ones((2,) if by_type else lead, dtype=torch.float64))

    def loss(*leaves):
        return gg.coords2grid(maker, (0.0, 0.0, 1.0), *leaves, **grouping).square().sum()

    numbers = all_of(leaves)
    expected = tuple(tuple(torch.zeros(*a.shape, *b.shape, dtype=a.dtype) for b in leaves) for a in leaves)
    for second in (hessian(loss, numbers), jacrev(jacrev(loss, numbers), numbers)):
        assert_agree(second(*leaves), expected)
    jacobian = jacrev(lambda *x: gg.coords2grid(maker, (0.0, 0.0, 1.0), *x, **grouping), numbers)(*leaves)
    grid = gg.coords2grid(maker, (0, 0, 1), *leaves, **grouping)
    assert_agree(jacobian, tuple(torch.zeros(*grid.shape, *a.shape, dtype=a.dtype) for a in leaves))
