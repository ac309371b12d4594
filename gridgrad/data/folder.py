"""The folder of a store: its header ``store.json``, and what stands beside the parts until the header has it."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from gridgrad.atomic import clean
from gridgrad.data.parts import FORMAT, VERSION, Entry, Layout, StoreError
from gridgrad.io import atomic_files

__all__ = ["FAILED", "HEADER", "Failure", "Header", "finish", "part_file", "read_json", "sidecar", "write_json"]

HEADER = "store.json"
FAILED = "failed.csv"


class Failure(NamedTuple):
    """A record that could not be typed (None: its file could not be read on), and why."""

    file: str
    record: int | None
    reason: str


@dataclass(frozen=True)
class Header:
    """The content of ``store.json``.

    Attributes
    ----------
    layout : Layout
        Channels, kind of types, radii.
    settings : dict
        How the molecules were typed.
    n_parts : int
        Number of parts.
    parts : list of Entry
        What is said of each; empty as long as parts are missing, or were not looked at together.
    failed : int
        Number of records that could not be typed, once `parts` are there.
    remarks : dict of str to int
        What the readers and typers had to remark, and how often, likewise.
    """

    layout: Layout
    settings: dict[str, Any]
    n_parts: int
    parts: list[Entry] = field(default_factory=list)
    failed: int = 0
    remarks: dict[str, int] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``store.json``."""
        about: dict[str, Any] = {"format": FORMAT, "version": VERSION, **asdict(self.layout), "settings": self.settings}
        about |= {"n_parts": self.n_parts}
        if self.parts:
            counts = {
                "molecules": sum(part.rows for part in self.parts),
                "atoms": sum(part.atoms for part in self.parts),
            }
            about |= {
                **counts,
                "failed": self.failed,
                "remarks": self.remarks,
                "parts": [part._asdict() for part in self.parts],
            }
        write_json(folder / HEADER, about)

    @classmethod
    def read(cls, folder: Path) -> Header:
        """Read ``store.json``.

        Raises
        ------
        StoreError
            If it is missing, no JSON object, of another format or a newer version.
        """
        file = folder / HEADER
        try:
            about = read_json(file)
        except FileNotFoundError:
            there = "a file" if folder.is_file() else f"no {HEADER} in it" if folder.exists() else "no such folder"
            raise StoreError(f"{folder}: {there}; expected the folder of a {FORMAT}, see gridgrad prepare") from None
        found = about.get("format") if isinstance(about, dict) else type(about).__name__
        if found != FORMAT:
            raise StoreError(f"{file}: format {found!r}; expected {FORMAT!r}")
        if about.get("version") != VERSION:
            raise StoreError(f"{file}: version {about.get('version')!r}; expected {VERSION}, that of this gridgrad")
        try:
            layout = Layout(about["channels"], about["vector_types"], about["radii"])
            parts = [_entry(part) for part in about.get("parts", [])]
            counts = int(about.get("failed", 0)), dict(about.get("remarks", {}))
            return cls(layout, dict(about["settings"]), int(about["n_parts"]), parts, *counts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{file}: {error!r}; expected the header of a {FORMAT}") from error

    def entries(self, folder: Path) -> list[Entry]:
        """Return what is said of all parts, here or beside them.

        Raises
        ------
        StoreError
            If parts are missing.
        """
        if self.parts:
            return self.parts
        missing = self.missing(folder)
        if missing:
            raise StoreError(
                f"{folder}: {len(missing)} of {self.n_parts} parts are missing, {part_file(folder, missing[0]).name} "
                "for one; expected all: run the same gridgrad prepare again, it goes on where it was"
            )
        return [_entry(read_json(sidecar(folder, number))["part"]) for number in range(self.n_parts)]

    def missing(self, folder: Path) -> list[int]:
        """Return the numbers of the parts that are not there."""
        return [] if self.parts else [number for number in range(self.n_parts) if not sidecar(folder, number).exists()]


def _entry(about: dict[str, Any]) -> Entry:
    entry = Entry(**about)
    if not all(type(number) is int and number >= 0 for number in (entry.rows, entry.atoms, entry.bytes)):
        raise ValueError(f"parts: {about}; expected whole numbers of rows, atoms and bytes")
    if not (isinstance(entry.file, str) and Path(entry.file).name == entry.file):
        raise ValueError(f"parts: file {entry.file!r}; expected a name in the folder of the store")
    return entry


# --- files ------------------------------------------------------------------------------------------------------------


def part_file(folder: Path, number: int) -> Path:
    """Return the file of a part."""
    return folder / f"part-{number:05d}.arrow"


def sidecar(folder: Path, number: int) -> Path:
    """Return the file beside a part that says what is in it; with it the part is there."""
    return part_file(folder, number).with_suffix(".json")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_files([path], sync=True) as (temporary,):
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    StoreError
        If it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except NotADirectoryError:
        raise FileNotFoundError(path) from None
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise StoreError(f"{path}: {error}; expected JSON") from error


def finish(folder: Path) -> Header:
    """When all parts are there, move what stands beside them into the header, and the failures into one list.

    Several processes may do this at once: they write the same.

    Returns
    -------
    Header
        The header, with `parts` if all are there.
    """
    header = Header.read(folder)
    if not header.parts and not header.missing(folder):
        try:
            parts = header.entries(folder)
            remarks: Counter[str] = Counter()
            for number in range(header.n_parts):
                remarks.update(read_json(sidecar(folder, number))["remarks"])
            failed = _write_failures(folder, header.n_parts)
            header = replace(header, parts=parts, failed=failed, remarks=dict(sorted(remarks.items())))
            header.write(folder)
        except FileNotFoundError:  # another process has done it
            return Header.read(folder)
    if header.parts:
        for leftover in folder.glob("part-*.json"):
            leftover.unlink(missing_ok=True)
        clean(folder)
    return header


def _write_failures(folder: Path, n_parts: int) -> int:
    """Write the list of all failures, if there are any; return how many."""
    failures = (failure for number in range(n_parts) for failure in read_json(sidecar(folder, number))["failed"])
    first = next(failures, None)
    if first is None:
        return 0
    with atomic_files([folder / FAILED], sync=True) as (temporary,), open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Failure._fields)
        writer.writerow(first)
        return 1 + sum(writer.writerow(failure) > 0 for failure in failures)
