"""Without PyCUDA: clear errors, and nothing of the CPU behaviour changes."""

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
