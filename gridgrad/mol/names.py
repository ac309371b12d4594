"""The element of an atom from its name, for files that do not say it."""

from __future__ import annotations

from functools import cache

from gridgrad.extras import require
from gridgrad.mol.elements import SYMBOLS

__all__ = ["element_of_name", "names_are_unique"]

_IONS = {
    "SOD": "Na", "NA+": "Na", "POT": "K", "K+": "K", "LIT": "Li", "LI+": "Li", "RUB": "Rb", "RB+": "Rb", "CES": "Cs",
    "CS+": "Cs", "CLA": "Cl", "CL-": "Cl", "CAL": "Ca", "BAR": "Ba", "CAD": "Cd", "ZN2": "Zn", "MG2": "Mg",
}  # fmt: skip
"""Ions as CHARMM and AMBER name them, atom and residue alike."""

_OF_FORCE_FIELDS = frozenset((
    "HSD", "HSE", "HSP", "HID", "HIE", "HIP", "CYX", "CYM", "ASH", "GLH", "LYN", "ACE", "NME", "NMA", "ADE", "GUA",
    "CYT", "THY", "URA", "TIP", "TIP3", "TIP4", "TP3", "TP4", "SOL", "SPC",
))  # fmt: skip
"""Residues of force fields, of the elements of proteins, nucleic acids and water, that gemmi's table does not have."""

_OF_POLYMERS = frozenset("HCNOPS")
_SELENIUM = frozenset(("MSE", "SEC", "CSE"))


@cache
def names_are_unique(residue: str) -> bool:
    """Whether a residue is one of proteins, nucleic acids or water, whose atoms have different names."""
    table = require("gemmi", "mol").find_tabulated_residue(residue)
    return residue in _OF_FORCE_FIELDS or table.is_amino_acid() or table.is_nucleic_acid() or table.is_water()


def element_of_name(name: str, residue: str, by_columns: str = "") -> str:
    """Return the symbol of an atom that is known by its name only, empty if the name does not tell.

    An ion is named as its residue is; in proteins, nucleic acids and water the first letter is the element; elsewhere
    the columns decide, as the PDB format has it: ``" CA "`` is carbon, ``"CA  "`` is calcium.

    Parameters
    ----------
    name : str
        The atom's name.
    residue : str
        The residue's name.
    by_columns : str
        Symbol by the columns of the name, empty if they tell none or the format has no columns.
    """
    name, residue = name.strip().upper(), residue.strip().upper()
    if name == residue:
        symbol = _IONS.get(name, name.rstrip("0123456789+-").capitalize())
        if symbol in SYMBOLS[1:]:
            return symbol
    letters = name.lstrip("0123456789'\"")
    if names_are_unique(residue):
        if letters.startswith("SE") and residue in _SELENIUM:
            return "Se"
        first = "H" if letters[:1] == "D" else letters[:1]
        return first if first in _OF_POLYMERS else ""
    if by_columns:
        return by_columns
    # shifted by a column, or without any: only where one letter or two cannot both be right
    one, two = letters[:1], letters[:2].capitalize()
    if two in SYMBOLS[1:] and len(letters) > 1:
        return "" if one in _OF_POLYMERS else two
    known = one in _OF_POLYMERS or (one in "FI" and letters.rstrip("0123456789") == one)
    return one if known else ""
