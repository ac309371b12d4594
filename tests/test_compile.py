"""torch.compile: whole graphs, transforms inside and outside, gradient penalties, what is refused."""

import functools
import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.atom_batches import make_batch
from support.rows import HAS_WORDING, in_the_words_of_torch, refused, row
from support.scenes import LAYOUTS, RADII, TYPES, assert_close, assert_same_bits, evaluate, make_scene
from torch._dynamo.exc import TorchRuntimeError, Unsupported
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import gridgrad as gg

BAR = 1e-12
INPUTS = ("center", "coords", "types", "radii")


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    gc.collect()  # what a failed compilation leaves must not harm the next test (see `dispatch_keys` of conftest.py)


def compiled(function, **options):
    return torch.compile(function, fullgraph=True, **{"backend": "aot_eager", **options})


def leaves_of(scene):
    return [leaf.clone().requires_grad_(leaf.is_floating_point()) for leaf in scene.inputs]


def forward_and_backward(function, leaves):
    """Return the output and the gradient of every leaf that has one."""
    output = function(*leaves)
    asked = [leaf for leaf in leaves if leaf.requires_grad]
    return output, *torch.autograd.grad((output * output.detach().cos()).sum(), asked)


def assert_equal_runs(function, other, scene):
    for found, expected in zip(*(forward_and_backward(f, leaves_of(scene)) for f in (function, other)), strict=True):
        assert_close(found, expected, BAR)


def density_of(scene):
    maker = gg.GridMaker(**scene.settings)
    return lambda *leaves: (2 * gg.coords2grid(maker, *leaves, **scene.grouping)).sin()


@row("`torch.compile(fullgraph=True)`: forward and backward in one graph")
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_static_shapes(layout, radius_mode, type_mode):
    scene = make_scene("quadratic", radius_mode, type_mode, layout)
    assert_equal_runs(compiled(density_of(scene), dynamic=False), density_of(scene), scene)


@row("`torch.compile(fullgraph=True, dynamic=True)`: one graph for any N and B")
@pytest.mark.parametrize("type_mode", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_dynamic_shapes(layout, type_mode):
    counter = CompileCounterWithBackend("aot_eager")
    maker = gg.GridMaker(**make_scene(layout=layout).settings)

    def density(center, coords, types, radii, batch, batch_size):
        return gg.coords2grid(maker, center, coords, types, radii, 3, batch, batch_size)

    run = compiled(density, dynamic=True, backend=counter)
    for times, n_atoms in ((2, 5), (3, 7), (4, 11)):  # B is not 3: torch takes equal sizes for one symbol
        scene = make_scene("quadratic", "per_atom", type_mode, layout, n_atoms=n_atoms)
        if layout == "padded":
            scene = scene.replace(**{name: torch.cat([scene[name]] * times) for name in INPUTS})
        grouping = scene.batch, scene.batch_size
        runs = [
            forward_and_backward(lambda *leaves, f=function, g=grouping: f(*leaves, *g), leaves_of(scene))
            for function in (run, density)
        ]
        for found, expected in zip(*runs, strict=True):
            assert_close(found, expected, BAR)
    assert counter.frame_count == 1


@row('`torch.compile(backend="inductor")`')
@pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="no C++ compiler")
def test_inductor():
    """What surrounds the operator is fused, the operator is called as it is."""
    scene = make_scene("quadratic", "per_atom", "vector", "padded")
    try:
        assert_equal_runs(compiled(density_of(scene), backend="inductor"), density_of(scene), scene)
    finally:
        torch.set_flush_denormal(False)  # torch 2.5 links with fast-math, which flushes them in the whole process


@row("`torch.compile` of a network with `Coords2Grid`, `GridMaker` as an argument, `Coords2GridFunction`")
def test_entrances():
    scene = make_scene("quadratic", "per_atom", "vector", "single")
    maker = gg.GridMaker(**scene.settings)
    module = gg.Coords2Grid(maker, scene.center)
    expected = gg.coords2grid(maker, *scene.inputs)
    assert_same_bits(compiled(module)(*scene.inputs[1:]), expected)
    assert_same_bits(compiled(lambda gm, *inputs: gg.coords2grid(gm, *inputs))(maker, *scene.inputs), expected)
    assert_same_bits(compiled(lambda *inputs: gg.Coords2GridFunction.apply(maker, *inputs))(*scene.inputs), expected)
    center = tuple(scene.center.tolist())
    assert_same_bits(compiled(lambda *inputs: gg.coords2grid(maker, center, *inputs))(*scene.inputs[1:]), expected)


