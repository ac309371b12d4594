"""What a typer asks of a molecule beyond elements: bonds, aromaticity, hydrogens, charges, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["Chemistry", "perceive"]


@dataclass(frozen=True, eq=False)
class Chemistry:
    """The chemistry of a molecule's N atoms and M bonds.

    Attributes
    ----------
    elements : ndarray of int64, shape (N,)
        Atomic numbers.
    aromatic : ndarray of bool, shape (N,)
        Atoms of aromatic rings.
    charges : ndarray of int64, shape (N,)
        Formal charges.
    implicit_hydrogens : ndarray of int64, shape (N,)
        Hydrogens of each atom that are not atoms of the molecule.
    bonds : ndarray of int64, shape (M, 2)
        Bonded pairs.
    orders : ndarray of float64, shape (M,)
        1, 2, 3; 1.5 for an aromatic bond; 0 for a coordinative one.
    """

    elements: np.ndarray
    aromatic: np.ndarray
    charges: np.ndarray
    implicit_hydrogens: np.ndarray
    bonds: np.ndarray
    orders: np.ndarray

    def __len__(self) -> int:
        return len(self.elements)

    @cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Each bond in both directions: from, to."""
        return np.concatenate([self.bonds[:, 0], self.bonds[:, 1]]), np.concatenate(
            [self.bonds[:, 1], self.bonds[:, 0]]
        )

    def count_neighbors(self, which: np.ndarray) -> np.ndarray:
        """Return how many neighbours of each atom are among `which`, a mask (N,)."""
        start, end = self._ends
        return np.bincount(start[which[end]], minlength=len(self))

    @cached_property
    def hydrogens(self) -> np.ndarray:
        """Number of hydrogens on each atom, atoms of the molecule or not, (N,)."""
        return self.implicit_hydrogens + self.count_neighbors(self.elements == 1)

    @cached_property
    def degree(self) -> np.ndarray:
        """Number of neighbours of each atom, hydrogens included, (N,)."""
        return self.implicit_hydrogens + np.bincount(self._ends[0], minlength=len(self))

    @cached_property
    def unsaturated(self) -> np.ndarray:
        """Whether an atom has a double, triple or aromatic bond, (N,)."""
        multiple = self.orders > 1
        mask = np.zeros(len(self), dtype=bool)
        mask[self.bonds[multiple].ravel()] = True
        return mask


def perceive(molecule: Any) -> Chemistry:
    """Return the chemistry of a sanitized RDKit molecule."""
    n, m = molecule.GetNumAtoms(), molecule.GetNumBonds()
    atoms = [
        (atom.GetAtomicNum(), atom.GetIsAromatic(), atom.GetFormalCharge(), atom.GetTotalNumHs())
        for atom in molecule.GetAtoms()
    ]
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondTypeAsDouble()) for bond in molecule.GetBonds()]
    elements, aromatic, charges, hydrogens = np.array(atoms, dtype=np.int64).reshape(n, 4).T
    table = np.array(bonds, dtype=np.float64).reshape(m, 3)
    return Chemistry(elements, aromatic.astype(bool), charges, hydrogens, table[:, :2].astype(np.int64), table[:, 2])
