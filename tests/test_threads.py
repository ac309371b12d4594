"""Threads and processes: the number of threads is obeyed, calls run side by side, forked processes do not hang.

``GRIDGRAD_STRESS=100`` repeats the stress tests so many times.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from support.rows import row

import gridgrad as gg

REPEATS = int(os.environ.get("GRIDGRAD_STRESS", "3"))
HERE = Path(__file__).parent
HAS_FORK = hasattr(os, "fork")
KINDS = ("threads", "fork", "loader-fork", "loader-spawn", "loader-forkserver")


def run(*arguments, limit=300):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=limit, cwd=HERE)


@row(
    "8 Python threads at once",
    "`os.fork` after use (the child computes with one thread)",
    "`DataLoader` workers: fork, spawn, forkserver",
)
@pytest.mark.parametrize("kind", KINDS)
def test_stress(kind):
    """The same bits as in the parent, and no hang; the child of a fork has no OpenMP threads to wait for."""
    if "fork" in kind and not HAS_FORK:
        pytest.skip("no fork here")
    result = run("-m", "support.stress", kind, str(REPEATS))
    assert result.stdout.strip() == f"right: {REPEATS} of {REPEATS}", result.stderr


COUNT_THREADS = """
import os, sys, threading, torch, gridgrad as gg
maker, atoms = gg.GridMaker(0.5, 30.0), (30 * torch.rand(200, 3) - 15, torch.ones(200, 2), torch.ones(200))
def threads_of_a_call(n):
    torch.set_num_threads(n)  # starts some that are torch's alone, in some versions
    before = len(os.listdir("/proc/self/task"))
    gg.coords2grid(maker, (0, 0, 0), *atoms)
    return len(os.listdir("/proc/self/task")) - before
def report():
    print(threads_of_a_call(1), threads_of_a_call(3))
if sys.argv[1] == "main":
    report()
else:
    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
"""


@row("`torch.set_num_threads`, in any Python thread")
@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts the threads in /proc")
@pytest.mark.parametrize("place", ["main", "other"])
def test_number_of_threads(place):
    """With one thread no other is started; with three the kernel has a team of three."""
    result = run("-c", COUNT_THREADS, place)
    assert result.stdout.split() == ["0", "2"], result.stdout + result.stderr


@row("the GIL is released while a kernel runs")
@pytest.mark.parametrize("order", ["forward", "backward"])
def test_gil_is_released(order, threads):
    """One thread counts while another one is inside a kernel."""
    threads(1)
    maker = gg.GridMaker(0.25, 40.0)
    coords = (40 * torch.rand(1500, 3) - 20).requires_grad_(order == "backward")
    atoms = coords, torch.zeros(1500, dtype=torch.int64), torch.full((1500,), 2.0)
    grid = gg.coords2grid(maker, (0, 0, 0), *atoms, n_types=1)
    call = grid.sum().backward if order == "backward" else lambda: gg.coords2grid(maker, (0, 0, 0), *atoms, n_types=1)
    counter, started, done = 0, threading.Event(), threading.Event()

    def work():
        started.set()
        call()
        done.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        while not done.is_set():
            counter += 1
        thread.join()
    finally:
        sys.setswitchinterval(before)
    assert counter > 1000


@row("scratch memory is used again, whatever the grid before")
def test_scratch_memory_of_other_grids():
    """The bits of a call do not depend on the calls that left their scratch memory; the longest tables are not kept."""
    coords = torch.tensor([[0.2, 0.1, -0.3]]).requires_grad_()
    atoms = coords, torch.zeros(1, dtype=torch.int64), torch.full((1,), 1.5)
    makers = [gg.GridMaker(0.5, dimension) for dimension in ((2.0, 3.0, 4.0), (50.0, 0.5, 9.0), (0.5, 60_000.0, 0.5))]

    def outputs(maker):
        grid = gg.coords2grid(maker, (0, 0, 0), *atoms, n_types=1)
        return grid.detach(), torch.autograd.grad(grid, coords, torch.cos(torch.arange(grid.numel())).view_as(grid))[0]

    expected = [outputs(maker) for maker in makers]
    for _ in range(3):
        for number in (2, 0, 1, 0, 2):
            for value, first in zip(outputs(makers[number]), expected[number], strict=True):
                assert torch.equal(value, first)
