"""Density grids on disk: ``.npz``, ``.pt``, OpenDX and MRC/CCP4 (the last two need the extra ``mol``)."""

from gridgrad.atomic import atomic_files, atomic_folder
from gridgrad.io.density import DensityGrid
from gridgrad.io.readers import read
from gridgrad.io.writers import FORMATS, check_output, write

__all__ = ["FORMATS", "DensityGrid", "atomic_files", "atomic_folder", "check_output", "read", "write"]