@row("`torch.compile` of `Coords2Grid` on a `gridgrad.data.AtomBatch`, with `fixed` atoms")
def test_batch_of_atoms():
    module = gg.Coords2Grid(gg.GridMaker(0.5, 6.0))
    densities, gradients = [], []
    for run in (compiled(module), module):
        batch = make_batch(dtype=torch.float64).requires_grad_("ligand")
        densities.append(run(batch))
        gradients += torch.autograd.grad((densities[-1] ** 2).sum(), batch.coords)
    assert_same_bits(*densities)
    assert_close(*gradients, BAR)


@row("`torch.compile` under `torch.autocast`")
def test_autocast():
    scene = make_scene("quadratic", "per_atom", "vector", "single", dtype=torch.float32)

    def density(*leaves):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            grid = gg.coords2grid(gg_maker, *leaves)
        assert grid.dtype == torch.bfloat16
        return grid.float()

    gg_maker = gg.GridMaker(**scene.settings)
    assert_equal_runs(compiled(density), density, scene)


TRANSFORMS = {
    "`grad`": lambda f: lambda x: grad(f)(x[0]),
    "`vmap`": vmap,
    "`vmap(grad)`": lambda f: vmap(grad(f)),
    "`jvp`": lambda f: lambda x: jvp(f, (x[0],), (x[1],))[1],
    "`jacrev`": lambda f: lambda x: jacrev(f)(x[0]),
    "`jacfwd`": lambda f: lambda x: jacfwd(f)(x[0]),
    "`jvp(grad)`": lambda f: lambda x: jvp(grad(f), (x[0],), (x[1],))[1],
    "`hessian`": lambda f: lambda x: hessian(f)(x[0]),
    "`jvp(jvp)`": lambda f: lambda x: jvp(lambda y: jvp(f, (y,), (y,))[1], *(2 * [(x[0].clone(),)]))[1],
}


def loss_of(scene):
    density = density_of(scene)
    return lambda coords: density(scene.center, coords, scene.types, scene.radii).square().sum()


@row(*(f"`torch.compile` of {name} inside the compiled function" for name in TRANSFORMS))
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_inside(name):
    scene = make_scene("quintic", n_atoms=3)
    coords = torch.stack([scene.coords, scene.coords * 1.01])
    function = TRANSFORMS[name](loss_of(scene))
    assert_close(compiled(function)(coords), function(coords), BAR)


FAKE = "RuntimeError when making fake tensor call"


@row("`torch.compile` of `jacfwd(jacfwd)` inside the compiled function", outcome=refused(TorchRuntimeError, FAKE))
def test_forward_over_forward_of_all_directions_inside():
    """An assertion inside torch, of the fake tensors of two forward levels under vmap; `jvp(jvp)` compiles.

    In a process of its own: when the exception is collected as garbage, a guard that its traceback holds puts back the
    dispatch keys of the moment of the failure, and torch's transforms are broken from then on.
    """
    code = "import test_compile; test_compile.compile_jacfwd_of_jacfwd()"
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def compile_jacfwd_of_jacfwd():
    scene = make_scene("quintic", n_atoms=2)
    loss = loss_of(scene)
    with pytest.raises((TorchRuntimeError, Unsupported), match=r"(?i)fake ?tensor"):  # the second from torch 2.14 on
        compiled(lambda x: jacfwd(jacfwd(loss))(x))(scene.coords)


TRACED = "Unsupported functorch tracing attempt"


@row("`grad`, `vmap`, `jvp`, ... of a compiled function", outcome=refused(Unsupported, TRACED))
@pytest.mark.parametrize("name", ["`grad`", "`vmap`", "`jvp`", "`hessian`"])
def test_transforms_outside(name):
    """The limit is torch's: compile the transformed function instead."""
    scene = make_scene("quintic")
    with pytest.raises(Unsupported, match=in_the_words_of_torch(TRACED)):
        TRANSFORMS[name](compiled(loss_of(scene)))(torch.stack([scene.coords] * 2))


# ---- gradient penalty -----------------------------------------------------------------------------------------------


def penalty_by_autograd(scene):
    density = density_of(scene)

    def penalty(center, coords, types, radii):
        loss = density(center, coords, types, radii).square().sum()
        (gradient,) = torch.autograd.grad(loss, coords, create_graph=True)
        return gradient.square().sum()

    return penalty


def penalty_by_func(scene):
    density = density_of(scene)

    def penalty(center, coords, types, radii):
        return grad(lambda x: density(center, x, types, radii).square().sum())(coords).square().sum()

    return penalty


