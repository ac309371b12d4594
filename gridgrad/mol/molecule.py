"""What a reader hands over: atoms in space, and where they came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.mol.chemistry import Chemistry, perceive

__all__ = ["Molecule", "MoleculeError"]


class MoleculeError(ValueError):
    """A molecule file, or one record of it, that cannot be used.

    Attributes
    ----------
    path : Path
        The file.
    record : int or None
        Number of the record in the file, from 1; None if the whole file is meant.
    reason : str
        What is wrong.
    """

    def __init__(self, path: Path, record: int | None, reason: str):
        self.path, self.record, self.reason = path, record, reason
        where = f"{path}" if record is None else f"{path}, record {record}"
        super().__init__(f"{where}: {reason}")

    def __reduce__(self):
        return type(self), (self.path, self.record, self.reason)


@dataclass(frozen=True, eq=False)
class Molecule:
    """The atoms of one record of a molecule file.

    Attributes
    ----------
    elements : ndarray of int64, shape (N,)
        Atomic numbers; 0 for a dummy atom.
    coords : ndarray of float64, shape (N, 3)
        Positions in angstrom.
    bonds : ndarray of int64, shape (M, 2), or None
        Pairs of bonded atoms; None where the file format names no bonds.
    name : str
        Title of the record, or the file's stem.
    path : Path
        The file.
    record : int
        Number of the record in the file, from 1.
    """

    elements: np.ndarray
    coords: np.ndarray
    bonds: np.ndarray | None
    name: str
    path: Path
    record: int
    _rdkit: Callable[[], Any] | None = None

    def __len__(self) -> int:
        return len(self.elements)

    def error(self, reason: str) -> MoleculeError:
        """Return an error that names this file and record."""
        return MoleculeError(self.path, self.record, reason)

    def without_hydrogens(self) -> Molecule:
        """Return the same molecule without its hydrogen atoms."""
        heavy = self.elements != 1
        bonds = self.bonds
        if bonds is not None:
            new_index = np.cumsum(heavy) - 1
            bonds = new_index[bonds[heavy[bonds].all(axis=1)]]
        return replace(self, elements=self.elements[heavy], coords=self.coords[heavy], bonds=bonds)

    def to_rdkit(self) -> Any:
        """Return the sanitized RDKit molecule, with the atoms of this molecule in the same order.

        For typers that need chemistry: aromaticity, charges, hydrogen-bond donors.

        Raises
        ------
        MoleculeError
            If RDKit cannot read the record, or reads other atoms in it.
        """
        molecule = self._rdkit() if self._rdkit is not None else None
        if molecule is None:
            raise self.error("RDKit cannot read or sanitize this record")
        numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.int64)
        if np.array_equal(numbers, self.elements):
            return molecule
        if np.array_equal(numbers[numbers != 1], self.elements):
            from rdkit import Chem

            molecule = Chem.RemoveAllHs(molecule, sanitize=False)
            molecule.UpdatePropertyCache(strict=False)  # the number of hydrogens goes to the neighbours
            return molecule
        raise self.error(f"RDKit reads {len(numbers)} atoms, expected the {len(self)} of this molecule")

    def chemistry(self) -> Chemistry:
        """Return bonds, aromaticity, charges and hydrogens as arrays; perceived once.

        Raises
        ------
        MoleculeError
            As `to_rdkit`.
        """
        return self._chemistry

    @cached_property
    def _chemistry(self) -> Chemistry:
        return perceive(self.to_rdkit())
