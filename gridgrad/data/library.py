"""From molecules to a store: `prepare` from files, `write_store` from atoms in memory (extras ``data``, ``mol``)."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from gridgrad.data.build import build_parts
from gridgrad.data.cluster import build_on_ray
from gridgrad.data.folder import Entry, Failure, Header, finish, part_file
from gridgrad.data.parts import Layout, Rows, write_part
from gridgrad.data.plan import begin
from gridgrad.data.pool import available_cores, warm_up
from gridgrad.data.typing_job import TypingJob, as_row
from gridgrad.extras import require
from gridgrad.io import atomic_folder
from gridgrad.mol import ElementTyper, TypedAtoms, Typer
from gridgrad.mol.text import RECORD_LIMIT

__all__ = ["PART_RECORDS", "Prepared", "prepare", "write_store"]

PART_RECORDS = 1 << 17
"""Records per part, at least: two record batches' worth of 64 k rows, even where records fail."""

_ROWS = 1024
"""Molecules that `write_store` holds at a time."""


@dataclass(frozen=True)
class Prepared:
    """What a call of `prepare` did.

    Attributes
    ----------
    molecules, atoms, failed : int
        Molecules that it typed, their atoms, and records that could not be typed.
    parts : int
        Parts that it wrote.
    header : Header
        That of the store: `n_parts`, and once all are there `parts` and `failed` of the whole store.
    seconds : float
        How long it took.
    busy : float
        Share of the time that the workers had something to do; NaN without workers, or on a cluster.
    """

    molecules: int
    atoms: int
    failed: int
    parts: int
    header: Header
    seconds: float
    busy: float


def prepare(
    files: Iterable[str | Path],
    store: str | Path,
    *,
    typer: Typer | None = None,
    hydrogens: bool = True,
    skip_unknown: bool = False,
    flat: bool = False,
    record_limit: int = RECORD_LIMIT,
    workers: int | None = None,
    shard: tuple[int, int] = (1, 1),
    ray: str | None = None,
    part_records: int = PART_RECORDS,
    on_error: Callable[[Failure], None] | None = None,
    progress: bool | None = False,
) -> Prepared:
    """Type the molecules of files into a store.

    The records are divided into parts that do not depend on the number of processes, and neither does the store. A part
    appears when it is whole; a run that was ended goes on with the parts that are missing.

    Parameters
    ----------
    files : iterable of str or Path
        Molecule files, see `gridgrad.mol.read_molecules`.
    store : str or Path
        Folder of the store; made if it does not exist.
    typer : callable, optional
        The typer; by default `gridgrad.mol.ElementTyper`.
    hydrogens, skip_unknown, flat, record_limit
        As for `gridgrad.mol.read_molecules`.
    workers : int, optional
        Processes, by default one for each core; 0 to work in this one. With `ray`, of each task, by default 1.
    shard : (int, int), default (1, 1)
        (i, n): only every n-th part, beginning with the i-th, 1 <= i <= n. Whoever writes the last part of all makes
        the store complete.
    ray : str, optional
        Address of a Ray cluster (extra ``cluster``) whose nodes see the files and the store; a part is a task.
    part_records : int, default 131072
        Records of a part, at least.
    on_error : callable, optional
        Called with the `Failure` of each record that could not be typed.
    progress : bool or None, default False
        Show a progress bar; None: on a terminal.

    Returns
    -------
    Prepared
        Counts and times.

    Raises
    ------
    TypeError, ValueError
        If the arguments make no sense, no molecule can be typed, or the folder holds something else.
    StoreError
        If the folder holds a store that was made otherwise, or is damaged.
    """
    start = time.perf_counter()
    require("pyarrow", "data")
    folder = Path(store)
    if workers is None:
        workers = available_cores() if ray is None else 1
    _check_numbers(workers, shard, part_records)
    reading = {"hydrogens": hydrogens, "skip_unknown": skip_unknown, "flat": flat, "record_limit": record_limit}
    job = TypingJob(ElementTyper() if typer is None else typer, reading)
    if workers:
        _check_pickles(job.typer)
        warm_up()
    header, plan = begin(folder, [str(file) for file in files], job, workers, part_records)
    job = replace(job, layout=header.layout)
    todo = [number for number in header.missing(folder) if number % shard[1] == shard[0] - 1]
    for leftover in (file for number in todo for file in folder.glob(f".part-{number:05d}_*")):
        leftover.unlink(missing_ok=True)
    tqdm = require("tqdm", "mol").tqdm
    disable = None if progress is None else not progress
    molecules, atoms, failed, worked = 0, 0, 0, 0.0
    with tqdm(total=sum(map(plan.records, todo)), unit="molecule", disable=disable) as bar:
        if ray is None:
            built = build_parts(folder, job, plan, todo, workers, bar.update)
        else:
            built = build_on_ray(ray, folder, job, plan, todo, workers)
        for part in built if todo else ():
            molecules, atoms, worked = molecules + part.entry.rows, atoms + part.entry.atoms, worked + part.seconds
            failed += len(part.failed)
            if on_error is not None:
                for failure in part.failed:
                    on_error(failure)
            if ray is not None:
                bar.update(plan.records(part.number))
    seconds = time.perf_counter() - start
    busy = worked / (seconds * workers) if workers and ray is None else math.nan
    return Prepared(molecules, atoms, failed, len(todo), finish(folder), seconds, busy)


