"""The CUDA kernels compiled for the CPU, under the names and arguments of gridgrad.kernels.cpu's kernels."""

import ctypes
import os
import re
import struct
from functools import cache, partial

from cuda_on_cpu import build

from gridgrad.kernels import abi
from gridgrad.kernels.gpu.preparation import Limits, preparation

ALWAYS = Limits(weights=0, part=2, tests=-(2**62), scales=(1,))
"""What can be found before the tiles is, whatever the sizes."""
TIGHT = ALWAYS._replace(room=3, spread=0)
"""The same, with room for three atoms in the list of a cell."""


@cache
def library(real):
    """Load the kernels of a precision, built if need be."""
    build.build_kernels()
    return ctypes.CDLL(str(build.kernel_library(real)))


def asked_limits():
    """Return the usual limits, or `ALWAYS` with ``SHIM_PREPARED=1``."""
    return ALWAYS if os.environ.get("SHIM_PREPARED") == "1" else Limits()


def scratch(n_bytes):
    """Return the address of memory that holds no zeros, and what keeps it."""
    memory = ctypes.create_string_buffer(b"\xa5" * n_bytes, n_bytes)
    return ctypes.addressof(memory), memory


class Recorder:
    """A library of kernels that notes which were launched."""

    def __init__(self, of):
        self.of, self.launched = of, set()

    def __getattr__(self, name):
        if name.startswith("shim_launch_"):
            self.launched.add(name.removeprefix("shim_launch_"))
        return getattr(self.of, name)


def launch_rows():
    """Names of the kernels that cuda/density.cu has rows for, macros expanded."""
    contract = build.TARGET / "abi.h"
    text = build.run("g++", "-E", "-std=c++20", "-DREAL=float", "-include", contract, build.HERE / "kernels.cpp")
    return set(re.findall(r"int launch_(\w+)\[", text))


class ShimKernels:
    """Functions ``density`` ... ``radii_sum`` that take the arguments of gridgrad.kernels.cpu's, threads included.

    Parameters
    ----------
    precision : {"float32", "float64"}
    loaded : ctypes.CDLL, optional
        Other kernels than those of cuda/.
    limits : Limits, optional
        When something is found before the tiles; default `asked_limits`.
    """

    def __init__(self, precision, loaded=None, limits=None):
        self.library = loaded or library(abi.PRECISIONS[precision])
        self.fault = (ctypes.c_int * len(abi.FAULTS))()
        self.rows = {name: self.row(name) for name in abi.GPU_KERNELS}
        for kernel in abi.KERNELS.values():
            setattr(
                self,
                kernel.name,
                partial(self.launch, kernel, preparation(kernel, self.rows, limits or asked_limits())),
            )

    def row(self, name):
        """Read how a kernel is laid out on blocks."""
        find, n_bytes = getattr(self.library, f"shim_global_launch_{name}"), ctypes.c_size_t()
        find.restype = ctypes.c_void_p
        return abi.Launch.unpack(ctypes.string_at(find(ctypes.byref(n_bytes)), n_bytes.value))

    def launch(self, kernel, prepare, *arguments):
        """Launch by packed arguments, as on a GPU; raise for what is reported, as with GRIDGRAD_CHECK=1."""
        self.fault[:] = (0,) * len(self.fault)
        if kernel.visits_atoms:  # the last is the number of threads
            arguments = arguments[:-1]
        blocks = kernel.blocks(self.rows[kernel.name])(arguments)
        if blocks:
            prepared = prepare(arguments, blocks, scratch)
            chosen = abi.GPU_KERNELS[kernel.choice(self.rows)(arguments)]
            for step in prepared.steps:
                before = abi.GPU_KERNELS[step.name]
                self.launch_packed(before, before.blocks(self.rows[step.name])(step.arguments), step.arguments)
            self.launch_packed(chosen, blocks, (*arguments, *prepared.arguments))
        if self.fault[abi.FAULTS.index("index")]:
            raise ValueError("types: an index >= n_types")
        if self.fault[abi.FAULTS.index("radius")]:
            raise ValueError("radii: a radius <= 0")
        if self.fault[abi.FAULTS.index("example")]:
            raise ValueError("batch: an atom in no example")

    def launch_packed(self, kernel, blocks, arguments):
        """Launch a kernel."""
        faults = (ctypes.addressof(self.fault),) * kernel.visits_atoms
        packed, threads = struct.pack(kernel.gpu_format, *arguments, *faults), self.rows[kernel.name].threads
        grid, block = (ctypes.c_uint * 3)(blocks, 1, 1), (ctypes.c_uint * 3)(threads, 1, 1)
        getattr(self.library, f"shim_launch_{kernel.name}")(grid, block, packed, ctypes.c_size_t(len(packed)))
