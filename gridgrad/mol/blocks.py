"""SDF, MOL and MOL2 records by RDKit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.extras import require
from gridgrad.mol.elements import SYMBOLS, atomic_number
from gridgrad.mol.molecule import Molecule, MoleculeError
from gridgrad.mol.record import Parsed, Records, out_of_plane, stem
from gridgrad.mol.text import Lines

__all__ = ["mol2_records", "sdf_records"]

_MOL2_START = "@<TRIPOS>MOLECULE"


def sdf_records(lines: Lines) -> Records:
    """Split an SDF or MOL file."""
    block: list[str] = []
    for line in lines:
        if line.startswith("$$$$"):
            yield lines.record, partial(_parse_molblock, lines.path, lines.record, "".join(block))
            lines.end_record()
            block = []
        else:
            block.append(line)
    if any(line.strip() for line in block):
        yield lines.record, partial(_parse_molblock, lines.path, lines.record, "".join(block))


def mol2_records(lines: Lines) -> Records:
    """Split a MOL2 file."""
    block: list[str] = []
    for line in lines:
        if line.startswith(_MOL2_START):
            if block and block[0].startswith(_MOL2_START):
                yield lines.record, partial(_parse_mol2, lines.path, lines.record, "".join(block))
                lines.end_record()
            block = []
        block.append(line)
    if block and block[0].startswith(_MOL2_START):
        yield lines.record, partial(_parse_mol2, lines.path, lines.record, "".join(block))


def _parse_molblock(path: Path, record: int, text: str) -> Parsed:
    molecule = _molblock(text, sanitize=False)
    unknown: dict[int, str] = {}
    if molecule is None:
        text, unknown = _with_known_symbols(text)
        molecule = _molblock(text, sanitize=False)
    if molecule is None:
        raise MoleculeError(path, record, _molblock_problem(text.split("\n")))
    # RDKit's flag: the record is marked "3D", or some z differs from 0
    is_3d = molecule.GetNumAtoms() == 1 or (molecule.GetNumConformers() > 0 and molecule.GetConformer().Is3D())
    atoms = _from_rdkit(molecule, path, record, partial(copy, molecule), unknown)
    return Parsed(atoms, is_3d)


def _parse_mol2(path: Path, record: int, text: str) -> Parsed:
    if problem := _mol2_problem(text.split("\n")):
        raise MoleculeError(path, record, problem)
    known, unknown = _with_known_types(text)
    molecule = _mol2block(known, sanitize=False, cleanupSubstructures=False)
    if molecule is None:
        raise MoleculeError(path, record, "RDKit cannot parse this MOL2 record")
    atoms = _from_rdkit(molecule, path, record, partial(_mol2_molecule, known), unknown)
    return Parsed(atoms, out_of_plane(atoms.coords))


def _mol2_molecule(text: str) -> Any:
    """Read a MOL2 record with the bonds of acids, amidines and the like as RDKit writes them, where it can."""
    molecule = _mol2block(text, sanitize=False)
    return molecule if molecule is not None else _mol2block(text, sanitize=False, cleanupSubstructures=False)


def _quietly(function: str, text: str, **options: bool) -> Any:
    """Call an RDKit reader without its log; None where it fails."""
    chem = require("rdkit.Chem", "mol")
    with require("rdkit.rdBase", "mol").BlockLogs():
        try:
            return getattr(chem, function)(text, removeHs=False, **options)
        except (RuntimeError, ValueError):
            return None


_molblock = partial(_quietly, "MolFromMolBlock")
_mol2block = partial(_quietly, "MolFromMol2Block")


def _from_rdkit(
    molecule: Any, path: Path, record: int, to_rdkit: Callable[[], Any], unknown: dict[int, str]
) -> Molecule:
    n_atoms = molecule.GetNumAtoms()
    elements = np.fromiter((atom.GetAtomicNum() for atom in molecule.GetAtoms()), np.int64, n_atoms)
    pairs = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    coords = molecule.GetConformer().GetPositions() if molecule.GetNumConformers() else np.zeros((n_atoms, 3))
    name = molecule.GetProp("_Name").strip() if molecule.HasProp("_Name") else ""
    bonds = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Molecule(elements, coords, bonds, name or stem(path), path, record, to_rdkit, unknown=unknown)


# --- symbols that RDKit does not know: one of them is no reason to lose the other atoms -------------------------------


def _with_known_symbols(text: str) -> tuple[str, dict[int, str]]:
    """Write a MOL block with symbols in their usual case and ``*`` for what is no element; say what was there."""
    lines, unknown = text.split("\n"), {}
    for atom, (number, start, end) in enumerate(_symbol_columns(lines)):
        symbol = lines[number][start:end]
        known, problem = _known_symbol(symbol.strip())
        if problem:
            unknown[atom] = problem
        lines[number] = lines[number][:start] + known.ljust(len(symbol)) + lines[number][end:]
    return "\n".join(lines), unknown


def _symbol_columns(lines: list[str]) -> Iterable[tuple[int, int, int]]:
    """Yield the line and the columns of each atom's symbol in a MOL block, V2000 or V3000."""
    if len(lines) > 3 and "V3000" in lines[3]:
        atoms = False
        for number, line in enumerate(lines):
            atoms = line.startswith("M  V30 BEGIN ATOM") or (atoms and not line.startswith("M  V30 END ATOM"))
            if atoms and (match := re.match(r"M  V30 +\d+ +(\S+) ", line)):
                yield number, *match.span(1)
    elif len(lines) > 3 and (count := lines[3][:3].strip()).isdecimal():
        for number in range(4, min(4 + int(count), len(lines))):
            yield number, 31, 34


