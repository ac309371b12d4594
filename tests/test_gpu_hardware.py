"""The whole matrix on a real GPU: oracle, CPU, derivatives, streams, threads, graphs, memory, devices."""

import threading

import pytest
import torch
from support.scenes import (
    DTYPES,
    MODES,
    Scene,
    assert_outputs,
    assert_same_bits,
    evaluate,
    make_scene,
    mode_id,
    relative_error,
)

import gridgrad as gg
from gridgrad import gpu
from gridgrad.kernels.gpu.device import Kernels

USABLE, REASON = gpu.availability()
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not USABLE, reason=REASON)]
PRECISIONS = pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
MODEWISE = pytest.mark.parametrize("mode", MODES, ids=mode_id)
CPU_BAR = {torch.float32: 2e-5, torch.float64: 1e-12}


def on_gpu(value, device="cuda"):
    """Move a tensor, a list of tensors or a scene."""
    if isinstance(value, Scene):
        names = ("center", "coords", "types", "radii", "batch")
        return value.replace(**{name: on_gpu(value[name], device) for name in names})
    if isinstance(value, list):
        return [on_gpu(one, device) for one in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def outputs(scene, device="cuda"):
    """All outputs of orders 0 to 2 computed on a device, moved to the CPU."""
    cotangents = on_gpu(scene.cotangents(), device)
    found = evaluate(gg.GridMaker(**scene.settings), on_gpu(scene, device), cotangents)
    return {name: None if value is None else value.cpu() for name, value in found.items()}


def large_scene(dtype=torch.float32, n_atoms=60, dimension=(11.5, 9.0, 12.0)):
    """Several tiles along every axis, rows of 25 points: no tile divides the grid and rows are not aligned."""
    generator = torch.Generator().manual_seed(5)
    size = torch.tensor(dimension, dtype=torch.float64)
    coords = (torch.rand((n_atoms, 3), generator=generator, dtype=torch.float64) - 0.5) * size
    types = torch.randint(-1, 5, (n_atoms,), generator=generator)
    radii = 1 + torch.rand(n_atoms, generator=generator, dtype=torch.float64)
    settings = {"resolution": 0.5, "dimension": dimension, "radius_type_indexed": False}
    return Scene(settings, torch.zeros(3, dtype=torch.float64), coords, types, radii, 5).to(dtype)


@PRECISIONS
@MODEWISE
def test_every_mode_against_the_oracle(mode, dtype):
    scene = make_scene(*mode, dtype=dtype)
    expected = evaluate(scene.reference(), scene, scene.cotangents())
    assert_outputs(outputs(scene), expected, dtype)


@PRECISIONS
@pytest.mark.parametrize("dimension", [(11.5, 9.0, 12.0), (11.5, 9.0, 11.5)], ids=["rows-of-25", "rows-of-24"])
def test_large_grid_against_the_oracle_and_the_cpu(dtype, dimension):
    scene = large_scene(dtype, dimension=dimension)
    found = outputs(scene)
    cpu = outputs(scene, "cpu")
    assert_outputs(found, evaluate(scene.reference(), scene, scene.cotangents()), dtype)
    for name, value in cpu.items():
        if value is not None:
            error = relative_error(found[name], value)
            assert error <= CPU_BAR[dtype], f"{name}: {error:.1e} from the CPU"


@PRECISIONS
def test_what_is_found_before_the_tiles(dtype, monkeypatch):
    """Of a call that is large enough: weights of atoms and lists of cells, also in a graph that is captured."""
    scene, launch, found = large_scene(dtype, 4000, (35.5, 35.5, 36.0)), Kernels._launch_step, []
    scene = scene.replace(types=torch.nn.functional.one_hot(scene.types + 1, 16).to(dtype), n_types=16)
    scene.types[1234, 7] = float("nan")
    gm, grouping = gg.GridMaker(**scene.settings), scene.grouping
    expected = gm.forward(*scene.inputs, **grouping)
    monkeypatch.setattr(Kernels, "_launch_step", lambda *step: (found.append(step), launch(*step)))
    there = on_gpu(scene)
    once, again = (gm.forward(*there.inputs, **grouping) for _ in range(2))
    assert len(found) == 4
    assert once[7].isnan().all() and expected[7].isnan().all()
    assert relative_error(once.cpu()[:7], expected[:7]) <= CPU_BAR[dtype]
    assert relative_error(once.cpu()[8:], expected[8:]) <= CPU_BAR[dtype]
    assert_same_bits(again.cpu(), once.cpu())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = gm.forward(*there.inputs, **grouping)
    there.coords.neg_()
    graph.replay()
    assert_same_bits(captured.cpu(), gm.forward(*there.inputs, **grouping).cpu())


@PRECISIONS
def test_support_is_that_of_the_cpu(dtype):
    scene = large_scene(dtype)
    gm = gg.GridMaker(**{**scene.settings, "binary": True})
    here = gm.forward(*scene.inputs, **scene.grouping)
    there = gm.forward(*on_gpu(scene).inputs, **scene.grouping)
    assert_same_bits(there.cpu(), here)


@MODEWISE
def test_same_bits_from_run_to_run(mode):
    scene = make_scene(*mode, dtype=torch.float32)
    once, again = outputs(scene), outputs(scene)
    for name, value in once.items():
        if value is not None:
            assert_same_bits(again[name], value, name)


def test_gradgradcheck():
    scene = on_gpu(make_scene(tail="quintic", n_atoms=3, dimension=(2.0, 1.5, 1.5)))
    gm = gg.GridMaker(**scene.settings)
    inputs = [scene[name].clone().requires_grad_() for name in ("coords", "types", "radii")]
    run = lambda *atoms: gg.coords2grid(gm, scene.center, *atoms)  # noqa: E731
    assert torch.autograd.gradcheck(run, inputs, nondet_tol=0.0)
    assert torch.autograd.gradgradcheck(run, inputs, nondet_tol=0.0)


def train_step(scene):
    """One double backward; what a step leaves behind."""
    gm = gg.GridMaker(**scene.settings)
    coords = scene.coords.clone().requires_grad_()
    grid = gg.coords2grid(gm, scene.center, coords, scene.types, scene.radii, scene.n_types)
    (gradient,) = torch.autograd.grad(grid.square().sum(), coords, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), coords)
    return second


