"""Races between the threads of a block: the CUDA kernels on the CPU in other orders between barriers, same bits.

GRIDGRAD_SCHEDULES=1000 tries that many random orders of every case, and takes out every barrier in turn, which some
order has to notice. tools/sanitize_cuda.sh runs this file with AddressSanitizer on the buffers.
"""

import ctypes
import faulthandler
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from support.scenes import assert_same_bits

import gridgrad as gg
from gridgrad.kernels import cpu

if shutil.which("g++") is None:
    pytest.skip("needs g++ to compile the CUDA kernels for the CPU", allow_module_level=True)
from cuda_on_cpu import build
from cuda_on_cpu.shim_kernels import ALWAYS, TIGHT, Recorder, ShimKernels, launch_rows, library

LONG = int(os.environ.get("GRIDGRAD_SCHEDULES", "0"))
ORDERS = ["backward", *map(str, range(LONG or 4))]
OPERATORS = torch.ops.gridgrad
NAN = float("nan")

# what a case is there for: (atoms, types, dimension, weights, radii by type, NaN weights at (atom, type), kernels); and
# the edge of the cube of the atoms, if other than the box
TO_GRID, TO_ATOMS = ("density", "density_tangent", "density_tangent_tangent"), ("density_backward", "relevance")
CASES = {
    "several tiles": (12, 3, (3.0, 4.5, 8.5), False, False, (), TO_GRID),
    "several tiles, rows of whole 16 bytes": (12, 3, (3.0, 4.5, 9.5), False, False, (), TO_GRID),
    "lists in parts": (530, 2, (1.0, 1.0, 1.5), False, False, (), TO_GRID[:1]),
    "lists in parts, weights": (270, 3, (1.0, 1.0, 1.0), True, False, ((269, 2),), TO_GRID[1:]),
    "NaN beyond what is searched at a time": (3, 270, (1.0, 1.0, 1.0), True, False, ((1, 254), (2, 258)), TO_GRID[:1]),
    "NaN beyond a word of channels": (5, 67, (1.0, 1.0, 1.0), True, False, ((1, 30), (3, 33), (2, 66)), TO_GRID),
    "NaN of an atom of another cell": (2, 3, (13.0, 1.0, 1.0), True, False, ((1, 2),), TO_GRID),
    "more atoms than a cell tests at a time": (8440, 1, (1.0, 1.0, 1.0), False, False, (), TO_GRID[:1], 12.0),
    "a radius a channel": (7, 34, (1.0, 3.5, 1.5), True, True, ((3, 31),), TO_GRID),
    "an atom of several groups": (3, 9, (2.0, 2.0, 2.5), True, False, (), TO_ATOMS),
    "an atom of several radii": (3, 6, (2.0, 2.0, 2.5), True, True, ((1, 4),), TO_ATOMS),
    "an atom that not all of its radii bring near": (12, 6, (1.0, 1.0, 1.0), True, True, (), TO_ATOMS, 5.0),
    "sums by type": (150, 3, (1.0, 1.0, 1.0), False, True, (), ("radii_sum",)),
}


class Call:
    """A case, and what its kernels return."""

    def __init__(self, name, dtype):
        n_atoms, n_types, dimension, weights, by_type, nan, self.kernels, *cube = CASES[name]
        generator = torch.Generator().manual_seed(7)

        def draw(*shape):
            return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) - 0.5

        self.n_types = n_types
        self.maker = gg.GridMaker(0.5, dimension, radius_type_indexed=by_type)
        coords = draw(n_atoms, 3) * torch.tensor(3 * cube or dimension, dtype=dtype)
        types = torch.randint(0, n_types, (n_atoms,), generator=generator)
        if weights:
            types = draw(n_atoms, n_types) * (torch.rand((n_atoms, n_types), generator=generator) < 0.6)
        for atom, k in nan:
            types[atom, k] = NAN
        radii = draw(n_types if by_type else n_atoms) + 1.2
        self.atoms = coords, types, radii, None, None
        self.v = draw(n_atoms, 3), draw(n_atoms, n_types) if weights else None, draw(len(radii))
        self.grid = draw(*self.maker.grid_dimensions(n_types))

    def outputs(self):
        grid, coords = (self.maker.spec, (0.1, 0.0, -0.1), self.n_types), self.atoms[0]
        zeros = torch.zeros_like(self.v[2])
        found = {}
        if "density" in self.kernels:
            found["density"] = OPERATORS.density(*self.atoms, *grid)
        if "density_tangent" in self.kernels:
            found["density_tangent"] = OPERATORS.density_tangent(*self.atoms, *self.v, *grid)
        if "density_tangent_tangent" in self.kernels:
            u = coords, self.v[1], zeros
            found["density_uv"] = OPERATORS.density_tangent_tangent(*self.atoms, *u, *self.v, *grid)
        if "density_backward" in self.kernels:
            arguments = *self.atoms, self.grid
            first = OPERATORS.density_backward(*arguments, *grid, [True] * 3)
            second = OPERATORS.density_backward_backward(*arguments, *self.v, *grid, [True] * 3)
            found |= {f"order {order} {k}": x for order, made in enumerate((first, second)) for k, x in enumerate(made)}
        if "relevance" in self.kernels:
            found["relevance"] = OPERATORS.density_relevance(*self.atoms, self.grid, self.grid, *grid)
        if "radii_sum" in self.kernels:
            needs = [False, False, True]
            found["grad_radii"] = OPERATORS.density_backward(*self.atoms, self.grid, *grid, needs)[2]
        return found


