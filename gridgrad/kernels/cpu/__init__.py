"""The Cython kernels, in the precision asked for and for the best SIMD level of this processor.

``GRIDGRAD_SIMD`` (``baseline``, ``avx2`` or ``avx512``) forces a level. Results of two levels agree to a few units in
the last place; within a level they are the same bits on every run and for every number of threads.
"""

import importlib
import importlib.util
import os

from gridgrad.kernels.abi import PRECISIONS
from gridgrad.kernels.cpu import openmp

LEVELS = ("baseline", "avx2", "avx512")
"""The SIMD levels of setup.py, in rising order."""

openmp.share()


def _name(precision: str, level: str) -> str:
    return f"{__name__}.density_{precision}_{level}"


def available_levels() -> list[str]:
    """Return the SIMD levels that this processor and this build have, in rising order.

    Returns
    -------
    list of str
        At least ``["baseline"]``; empty in a checkout whose kernels are not compiled.
    """
    built = [level for level in LEVELS if importlib.util.find_spec(_name("float32", level)) is not None]
    if "baseline" not in built:
        return []
    n_levels = importlib.import_module(_name("float32", "baseline")).n_levels()
    return [level for level in built if level in LEVELS[:n_levels]]


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

KERNELS = {precision: importlib.import_module(_name(precision, LEVEL)) for precision in PRECISIONS}
"""Module with the kernels, by ``"float32"`` and ``"float64"``."""
