"""What a typer asks of a molecule beyond elements: bonds, aromaticity, hydrogens, charges, as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gridgrad.extras import require

__all__ = ["Chemistry", "assign_stereochemistry", "drop_atoms", "gasteiger_charges", "perceive", "sanitize"]


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
    by_element : ndarray of bool, shape (N,)
        Atoms that RDKit cannot understand, as a carbon with five bonds: of them only the element can be relied on.
    """

    elements: np.ndarray
    aromatic: np.ndarray
    charges: np.ndarray
    implicit_hydrogens: np.ndarray
    bonds: np.ndarray
    orders: np.ndarray
    by_element: np.ndarray

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

    def subset(self, kept: np.ndarray) -> Chemistry:
        """Return the chemistry of some of the atoms, a mask (N,); the hydrogens of the others stay counted."""
        lost = self.count_neighbors((self.elements == 1) & ~kept)
        bonds = kept[self.bonds].all(axis=1)
        return Chemistry(
            self.elements[kept],
            self.aromatic[kept],
            self.charges[kept],
            (self.implicit_hydrogens + lost)[kept],
            (np.cumsum(kept) - 1)[self.bonds[bonds]],
            self.orders[bonds],
            self.by_element[kept],
        )


def perceive(molecule: Any, by_element: np.ndarray | None = None) -> Chemistry:
    """Return the chemistry of a sanitized RDKit molecule; `by_element` as `sanitize` returns it."""
    n, m = molecule.GetNumAtoms(), molecule.GetNumBonds()
    atoms = [
        (atom.GetAtomicNum(), atom.GetIsAromatic(), atom.GetFormalCharge(), atom.GetTotalNumHs())
        for atom in map(molecule.GetAtomWithIdx, range(n))
    ]
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondTypeAsDouble()) for bond in _bonds(molecule, m)]
    elements, aromatic, charges, hydrogens = np.array(atoms, dtype=np.int64).reshape(n, 4).T
    table = np.array(bonds, dtype=np.float64).reshape(m, 3)
    if by_element is None:
        by_element = np.zeros(n, dtype=bool)
    return Chemistry(
        elements, aromatic.astype(bool), charges, hydrogens, table[:, :2].astype(np.int64), table[:, 2], by_element
    )


def _bonds(molecule: Any, m: int) -> Iterable[Any]:
    if m < 1000:
        return map(molecule.GetBondWithIdx, range(m))
    # RDKit walks along all bonds to find one by its number: in a protein that takes seconds
    atoms = map(molecule.GetAtomWithIdx, range(molecule.GetNumAtoms()))
    return (bond for atom in atoms for bond in atom.GetBonds() if bond.GetBeginAtomIdx() == atom.GetIdx())


def sanitize(molecule: Any) -> tuple[Any, np.ndarray]:
    """Sanitize an RDKit molecule as far as it can be.

    Returns
    -------
    molecule : Mol
        A copy.
    by_element : ndarray of bool, shape (N,)
        Atoms that stand in the way: with an impossible valence, or of an aromatic system that has no Kekulé structure.
        They keep their bonds; what was aromatic is single, and no hydrogens are added to them.
    """
    chem = require("rdkit.Chem", "mol")
    by_element = np.zeros(molecule.GetNumAtoms(), dtype=bool)
    steps = chem.SanitizeFlags.SANITIZE_ALL
    with require("rdkit.rdBase", "mol").BlockLogs():
        while True:
            attempt = chem.Mol(molecule)
            try:
                chem.SanitizeMol(attempt, steps)
                return attempt, by_element
            except ValueError:
                molecule = chem.Mol(molecule)
            # RDKit names the aromatic systems that are in the way only after the valences are right
            found = np.zeros_like(by_element)
            for problem in chem.DetectChemistryProblems(molecule):
                kekule = problem.GetType() == "KekulizeException"
                found[list(problem.GetAtomIndices()) if kekule else problem.GetAtomIdx()] = True
            found = found & ~by_element if (found & ~by_element).any() else ~by_element
            if not found.any():
                chem.FastFindRings(molecule)
                return molecule, by_element
            by_element |= found
            for index in np.flatnonzero(found).tolist():
                _set_aside(molecule.GetAtomWithIdx(index), chem.BondType.SINGLE)
            molecule.UpdatePropertyCache(strict=False)
            steps = chem.SanitizeFlags.SANITIZE_ALL ^ chem.SanitizeFlags.SANITIZE_PROPERTIES


