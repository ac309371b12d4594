"""What tools/ runs on a GPU machine, on the CUDA kernels compiled for the CPU."""

import shutil
import sys

import pytest

from gridgrad.kernels import abi, cpu

if shutil.which("g++") is None:
    pytest.skip("needs g++ to compile the CUDA kernels for the CPU", allow_module_level=True)
from cuda_on_cpu import build, standin
from cuda_on_cpu.driver_plugin import DriverKernels
from cuda_on_cpu.shim_kernels import Recorder, ShimKernels, launch_rows, library

if not (build.REPOSITORY / "tools").exists():
    pytest.skip("no tools beside the tests", allow_module_level=True)


@pytest.fixture
def gpu_benchmark(monkeypatch):
    """The tool."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(build.REPOSITORY / "tools")])
    import gpu_benchmark

    return gpu_benchmark


@pytest.mark.skipif(not standin.is_loaded(), reason="libcuda.so.1 is not the stand-in of tests/cuda_on_cpu")
def test_exercise_through_the_driver(gpu_benchmark, devices, journal, monkeypatch):
    for precision in abi.PRECISIONS:
        monkeypatch.setitem(cpu.KERNELS, precision, DriverKernels(devices[0], precision))
    gpu_benchmark.exercise("cpu")
    assert {entry.name.decode() for entry in journal.read("launch")} == launch_rows()


def test_exercise_launches_every_kernel(gpu_benchmark, monkeypatch):
    """Those that only large calls launch included: compute-sanitizer sees no others."""
    libraries = {precision: Recorder(library(real)) for precision, real in abi.PRECISIONS.items()}
    for precision, recorder in libraries.items():
        monkeypatch.setitem(cpu.KERNELS, precision, ShimKernels(precision, recorder))
    gpu_benchmark.exercise("cpu")
    rows = launch_rows()
    assert len(rows) >= len(abi.KERNELS)
    for recorder in libraries.values():
        assert recorder.launched == rows
