"""PDB and PDBQT files by gemmi."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gridgrad.extras import require
from gridgrad.mol.molecule import MoleculeError
from gridgrad.mol.record import Parsed, Records, stem
from gridgrad.mol.structures import Row, check_count, model_molecule
from gridgrad.mol.text import Lines

__all__ = ["pdb_records", "pdbqt_records"]

_AUTODOCK = {
    "A": "C", "G": "*", "GA": "*", "HD": "H", "HS": "H", "J": "*", "NA": "N", "NS": "N", "NX": "N", "OA": "O",
    "OS": "O", "OX": "O", "Q": "*", "SA": "S", "SX": "S", "TZ": "*", "W": "*", "Z": "*",
    "CG0": "C", "CG1": "C", "CG2": "C", "CG3": "C", "G0": "*", "G1": "*", "G2": "*", "G3": "*",
}  # fmt: skip
"""Elements of AutoDock's atom types that are not themselves symbols; its pseudo-atoms are dummies."""

_AHEAD = 10_000
"""Atoms of models that wait for the CONECT lines of their structure."""

_CHARGE = re.compile(r"\s*|\d[+-]|[+-]\d")


@dataclass
class _Record:
    """The lines of one model."""

    header: list[str]
    """Connections that hold for all models of a structure."""
    atoms: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    name: str = ""
    opened: bool = False
    """By a MODEL line: it counts, atoms or not."""
    closed: str = ""
    """By which line."""


def pdb_records(lines: Lines) -> Records:
    """Split a PDB file: every model is a record, and so is what follows an END.

    CONECT lines follow the last model and hold for all of them: models wait for it as long as they are small.
    """
    return _split(lines, _pdb_row, _AHEAD)


def pdbqt_records(lines: Lines) -> Records:
    """Split a PDBQT file: every model is a record. The element follows from AutoDock's type."""
    return _split(lines, _pdbqt_row, 0)


def _split(lines: Lines, read_row: Callable[[str], tuple[str, Row]], ahead: int) -> Records:
    header: list[str] = []
    found = _Record(header)
    waiting: list[tuple[int, _Record]] = []
    atoms = 0  # of those

    def close() -> None:
        nonlocal atoms
        if found.atoms or found.opened:
            waiting.append((lines.record, found))
            atoms += len(found.atoms)
            lines.end_record()

    def ready() -> Records:
        nonlocal atoms
        last = waiting[-1][1] if waiting else found
        for number, record in waiting:
            if not record.links and len(record.atoms) == len(last.atoms):
                record.links = last.links
            yield number, partial(_parse, lines.path, number, record, read_row)
        waiting.clear()
        atoms = 0

    try:
        for line in lines:
            kind = line[:6].rstrip().upper()
            if not line.isascii() and kind != "REMARK":
                line = line.encode("ascii", "replace").decode()  # gemmi counts columns in bytes
            is_atom = kind[:4] == "ATOM" or kind == "HETATM"
            if kind == "MODEL" or (is_atom and found.closed):
                close()
                if found.closed == "END" or atoms > ahead:
                    yield from ready()
                found = _Record(header, opened=kind == "MODEL")
            if is_atom:
                found.atoms.append(line)
            elif kind in ("ENDMDL", "END"):
                found.closed = kind
                if kind == "END":
                    header = []  # found keeps its own
            elif kind == "CONECT":
                found.links.append(line)
            elif kind in ("LINK", "LINKR", "SSBOND"):
                header.append(line)
            elif kind == "REMARK":
                if line[6:].strip().startswith("Name ="):
                    found.name = line.partition("=")[2].strip()
            elif line.lstrip()[:6].rstrip().upper() in ("ATOM", "HETATM"):
                reason = f"got {line.strip()!r}, expected ATOM or HETATM in column 1"
                raise MoleculeError(lines.path, lines.record, reason)
    except MoleculeError as error:
        if found.closed:
            close()
        yield from ready()
        if error.record is not None:
            error = MoleculeError(error.path, lines.record, error.reason)
        raise error from None
    close()
    yield from ready()


def _parse(path: Path, record: int, found: _Record, read_row: Callable[[str], tuple[str, Row]]) -> Parsed:
    text, rows, serials = [], [], {}
    for number, line in enumerate(found.atoms):
        if problem := _problem(line):
            raise MoleculeError(path, record, f"atom {number + 1}: {problem}, in {line.strip()!r}")
        line, row = read_row(line.rstrip("\n"))
        text.append(f"{'HETATM' if line[0] in 'Hh' else 'ATOM  '}{_serial(number)}{line[11:]}\n")
        rows.append(row)
        serial = line[6:11].strip()
        serials[serial] = None if serial in serials else number
    read = require("gemmi", "mol").read_pdb_string
    try:
        structure = read("".join(text))
    except (RuntimeError, ValueError) as error:
        raise MoleculeError(path, record, f"gemmi cannot parse this record: {error}") from error
    check_count(sum(model.count_atom_sites() for model in structure), len(rows), path, record)
    try:
        connections = read("".join([*found.header, *text])).connections if found.header and text else ()
    except (RuntimeError, ValueError):
        connections = ()
    return model_molecule(
        structure[0] if text else (), rows, path=path, record=record, name=found.name or stem(path),
        links=_links(found.links, serials), connections=connections,
    )  # fmt: skip


def _problem(line: str) -> str:
    """Say what is wrong with a line that gemmi would read in its way: it takes what is no number for 0."""
    if len(line.rstrip()) < 54:
        return "cut off before the end of the coordinates, column 54"
    for start in (30, 38, 46):
        text = line[start : start + 8]
        try:
            known = math.isfinite(float(text)) and "_" not in text
        except ValueError:
            known = False
        if not known:
            return f"columns {start + 1} to {start + 8} are {text!r}, expected a coordinate"
    return ""


def _serial(number: int) -> str:
    """Write a number in the five columns of a serial number, hybrid-36 beyond 99999."""
    if number < 100_000:
        return f"{number:5d}"
    number += 10 * 36**4 - 100_000
    digits = ""
    for _ in range(5):
        number, digit = divmod(number, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return digits


def _links(lines: list[str], serials: dict[str, int | None]) -> list[tuple[int, int]]:
    """Return the pairs of atoms of CONECT lines, as often as one of the two atoms names the other."""
    named: Counter[tuple[int, int]] = Counter()
    for line in lines:
        fields = [line[start : start + 5].strip() for start in range(6, 31, 5)]
        first, *others = [serials.get(serial) for serial in fields if serial] or [None]
        named.update((first, other) for other in others if first is not None and other is not None)
    pairs = {(min(pair), max(pair)) for pair in named if pair[0] != pair[1]}
    return [(i, j) for i, j in sorted(pairs) for _ in range(max(named[i, j], named[j, i]))]


def _pdb_row(line: str) -> tuple[str, Row]:
    symbol, charge = line[76:78].strip(), line[78:80]
    if symbol.isdecimal():  # before 1996 these columns counted lines
        return line[:76], Row("", by_columns=True)
    if not _CHARGE.fullmatch(charge):
        line = line[:78]  # gemmi refuses the file for it
    return line, Row(symbol, by_columns=True)


def _pdbqt_row(line: str) -> tuple[str, Row]:
    kind = line[77:80].strip()
    symbol = _AUTODOCK.get(kind, kind)
    return f"{line[:66]:<76}{symbol:>2}", Row(symbol or "*")
