"""The CUDA kernels as cubins: found, compiled at first use, and kept on disk.

``GRIDGRAD_CUDA_COMPILER`` (``nvcc`` or ``nvrtc``) forces a compiler; by default it is nvcc, where it is on the path
and knows the device, else NVRTC. ``GRIDGRAD_CACHE_DIR`` says where cubins are kept; by default
``gridgrad`` in ``XDG_CACHE_HOME`` or ``~/.cache``. A cache that cannot be written to is done without.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from gridgrad.atomic import atomic_files, clean
from gridgrad.kernels import abi
from gridgrad.kernels.gpu import nvrtc
from gridgrad.kernels.gpu.nvrtc import CompileError

__all__ = ["CompileError", "compilers", "cubin", "options", "sources"]

MAIN = "density.cu"
MATH = ("-std=c++17", "--prec-sqrt=false", "--prec-div=false")


@cache
def folder() -> Path:
    """Return the folder of the CUDA sources.

    Returns
    -------
    Path
        ``gridgrad/cuda`` of an installed package, ``cuda`` of the repository of an editable one.

    Raises
    ------
    FileNotFoundError
        If neither is there.
    """
    package = Path(__file__).resolve().parents[2]
    for candidate in (package / "cuda", package.parent / "cuda"):
        if (candidate / MAIN).is_file():
            return candidate
    raise FileNotFoundError(f"{MAIN}: neither in {package / 'cuda'} nor in {package.parent / 'cuda'}")


@cache
def sources() -> dict[str, str]:
    """Return the texts of the CUDA sources.

    Returns
    -------
    dict of str
        By file name, ``density.cu`` first, with the contract before it.
    """
    found = sorted(folder().glob("*.cu*"), key=lambda path: (path.name != MAIN, path.name))
    texts = {path.name: path.read_text(encoding="utf-8") for path in found}
    texts[MAIN] = f'{abi.c_text()}#line 1 "{MAIN}"\n{texts[MAIN]}'
    return texts


def options(real: str) -> list[str]:
    """Return the options for a precision, the same for both compilers.

    Parameters
    ----------
    real : {"float", "double"}
        Type of a real number.

    Returns
    -------
    list of str
        Without the architecture.
    """
    return [*MATH, f"-DREAL={real}"]


def _nvcc() -> tuple[str, list[int]] | None:
    # version and architectures; None where there is none, or it does not run
    path = shutil.which("nvcc")
    if path is None:
        return None
    try:
        said = [
            subprocess.run([path, question], capture_output=True, text=True, check=True, timeout=60).stdout
            for question in ("--version", "--list-gpu-arch")
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"V(\d+\.\d+\.\d+)", said[0])
    return (version.group(1), [int(number) for number in re.findall(r"compute_(\d+)", said[1])]) if version else None


@cache
def compilers() -> dict[str, tuple[str, list[int]]]:
    """Return the compilers that are there, in order of preference.

    Returns
    -------
    dict of tuple
        Version and compute capabilities by name.

    Raises
    ------
    ValueError
        If ``GRIDGRAD_CUDA_COMPILER`` is unknown.
    """
    asked = os.environ.get("GRIDGRAD_CUDA_COMPILER", "")
    if asked not in ("", "nvcc", "nvrtc"):
        raise ValueError(f"GRIDGRAD_CUDA_COMPILER: {asked!r}; expected 'nvcc' or 'nvrtc'")
    found = {}
    if asked != "nvrtc":
        nvcc = _nvcc()
        if nvcc is not None:
            found["nvcc"] = nvcc
    if asked != "nvcc":
        try:
            library = nvrtc.load()
        except ImportError:
            return found
        found["nvrtc"] = "{}.{}".format(*library.version()), library.architectures()
    return found


def _choose(architecture: int) -> tuple[str, str]:
    found = compilers()
    if not found:
        raise CompileError(
            "the CUDA kernels need a compiler: pip install 'nvidia-cuda-nvrtc' (no toolkit needed), "
            "or put nvcc on the path"
        )
    for name, (version, known) in found.items():
        if architecture in known:
            return name, version
    seen = "; ".join(f"{name} {version} knows {', '.join(map(str, known))}" for name, (version, known) in found.items())
    raise CompileError(
        f"no compiler here knows compute capability {architecture // 10}.{architecture % 10}: {seen}. A newer one: "
        "pip install --upgrade 'nvidia-cuda-nvrtc'"
    )


def _compile(compiler: str, real: str, architecture: int) -> bytes:
    if compiler == "nvrtc":
        headers = sources()
        main = headers[MAIN]
        arch = f"--gpu-architecture=sm_{architecture}"
        return nvrtc.load().compile(main, MAIN, [*options(real), arch], headers)[0]
    with tempfile.TemporaryDirectory(prefix="gridgrad-") as made:
        for name, text in sources().items():
            Path(made, name).write_text(text, encoding="utf-8")
        command = ["nvcc", "-cubin", f"-arch=sm_{architecture}", *options(real), "-o", "kernels.cubin", MAIN]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True)
        if done.returncode:
            raise CompileError(f"{' '.join(command)}: {done.stdout}{done.stderr}".rstrip())
        return Path(made, "kernels.cubin").read_bytes()


def cache_folder() -> Path:
    """Return the folder in which cubins are kept.

    Returns
    -------
    Path
        It need not exist.
    """
    chosen = os.environ.get("GRIDGRAD_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridgrad"


def _write(path: Path, data: bytes) -> None:
    # whole or not at all, also with several processes at it; what a killed one left of any cubin goes
    path.parent.mkdir(parents=True, exist_ok=True)
    clean(path.parent)
    with atomic_files([path]) as (temporary,):
        temporary.write_bytes(data)


def cubin(real: str, architecture: int) -> bytes:
    """Return the kernels for a precision and an architecture, from the cache or compiled.

    Parameters
    ----------
    real : {"float", "double"}
        Type of a real number.
    architecture : int
        Compute capability, ``90`` for 9.0.

    Returns
    -------
    bytes
        The cubin.

    Raises
    ------
    CompileError
        If there is no compiler, none that knows the architecture, or the sources do not compile.
    """
    compiler, version = _choose(architecture)
    digest = hashlib.sha256()
    for part in (*sources().items(), options(real), architecture, compiler, version):
        digest.update(repr(part).encode())
    path = cache_folder() / f"density-{real}-sm_{architecture}-{digest.hexdigest()[:32]}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        pass
    image = _compile(compiler, real, architecture)
    try:
        _write(path, image)
    except OSError:
        pass  # a read-only home: compiled again in the next process
    return image
