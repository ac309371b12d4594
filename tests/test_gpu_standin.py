"""gridgrad.kernels.gpu through the real PyCUDA and the real cuda.bindings, on the stand-in driver.

See tests/cuda_on_cpu/build.py. Where a package is missing, its half of the tests is skipped.
"""

import ctypes
import itertools
import os
import subprocess
import sys
import threading
import timeit

import pytest
import torch
from cuda_on_cpu import standin
from cuda_on_cpu.scene import Scene, kernels

from gridgrad import GridMaker
from gridgrad.config import config
from gridgrad.kernels import abi
from gridgrad.kernels.gpu import device


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_launch_computes_the_density(devices, journal, dtype):
    scene = Scene(dtype)
    kernels(devices[0], dtype).density(*scene.arguments())
    scene.check()
    (launch,) = journal.read("launch")
    assert launch.name == {torch.float32: b"density", torch.float64: b"density_aligned"}[dtype]  # 6 points along z
    assert launch.stream is None
    assert launch.device == 0
    assert launch.bytes == 6 * 8 + (20 * 8 + 14 * 4) + 4 * 8 + 8 + 3 * 8 + 4 * 4 + 8


def test_every_kernel_and_its_grid(devices, journal):
    scene = Scene(radius_type_indexed=True)
    n, points = len(scene.coords), scene.density.shape[1:]
    radii = torch.full((3,), 1.2, dtype=torch.float64)
    partial, summed = torch.full((n,), -7.0, dtype=torch.float64), torch.full((3,), -7.0, dtype=torch.float64)
    per_atom = torch.full((n, 3), -7.0, dtype=torch.float64)
    grid = torch.ones_like(scene.density)
    atoms = (scene.coords.data_ptr(), scene.types.data_ptr(), 0, radii.data_ptr(), 0, 0)
    scalars = (scene.gm.geometry("float64"), 1, n, 3, 0)
    run = kernels(devices[0])
    run.density_tangent(*atoms, per_atom.data_ptr(), 0, 0, *scalars, scene.density.data_ptr())
    run.density_backward(*atoms, grid.data_ptr(), *scalars, per_atom.data_ptr(), 0, partial.data_ptr())
    cotangents = (grid.data_ptr(), per_atom.data_ptr(), 0, 0)
    run.density_backward_backward(*atoms, *cotangents, *scalars, 0, 0, partial.data_ptr())
    run.density_relevance(*atoms, grid.data_ptr(), grid.data_ptr(), *scalars, partial.data_ptr())
    run.radii_sum(partial.data_ptr(), scene.types.data_ptr(), 0, 1, n, 3, 0, summed.data_ptr())
    launches = {entry.name.decode(): (entry.grid, entry.block) for entry in journal.read("launch")}
    rows = devices[0].module("double").launches
    row = rows["density_tangent_aligned"]
    tiles = -(-points[0] // row.x) * -(-points[1] // row.y) * -(-points[2] // row.z)
    assert launches == {
        "density_tangent_aligned": (tiles, row.threads),
        "density_backward": (n, rows["density_backward"].threads),
        "density_backward_backward": (n, rows["density_backward_backward"].threads),
        "density_relevance": (n, rows["density_relevance"].threads),
        "radii_sum": (3, rows["radii_sum"].threads),
    }
    expected = torch.stack([partial[scene.types == k].sum() for k in range(3)])
    torch.testing.assert_close(summed, expected, rtol=1e-14, atol=0)
    assert not (per_atom == -7).any()
    assert (partial[scene.types < 0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stores_of_16_bytes_where_all_rows_and_the_address_let_them(devices, journal, dtype):
    run, chosen = kernels(devices[0], dtype), {}
    for points, shift in itertools.product(range(2, 10), range(4)):
        scene = Scene(dtype, dimension=(1.0, 1.0, 0.5 * (points - 1)))
        memory = torch.full((scene.density.numel() + 8,), -7.0, dtype=dtype)
        start = -memory.data_ptr() // memory.itemsize % (16 // memory.itemsize) + shift
        scene.density = memory[start : start + scene.density.numel()].view(scene.density.shape)
        run.density(*scene.arguments())
        scene.check()
        chosen[points, shift] = journal.read("launch")[-1].name.decode()
    voxels = 16 // torch.empty(0, dtype=dtype).itemsize
    assert {each for each, name in chosen.items() if name == "density_aligned"} == set(
        itertools.product(range(voxels, 10, voxels), range(0, 4, voxels))
    )
    assert set(chosen.values()) == {"density", "density_aligned"}


def test_nothing_to_do_launches_nothing(devices, journal):
    scene = Scene()
    arguments = list(scene.arguments())
    arguments[8] = 0
    kernels(devices[0]).density_relevance(*arguments[:6], 1, 1, *arguments[6:11], 1)
    assert journal.read("launch") == []


def test_too_many_blocks_is_an_error(devices):
    scene = Scene()
    arguments = list(scene.arguments())
    arguments[7] = 2**31
    with pytest.raises(ValueError, match=r"density: \d+ blocks; expected at most 2147483647"):
        kernels(devices[0]).density(*arguments)
    arguments[5], arguments[7], arguments[8] = 8, 2**30, 1
    with pytest.raises(ValueError, match="1073741824 examples with a centre each; expected at most 715827882"):
        kernels(devices[0]).density_relevance(*arguments[:6], 1, 1, *arguments[6:11], 1)


def test_too_many_rows_launch_nothing(devices, journal):
    """See test_gpu_limits.py."""
    arguments = list(Scene().arguments())
    arguments[6] = GridMaker(1.0, (2.0**16 - 1, 2.0**16 - 1, 0.1)).geometry("float64")
    with pytest.raises(ValueError, match="density_backward: 65536 x 65536 rows along z; expected at most 4294967295"):
        kernels(devices[0]).density_backward(*arguments[:6], 1, *arguments[6:11], 1, 0, 0)
    assert journal.read("launch") == [] and journal.stack_depth() == 0


def test_context_is_pushed_for_the_launch_only(devices, journal):
    assert journal.stack_depth() == 0
    scene = Scene()
    kernels(devices[1]).density(*scene.arguments())
    assert journal.read("launch")[0].device == 1
    assert journal.stack_depth() == 0


def test_two_devices_load_their_own_modules(through, journal):
    both = [device.Device(ordinal, through) for ordinal in range(2)]
    for _ in range(2):
        for one in both:
            scene = Scene()
            kernels(one).density(*scene.arguments())
            scene.check()
    assert [entry.device for entry in journal.read("load")] == [0, 1]
    assert [entry.device for entry in journal.read("launch")] == [0, 1, 0, 1]


def test_threads_launch_and_end_without_a_context(devices, journal):
    scenes, depths = [Scene() for _ in range(4)], []

    def work(scene):
        for _ in range(5):
            kernels(devices[0]).density(*scene.arguments())
        depths.append(journal.stack_depth())

    threads = [threading.Thread(target=work, args=(scene,)) for scene in scenes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for scene in scenes:
        scene.check()
    assert depths == [0] * 4
    launches = journal.read("launch")
    assert len(launches) == 20
    assert len({entry.thread for entry in launches}) == 4


def test_module_is_loaded_once_by_many_threads(through, journal):
    one = device.Device(0, through)
    barrier = threading.Barrier(4)

    scenes = [Scene() for _ in range(4)]

    def work(scene):
        barrier.wait()
        kernels(one).density(*scene.arguments())

    threads = [threading.Thread(target=work, args=(scene,)) for scene in scenes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.read("load")) == 1


def test_bad_index_is_reported_by_the_next_call(devices):
    scene = Scene()
    bad = torch.tensor([0, 2, 1, -1, 0, 3])
    guard = scene.density.clone()
    run = kernels(devices[0])
    run.density(*scene.arguments(index=bad))
    assert not torch.equal(scene.density, guard)
    with pytest.raises(ValueError, match="types: an earlier call had an index >= n_types on cuda:0"):
        run.density(*scene.arguments())
    run.density(*scene.arguments())
    scene.check()


def test_atoms_in_no_example_are_reported_by_the_next_call(devices):
    scene = Scene()
    run = kernels(devices[0])
    run.density(*scene.arguments(offsets=torch.tensor([0, 4])))
    with pytest.raises(ValueError, match="batch: an earlier call had atoms in no example on cuda:0"):
        run.density(*scene.arguments())
    run.density(*scene.arguments(offsets=torch.tensor([0, 6])))
    scene.check()


def test_check_reports_at_once(devices, monkeypatch, journal):
    monkeypatch.setenv("GRIDGRAD_CHECK", "1")
    scene = Scene()
    with pytest.raises(ValueError, match="types: this call had an index"):
        kernels(devices[0]).density(*scene.arguments(index=torch.tensor([0, 2, 1, -1, 0, 9])))
    assert len(journal.read("synchronize")) == 2  # before the launch, for what earlier calls left, and after it
    scene.radii[2] = -1
    with pytest.raises(ValueError, match="radii: this call had a radius <= 0"):
        kernels(devices[0]).density(*scene.arguments())


def test_bad_radius_gives_nan_and_no_error(devices):
    scene = Scene()
    scene.radii[2] = 0
    kernels(devices[0]).density(*scene.arguments())
    assert scene.density[1].isnan().all()
    assert not scene.density[[0, 2]].isnan().any()
    devices[0].fault[abi.FAULTS.index("radius")] = 0


def test_radius_of_a_call_before_the_checks_is_not_blamed_on_this_one(devices, monkeypatch):
    """``GRIDGRAD_CHECK`` set midway: what earlier calls left is told apart, and the next call starts afresh."""
    scene, bad = Scene(), Scene()
    bad.radii[2] = 0
    run = kernels(devices[0])
    run.density(*bad.arguments())
    monkeypatch.setenv("GRIDGRAD_CHECK", "1")
    with pytest.raises(ValueError, match="radii: an earlier call had a radius <= 0"):
        run.density(*scene.arguments())
    run.density(*scene.arguments())
    scene.check()


def test_arguments_that_are_too_few_launch_nothing(devices, journal):
    run = kernels(devices[0])
    with pytest.raises(Exception, match="pack expected 19 items"):
        run.density(*Scene().arguments()[:-1])
    assert journal.read("launch") == [] and journal.stack_depth() == 0


def test_no_memory_for_the_module(through, monkeypatch):
    monkeypatch.setenv("STANDIN_OUT_OF_MEMORY", "1")
    scene = Scene()
    with pytest.raises(MemoryError, match=r"cuda:0 \(stand-in 0\) has no memory left to load the kernels"):
        kernels(device.Device(0, through)).density(*scene.arguments())
    assert standin.Journal().stack_depth() == 0


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    return done.returncode, done.stdout, done.stderr


EXIT = """
import sys, threading
sys.path[:0] = {path!r}
from cuda_on_cpu import standin
from cuda_on_cpu.scene import Scene, kernels
from gridgrad.kernels.gpu import cubins, device, driver
cubins.cubin = standin.image
one = device.Device(0)
scene = Scene()
def work():
    kernels(one).density(*scene.arguments())
thread = threading.Thread(target=work)
thread.start()
thread.join()
work()
print("done through", driver.driver().name)
"""


def test_process_ends_cleanly(through):
    code, out, error = run_python(EXIT.format(path=[*sys.path[:2], os.path.dirname(__file__)]))
    assert (code, out.strip(), error) == (0, f"done through {through.name}", "")


def test_no_device(through):
    code = (
        "from gridgrad.kernels.gpu import driver\ntry:\n driver.driver()\nexcept RuntimeError as error:\n print(error)"
    )
    status, out, error = run_python(code, STANDIN_NO_DEVICE="1")
    assert status == 0, error
    assert out.startswith("the NVIDIA driver finds no usable device")


def test_devices_are_described_without_a_context(through, journal):
    assert through.devices() == [("stand-in 0", 90), ("stand-in 1", 90)]
    assert journal.stack_depth() == 0 and journal.read("stream", "load", "synchronize") == []


def test_the_configuration_names_the_driver(through):
    assert f"in use: {through.name}" in config()["CUDA driver"]


def test_host_time_of_a_call(devices, journal):
    """At most 25 us from the call to the end of the driver's launch, which does not run the kernel here."""
    scene = Scene(torch.float32)
    run, arguments = kernels(devices[0], torch.float32), scene.arguments()
    run.density(*arguments)
    skip = ctypes.c_int.in_dll(journal.library, "standin_skip")
    skip.value = 1
    try:
        times = timeit.repeat(lambda: run.density(*arguments), number=50, repeat=100)
    finally:
        skip.value = 0
    print(f"{1e6 * min(times) / 50:.1f} us")
    assert 1e6 * min(times) / 50 <= 25