def _known_symbol(symbol: str) -> tuple[str, str]:
    """Return the symbol as RDKit knows it, and what is wrong with it."""
    try:
        return SYMBOLS[atomic_number(symbol)], ""
    except ValueError:
        return "*", f"{symbol!r}, which is no chemical element"


def _with_known_types(text: str) -> tuple[str, dict[int, str]]:
    """Write a MOL2 record with ``Du`` for atom types that name no element; say what was there.

    RDKit leaves out lone pairs (LP), takes HAL for fluorine and HEV for hydrogen, and refuses the record for a type
    that it does not know.
    """
    lines, unknown = text.split("\n"), {}
    for atom, number in enumerate(_mol2_rows(lines)["ATOM"]):
        line = lines[number]
        match = re.match(r"(?:\s*\S+){5}\s+(\S+)", line)
        if match and match[1].partition(".")[0] not in SYMBOLS[1:]:
            lines[number] = f"{line[: match.start(1)]}Du{line[match.end(1) :]}"
            unknown[atom] = f"of type {match[1]!r}, which names no chemical element"
    return "\n".join(lines), unknown


def _mol2_rows(lines: list[str]) -> dict[str, list[int]]:
    """Return which lines of a MOL2 record hold something, by section; the title may be empty."""
    rows: dict[str, list[int]] = {"MOLECULE": [], "ATOM": [], "BOND": []}
    section: list[int] = []
    for number, line in enumerate(lines):
        if line.startswith("@<TRIPOS>"):
            section = rows.setdefault(line[9:].strip(), [])
        elif not line.startswith("#") and (line.strip() or (section is rows["MOLECULE"] and not section)):
            section.append(number)
    return rows


# --- what is wrong with a record that RDKit refuses -------------------------------------------------------------------


def _molblock_problem(lines: list[str]) -> str:
    if not any(line.strip() for line in lines):
        return "the record is empty"
    if len(lines) < 4:
        return "truncated before the counts line (line 4)"
    if not any(line.startswith("M  END") for line in lines):
        return f"truncated: {len(lines)} lines and no 'M  END'"
    return "RDKit cannot parse this MOL block"


def _mol2_problem(lines: list[str]) -> str:
    """Compare a MOL2 record with its counts: RDKit does not return from negative ones."""
    rows = _mol2_rows(lines)
    if not rows["ATOM"]:
        return "truncated: no @<TRIPOS>ATOM section"
    counts = lines[rows["MOLECULE"][1]].split()[:2] if len(rows["MOLECULE"]) > 1 else []
    found = [str(len(rows["ATOM"])), str(len(rows["BOND"]))]
    if not counts or counts != found[: len(counts)]:
        return f"truncated: the counts are {' '.join(counts) or 'missing'}, expected {' '.join(found)}: atoms and bonds"
    return ""
