"""Pytest plugin: run the tests of the Cython kernels through gridgrad.kernels.gpu, on the stand-in driver.

LD_LIBRARY_PATH=build/cuda_on_cpu PYTHONPATH=tests:build/cuda_on_cpu/site python -m pytest \
    -p cuda_on_cpu.driver_plugin tests/test_density.py ...

``GRIDGRAD_CUDA_DRIVER`` says through which package.
"""

import os
from functools import partial

from cuda_on_cpu import standin
from cuda_on_cpu.shim_kernels import asked_limits, scratch

from gridgrad.kernels import abi, cpu
from gridgrad.kernels.gpu import cubins, device
from gridgrad.kernels.gpu.driver import driver


class HostStream(device.DefaultStream):
    """The default stream, with memory for a launch: the stand-in's is the host's."""

    def scratch(self, n_bytes):
        return scratch(n_bytes)


class DriverKernels:
    """Functions ``density`` ... ``radii_sum`` that take the arguments of gridgrad.kernels.cpu's, threads included."""

    def __init__(self, through, precision):
        launched = device.Kernels(through, abi.PRECISIONS[precision], HostStream(), asked_limits())
        for name, kernel in abi.KERNELS.items():
            setattr(self, name, partial(self.call, launched, name, kernel.visits_atoms))

    def call(self, launched, name, visits_atoms, *arguments):
        getattr(launched, name)(*(arguments[:-1] if visits_atoms else arguments))


def pytest_configure():
    """Replace the kernels that the operators call for CPU tensors."""
    assert standin.is_loaded()
    os.environ["GRIDGRAD_CHECK"] = "1"  # as on the CPU: what is wrong with a call is raised by that call
    cubins.cubin = standin.image
    first = device.Device(0)
    cpu.KERNELS.update({precision: DriverKernels(first, precision) for precision in cpu.KERNELS})


def pytest_report_header():
    """Say so."""
    return f"kernels: cuda/density.cu through {driver().name}, on the stand-in driver"
