"""Molecules: files, elements, atom types (extra ``mol``)."""

from gridgrad.mol.elements import SYMBOLS, VDW_RADII
from gridgrad.mol.gridding import grid_atoms
from gridgrad.mol.molecule import Molecule, MoleculeError
from gridgrad.mol.readers import FORMATS, count_records, read_molecules
from gridgrad.mol.typers import ElementTyper, TypedAtoms, join_atoms, type_atoms

__all__ = [
    "FORMATS", "SYMBOLS", "VDW_RADII", "ElementTyper", "Molecule", "MoleculeError", "TypedAtoms", "count_records",
    "grid_atoms", "join_atoms", "read_molecules", "type_atoms",
]  # fmt: skip
