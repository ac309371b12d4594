"""Every kernel compiles by NVRTC for every architecture, without spills in single precision; cubins are cached."""

import sys
from pathlib import Path

import pytest

from gridgrad.kernels.abi import GPU_KERNELS
from gridgrad.kernels.gpu import cubins, nvrtc

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import ptxas_table

try:
    LIBRARY = nvrtc.load()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """NVRTC only, and an empty cache."""
    monkeypatch.setenv("GRIDGRAD_CUDA_COMPILER", "nvrtc")
    monkeypatch.setenv("GRIDGRAD_CACHE_DIR", str(tmp_path / "cache"))
    clear = cubins.compilers.cache_clear
    clear()
    yield
    clear()


@pytest.mark.parametrize("architecture", ptxas_table.ARCHITECTURES)
@pytest.mark.parametrize("real", ptxas_table.REALS)
def test_compiles(real, architecture):
    found = ptxas_table.resources(real, architecture)
    assert {row.kernel for row in found} == set(GPU_KERNELS)
    for row in found:
        print(row)
        assert row.registers > 0
        assert row.shared <= 48 * 1024
        if real == "float":
            assert (row.spill_stores, row.spill_loads) == (0, 0), row


def test_cubin_is_kept_and_used_again(monkeypatch):
    image = cubins.cubin("float", 90)
    assert image.startswith(b"\x7fELF")
    (kept,) = cubins.cache_folder().iterdir()
    assert kept.read_bytes() == image
    monkeypatch.setattr(cubins, "_compile", None)
    assert cubins.cubin("float", 90) == image


@pytest.mark.parametrize("change", ["source", "options", "version"])
def test_cache_key(monkeypatch, change):
    compiled = []
    monkeypatch.setattr(cubins, "_compile", lambda *arguments: compiled.append(arguments) or b"image")
    cubins.cubin("float", 90)
    cubins.cubin("float", 90)
    assert len(compiled) == 1
    if change == "source":
        monkeypatch.setattr(cubins, "sources", lambda: {cubins.MAIN: "other"})
    elif change == "options":
        monkeypatch.setattr(cubins, "MATH", ("-std=c++20",))
    else:
        monkeypatch.setattr(cubins, "compilers", lambda: {"nvrtc": ("99.0", [90])})
    cubins.cubin("float", 90)
    assert len(compiled) == 2
    cubins.cubin("double", 90)
    assert len(compiled) == 3


def test_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRIDGRAD_CACHE_DIR", str(tmp_path / "file" / "below"))
    monkeypatch.setattr(cubins, "_compile", lambda *arguments: b"image")
    assert cubins.cubin("float", 90) == b"image"


def test_unknown_architecture():
    with pytest.raises(cubins.CompileError, match=r"knows compute capability 99\.9: nvrtc .* knows 75, 80"):
        cubins.cubin("float", 999)


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(cubins, "compilers", dict)
    with pytest.raises(cubins.CompileError, match="the CUDA kernels need a compiler: pip install 'nvidia-cuda-nvrtc'"):
        cubins.cubin("float", 90)


def test_unknown_compiler(monkeypatch):
    monkeypatch.setenv("GRIDGRAD_CUDA_COMPILER", "clang")
    with pytest.raises(ValueError, match="GRIDGRAD_CUDA_COMPILER: 'clang'; expected 'nvcc' or 'nvrtc'"):
        cubins.compilers()


def test_compile_error_carries_the_log():
    with pytest.raises(cubins.CompileError, match=r"(?s)bad\.cu.*undefined_name"):
        LIBRARY.compile("__global__ void f() { undefined_name; }", "bad.cu", ["--gpu-architecture=sm_90"])
