"""Pytest plugin: run the tests of the Cython kernels on the CUDA kernels compiled for the CPU.

PYTHONPATH=tests python -m pytest -p cuda_on_cpu.plugin tests/test_density.py ...
"""

from cuda_on_cpu.shim_kernels import ShimKernels

from gridgrad.kernels import cpu


def pytest_configure():
    """Replace the kernels that the operators call for CPU tensors."""
    cpu.KERNELS.update({precision: ShimKernels(precision) for precision in cpu.KERNELS})


def pytest_report_header():
    """Say so."""
    return "kernels: cuda/density.cu, compiled for the CPU"
