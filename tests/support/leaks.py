"""Repeat every call in every mode and say by how much the memory in use grew.

``python -m support.leaks kernels|public ROUNDS [leak]`` fails if a round leaves a pointer behind; ``leak`` loses one a
round, which has to show. The count is of bytes in use, not of pages, with Python's objects among them; what the C
library keeps for the next call in caches of its own would count as well, so it runs without. A round of ``public``
calls every order twice, by itself and through autograd.
"""

import ctypes
import gc
import itertools
import os
import sys

import numpy as np
import torch
from support import record, replay
from support.scenes import DTYPES, MODES, make_scene

import gridgrad as gg
from gridgrad.kernels import abi, cpu

POINTER = 8  # bytes
COUNTED = {"PYTHONMALLOC": "malloc", "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"}
WINDOWS = 4  # a cache that fills grows in one of them, a leak in all


class Mallinfo(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def in_use():
    """Return the bytes that are allocated, in all arenas and in mappings of their own."""
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Mallinfo
    counted = mallinfo()
    return counted.uordblks + counted.hblkhd


def kernel_calls(mode, dtype):
    """Return the kernels themselves, bound to their arguments; their scratch is all that they allocate."""
    precision, outputs, calls = str(dtype).removeprefix("torch."), {}, []
    for name, given, expected in record.calls(make_scene(*mode, dtype=dtype)):
        given = {key: outputs[value.split()[1]] if isinstance(value, str) else value for key, value in given.items()}
        outputs = {key: np.zeros(value.shape, precision) for key, value in expected.items()}
        kernel, values = getattr(cpu.KERNELS[precision], name), replay.arguments(abi.KERNELS[name], given, outputs)
        calls.append(lambda kernel=kernel, values=values, alive=(given, outputs): kernel(*values))
    return calls


def public_calls(mode, dtype):
    """Return what users call: each order by itself, and all of them through autograd."""
    scene = make_scene(*mode, dtype=dtype)
    gm = gg.GridMaker(**scene.settings)
    grad_density, *grad_grads = scene.cotangents()
    density = gm.forward(*scene.inputs, **scene.grouping)
    leaves = [leaf.clone().requires_grad_(leaf.is_floating_point()) for leaf in scene.inputs]
    asked = [leaf for leaf in leaves if leaf.requires_grad]

    def autograd():
        grid = gg.coords2grid(gm, *leaves, **scene.grouping)
        first = torch.autograd.grad(grid, asked, grad_density, create_graph=True)
        if mode[0] != "binary":  # whose gradients are zero
            torch.autograd.grad(sum(gradient.square().sum() for gradient in first), asked)

    return [
        lambda: gm.forward(*scene.inputs, **scene.grouping),
        lambda: gm.backward(*scene.inputs, grad_density, batch=scene.batch),
        lambda: gm.backward_gradients(*scene.inputs, grad_density, *grad_grads, batch=scene.batch),
        lambda: gm.backward_relevance(*scene.inputs, density, grad_density, batch=scene.batch),
        autograd,
    ]


def growth(calls, rounds):
    """Return how many bytes a round of calls leaves behind, in the window of rounds in which it is least."""
    counts = [in_use()]
    for _ in range(WINDOWS):
        for _ in range(rounds // WINDOWS):
            for call in calls:
                call()
        counts.append(in_use())
    return min(after - before for before, after in itertools.pairwise(counts)) / (rounds // WINDOWS)


def main(kind, rounds, leak=None):
    """Print by how much a round of calls grew the memory in the worst mode; return whether by a pointer or more."""
    torch.set_num_threads(1)
    malloc = ctypes.CDLL(None).malloc
    grown, n_calls = {}, 0
    calls_of = {"kernels": kernel_calls, "public": public_calls}[kind]
    growth(calls_of(MODES[0], DTYPES[0]), int(rounds))  # what Python and torch set up once
    gc.freeze()  # what is there already is not looked at again
    for dtype, mode in itertools.product(DTYPES, MODES[:1] if leak else MODES):
        calls = calls_of(mode, dtype)
        n_calls += int(rounds) * len(calls)
        grown[*mode, dtype] = growth(calls + [lambda: malloc(POINTER)] * (leak == "leak"), int(rounds))
    worst = max(grown, key=grown.get)
    print(f"{n_calls} calls in {len(grown)} modes; at most {grown[worst]:g} bytes a round, in", *worst)
    return grown[worst] >= POINTER


if __name__ == "__main__":
    if not COUNTED.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "support.leaks", *sys.argv[1:]], os.environ | COUNTED)
    sys.exit(main(*sys.argv[1:]))
