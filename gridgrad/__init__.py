"""Differentiable atomic density grids for PyTorch, exact to second order, on CPU and GPU."""

from importlib.metadata import version

from gridgrad.config import show_config
from gridgrad.functional import Coords2GridFunction, coords2grid
from gridgrad.gridmaker import GridMaker
from gridgrad.modules import Coords2Grid

__version__ = version("gridgrad")
__all__ = ["Coords2Grid", "Coords2GridFunction", "GridMaker", "__version__", "coords2grid", "show_config"]
