"""Which records of which files make which part of a store, and the folder in which that is written down."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from gridgrad.data.folder import HEADER, Header, read_json, write_json
from gridgrad.data.parts import Layout, StoreError
from gridgrad.data.pool import WorkerDiedError, map_ordered
from gridgrad.data.typing_job import TypingJob, layout_of
from gridgrad.extras import require
from gridgrad.mol import MoleculeError, Typer, type_atoms
from gridgrad.mol.chunks import split_records

__all__ = ["Plan", "Span", "begin"]

PLAN = "plan.json"

_SCAN_RECORDS = 1024
"""Records that are counted at a time."""


class Span(NamedTuple):
    """Records `first` to `stop - 1` of a source, the first of them at `offset` of its text."""

    source: int
    first: int
    stop: int
    offset: int


@dataclass(frozen=True)
class Plan:
    """Which records make which part: the same for any number of processes.

    Attributes
    ----------
    sources : list of (str, int)
        Files, and their sizes in bytes.
    parts : list of list of Span
        The records of each part.
    """

    sources: list[tuple[str, int]]
    parts: list[list[Span]]

    def records(self, number: int) -> int:
        """Return the number of records of a part."""
        return sum(span.stop - span.first for span in self.parts[number])

    def write(self, folder: Path) -> None:
        """Write ``plan.json``."""
        write_json(folder / PLAN, {"sources": self.sources, "parts": self.parts})

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """Read ``plan.json``."""
        about = read_json(folder / PLAN)
        try:
            sources = [(str(path), int(size)) for path, size in about["sources"]]
            return cls(sources, [[Span(*span) for span in part] for part in about["parts"]])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{folder / PLAN}: {error!r}; expected sources and parts") from error


# --- the folder -------------------------------------------------------------------------------------------------------


def begin(folder: Path, files: list[str], job: TypingJob, workers: int, part_records: int) -> tuple[Header, Plan]:
    """Read the header and the plan of a store that was begun, or count the records and write them.

    Parameters
    ----------
    folder : Path
        That of the store.
    files : list of str
        Molecule files.
    job : TypingJob
        How they are typed.
    workers : int
        Processes that count; 0 for this one.
    part_records : int
        Records of a part, at least.

    Raises
    ------
    ValueError
        If there is no molecule that can be typed, or the folder holds something else than a store.
    StoreError
        If it holds a store of other files, or of other settings.
    """
    if not files:
        raise ValueError("files: none; expected at least one molecule file")
    settings = {
        "typer": _described(job.typer), **job.reading, "part_records": part_records, "versions": _versions(),
    }  # fmt: skip
    sources = [(file, _size(file)) for file in files]
    if (folder / HEADER).exists():
        header, plan = Header.read(folder), Plan.read(folder)
        _check_same(folder, header.settings, settings)
        if plan.sources != sources:
            changed = next((pair for pair in zip(sources, plan.sources, strict=False) if pair[0] != pair[1]), None)
            told = "{} of {} bytes; expected {} of {}" if changed else f"{len(sources)}; expected {len(plan.sources)}"
            told = told.format(*changed[0], *changed[1]) if changed else told
            raise StoreError(f"files: {told}, as when {folder} was begun; expected the same files or another folder")
        return header, plan
    if folder.exists() and (not folder.is_dir() or any(not _is_ours(file) for file in folder.iterdir())):
        raise ValueError(f"{folder}: holds other files; expected a new or empty folder, or a store that was begun")
    layout = _find_layout(files, job)
    plan = Plan(sources, _divide(files, job.reading["record_limit"], workers, part_records))
    folder.mkdir(parents=True, exist_ok=True)
    header = Header(layout, settings, len(plan.parts))
    plan.write(folder)
    header.write(folder)
    return header, plan


def _is_ours(file: Path) -> bool:
    """Tell whether a run that was ended before the header was there, or one that runs now, may have written this."""
    return file.name in (PLAN, HEADER) or file.name.startswith((".plan.", ".store.", ".part-", "part-"))


def _size(file: str) -> int:
    """Return the size of a file in bytes, -1 for one that cannot be looked at, which is reported when it is read."""
    try:
        about = os.stat(file)
    except OSError:
        return -1
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
        raise ValueError(f"files: {file} is a pipe or device; expected a file that can be read again")
    return about.st_size


def _check_same(folder: Path, found: dict[str, Any], settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if found.get(name) != value:
            raise StoreError(
                f"{name}: {value!r}; expected {found.get(name)!r}, with which {folder} was begun, or another folder"
            )


def _find_layout(files: list[str], job: TypingJob) -> Layout:
    """Return the layout that the first molecule gives which can be typed."""
    errors: list[MoleculeError] = []
    for file in files:
        for chunk in split_records(Path(file), 1, limit=job.reading["record_limit"]):
            for molecule in job.molecules(chunk, errors):
                try:
                    return layout_of(job.typer, type_atoms(molecule, job.typer))
                except MoleculeError as error:
                    errors.append(error)
    raise ValueError(f"files: no molecule that can be typed; the first reason of {len(errors)}: {errors[0]}")


def _divide(files: list[str], limit: int, workers: int, part_records: int) -> list[list[Span]]:
    """Divide the records of files into parts: whole parts of large files, small files together."""
    parts, current, size = [], [], 0
    count = partial(_count, limit=limit, part_records=part_records)
    for source, starts in enumerate(map_ordered(count, files, workers if len(files) > 1 else 0, _uncounted)):
        for (first, offset), (stop, _) in pairwise(starts):
            current.append(Span(source, first, stop, offset))
            size += stop - first
            if size >= part_records:
                parts.append(current)
                current, size = [], 0
    return parts + ([current] if current else [])


def _count(file: str, limit: int, part_records: int) -> list[tuple[int, int]]:
    """Return where every `part_records`-th record of a file begins: number and offset; and where the last one ends."""
    every = math.gcd(part_records, _SCAN_RECORDS)
    starts = [(1, 0)]
    stop, offset = 1, 0
    for chunk in split_records(Path(file), every, limit=limit):
        if chunk.records.start > 1 and (chunk.records.start - 1) % part_records == 0:
            starts.append((chunk.records.start, chunk.offset))
        stop = chunk.records.stop
    return [*starts, (stop, offset)]


def _uncounted(file: str, error: WorkerDiedError) -> list[tuple[int, int]]:
    """Take a file that a process died of for one record, which then fails."""
    return [(1, 0), (2, 0)]


def _described(typer: Typer) -> str:
    """Return a text that tells a typer from others, the same in every process."""
    if type(typer).__repr__ is not object.__repr__ and not hasattr(typer, "__qualname__"):
        return repr(typer)
    named = typer if hasattr(typer, "__qualname__") else type(typer)
    return f"{named.__module__}:{named.__qualname__}"


def _versions() -> dict[str, str]:
    """Return the versions of what the types depend on."""
    readers = {name: require(name, "mol").__version__ for name in ("rdkit", "gemmi")}
    return {"gridgrad": version("gridgrad"), **readers}
