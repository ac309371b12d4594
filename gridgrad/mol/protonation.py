"""Hydrogens as atoms, and charges as in water, for molecules that come without them."""

from __future__ import annotations

from functools import cache
from typing import Any

from gridgrad.extras import require

__all__ = ["add_hydrogens", "charge_groups"]

_GROUPS = (
    ("[O;X2;$(O[#6,#15,#16](=O))]", -1),  # carboxylic, phosphoric, sulfonic acids and the like
    ("[N;X3;!$(N[!#6;!#1]);!$(N[#6]=,#,:[*])]", 1),  # amines
    ("[N;X2;$(N=[#6]N);!$(N[!#6;!#1]);!$(N=[#6](N)[!#6;!#7;!#1])]", 1),  # amidines, guanidines
)
"""What is charged in water at pH 7, by the atom that takes the charge."""


@cache
def _queries() -> tuple[tuple[Any, int], ...]:
    chem = require("rdkit.Chem", "mol")
    return tuple((chem.MolFromSmarts(smarts), charge) for smarts, charge in _GROUPS)


def charge_groups(molecule: Any) -> None:
    """Charge acids and bases of a sanitized RDKit molecule, in place, where hydrogens are not atoms of it."""
    for query, charge in _queries():
        for (index,) in molecule.GetSubstructMatches(query):
            atom = molecule.GetAtomWithIdx(index)
            explicit = any(neighbor.GetAtomicNum() == 1 for neighbor in atom.GetNeighbors())
            if atom.GetFormalCharge() or explicit or (charge < 0 and atom.GetTotalNumHs() == 0):
                continue
            atom.SetFormalCharge(charge)
            atom.SetNumExplicitHs(atom.GetTotalNumHs() + charge)
            atom.SetNoImplicit(True)
    require("rdkit.Chem", "mol").SanitizeMol(molecule)


def add_hydrogens(molecule: Any) -> Any:
    """Return a sanitized RDKit molecule with its implicit hydrogens as atoms, behind the others, in ideal places."""
    chem = require("rdkit.Chem", "mol")
    count = molecule.GetNumAtoms()
    molecule = chem.AddHs(molecule, addCoords=True)
    for atom in map(molecule.GetAtomWithIdx, range(count, molecule.GetNumAtoms())):
        parent = atom.GetNeighbors()[0].GetPDBResidueInfo()
        if parent is not None:  # with `addResidueInfo` RDKit did not return from a peptide with hydrogens
            atom.SetMonomerInfo(
                chem.AtomPDBResidueInfo(
                    " H  ",
                    residueName=parent.GetResidueName(),
                    residueNumber=parent.GetResidueNumber(),
                    chainId=parent.GetChainId(),
                    insertionCode=parent.GetInsertionCode(),
                )
            )
    return molecule