def _set_aside(atom: Any, single: Any) -> None:
    atom.SetNoImplicit(True)
    atom.SetIsAromatic(False)
    for bond in atom.GetBonds():
        if bond.GetIsAromatic():
            bond.SetIsAromatic(False)
            bond.SetBondType(single)


def assign_stereochemistry(molecule: Any) -> None:
    """Assign stereochemistry to a sanitized RDKit molecule, from its positions or from the wedges of a drawing."""
    chem = require("rdkit.Chem", "mol")
    if molecule.GetNumConformers() and molecule.GetConformer().Is3D():
        chem.AssignStereochemistryFrom3D(molecule)
    else:
        chem.AssignChiralTypesFromBondDirs(molecule)
        chem.DetectBondStereochemistry(molecule)
        chem.AssignStereochemistry(molecule, cleanIt=True, force=True)


def drop_atoms(molecule: Any, kept: np.ndarray) -> Any:
    """Return a sanitized RDKit molecule with the atoms of a mask (N,) only; hydrogens stay counted."""
    chem = require("rdkit.Chem", "mol")
    smaller = chem.RWMol(molecule)
    dropped = np.flatnonzero(~kept).tolist()
    for index in dropped:
        hydrogen = smaller.GetAtomWithIdx(index)
        for neighbor in hydrogen.GetNeighbors() if hydrogen.GetAtomicNum() == 1 else ():
            if not neighbor.GetNoImplicit():
                neighbor.SetNumExplicitHs(neighbor.GetTotalNumHs())
                neighbor.SetNoImplicit(True)
            neighbor.SetNumExplicitHs(neighbor.GetNumExplicitHs() + 1)
    smaller.BeginBatchEdit()
    for index in dropped:
        smaller.RemoveAtom(index)
    smaller.CommitBatchEdit()
    smaller = smaller.GetMol()
    smaller.UpdatePropertyCache(strict=False)
    chem.GetSymmSSSR(smaller)
    return smaller


_PARAMETERS_OF = {32: 14, 33: 15, 34: 16, 50: 14, 51: 15, 52: 16}
"""Elements that Gasteiger's method has no parameters for, with the one above in the periodic table."""


def gasteiger_charges(molecule: Any, kept: np.ndarray) -> np.ndarray:
    """Return the partial charges of the atoms of a mask (N,); hydrogens left out add theirs to their neighbours.

    One atom without parameters would leave everything around it without a charge: it takes those of the element above,
    or else of carbon; where even these are missing, the atom has its formal charge.
    """
    compute = require("rdkit.Chem.rdPartialCharges", "mol").ComputeGasteigerCharges
    compute(molecule)
    charges, hydrogens = _gasteiger(molecule)
    if not np.isfinite(charges).all():
        molecule = require("rdkit.Chem", "mol").Mol(molecule)
        for atom, charge in zip(molecule.GetAtoms(), charges.tolist(), strict=True):
            number = atom.GetAtomicNum()
            if not np.isfinite(charge) and (number in _PARAMETERS_OF or number > 17) and number not in (35, 53):
                atom.SetAtomicNum(_PARAMETERS_OF.get(number, 6))
        compute(molecule)
        charges, hydrogens = _gasteiger(molecule)
    atoms = list(map(molecule.GetAtomWithIdx, range(molecule.GetNumAtoms())))
    formal = np.array([atom.GetFormalCharge() for atom in atoms], dtype=np.float64)
    charges = np.where(np.isfinite(charges), charges, formal) + np.where(np.isfinite(hydrogens), hydrogens, 0.0)
    for index in np.flatnonzero(~kept).tolist():
        for neighbor in atoms[index].GetNeighbors() if atoms[index].GetAtomicNum() == 1 else ():
            charges[neighbor.GetIdx()] += charges[index]
    return charges[kept]


def _gasteiger(molecule: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the charges that RDKit has computed, of atoms and of their implicit hydrogens."""
    atoms = list(map(molecule.GetAtomWithIdx, range(molecule.GetNumAtoms())))
    charges, hydrogens = (
        np.array([atom.GetDoubleProp(name) for atom in atoms]) for name in ("_GasteigerCharge", "_GasteigerHCharge")
    )
    return charges, hydrogens
