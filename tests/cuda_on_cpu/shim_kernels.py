"""The CUDA kernels compiled for the CPU, under the names and arguments of gridgrad.kernels.cpu's kernels."""

import ctypes
import struct
from functools import cache, partial

import torch
from cuda_on_cpu import build

from gridgrad.kernels.gpu.device import RADII_SUM, SIGNATURES, Layout

REALS = {torch.float32: "float", torch.float64: "double"}


@cache
def library(real):
    """Load the kernels of a precision, built if need be."""
    build.build_kernels()
    return ctypes.CDLL(str(build.kernel_library(real)))


class ShimKernels:
    """Functions ``density`` ... ``radii_sum`` that take the arguments of gridgrad.kernels.cpu's, threads included.

    Parameters
    ----------
    dtype : torch.dtype
        Precision.
    """

    def __init__(self, dtype):
        self.library = library(REALS[dtype])
        find = self.library.shim_global_layout
        find.restype = ctypes.POINTER(ctypes.c_int * len(Layout._fields))
        self.layout = Layout(*find(ctypes.byref(ctypes.c_size_t())).contents)
        self.fault = (ctypes.c_int * 2)()
        for name in SIGNATURES:
            setattr(self, name, partial(self.launch_atoms, name))

    def launch(self, name, form, arguments):
        """Launch by packed arguments, as PyCUDA does."""
        blocks, threads = self.layout.launch(name, arguments)
        if blocks:
            packed = struct.pack(form, *arguments)
            grid, block = (ctypes.c_uint * 3)(blocks, 1, 1), (ctypes.c_uint * 3)(threads, 1, 1)
            getattr(self.library, f"shim_launch_{name}")(grid, block, packed, ctypes.c_size_t(len(packed)))

    def launch_atoms(self, name, *arguments):
        """Launch a kernel that takes atoms; raise for what it reports, as with GRIDGRAD_CHECK=1."""
        self.fault[:] = 0, 0
        self.launch(name, SIGNATURES[name].format, (*arguments[:-1], ctypes.addressof(self.fault)))
        if self.fault[0]:
            raise ValueError("types: an index >= n_types")
        if self.fault[1]:
            raise ValueError("radii: a radius <= 0")

    def radii_sum(self, *arguments):
        """Sum partial radius gradients."""
        self.launch("radii_sum", RADII_SUM, arguments)
