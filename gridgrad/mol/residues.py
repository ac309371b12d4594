"""Bonds, orders and charges of residues, cofactors and ions by name, from the Chemical Component Dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from gridgrad.extras import require

__all__ = ["WATERS", "Template", "match_graph", "match_names", "template"]

WATERS = frozenset({"HOH", "WAT", "DOD", "H2O", "SOL", "TIP", "TIP3", "TIP4", "TP3", "TP4", "SPC"})
"""Names of water."""

_RELATIVE_LENGTH = {1: 1.0, 2: 0.88, 3: 0.8}
"""Length of a bond by its order, in units of the sum of the covalent radii."""

_ALIASES = {
    **dict.fromkeys(("HID", "HIE", "HIP", "HSD", "HSE", "HSP", "HISD", "HISE", "HISH"), "HIS"),
    **dict.fromkeys(("CYX", "CYM", "CYS2", "CYSH"), "CYS"),
    **dict.fromkeys(("ASH", "ASPH"), "ASP"),
    **dict.fromkeys(("GLH", "GLUH"), "GLU"),
    **dict.fromkeys(("LYN", "LYSH"), "LYS"),
    **dict.fromkeys(("ARGN",), "ARG"),
    **dict.fromkeys(("ADE", "RA", "RA3", "RA5", "A3", "A5"), "A"),
    **dict.fromkeys(("CYT", "RC", "RC3", "RC5", "C3", "C5"), "C"),
    **dict.fromkeys(("GUA", "RG", "RG3", "RG5", "G3", "G5"), "G"),
    **dict.fromkeys(("URA", "RU3", "RU5", "U3", "U5"), "U"),
    **dict.fromkeys(("THY", "DT3", "DT5"), "DT"),
    **dict.fromkeys(("DA3", "DA5"), "DA"),
    **dict.fromkeys(("DC3", "DC5"), "DC"),
    **dict.fromkeys(("DG3", "DG5"), "DG"),
    **dict.fromkeys(("CAL", "CA2"), "CA"),
    **dict.fromkeys(("ZN2",), "ZN"),
    **dict.fromkeys(("SOD", "NA+"), "NA"),
    **dict.fromkeys(("CLA", "CL-", "CHL"), "CL"),
    **dict.fromkeys(("POT", "K+"), "K"),
    **dict.fromkeys(sorted(WATERS), "HOH"),
}
"""Names of force fields and programs; one that is a component's own is used where the atoms are not the component's."""


@dataclass(frozen=True)
class Template:
    """Heavy atoms of a residue as it is alone and neutral.

    Attributes
    ----------
    names : tuple of str
        Names of the atoms.
    elements, charges : tuple of int
        Atomic number and formal charge of each.
    bonds : tuple of (int, int, int)
        Two atoms and the order, 1 to 3.
    """

    names: tuple[str, ...]
    elements: tuple[int, ...]
    charges: tuple[int, ...]
    bonds: tuple[tuple[int, int, int], ...]


@cache
def _table() -> dict[str, tuple[str, str]]:
    text = files("gridgrad.mol").joinpath("residues.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines() if not line.startswith("#"))
    return {name: (smiles, names) for name, smiles, names in rows}


@cache
def _parse(name: str) -> Template:
    smiles, names = _table()[name]
    chem = require("rdkit.Chem", "mol")
    molecule = chem.MolFromSmiles(smiles)
    chem.Kekulize(molecule, clearAromaticFlags=True)
    return Template(
        tuple(names.split()),
        tuple(atom.GetAtomicNum() for atom in molecule.GetAtoms()),
        tuple(atom.GetFormalCharge() for atom in molecule.GetAtoms()),
        tuple((b.GetBeginAtomIdx(), b.GetEndAtomIdx(), int(b.GetBondTypeAsDouble())) for b in molecule.GetBonds()),
    )


def template(residue: str, n_atoms: int) -> Template | None:
    """Return the template of a residue name, None for a name that is not known.

    A name that programs use for something else, as CLA for chloride, means that if `n_atoms` is 1.
    """
    alias = _ALIASES.get(residue)
    if residue in _table() and (alias is None or n_atoms > 1):
        return _parse(residue)
    return _parse(alias) if alias is not None else None


@lru_cache(maxsize=4096)
def match_names(of: Template, names: tuple[str, ...], elements: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the atom of the template for each atom of a residue, by name; None unless each has one of its element."""
    index = {name: number for number, name in enumerate(of.names)}
    matched = [index.get(name, index.get(name.replace("*", "'"), -1)) for name in names]
    if -1 in matched or len(set(matched)) < len(matched):
        return None
    # element 0: the template does not say it
    if any(of.elements[number] not in (0, element) for number, element in zip(matched, elements, strict=True)):
        return None
    return tuple(matched)


def match_graph(
    of: Template, elements: Sequence[int], bonds: Sequence[tuple[int, int]], lengths: Sequence[float]
) -> tuple[int, ...] | None:
    """Return the atom of the template for each atom of a residue, by its connections, for names that are not known.

    Of several ways the one that fits the lengths of the bonds, given in units of the sum of the covalent radii.
    """
    if len(elements) > len(of.elements) or 2 * len(elements) < len(of.elements) or 0 in of.elements:
        return None
    matches = _skeleton(of.elements, of.bonds).GetSubstructMatches(
        _skeleton(elements, bonds), uniquify=False, maxMatches=100
    )
    order = {frozenset(bond[:2]): bond[2] for bond in of.bonds}

    def misfit(match: tuple[int, ...]) -> float:
        expected = (_RELATIVE_LENGTH[order[frozenset((match[i], match[j]))]] for i, j in bonds)
        return sum((length - ideal) ** 2 for length, ideal in zip(lengths, expected, strict=True))

    return min(matches, key=misfit, default=None)


def _skeleton(elements: Sequence[int], bonds: Sequence[Sequence[int]]) -> Any:
    """Return elements joined by single bonds, as an RDKit molecule."""
    chem = require("rdkit.Chem", "mol")
    molecule = chem.RWMol()
    for element in elements:
        atom = chem.Atom(int(element))
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for begin, end, *_ in bonds:
        molecule.AddBond(int(begin), int(end), chem.BondType.SINGLE)
    return molecule.GetMol()
