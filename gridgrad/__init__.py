"""Differentiable atomic density grids for PyTorch, exact to second order, on CPU and GPU."""

import importlib
from importlib.metadata import version

from gridgrad.config import show_config
from gridgrad.functional import Coords2GridFunction, coords2grid, coords2points
from gridgrad.gridmaker import GridMaker
from gridgrad.modules import Coords2Grid

__version__ = version("gridgrad")
_SUBPACKAGES = ("data", "fit", "io", "mol", "plot")

__all__ = [
    "Coords2Grid",
    "Coords2GridFunction",
    "GridMaker",
    "__version__",
    "coords2grid",
    "coords2points",
    "fit_atoms",
    "show_config",
]


def __getattr__(name: str):
    """Import a subpackage when it is asked for: ``import gridgrad`` needs and takes little."""
    if name == "fit_atoms":
        return importlib.import_module("gridgrad.fit").fit_atoms
    if name in _SUBPACKAGES:
        return importlib.import_module(f"gridgrad.{name}")
    raise AttributeError(f"module 'gridgrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, *__all__})