@row("compiled gradient penalty: `torch.func.grad` inside, `backward()` outside")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_penalty_by_func(layout):
    scene = make_scene("quintic", "per_atom", "vector", layout)
    assert_equal_runs(compiled(penalty_by_func(scene)), penalty_by_autograd(scene), scene)


@row("compiled gradient penalty: `autograd.grad(create_graph=True)` inside, `torch._dynamo.config.trace_autograd_ops`")
@pytest.mark.skipif(not hasattr(torch._dynamo.config, "trace_autograd_ops"), reason="a torch without this setting")
def test_gradient_penalty_traced():
    scene = make_scene("quintic", "per_atom", "vector", "padded")
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        assert_equal_runs(compiled(penalty_by_autograd(scene)), penalty_by_autograd(scene), scene)


NOT_TRACED = "using `torch.autograd.grad` with `torch._dynamo.config.trace_autograd_ops=False`"


@row(
    "compiled gradient penalty: `autograd.grad(create_graph=True)` inside, without that setting",
    outcome=refused(Unsupported, NOT_TRACED),
)
def test_gradient_penalty_not_traced():
    scene = make_scene("quintic")
    with pytest.raises(Unsupported, match=in_the_words_of_torch(NOT_TRACED)):
        compiled(penalty_by_autograd(scene))(*leaves_of(scene))


TWICE = "torch.compile with aot_autograd does not currently support double backward"


@row("double backward through a compiled function", outcome=refused(RuntimeError, TWICE))
def test_double_backward_outside():
    """The limit is torch's, and loud: compile the whole step, or leave the density out of the compiled part."""
    scene = make_scene("quintic")
    leaves = leaves_of(scene)
    grid = compiled(density_of(scene))(*leaves)
    (first,) = torch.autograd.grad(grid.sum(), leaves[1], create_graph=True)
    with pytest.raises(RuntimeError, match=TWICE):
        first.sum().backward()


@row("double backward, `torch.compiler.disable(coords2grid)` between compiled parts")
def test_double_backward_around_the_density():
    scene = make_scene("quintic")
    maker = gg.GridMaker(**scene.settings)
    density = torch.compiler.disable(functools.partial(gg.coords2grid, maker))
    results = []
    for run in (lambda f: torch.compile(f, backend="aot_eager"), lambda f: f):
        leaves = leaves_of(scene)
        grid = run(lambda *x: density(*x))(*leaves)
        (first,) = torch.autograd.grad(grid.square().sum(), leaves[1], create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), leaves))
    for found, expected in zip(*results):
        assert_close(found, expected, BAR)


@row(
    "third derivative in a compiled function",
    outcome=refused(RuntimeError, "gridgrad: a third derivative of the density"),
)
def test_third_derivative():
    scene = make_scene("quintic", n_atoms=2)
    loss = loss_of(scene)

    def third(coords):
        return grad(lambda y: grad(lambda x: grad(loss)(x).square().sum())(y).square().sum())(coords)

    with pytest.raises(RuntimeError, match="gridgrad: a third derivative of the density"):
        compiled(third)(scene.coords)


# ---- what cannot be compiled ----------------------------------------------------------------------------------------

EXCEPTION = "Observed exception"


@row("wrong arguments in a compiled function", outcome=refused(Unsupported, EXCEPTION))
def test_wrong_arguments():
    """Torch wraps the error; the text of ours is in it, in newer versions."""
    scene = make_scene("quintic")
    with pytest.raises(Unsupported, match=EXCEPTION) as error:
        compiled(density_of(scene))(scene.center, scene.coords[:, :2], *scene.inputs[2:])
    assert "coords: shape" in str(error.value) or not HAS_WORDING


@row("`gm.forward`, `gm.backward`, ... in a compiled function")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_orders(layout):
    """They are operators of the graph as well, without derivatives; `out` is written."""
    scene = make_scene("quintic", layout=layout)
    maker = gg.GridMaker(**scene.settings)
    expected = evaluate(maker, scene)
    found = evaluate(Compiled(maker), scene)
    for name, value in expected.items():
        assert_same_bits(found[name], value, name)
    out = torch.full_like(expected["density"], 7.0)
    assert compiled(maker.forward)(*scene.inputs, **scene.grouping, out=out) is out
    assert_same_bits(out, expected["density"])


class Compiled:
    """The methods of a GridMaker, each compiled."""

    def __init__(self, maker):
        self.maker = maker

    def __getattr__(self, name):
        return compiled(getattr(self.maker, name))
