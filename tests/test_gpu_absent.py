"""Without PyCUDA and cuda.bindings: clear errors, and nothing of the CPU behaviour changes."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from gridgrad import atomic, gpu, show_config
from gridgrad.kernels.gpu import cubins, driver

HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pycuda", "cuda"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
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
    assert out.startswith(
        "CUDA tensors need pycuda or cuda.bindings, which is not installed: pip install 'cuda-bindings'"
    )


class Fake:
    """A driver that can be used."""

    def __init__(self, name):
        self.name = name


@pytest.fixture
def packages(monkeypatch):
    """Function that says what the packages do when they are loaded: a driver, or an error."""

    def stand(**found):
        def load(name):
            what = found[name.replace("cuda.", "")]
            if isinstance(what, driver.NoDriverError):
                return driver.Choice(None, what.installed, str(what))
            return driver.Choice(what, True, what.name)

        monkeypatch.setattr(driver, "_load", load)

    monkeypatch.delenv("GRIDGRAD_CUDA_DRIVER", raising=False)
    return stand


ABSENT, BROKEN = driver.NoDriverError("not installed", installed=False), driver.NoDriverError("13.5.0, no libcuda.so.1")


def test_pycuda_comes_first(packages):
    packages(pycuda=Fake("PyCUDA 1"), bindings=Fake("cuda.bindings 2"))
    assert driver.driver().name == "PyCUDA 1"
    assert driver.choices() == {"pycuda": "in use: PyCUDA 1", "cuda.bindings": "cuda.bindings 2; pycuda comes first"}


@pytest.mark.parametrize("pycuda", [ABSENT, BROKEN], ids=["absent", "broken"])
def test_cuda_bindings_where_pycuda_cannot(packages, pycuda):
    packages(pycuda=pycuda, bindings=Fake("cuda.bindings 2"))
    assert driver.driver().name == "cuda.bindings 2"
    assert driver.choices() == {"pycuda": str(pycuda), "cuda.bindings": "in use: cuda.bindings 2"}


def test_a_driver_is_forced(packages, monkeypatch):
    packages(pycuda=Fake("PyCUDA 1"), bindings=Fake("cuda.bindings 2"))
    monkeypatch.setenv("GRIDGRAD_CUDA_DRIVER", "cuda.bindings")
    assert driver.driver().name == "cuda.bindings 2"
    assert driver.choices()["pycuda"] == "GRIDGRAD_CUDA_DRIVER asks for cuda.bindings"
    packages(pycuda=Fake("PyCUDA 1"), bindings=ABSENT)
    with pytest.raises(ImportError, match=r"CUDA tensors need cuda\.bindings, which is not installed"):
        driver.driver()


def test_neither_driver_says_why(packages):
    packages(pycuda=ABSENT, bindings=BROKEN)
    with pytest.raises(ImportError, match=r"pycuda: not installed; cuda\.bindings: 13\.5\.0, no libcuda\.so\.1"):
        driver.driver()


def test_unknown_driver(monkeypatch):
    monkeypatch.setenv("GRIDGRAD_CUDA_DRIVER", "hip")
    with pytest.raises(ValueError, match=r"GRIDGRAD_CUDA_DRIVER: 'hip'; expected 'pycuda' or 'cuda\.bindings'"):
        driver.driver()
    assert "GRIDGRAD_CUDA_DRIVER: 'hip'" in show_config()


def test_cpu_works_and_no_driver_is_imported():
    out = run("""
import torch, gridgrad
gm = gridgrad.GridMaker(dimension=3.0)
grid = gridgrad.coords2grid(gm, (0, 0, 0), torch.zeros(1, 3), torch.tensor([0]), torch.ones(1), n_types=1)
print(bool(grid.max() > 0.9), "pycuda" in sys.modules, "gridgrad.kernels.gpu.driver_bindings" in sys.modules)
gridgrad.show_config()
""")
    assert out.startswith("True False False")
    assert "pycuda: not installed; cuda.bindings: not installed" in out
    assert "not usable" in out


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built with CUDA")
def test_availability_of_a_cpu_build():
    assert gpu.availability() == (False, f"torch {torch.__version__} is built without CUDA")
    assert f"not usable: torch {torch.__version__} is built without CUDA" in show_config()


def test_sources_are_found():
    assert next(iter(cubins.sources())) == "density.cu"
    assert {"profile.cuh", "atoms.cuh", "support.cuh", "to_grid.cuh", "to_atoms.cuh"} < set(cubins.sources())


def test_nvcc_compiles(tmp_path, monkeypatch):
    """The command, in a folder with all sources; what it says when it fails."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text('#!/bin/sh\nls *.cuh *.cu >kernels.cubin\necho "$@" >>kernels.cubin\n')
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    *files, command = cubins._compile("nvcc", "float", 90).decode().splitlines()
    assert set(files) == set(cubins.sources())
    assert command.split() == ["-cubin", "-arch=sm_90", *cubins.options("float"), "-o", "kernels.cubin", "density.cu"]
    nvcc.write_text('#!/bin/sh\necho "density.cu(3): error" >&2\nexit 2\n')
    with pytest.raises(cubins.CompileError, match=r"nvcc -cubin .*: density\.cu\(3\): error"):
        cubins._compile("nvcc", "float", 90)


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


KILLED = """
import os, signal, sys
from pathlib import Path
from gridgrad.kernels.gpu import cubins

def write_half(path, data):
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

Path.write_bytes = write_half
cubins._write(Path(sys.argv[1]), b"cubin")
"""


@pytest.mark.skipif(atomic.fcntl is None, reason="no locks: what killed runs leave is not told apart")
def test_a_killed_process_leaves_no_cubin_for_long(tmp_path):
    """Half a cubin has another name, and goes when the next one is written, even another one."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "one.cubin")], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1 and not (tmp_path / "one.cubin").exists()
    cubins._write(tmp_path / "other.cubin", b"cubin")
    assert os.listdir(tmp_path) == ["other.cubin"]
    assert (tmp_path / "other.cubin").read_bytes() == b"cubin"
