"""Leave out the atoms of a large part that cannot reach the box."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from torch import Tensor

from gridgrad.data.part import Atoms
from gridgrad.data.rigid import RandomRigid
from gridgrad.grid import Grid

__all__ = ["Crop"]

_CELL = 1.0  # angstrom: boxes whose centres lie in the same cell share what is kept
_SLACK = 1e-3  # angstrom, and a relative 1e-6: more than moving and centring in float32 can round


class Crop:
    """What of a molecule can reach a box, remembered by molecule and by place of the box.

    An atom is kept if there is a motion out of `transform` and a centre in the same cell of 1 Å from which its support
    meets a point of the grid. All others add nothing to any density, and leaving them out changes no bit of one.

    Parameters
    ----------
    grid : Grid
        The box and the profile.
    transform : RandomRigid or None
        The motions that may come.
    radii : Tensor or None
        (T,) radii by type, if they are.
    n_bytes : int
        How much to remember; what was not used for longest is forgotten.
    """

    def __init__(self, grid: Grid, transform: RandomRigid | None, radii: Tensor | None, n_bytes: int):
        self.grid, self.transform, self.n_bytes = grid, transform, n_bytes
        self.radii = None if radii is None else radii.numpy()
        box, n_points = np.array(grid.dimension), np.array(grid.spatial_grid_dimensions())
        self.half = np.maximum(box / 2, (n_points - 1) * grid.resolution - box / 2)  # from the centre to the last point
        self.forget()

    def forget(self) -> None:
        """Free what is remembered."""
        self._kept: OrderedDict[tuple, Atoms] = OrderedDict()
        self._size = 0

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_size")}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.forget()

    def cells(self, centers: np.ndarray) -> list[tuple[int, ...]]:
        """Return the cell of each centre, (B, 3)."""
        return list(map(tuple, np.floor(centers / _CELL).astype(np.int64).tolist()))

    def __call__(self, molecule: int, cell: tuple[int, ...], load: Callable[[int], Atoms]) -> Atoms:
        """Return what can reach a box.

        Parameters
        ----------
        molecule : int
            Which molecule.
        cell : tuple of int
            Out of `cells`.
        load : callable
            Returns the whole molecule.

        Returns
        -------
        Atoms
            The atoms that are kept, in their order.
        """
        key = molecule, cell
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        atoms = load(molecule)
        mask = self.mask(atoms, cell)
        kept = Atoms(atoms.coords[mask], atoms.types[mask], atoms.radii[mask] if self.radii is None else atoms.radii)
        self._kept[key] = kept
        self._size += _size(kept)
        while self._size > self.n_bytes and len(self._kept) > 1:
            self._size -= _size(self._kept.popitem(last=False)[1])
        return kept

    def mask(self, atoms: Atoms, cell: tuple[int, ...]) -> np.ndarray:
        """Tell which atoms may reach the box.

        Parameters
        ----------
        atoms : Atoms
            The whole molecule.
        cell : tuple of int
            Out of `cells`.

        Returns
        -------
        ndarray of bool, shape (N,)
            True too for what is not finite: it may make a whole channel NaN.
        """
        middle = (np.array(cell) + 0.5) * _CELL
        offset = atoms.coords.astype(np.float64) - middle
        largest = np.abs(atoms.coords[np.isfinite(atoms.coords)]).max(initial=np.abs(middle).max())
        reach = self._radii(atoms) * self.grid.radius_scale * self.grid.final_radius_multiple + _SLACK + 1e-6 * largest
        with np.errstate(invalid="ignore", over="ignore"):
            if self.transform is not None and self.transform.rotate:
                shift: float | np.ndarray = self.transform.farthest_distance + _CELL * math.sqrt(3) / 2
                far = np.linalg.norm(offset, axis=1) > np.linalg.norm(self.half) + shift + reach
            else:
                shift = _CELL / 2 + (0 if self.transform is None else self.transform.farthest)
                far = (np.abs(offset) > self.half + shift + reach[:, None]).any(1)
        odd = ~np.isfinite(offset).all(1)
        if atoms.types.ndim == 2:
            odd |= np.isnan(atoms.types).any(1)
        return ~far | odd

    def _radii(self, atoms: Atoms) -> np.ndarray:
        """Return the largest radius that each atom has in any channel."""
        if self.radii is None:
            return atoms.radii.astype(np.float64)
        radii = self.radii.astype(np.float64)
        if atoms.types.ndim == 1:
            return radii[atoms.types.clip(-1, len(radii) - 1)]  # of an ignored atom: any
        return np.where(atoms.types != 0, radii, 0).max(1, initial=0)


def _size(atoms: Atoms) -> int:
    return sum(array.nbytes for array in atoms) + 200
