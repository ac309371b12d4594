"""Without PyCUDA: clear errors, and nothing of the CPU behaviour changes."""

import os
import subprocess
import sys

import pytest
import torch

from gridgrad import gpu, show_config
from gridgrad.kernels.gpu import cubins

HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pycuda":
            raise ModuleNotFoundError(f"No module named {name!r}", name="pycuda")
sys.meta_path.insert(0, Hide())
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", HIDE + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_request_for_cuda_says_what_to_install():
    out = run("""
import torch
from gridgrad.kernels.gpu import streams as gpu
try:
    gpu.kernels(torch.float32, torch.device("cuda", 0))
except ImportError as error:
    print(error)
""")
    assert out.startswith("CUDA tensors need PyCUDA, which is not installed: pip install 'gridgrad[cuda]'")


def test_cpu_works_and_pycuda_is_not_imported():
    out = run("""
import torch, gridgrad
gm = gridgrad.GridMaker(dimension=3.0)
grid = gridgrad.coords2grid(gm, (0, 0, 0), torch.zeros(1, 3), torch.tensor([0]), torch.ones(1), n_types=1)
print(bool(grid.max() > 0.9), "pycuda" in sys.modules, "ctypes.util" in sys.modules and False)
gridgrad.show_config()
""")
    assert out.startswith("True False")
    assert "CUDA" in out
    assert "not usable" in out


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built with CUDA")
def test_availability_of_a_cpu_build():
    assert gpu.availability() == (False, f"torch {torch.__version__} is built without CUDA")
    assert f"not usable: torch {torch.__version__} is built without CUDA" in show_config()


def test_sources_are_found():
    assert next(iter(cubins.sources())) == "density.cu"
    assert {"profile.cuh", "atoms.cuh", "support.cuh", "to_grid.cuh", "to_atoms.cuh"} < set(cubins.sources())


@pytest.mark.parametrize("question", ["--version", "--list-gpu-arch"])
def test_nvcc_that_fails_is_none(question, tmp_path, monkeypatch):
    """An nvcc that cannot answer, as one without its toolkit, is passed over; `show_config` goes on."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f'#!/bin/sh\n[ "$1" = {question} ] && exit 1\necho "V13.0.88 compute_90"\n')
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("GRIDGRAD_CUDA_COMPILER", "nvcc")
    compilers = cubins.compilers.__wrapped__  # not the answer of another test
    assert compilers() == {}
    nvcc.write_text('#!/bin/sh\necho "V13.0.88 compute_90"\n')
    assert compilers() == {"nvcc": ("13.0.88", [90])}
