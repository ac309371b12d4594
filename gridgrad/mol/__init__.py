"""Molecules: files, elements, atom types (extra ``mol``)."""

from gridgrad.mol.channels import element_of_channel
from gridgrad.mol.chemistry import Chemistry
from gridgrad.mol.elements import SYMBOLS, VDW_RADII
from gridgrad.mol.gnina import GNINA_LIGAND_MAP, GNINA_RECEPTOR_MAP, GNINA_TYPES, GninaTyper
from gridgrad.mol.gridding import grid_atoms
from gridgrad.mol.maps import MappedTyper, OneHotTyper, read_map
from gridgrad.mol.molecule import Molecule, MoleculeError, Sites
from gridgrad.mol.properties import PROPERTIES, PropertyTyper
from gridgrad.mol.readers import FORMATS, count_records, read_molecules
from gridgrad.mol.typers import ElementTyper, TypedAtoms, Typer, join_atoms, type_atoms

__all__ = [
    "FORMATS", "GNINA_LIGAND_MAP", "GNINA_RECEPTOR_MAP", "GNINA_TYPES", "PROPERTIES", "SYMBOLS", "VDW_RADII",
    "Chemistry", "ElementTyper", "GninaTyper", "MappedTyper", "Molecule", "MoleculeError", "OneHotTyper",
    "PropertyTyper", "Sites", "TypedAtoms", "Typer", "count_records", "element_of_channel", "grid_atoms", "join_atoms",
    "read_map", "read_molecules", "type_atoms",
]  # fmt: skip
