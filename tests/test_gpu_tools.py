"""What tools/ runs on a GPU machine, on the CUDA kernels compiled for the CPU."""

import re
import shutil
import sys

import pytest

from gridgrad.kernels import abi, cpu

if shutil.which("g++") is None:
    pytest.skip("needs g++ to compile the CUDA kernels for the CPU", allow_module_level=True)
from cuda_on_cpu import build
from cuda_on_cpu.shim_kernels import ShimKernels, library

if not (build.REPOSITORY / "tools").exists():
    pytest.skip("no tools beside the tests", allow_module_level=True)


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


def test_exercise_launches_every_kernel(monkeypatch):
    """Those that only large calls launch included: compute-sanitizer sees no others."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(build.REPOSITORY / "tools")])
    import gpu_benchmark

    libraries = {precision: Recorder(library(real)) for precision, real in abi.PRECISIONS.items()}
    for precision, recorder in libraries.items():
        monkeypatch.setitem(cpu.KERNELS, precision, ShimKernels(precision, recorder))
    gpu_benchmark.exercise("cpu")
    rows = launch_rows()
    assert len(rows) >= len(abi.KERNELS)
    for recorder in libraries.values():
        assert recorder.launched == rows
