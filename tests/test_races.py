"""What another thread writes to while a call runs: numbers may be wrong, an address never is."""

import subprocess
import sys

import pytest
from support.rows import row

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
