"""The CUDA kernels compiled for the CPU, under the names and arguments of gridgrad.kernels.cpu's kernels."""

import ctypes
import struct
from functools import cache, partial

from cuda_on_cpu import build

from gridgrad.kernels import abi


@cache
def library(real):
    """Load the kernels of a precision, built if need be."""
    build.build_kernels()
    return ctypes.CDLL(str(build.kernel_library(real)))


class ShimKernels:
    """Functions ``density`` ... ``radii_sum`` that take the arguments of gridgrad.kernels.cpu's, threads included.

    Parameters
    ----------
    precision : {"float32", "float64"}
    loaded : ctypes.CDLL, optional
        Other kernels than those of cuda/.
    """

    def __init__(self, precision, loaded=None):
        self.library = loaded or library(abi.PRECISIONS[precision])
        self.fault = (ctypes.c_int * len(abi.FAULTS))()
        for kernel in abi.KERNELS.values():
            setattr(self, kernel.name, partial(self.launch, kernel, self.row(kernel)))

    def row(self, kernel):
        """Read how a kernel is laid out on blocks."""
        find, n_bytes = getattr(self.library, f"shim_global_launch_{kernel.name}"), ctypes.c_size_t()
        find.restype = ctypes.c_void_p
        return abi.Launch.unpack(ctypes.string_at(find(ctypes.byref(n_bytes)), n_bytes.value))

    def launch(self, kernel, row, *arguments):
        """Launch by packed arguments, as on a GPU; raise for what is reported, as with GRIDGRAD_CHECK=1."""
        self.fault[:] = (0,) * len(self.fault)
        if kernel.visits_atoms:  # the last is the number of threads
            arguments = *arguments[:-1], ctypes.addressof(self.fault)
        blocks = kernel.blocks(row)(arguments)
        if blocks:
            packed = struct.pack(kernel.gpu_format, *arguments)
            grid, block = (ctypes.c_uint * 3)(blocks, 1, 1), (ctypes.c_uint * 3)(row.threads, 1, 1)
            getattr(self.library, f"shim_launch_{kernel.name}")(grid, block, packed, ctypes.c_size_t(len(packed)))
        if self.fault[abi.FAULTS.index("index")]:
            raise ValueError("types: an index >= n_types")
        if self.fault[abi.FAULTS.index("radius")]:
            raise ValueError("radii: a radius <= 0")
        if self.fault[abi.FAULTS.index("example")]:
            raise ValueError("batch: an atom in no example")
