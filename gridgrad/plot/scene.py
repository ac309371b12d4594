"""What pictures share: colours of channels, sticks, and the view on a molecule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridgrad.mol.elements import SYMBOLS, VDW_RADII
from gridgrad.mol.molecule import Molecule

__all__ = ["Sticks", "atom_colors", "channel_color", "principal_axes", "sticks"]

_ELEMENT_COLORS = {
    "H": "#9aa2a9", "C": "#3f464d", "N": "#2166c4", "O": "#d7301f", "F": "#45b5aa", "P": "#e6801a", "S": "#d9a900",
    "Cl": "#0b8f5b", "Br": "#8c3d1f", "I": "#6f3fa0", "other": "#c2549d",
}  # fmt: skip
_CYCLE = ("#3f464d", "#2166c4", "#d7301f", "#d9a900", "#0b8f5b", "#6f3fa0", "#45b5aa", "#8c3d1f", "#c2549d", "#e6801a")

_BOND_FRACTION = 0.6
"""Atoms closer than this fraction of the sum of their van der Waals radii are drawn as bonded."""


def channel_color(channel: str, index: int) -> str:
    """Return the colour of a channel: its element's conventional one, or one of a cycle for other names.

    The element is the last word of the name, as in "ligand N". Hues follow the convention (N blue, O red, S yellow);
    lightness differs where hues can be confused (dark green chlorine, brown bromine, mid red oxygen).
    """
    return _ELEMENT_COLORS.get(channel.rpartition(" ")[2], _CYCLE[index % len(_CYCLE)])


def atom_colors(elements: np.ndarray) -> list[str]:
    """Return the colour of each atom by its atomic number."""
    return [_ELEMENT_COLORS.get(SYMBOLS[number], _ELEMENT_COLORS["other"]) for number in elements.tolist()]


@dataclass(frozen=True, eq=False)
class Sticks:
    """Atoms and bonds to draw: atomic numbers (N,), coords (N, 3), bonds (M, 2)."""

    elements: np.ndarray
    coords: np.ndarray
    bonds: np.ndarray

    def subset(self, kept: np.ndarray) -> Sticks:
        """Return the atoms where the mask `kept` (N,) is true, with the bonds between them."""
        new_index = np.cumsum(kept) - 1
        return Sticks(self.elements[kept], self.coords[kept], new_index[self.bonds[kept[self.bonds].all(axis=1)]])

    def near(self, places: np.ndarray, reach: float) -> Sticks:
        """Return the atoms closer than `reach` to one of `places` (M, 3)."""
        square = ((self.coords[:, None] - places[None, :]) ** 2).sum(axis=2)
        return self.subset((square < reach**2).any(axis=1))


def sticks(molecule: Molecule, extent: np.ndarray) -> Sticks:
    """Return the atoms of a molecule inside a box, with their bonds; bonds that the file does not name are guessed.

    Parameters
    ----------
    molecule : Molecule
        The molecule.
    extent : ndarray, shape (3, 2)
        First and last coordinate on each axis, in angstrom.
    """
    inside = np.all((molecule.coords >= extent[:, 0]) & (molecule.coords <= extent[:, 1]), axis=1)
    return Sticks(molecule.elements, molecule.coords, bonds_of(molecule)).subset(inside)


def bonds_of(molecule: Molecule) -> np.ndarray:
    """Return the bonds (M, 2) of a molecule, guessed by distance where the file names none."""
    return _near_pairs(molecule.elements, molecule.coords) if molecule.bonds is None else molecule.bonds


def _near_pairs(elements: np.ndarray, coords: np.ndarray) -> np.ndarray:
    radii = np.array([VDW_RADII.get(SYMBOLS[number], 2.0) for number in elements.tolist()])
    order = np.argsort(coords[:, 0], kind="stable")
    reach = 2 * _BOND_FRACTION * radii.max(initial=0)
    ends = np.searchsorted(coords[order, 0], coords[order, 0] + reach)
    pairs = []
    for start, end in enumerate(ends):  # sorted along x, only atoms within reach are compared
        first, others = order[start], order[start + 1 : end]
        dist = np.linalg.norm(coords[others] - coords[first], axis=1)
        near = others[dist < _BOND_FRACTION * (radii[others] + radii[first])]
        pairs += [(first, second) for second in near]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def principal_axes(coords: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) that lays a molecule flat: rows are the longest, the middle and the view axis."""
    centred = coords - coords.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1].T
    axes *= np.where(axes[np.arange(3), np.abs(axes).argmax(axis=1)] < 0, -1, 1)[:, None]
    return axes * np.array([1, 1, np.sign(np.linalg.det(axes))])[:, None]
