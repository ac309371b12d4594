"""What this installation consists of and can do."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from gridgrad.kernels import cpu


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def config() -> dict[str, str]:
    """Return the configuration by name.

    Returns
    -------
    dict of str
        Versions, SIMD level, threads, what drives and compiles for a GPU, and whether CUDA is usable and, if not, why.
    """
    from gridgrad import gpu

    usable, reason = gpu.availability()
    levels = cpu.available_levels()
    return {
        "gridgrad": _version("gridgrad"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": _version("numpy"),
        "SIMD": f"{cpu.LEVEL} (here: {', '.join(levels)})",
        "threads": f"{torch.get_num_threads()} (OpenMP; processors: {os.cpu_count()})",
        **gpu.parts(),
        "CUDA": f"usable: {reason}" if usable else f"not usable: {reason}",
    }


def show_config() -> str:
    """Print versions, the SIMD level in use, OpenMP threads, and whether CUDA is usable and, if not, why.

    Returns
    -------
    str
        The text that was printed.
    """
    entries = config()
    width = max(map(len, entries))
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in entries.items())
    print(text)
    return text