def write_store(
    store: str | Path,
    molecules: Iterable[tuple[str, TypedAtoms]],
    *,
    radii: Sequence[float] | None = None,
    settings: dict[str, Any] | None = None,
) -> None:
    """Write typed molecules into a new store, one after the other.

    Parameters
    ----------
    store : str or Path
        Folder of the store; it appears when it is whole.
    molecules : iterable of (str, TypedAtoms)
        Names and atoms, all with the same channels and the same kind of types.
    radii : sequence of float, optional
        Radius of each channel in angstrom, where all its atoms have the same; they are then not stored atom by atom.
    settings : dict, optional
        What `AtomStore.settings` shall say, in terms of JSON.

    Raises
    ------
    ValueError
        If there are no molecules, or one does not fit the first one, or float32.
    FileExistsError
        If the folder is there already.
    """
    folder = Path(store)
    molecules = iter(molecules)
    first = next(molecules, None)
    if first is None:
        raise ValueError("molecules: none; expected at least one, which tells the channels")
    layout = Layout(first[1].channels, first[1].types.ndim == 2, None if radii is None else tuple(radii))
    with atomic_folder(folder) as whole:
        entries: list[Entry] = []
        rows = enumerate(chain([first], molecules))
        while chunk := list(islice(rows, _ROWS)):
            chunks = chain([chunk], iter(lambda: list(islice(rows, _ROWS)), []))
            made = (_rows(layout, some) for some in islice(chunks, PART_RECORDS // _ROWS))
            entries.append(write_part(part_file(whole, len(entries)), layout, made))
        Header(layout, settings or {}, len(entries), entries).write(whole)


def _misfit(i: int, name: str, reason: str) -> ValueError:
    return ValueError(f"molecules: {i}, {name!r}: {reason}")


def _rows(layout: Layout, molecules: list[tuple[int, tuple[str, TypedAtoms]]]) -> Rows:
    rows = [as_row(layout, atoms, partial(_misfit, i, name)) for i, (name, atoms) in molecules]
    names = [str(name) for _, (name, _) in molecules]
    return Rows.of(layout, names, [""] * len(rows), [i + 1 for i, _ in molecules], rows)


# --- before any work --------------------------------------------------------------------------------------------------


def _check_numbers(workers: int, shard: tuple[int, int], part_records: int) -> None:
    if workers < 0:
        raise ValueError(f"workers: {workers}; expected at least 0")
    if not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"shard: {shard[0]}/{shard[1]}; expected i/n with 1 <= i <= n")
    if part_records < 1:
        raise ValueError(f"part_records: {part_records}; expected at least 1")


def _check_pickles(typer: Typer) -> None:
    try:
        pickle.dumps(typer)
    except Exception as error:
        raise TypeError(f"typer: {typer!r} does not pickle ({error}); expected one that does, or workers=0") from error
