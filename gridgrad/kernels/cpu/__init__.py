"""The Cython kernels, in the precision asked for and for the best SIMD level of this processor.

``GRIDGRAD_SIMD`` (``baseline``, ``avx2`` or ``avx512``) forces a level. Results of two levels agree to a few units in
the last place; within a level they are the same bits on every run and for every number of threads.
"""

import importlib
import importlib.util
import os

import torch

from gridgrad.kernels.cpu import openmp

LEVELS = {"DEFAULT": "baseline", "AVX2": "avx2", "AVX512": "avx512"}
"""Names of torch's CPU capability and of our levels, in rising order."""


openmp.share()


def available_levels() -> list[str]:
    """Return the SIMD levels that this processor and this build have, in rising order.

    Returns
    -------
    list of str
        At least ``["baseline"]``; empty in a checkout whose kernels are not compiled.
    """
    names = list(LEVELS)
    capability = torch.backends.cpu.get_cpu_capability()
    best = max((i for i, name in enumerate(names) if capability.startswith(name)), default=0)
    return [LEVELS[name] for name in names[: best + 1] if _built(LEVELS[name])]


def _built(level: str) -> bool:
    return importlib.util.find_spec(f"{__name__}.density_float32_{level}") is not None


def _choose() -> str:
    levels = available_levels()
    if not levels:
        raise ImportError(
            f"the kernels of gridgrad are not compiled in {__path__[0]}: install this checkout (pip install -e . "
            "compiles them in place), or, with gridgrad installed, start Python in another folder"
        )
    level = os.environ.get("GRIDGRAD_SIMD", levels[-1])
    if level not in levels:
        raise ImportError(f"GRIDGRAD_SIMD: {level!r}; this processor and build have {', '.join(levels)}")
    return level


LEVEL = _choose()
"""SIMD level in use."""

KERNELS = {
    dtype: importlib.import_module(f"{__name__}.density_{name}_{LEVEL}")
    for dtype, name in ((torch.float32, "float32"), (torch.float64, "float64"))
}
"""Module with the kernels, by dtype."""
