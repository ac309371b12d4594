"""What a reader hands over: atoms in space, and where they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.extras import require
from gridgrad.mol.assembly import assemble
from gridgrad.mol.chemistry import (
    Chemistry,
    assign_stereochemistry,
    drop_atoms,
    gasteiger_charges,
    perceive,
    sanitize,
)  # fmt: skip
from gridgrad.mol.protonation import add_hydrogens, charge_groups
from gridgrad.mol.residues import Template

__all__ = ["ALTERNATIVE", "Molecule", "MoleculeError", "Sites"]

ALTERNATIVE = "alternative locations"
"""Why atoms are left out that are not there at the same time as the others."""


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
        Pairs of atoms that the file says are bonded, by CONECT, LINK, SSBOND or struct_conn; a pair comes twice for a
        double bond in many files.
    templates : dict of str to Template
        Residues whose bonds the file gives, by chem_comp_bond.
    """

    atom_names: np.ndarray
    residue_names: np.ndarray
    chains: np.ndarray
    numbers: np.ndarray
    residues: np.ndarray
    charges: np.ndarray
    links: np.ndarray
    templates: Mapping[str, Template] = field(default_factory=dict)

    def subset(self, kept: np.ndarray) -> Sites:
        """Return the sites where the mask `kept` (N,) is true, with the links between them."""
        names = ("atom_names", "residue_names", "chains", "numbers", "residues", "charges")
        of_atoms = {name: getattr(self, name)[kept] for name in names}
        return Sites(**of_atoms, links=_renumbered(self.links, kept), templates=self.templates)

    def with_hydrogens(self, parents: np.ndarray, charges: np.ndarray) -> Sites:
        """Return the sites with a hydrogen on each of some atoms behind the others, and the charges of all."""
        places = np.concatenate([np.arange(len(self.residues)), parents])
        names = np.concatenate([self.atom_names, np.full(len(parents), "H")])
        others = {name: getattr(self, name)[places] for name in ("residue_names", "chains", "numbers", "residues")}
        return replace(self, atom_names=names, charges=charges, **others)


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
    _whole: Molecule | None = None

    def __len__(self) -> int:
        return len(self.elements)

    @property
    def has_bond_orders(self) -> bool:
        """Whether the file gives all bonds and their orders; otherwise names and geometry tell them."""
        return self._rdkit is not None

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
            Why the others do not, as "hydrogens". Those left out for another reason than `ALTERNATIVE` still count in
            the chemistry.
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
            _whole=None if reason == ALTERNATIVE or self.has_bond_orders else self._whole or self,
        )

    def without_hydrogens(self) -> Molecule:
        """Return the same molecule without its hydrogen atoms."""
        return self.subset(self.elements != 1, "hydrogens")

    def with_hydrogens(self, *, charged: bool = False) -> Molecule:
        """Return the same molecule with the hydrogens that fill its valences as atoms, behind the others.

        Parameters
        ----------
        charged : bool, default False
            Charge acids and bases as in water at pH 7 beforehand, where the file has no hydrogens on them: carboxylates
            and phosphates lose theirs, amines, amidines and guanidines get one. Histidine stays neutral.

        Raises
        ------
        MoleculeError
            If RDKit cannot sanitize the molecule.
        """
        molecule = self.to_rdkit()
        if charged:
            charge_groups(molecule)
        molecule = add_hydrogens(molecule)
        chemistry = perceive(molecule)
        parents = chemistry.bonds[chemistry.bonds[:, 1] >= len(self), 0]  # of the new atoms, in their order
        return replace(
            self,
            elements=chemistry.elements,
            coords=molecule.GetConformer().GetPositions(),
            bonds=chemistry.bonds,
            _rdkit=partial(copy, molecule),
            left_out={reason: n for reason, n in self.left_out.items() if reason != "hydrogens"},
            notes=(*self.notes, f"{len(parents)} hydrogens added"),
            sites=None if self.sites is None else self.sites.with_hydrogens(parents, chemistry.charges),
            index=None,
            _whole=None,
        )

    def without_unknown(self) -> Molecule:
        """Return the same molecule without dummy atoms and atoms of unknown elements."""
        return self.subset(self.elements != 0, "unknown elements")

    def to_rdkit(self) -> Any:
        """Return the sanitized RDKit molecule, with the atoms of this molecule in the same order.

        Bonds and charges are those of an SDF, MOL or MOL2 record. In a PDB, PDBQT or mmCIF file they are those of the
        residues with these names, of the file's own records, and where there are none of the geometry; see
        `gridgrad.mol.assembly`. Hydrogens that were left out are counted on their neighbours.

        Raises
        ------
        MoleculeError
            If RDKit cannot sanitize the molecule: the message says which atom is in the way.
        """
        chem = require("rdkit.Chem", "mol")
        molecule, kept = self._source()
        molecule = chem.Mol(molecule)
        with require("rdkit.rdBase", "mol").BlockLogs():
            try:
                chem.SanitizeMol(molecule)
            except ValueError as error:
                raise self.error(f"RDKit cannot sanitize it: {error.args[0]}") from error
            assign_stereochemistry(molecule)
        return molecule if kept.all() else drop_atoms(molecule, kept)

    def chemistry(self) -> Chemistry:
        """Return bonds, aromaticity, charges and hydrogens as arrays; perceived once.

        What RDKit cannot sanitize is no reason to lose the rest: `Chemistry.by_element` says which atoms that are.

        Raises
        ------
        MoleculeError
            If RDKit cannot parse the record.
        """
        return self._chemistry

    @cached_property
    def _chemistry(self) -> Chemistry:
        molecule, kept = self._source()
        chemistry = perceive(*sanitize(molecule))
        return chemistry if kept.all() else chemistry.subset(kept)

    def partial_charges(self) -> np.ndarray:
        """Return Gasteiger's partial charges by RDKit, (N,), in units of the elementary charge.

        The charge of hydrogens that are no atoms of this molecule is added to their neighbours. An element without
        parameters has those of the one above it, selenium those of sulfur, or else those of carbon; metals, which have
        no bonds, have their formal charge.

        Raises
        ------
        MoleculeError
            If RDKit cannot parse the record.
        """
        molecule, kept = self._source()
        return gasteiger_charges(sanitize(molecule)[0], kept)

    @property
    def by_element(self) -> int:
        """Number of atoms of which a typer that has asked for the chemistry could know the element only."""
        chemistry = self.__dict__.get("_chemistry")
        return 0 if chemistry is None else int(chemistry.by_element.sum())

    def _source(self) -> tuple[Any, np.ndarray]:
        """Return the unsanitized RDKit molecule with the atoms left out, and which of its atoms are in this one."""
        if self._rdkit is None:
            whole = self._whole or self
            molecule = assemble(whole.elements, whole.coords, whole.bonds, whole.sites)
            if whole is self or self.index is None:
                return molecule, np.ones(len(self), dtype=bool)
            first = np.arange(len(whole)) if whole.index is None else whole.index
            return molecule, np.isin(first, self.index)
        molecule = self._rdkit()
        count = len(self) if self.index is None else len(self) + sum(self.left_out.values())
        if molecule is None or molecule.GetNumAtoms() != count:
            found = "nothing" if molecule is None else f"{molecule.GetNumAtoms()} atoms"
            raise self.error(f"RDKit reads {found}, expected the {count} atoms of this record")
        kept = np.zeros(count, dtype=bool)
        kept[slice(None) if self.index is None else self.index] = True
        return molecule, kept


def _renumbered(pairs: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the pairs of atoms whose both members stay, in the new numbers."""
    return (np.cumsum(kept) - 1)[pairs[kept[pairs].all(axis=1)]]
