"""Density grids on disk: ``.npz``, ``.pt``, OpenDX and MRC/CCP4 (the last two need the extra ``mol``)."""

from gridgrad.io.density import DensityGrid
from gridgrad.io.readers import read
from gridgrad.io.writers import FORMATS, atomic_files, check_output, write

__all__ = ["FORMATS", "DensityGrid", "atomic_files", "check_output", "read", "write"]
