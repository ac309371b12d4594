"""From typed atoms to their density grid."""

from __future__ import annotations

import numpy as np
import torch

from gridgrad.functional import coords2grid
from gridgrad.gridmaker import GridMaker
from gridgrad.io.density import DensityGrid
from gridgrad.mol.typers import TypedAtoms

__all__ = ["grid_atoms"]


def grid_atoms(
    gm: GridMaker,
    atoms: TypedAtoms,
    center: np.ndarray,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    name: str = "",
    source: str = "",
) -> DensityGrid:
    """Grid typed atoms.

    Parameters
    ----------
    gm : GridMaker
        Grid and profile.
    atoms : TypedAtoms
        The atoms.
    center : array_like, shape (3,)
        Centre of the grid in angstrom.
    device : torch.device or str, default "cpu"
        Where to compute.
    dtype : torch.dtype, default torch.float32
        Precision, float32 or float64.
    name, source : str
        Name of the molecule and where it came from, kept with the grid.

    Returns
    -------
    DensityGrid
        The grid, on the CPU, with the atoms in ``extra``.
    """
    center = np.asarray(center, dtype=np.float64)
    index_types = atoms.types.ndim == 1
    # the shift to the centre happens in float64: positions in a crystal's frame are large
    coords = torch.as_tensor(atoms.coords - center, dtype=dtype, device=device)
    types = torch.as_tensor(atoms.types, dtype=None if index_types else dtype, device=device)
    radii = torch.as_tensor(atoms.radii, dtype=dtype, device=device)
    with torch.no_grad():
        density = coords2grid(gm, (0.0, 0.0, 0.0), coords, types, radii, n_types=len(atoms.channels))
    extra: dict[str, np.ndarray | str] = {
        "coords": atoms.coords, "types": atoms.types, "radii": atoms.radii, "center": center,
        "dimension": np.array(gm.dimension), "gridmaker": repr(gm), "source": source,
    }  # fmt: skip
    origin = center - np.array(gm.dimension) / 2
    return DensityGrid(density.cpu().numpy(), atoms.channels, origin, gm.resolution, name, extra)
