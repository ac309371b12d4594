"""What a reader hands over: atoms in space, and where they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.mol.chemistry import Chemistry, perceive

__all__ = ["Molecule", "MoleculeError", "Sites"]


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
class Sites:
    """What a PDB, PDBQT or mmCIF file says of each atom beside element and position.

    Attributes
    ----------
    atom_names, residue_names, chains : ndarray of str, shape (N,)
        Names of the atom, its residue and its chain.
    numbers : ndarray of str, shape (N,)
        Number of the residue with its insertion code, as in the file: not unique.
    residues : ndarray of int64, shape (N,)
        Residues counted from 0 in the order of the file: unique.
    charges : ndarray of int64, shape (N,)
        Formal charges that the file gives, 0 elsewhere.
    links : ndarray of int64, shape (M, 2)
        Pairs of atoms that CONECT records name; twice for a double bond in many files.
    """

    atom_names: np.ndarray
    residue_names: np.ndarray
    chains: np.ndarray
    numbers: np.ndarray
    residues: np.ndarray
    charges: np.ndarray
    links: np.ndarray

    def subset(self, kept: np.ndarray) -> Sites:
        """Return the sites where the mask `kept` (N,) is true, with the links between them."""
        of_atoms = {f.name: getattr(self, f.name)[kept] for f in fields(self) if f.name != "links"}
        return Sites(**of_atoms, links=_renumbered(self.links, kept))


@dataclass(frozen=True, eq=False)
class Molecule:
    """The atoms of one record of a molecule file, in the order of the file.

    Attributes
    ----------
    elements : ndarray of int64, shape (N,)
        Atomic numbers; 0 for a dummy atom or an unknown element.
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
    left_out : dict of str to int
        How many atoms of the record are not here, by reason: "alternative locations", "unknown elements", "hydrogens".
    notes : tuple of str
        What else a user should know of the record, as that its coordinates are ideal ones.
    unknown : dict of int to str
        What the file says of atoms of element 0, by their number from 0.
    sites : Sites or None
        Names of atoms and residues, for files that have them.
    index : ndarray of int64, shape (N,), or None
        Place of each atom among all those of the record, from 0; None if none is left out.
    """

    elements: np.ndarray
    coords: np.ndarray
    bonds: np.ndarray | None
    name: str
    path: Path
    record: int
    _rdkit: Callable[[], Any] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unknown: Mapping[int, str] = field(default_factory=dict)
    sites: Sites | None = None
    index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.elements)

    def error(self, reason: str) -> MoleculeError:
        """Return an error that names this file and record."""
        return MoleculeError(self.path, self.record, reason)

    def unknown_element(self, atom: int) -> str:
        """Say what is wrong with an atom of element 0, counted from 0."""
        what = self.unknown.get(atom, "*, a dummy atom")
        return f"atom {atom + 1} is {what}; expected chemical elements (--skip-unknown leaves it out)"

    def subset(self, kept: np.ndarray, reason: str) -> Molecule:
        """Return the molecule without some of its atoms, which `left_out` counts.

        Parameters
        ----------
        kept : ndarray of bool, shape (N,)
            True for the atoms that stay.
        reason : str
            Why the others do not, as "hydrogens".
        """
        dropped = int(np.count_nonzero(~kept))
        if not dropped:
            return self
        new_index = (np.cumsum(kept) - 1).tolist()
        return replace(
            self,
            elements=self.elements[kept],
            coords=self.coords[kept],
            bonds=None if self.bonds is None else _renumbered(self.bonds, kept),
            left_out={**self.left_out, reason: self.left_out.get(reason, 0) + dropped},
            unknown={new_index[atom]: text for atom, text in self.unknown.items() if kept[atom]},
            sites=None if self.sites is None else self.sites.subset(kept),
            index=np.flatnonzero(kept) if self.index is None else self.index[kept],
        )

    def without_hydrogens(self) -> Molecule:
        """Return the same molecule without its hydrogen atoms."""
        return self.subset(self.elements != 1, "hydrogens")

    def without_unknown(self) -> Molecule:
        """Return the same molecule without dummy atoms and atoms of unknown elements."""
        return self.subset(self.elements != 0, "unknown elements")

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


def _renumbered(pairs: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the pairs of atoms whose both members stay, in the new numbers."""
    return (np.cumsum(kept) - 1)[pairs[kept[pairs].all(axis=1)]]
