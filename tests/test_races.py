"""Threads: the work in any order gives the same bits; what another thread writes to never becomes an address.

tools/sanitize_threads.sh looks at the same calls with ThreadSanitizer.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.rows import row

import gridgrad

HERE = Path(__file__).parent
KERNELS = Path(gridgrad.__file__).parent / "kernels"

RACE = """
import sys, threading, torch
import gridgrad as gg

what = sys.argv[1]
n_atoms, n_types, rounds = 20000, 3, 20
maker = gg.GridMaker(0.5, 3.0, radius_type_indexed=True)
coords, types, radii = torch.zeros(n_atoms, 3), torch.zeros(n_atoms, dtype=torch.int64), torch.full((n_types,), 0.1)
offsets = torch.tensor([0, n_atoms // 2, n_atoms])
tensors = (coords, types, radii, offsets)
grad_density = torch.ones(2, n_types, *maker.spatial_grid_dimensions())
victim, good, bad = {
    "types": (types[-100:], 0, 2**40),
    "offsets": (offsets[1:2], n_atoms // 2, 2**40),
}[what]
settings = maker.spec, (0, 0, 0), n_types
stop = threading.Event()


def disturb():
    while not stop.is_set():
        for _ in range(100):
            victim.fill_(bad)
            victim.fill_(good)


thread = threading.Thread(target=disturb)
thread.start()
done = refused = 0
try:
    for _ in range(rounds):
        for call in (
            lambda: torch.ops.gridgrad.density(*tensors, None, *settings),
            lambda: torch.ops.gridgrad.density_backward(*tensors, None, grad_density, *settings, [True] * 3),
            lambda: torch.ops.gridgrad.density_relevance(*tensors, None, grad_density, grad_density, *settings),
        ):
            try:
                call()
                done += 1
            except ValueError as error:
                assert str(error).startswith(what), error
                refused += 1
finally:
    stop.set()
    thread.join()
print(done + refused)
"""


@row("indices that another thread changes during a call: wrong numbers or an error, never a foreign address")
@pytest.mark.parametrize("what", ["types", "offsets"])
def test_integers_that_change(what):
    run = subprocess.run([sys.executable, "-c", RACE, what], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) == 60


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    """Return what calls of the kernels print, with an OpenMP that hands out the work in random order."""
    if shutil.which("gcc") is None or not sys.platform.startswith("linux"):
        pytest.skip("needs gcc to compile an OpenMP")
    folder = tmp_path_factory.mktemp("races")
    openmp, calls = folder / "openmp.so", folder / "calls.npz"
    source = HERE / "support" / "openmp_threads.c"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    subprocess.run(["gcc", *flags, source, "-o", openmp], check=True)
    subprocess.run([sys.executable, "-m", "support.record", calls, "shared"], cwd=HERE, check=True)

    def run(**environment):
        return subprocess.run(
            [sys.executable, "support/replay.py", calls, KERNELS], cwd=HERE, capture_output=True, text=True,
            env={**os.environ, "LD_PRELOAD": str(openmp), **environment}, timeout=300,
        )  # fmt: skip

    return run


def test_any_order_of_the_work(replay):
    """One thread, two, and more than the machine has: the same bits, and those of the oracle within its bars."""
    alone = replay(OMP_NUM_THREADS="1")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert "216 outputs of 168 calls, 0 wrong" in alone.stdout
    for threads, seed in (("2", "1"), ("2", "2"), ("7", "3"), ("16", "4")):
        assert replay(OMP_NUM_THREADS=threads, OPENMP_SEED=seed).stdout == alone.stdout


def test_threads_in_the_memory_of_one_are_seen(replay):
    """The same with a race on purpose: two threads that share what belongs to one."""
    assert replay(OMP_NUM_THREADS="7", OPENMP_FAULT="number").returncode != 0