WAYS = (None, ALWAYS, TIGHT)
"""Limits of what is found before the tiles."""


@pytest.fixture
def shim(monkeypatch):
    """Function that switches to the CUDA kernels, others than those of cuda/, in an order of threads and a way."""
    monkeypatch.setenv("SHIM_THREADS", "1")

    def switch(order, way=None, loaded=None):
        monkeypatch.setenv("SHIM_SCHEDULE", order)
        for name in ["float32"] if loaded else cpu.KERNELS:
            monkeypatch.setitem(cpu.KERNELS, name, ShimKernels(name, loaded, way))

    return switch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_same_bits_in_every_order(shim, name, dtype):
    call = Call(name, dtype)
    shim("forward")
    expected = call.outputs()
    for order, way in itertools.product(ORDERS, WAYS):
        shim(order, way)
        for output, value in call.outputs().items():
            assert_same_bits(value, expected[output], f"{name}, order {order}, {way}: {output}")


def test_the_cases_launch_every_kernel(shim):
    recorder = Recorder(library("float"))
    for way in WAYS:
        shim("forward", way, recorder)
        for name in CASES:
            Call(name, torch.float32).outputs()
    assert recorder.launched == launch_rows()


def test_unknown_order_is_refused(tmp_path):
    library, code = build.kernel_library("float"), "import ctypes; c = ctypes.CDLL({!r}); c.shim_launch_radii_sum({})"
    build.build_kernels()
    arguments = "(ctypes.c_uint * 3)(1, 1, 1), (ctypes.c_uint * 3)(1, 1, 1), bytes(64), ctypes.c_size_t(64)"
    done = subprocess.run(
        [sys.executable, "-c", code.format(str(library), arguments)],
        env={**os.environ, "SHIM_SCHEDULE": "sideways"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0 and "SHIM_SCHEDULE: expected forward, backward or a number" in done.stderr


# ---- barriers -------------------------------------------------------------------------------------------------------

BARRIER = re.compile(r"^ *__sync(threads|warp)\(\);\n", re.M)
MEMORY_ONLY = {"p = walk.top[threadIdx.x];": "all meet at a ballot before the next write, which orders no memory"}
"""Line before a barrier that orders memory on a GPU, and threads nowhere."""


def barriers():
    """Every barrier of cuda/: its file, and how many there are before it."""
    for path in sorted((build.REPOSITORY / "cuda").glob("*.cuh")):
        text = path.read_text(encoding="utf-8")
        for number, there in enumerate(BARRIER.finditer(text)):
            reason = MEMORY_ONLY.get(text[: there.start()].splitlines()[-1].strip())
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            yield pytest.param((path.name, number), marks=marks, id=f"{path.name}-{number}")


def without(barrier, folder):
    """Return the kernels of single precision without one barrier."""
    name, number = barrier
    for part in ("cuda", "tests/cuda_on_cpu", "gridgrad/kernels"):
        shutil.copytree(build.REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    path = folder / "cuda" / name
    text = path.read_text(encoding="utf-8")
    there = list(BARRIER.finditer(text))[number]
    path.write_text(text[: there.start()] + text[there.end() :], encoding="utf-8")
    subprocess.run(
        [sys.executable, folder / "tests/cuda_on_cpu/build.py", "kernels-float"],
        env={**os.environ, "CUDA_ON_CPU": str(folder)}, check=True,
    )  # fmt: skip
    return ctypes.CDLL(str(folder / build.kernel_library("float").name))


def noticed(shim, loaded):
    """Return what gives other bits with these kernels, if anything."""
    calls = {name: Call(name, torch.float32) for name in CASES}
    shim("forward")
    expected = {name: call.outputs() for name, call in calls.items()}
    for order, way in itertools.product(("forward", "backward", *map(str, range(30))), WAYS):
        shim(order, way, loaded)
        for name, call in calls.items():
            print(f"{name}, order {order}, {way}", flush=True)
            signal.setitimer(signal.ITIMER_VIRTUAL, 20)  # seconds of the processor; a call takes less than one
            for output, value in call.outputs().items():
                try:
                    assert_same_bits(value, expected[name][output])
                except AssertionError:
                    return output
    return None


@pytest.mark.skipif(not LONG, reason="minutes of compiling: GRIDGRAD_SCHEDULES=1000")
@pytest.mark.parametrize("barrier", list(barriers()))
def test_every_barrier_is_needed(shim, barrier, tmp_path):
    """Without it, some order gives other bits, or does not survive or end what they lead to."""
    loaded = without(barrier, tmp_path)
    said = tmp_path / "said"
    child = os.fork()
    if child == 0:
        status = 2
        try:
            torch.set_num_threads(1)
            faulthandler.disable()
            with open(said, "w", encoding="utf-8") as sys.stdout:
                output = noticed(shim, loaded)
                print(output)
            status = 0 if output is None else 1
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    last = said.read_text(encoding="utf-8").splitlines()[-2:]
    print(*last, sep="\n")
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 1, f"no order noticed: status {status}, {last}"