def test_two_streams():
    scene = on_gpu(large_scene())
    expected = train_step(scene)
    torch.cuda.synchronize()
    streams, results = [torch.cuda.Stream() for _ in range(2)], [[], []]
    for _ in range(20):
        for stream, result in zip(streams, results, strict=True):
            with torch.cuda.stream(stream):
                result.append(train_step(scene))
    torch.cuda.synchronize()
    for result in results:
        for one in result:
            assert_same_bits(one.cpu(), expected.cpu())


def test_two_threads():
    scene = on_gpu(large_scene())
    expected = train_step(scene).cpu()
    results = []

    def work():
        with torch.cuda.stream(torch.cuda.Stream()):
            results.extend(train_step(scene).cpu() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 40
    for one in results:
        assert_same_bits(one, expected)


def test_graph_capture_and_replay():
    scene = on_gpu(large_scene())
    gm = gg.GridMaker(**scene.settings)
    coords = scene.coords.clone()

    def forward_and_backward():
        grid = gm.forward(scene.center, coords, *scene.inputs[2:], **scene.grouping)
        return grid, gm.backward(scene.center, coords, *scene.inputs[2:], grid)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        forward_and_backward()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = forward_and_backward()
    for shift in (0.0, 0.3, -0.2):
        coords.copy_(scene.coords + shift)
        graph.replay()
        for found, expected in zip(captured, forward_and_backward(), strict=True):
            assert_same_bits(found.cpu(), expected.cpu())


def test_no_leak_in_a_thousand_steps():
    scene = on_gpu(large_scene())
    for _ in range(10):
        train_step(scene)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    free_before = torch.cuda.mem_get_info()[0]
    for _ in range(1000):
        train_step(scene)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before
    assert free_before - torch.cuda.mem_get_info()[0] < 64 << 20


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")
def test_two_devices():
    scene = large_scene()
    first, second = outputs(scene, "cuda:0"), outputs(scene, "cuda:1")
    for name, value in first.items():
        if value is not None:
            assert_same_bits(second[name], value, name)


def test_bad_index_is_reported(monkeypatch):
    gm = gg.GridMaker(dimension=3.0)
    arguments = (torch.zeros(1, 3).cuda(), torch.tensor([5]).cuda(), torch.ones(1).cuda())
    assert not gg.coords2grid(gm, (0, 0, 0), *arguments, n_types=2).any()
    with pytest.raises(ValueError, match="an index >= n_types"):
        gpu.check()
    monkeypatch.setenv("GRIDGRAD_CHECK", "1")
    with pytest.raises(ValueError, match="this call had an index >= n_types"):
        gg.coords2grid(gm, (0, 0, 0), *arguments, n_types=2)


def test_nan_and_bad_radius_give_nan():
    gm = gg.GridMaker(dimension=3.0)
    coords = torch.zeros(2, 3).cuda()
    types, radii = torch.tensor([0, 1]).cuda(), torch.tensor([1.0, 0.0]).cuda()
    grid = gg.coords2grid(gm, (0, 0, 0), coords, types, radii, n_types=2)
    assert grid[1].isnan().all()
    assert not grid[0].isnan().any()


def test_grid_too_large():
    gm = gg.GridMaker(resolution=0.5, dimension=1500.0)
    with pytest.raises(MemoryError, match="density: shape"):
        gm.forward((0, 0, 0), torch.zeros(1, 3).cuda(), torch.tensor([0]).cuda(), torch.ones(1).cuda(), n_types=28)
