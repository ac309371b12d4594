"""XYZ files: a count, a comment, one atom a line; any number of records."""

from __future__ import annotations

import sys
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from gridgrad.mol.elements import SYMBOLS, atomic_number
from gridgrad.mol.molecule import Molecule, MoleculeError
from gridgrad.mol.record import Parsed, Records, out_of_plane, stem
from gridgrad.mol.text import Lines

__all__ = ["xyz_records"]

_DIGITS = 4300  # that Python makes an integer of
_EXTENDED = "species:S:1:pos:R:3"  # columns of an extended XYZ file that are those of a plain one


def xyz_records(lines: Lines) -> Records:
    """Split an XYZ file by its counts.

    RDKit's reader refuses what many programs write: further columns, atomic numbers, symbols in another case.
    """
    text = iter(lines)
    for line in text:
        first = line.strip()
        if not first:
            continue
        if not first.isdecimal() or len(first) > _DIGITS:
            raise MoleculeError(
                lines.path, lines.record, f"got {_shortened(line)}, expected the number of atoms of the record"
            )
        count = int(first)
        comment = next(text, "").strip()
        rows = list(islice(text, min(count, sys.maxsize)))
        yield lines.record, partial(_parse, lines.path, lines.record, count, comment, rows)
        lines.end_record()


def _parse(path: Path, record: int, count: int, comment: str, rows: list[str]) -> Parsed:
    if len(rows) < count:
        raise MoleculeError(path, record, f"truncated: {len(rows)} of {count} atoms")
    if "Properties=" in comment and f"Properties={_EXTENDED}" not in comment:
        raise MoleculeError(path, record, f"got other columns in {_shortened(comment)}, expected {_EXTENDED} first")
    elements, unknown = np.zeros(count, dtype=np.int64), {}
    coords = np.zeros((count, 3))
    for atom, row in enumerate(rows):
        try:
            symbol, x, y, z = row.split()[:4]
            coords[atom] = _number(x), _number(y), _number(z)
        except ValueError:
            raise MoleculeError(
                path, record, f"atom {atom + 1}: got {_shortened(row)}, expected an element and three coordinates"
            ) from None
        try:
            elements[atom] = _element(symbol)
        except ValueError:
            unknown[atom] = f"{symbol!r}, which is no chemical element"
    name = stem(path) if not comment or "=" in comment else comment
    return Parsed(Molecule(elements, coords, None, name, path, record, unknown=unknown), out_of_plane(coords))


def _number(word: str) -> float:
    return float(word.replace("*^", "e").replace("D", "e").replace("d", "e"))


def _element(word: str) -> int:
    """Return the atomic number of a symbol, numbered or not, or of an atomic number."""
    if word.isdecimal():
        number = int(word)
        if number >= len(SYMBOLS):
            raise ValueError
        return number
    return atomic_number(word.rstrip("0123456789"))


def _shortened(line: str) -> str:
    return repr(line.strip()[:60])
