"""``gridgrad grid``: molecules in, density grids out."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gridgrad import gpu
from gridgrad.atomic import refuse_existing
from gridgrad.cli.terminal import say
from gridgrad.cli.typer import make_typer
from gridgrad.data.pool import WorkerDiedError, map_ordered
from gridgrad.extras import require
from gridgrad.gridmaker import GridMaker
from gridgrad.io import DensityGrid, check_output, write
from gridgrad.io.writers import check_picture
from gridgrad.mol import (
    Molecule,
    MoleculeError,
    TypedAtoms,
    Typer,
    count_records,
    grid_atoms,
    join_atoms,
    read_molecules,
    type_atoms,
)
from gridgrad.mol.chunks import Chunk, split_records

__all__ = ["run"]

_CHUNK_RECORDS = 8
"""Records that a process grids at a time."""


@dataclass
class _Job:
    """What stays the same from one ligand to the next."""

    gm: GridMaker
    options: argparse.Namespace
    typer: Typer
    receptor: Molecule | None = None
    receptor_atoms: TypedAtoms | None = None
    failed: int = 0

    def report(self, error: MoleculeError) -> None:
        self.failed += 1
        say(f"gridgrad grid: skipped: {error}", sys.stderr)


class _Outcome(NamedTuple):
    """What came of a record: its number over all files, what to say, and why it failed, if it did."""

    number: int
    lines: list[str]
    error: MoleculeError | None = None


@dataclass(frozen=True)
class _Result:
    grid: DensityGrid
    ligand: Molecule
    atoms: TypedAtoms
    seconds: float


def run(options: argparse.Namespace) -> int:
    """Grid every molecule that the arguments name; 1 if any of them could not be."""
    job = _prepare(options)
    records = _count(options)
    many = records is None or records > 1
    if not options.overwrite:
        for number in range(1, records + 1) if many and records else (None,):
            refuse_existing(_outputs(options, number))
    if many:
        print(f"{'':>5} {'name':<24} {'atoms':>5} {'outside':>7} {'sum':>10} {'ms':>8}  channels")
    outcomes = _side_by_side(job) if options.workers > 1 else _one_by_one(job, many)
    done = 0
    with require("tqdm", "mol").tqdm(total=records, unit="molecule", disable=None if many else True) as progress:
        for outcome in outcomes:
            if outcome.error is not None:
                job.report(outcome.error)
            else:
                done += 1
            for line in outcome.lines:
                say(line)
            progress.n = max(progress.n, outcome.number)
            progress.refresh()
    if many:
        print(f"{done} of {records or done + job.failed} molecules gridded on {options.device}")
    if not (options.output or options.png or options.html):
        print("no file written: -o, --png and --html name one")
    return 1 if job.failed else 0


# --- before any work --------------------------------------------------------------------------------------------------


def _prepare(options: argparse.Namespace) -> _Job:
    gm = GridMaker(
        options.resolution, options.dimension, binary=options.binary, tail=options.tail,
        radius_scale=options.radius_scale, gaussian_radius_multiple=options.gaussian_radius_multiple,
    )  # fmt: skip
    if options.center is not None and not np.isfinite(options.center).all():
        raise ValueError(f"--center: got {options.center}, expected finite numbers")
    if options.output is not None:
        if check_output(options.output, options.channel).suffix.lower() == ".ccp4":
            say("note: PyMOL puts .ccp4 maps at the origin; it places .mrc and .map right", sys.stderr)
    elif options.channel != "total":
        raise ValueError(f"--channel: got {options.channel!r} without -o, expected an output file to put it in")
    for path, suffix, module in ((options.png, ".png", "matplotlib"), (options.html, ".html", None)):
        if path is not None:
            check_picture(path, suffix, module)
    _check_device(options.device)
    _check_workers(options)
    job = _Job(gm, options, make_typer(options, "ligand"))
    if options.receptor is not None:
        job.receptor = _receptor(options)
        job.receptor_atoms = type_atoms(job.receptor, make_typer(options, "receptor"))
        for remark in _remarks(job.receptor):
            say(f"{options.receptor}: {remark}", sys.stderr)
    return job


def _receptor(options: argparse.Namespace) -> Molecule:
    records = _read(options, options.receptor)
    receptor = next(records)
    try:
        more = next(records, None) is not None
    except MoleculeError:
        more = True
    if more:
        say(f"{options.receptor} has more than one record; the first is the receptor", sys.stderr)
    return receptor


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device: got {name!r}, expected cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device: got {name!r}, expected cpu or cuda")
    if device.type == "cuda":
        usable, reason = gpu.availability()
        if not usable:
            raise ValueError(f"--device: got {name!r}, but CUDA is not usable ({reason}); expected cpu")


def _check_workers(options: argparse.Namespace) -> None:
    if options.workers < 1:
        raise ValueError(f"--workers: {options.workers}; expected at least 1")
    if options.workers > 1 and options.device != "cpu":
        raise ValueError(f"--workers: {options.workers} with --device {options.device}; expected 1, or the device cpu")
    if options.workers > 1 and _count(options) is None:
        raise ValueError(f"--workers: {options.workers} with a pipe to read; expected 1, or files")


# --- one molecule after the other -------------------------------------------------------------------------------------


def _count(options: argparse.Namespace) -> int | None:
    """Count the records of all files; None where one of them can be read only once."""
    if not all(path.is_file() for path in options.ligands if path.exists()):
        return None
    return sum(count_records(path, record_limit=_limit(options)) for path in options.ligands)


def _limit(options: argparse.Namespace) -> int:
    return options.record_limit << 20


def _read(options: argparse.Namespace, path: Path, on_error=None, **some: Any) -> Iterator[Molecule]:
    return read_molecules(
        path, hydrogens=options.hydrogens, skip_unknown=options.skip_unknown, flat=options.flat, on_error=on_error,
        record_limit=_limit(options), **some,
    )  # fmt: skip


def _remarks(molecule: Molecule) -> list[str]:
    """Say what of a record is not in the molecule, unless the user asked for it, what it is, and what is not known."""
    left_out = [f"{n} of {reason}" for reason, n in molecule.left_out.items() if reason != "hydrogens"]
    remarks = [f"atoms left out: {', '.join(left_out)}"] * bool(left_out) + list(molecule.notes)
    if molecule.by_element:
        remarks.append(f"atoms typed by their element, whose bonds RDKit cannot understand: {molecule.by_element}")
    return remarks


def _one_by_one(job: _Job, many: bool) -> Iterator[_Outcome]:
    """Read, grid and write the records of all files in this process."""
    before = last = 0
    for path in job.options.ligands:
        for record, found in _records(job, path):
            last = max(last, before + record)
            yield _outcome(job, before + record, found, many)
        before = last


def _records(job: _Job, path: Path, **some: Any) -> Iterator[tuple[int, Molecule | MoleculeError]]:
    """Yield the number within its file, and the molecule of every record or why it cannot be read."""
    errors: list[MoleculeError] = []
    for ligand in _read(job.options, path, errors.append, **some):
        yield from ((error.record or 0, error) for error in errors)
        errors.clear()
        yield ligand.record, ligand
    yield from ((error.record or 0, error) for error in errors)


def _outcome(job: _Job, number: int, found: Molecule | MoleculeError, many: bool) -> _Outcome:
    try:
        if isinstance(found, MoleculeError):
            raise found
        result = _grid(job, found)
        written = _write(job, result, number if many else None)
    except MoleculeError as error:
        return _Outcome(number, [], error)
    return _Outcome(number, (_row if many else _page)(job, result, number, written))


# --- several processes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chunks:
    """Read, grid and write the records of a chunk, in a process of its own; a chunk comes with the records before."""

    job: _Job

    def __call__(self, item: tuple[int, Chunk]) -> list[_Outcome]:
        before, chunk = item
        if chunk.error is not None:
            return [_Outcome(before + (chunk.error.record or 0), [], chunk.error)]
        torch.set_num_threads(1)
        found = _records(self.job, chunk.path, records=chunk.records, data=chunk.data)
        return [_outcome(self.job, before + record, molecule, True) for record, molecule in found]

    def died(self, item: tuple[int, Chunk], error: WorkerDiedError) -> list[_Outcome]:
        """Return what comes of a chunk that a process died of."""
        before, chunk = item
        singles = chunk.singles()
        if len(singles) == 1:
            record = chunk.records.start
            reason = f"the process that read, typed or gridded it died: {error}"
            return [_Outcome(before + record, [], MoleculeError(chunk.path, record, reason))]
        return list(chain(*map_ordered(self, [(before, single) for single in singles], 1, self.died)))


def _side_by_side(job: _Job) -> Iterator[_Outcome]:
    """Read, grid and write the records of all files on several processes; the outcomes are in order."""
    counts = [count_records(path, record_limit=_limit(job.options)) for path in job.options.ligands]

    def items() -> Iterator[tuple[int, Chunk]]:
        for before, path in zip(accumulate(counts, initial=0), job.options.ligands, strict=False):
            for chunk in split_records(path, _CHUNK_RECORDS, limit=_limit(job.options)):
                yield before, chunk

    work = _Chunks(job)
    yield from chain.from_iterable(map_ordered(work, items(), job.options.workers, work.died))


# --- from a molecule to files -----------------------------------------------------------------------------------------


def _grid(job: _Job, ligand: Molecule) -> _Result:
    atoms = type_atoms(ligand, job.typer)
    if job.receptor_atoms is not None:
        atoms = join_atoms(receptor=job.receptor_atoms, ligand=atoms)
    center = ligand.coords.mean(axis=0) if job.options.center is None else np.array(job.options.center)
    dtype = getattr(torch, job.options.dtype)
    source = f"{ligand.path}, record {ligand.record}" + (f"; {job.receptor.path}" if job.receptor else "")
    start = time.perf_counter()
    grid = grid_atoms(job.gm, atoms, center, device=job.options.device, dtype=dtype, name=ligand.name, source=source)
    return _Result(grid, ligand, atoms, time.perf_counter() - start)


def _numbered(path: Path, number: int | None) -> Path:
    return path if number is None else path.with_name(f"{path.stem}_{number:04d}{path.suffix}")


def _outputs(options: argparse.Namespace, number: int | None) -> list[Path]:
    """Return the files of a record that can be told before it is typed: all but those of its channels."""
    paths = (options.output if options.channel != "each" else None, options.png, options.html)
    return [_numbered(path, number) for path in paths if path is not None]


def _write(job: _Job, result: _Result, number: int | None) -> list[Path]:
    options, written = job.options, []
    if not options.overwrite:
        refuse_existing(_outputs(options, number))
    if options.output is not None:
        path = _numbered(options.output, number)
        written += write(path, result.grid, options.channel, overwrite=options.overwrite)
    if options.png is not None:
        from gridgrad.plot import draw_grid

        written.append(_numbered(options.png, number))
        draw_grid(written[-1], result.grid, result.ligand, job.receptor)
    if options.html is not None:
        from gridgrad.plot import write_page

        written.append(_numbered(options.html, number))
        write_page(written[-1], result.grid, result.ligand, job.receptor)
    return written


# --- tables -----------------------------------------------------------------------------------------------------------


def _channel_atoms(atoms: TypedAtoms) -> np.ndarray:
    """Count the atoms of each channel: those with a weight there."""
    return np.count_nonzero(atoms.vector_types(), axis=0)


def _outside(result: _Result) -> int:
    low, high = result.grid.extent.T
    return int((~((result.ligand.coords >= low) & (result.ligand.coords <= high)).all(axis=1)).sum())


def _page(job: _Job, result: _Result, number: int, written: list[Path]) -> list[str]:
    grid, ligand = result.grid, result.ligand
    center = ", ".join(f"{value:.3f}" for value in grid.extra["center"])
    points = " × ".join(map(str, grid.density.shape[1:]))
    box = " × ".join(f"{side:g}" for side in job.gm.dimension)
    surroundings = f" + {len(job.receptor)} of {job.receptor.path.name}" if job.receptor else ""
    outside = _outside(result)
    width = max(len(name) for name in (*grid.channels, "channel"))
    channels = zip(grid.channels, grid.density, _channel_atoms(result.atoms), strict=True)
    return [
        f"{ligand.name}  ({ligand.path.name}, record {ligand.record})",
        f"  atoms     {len(ligand)}{surroundings}",
        *(f"            {remark}" for remark in _remarks(ligand)),
        *[f"            {outside} of the {len(ligand)} lie outside the box"] * (outside > 0),
        f"  box       {box} Å around ({center})",
        f"  points    {points}, {grid.resolution:g} Å apart, {len(grid.channels)} channels",
        f"  device    {job.options.device}, {grid.density.dtype}, {1e3 * result.seconds:.1f} ms",
        f"  {'channel':<{width}}  {'atoms':>6}  {'sum':>12}  {'maximum':>8}",
        *(
            f"  {name:<{width}}  {count:>6}  {volume.sum(dtype=np.float64):>12.3f}  {volume.max():>8.3f}"
            for name, volume, count in channels
            if count
        ),
        f"  {'total':<{width}}  {len(result.atoms):>6}  {grid.density.sum(dtype=np.float64):>12.3f}",
        *(f"  wrote     {path}" for path in written),
    ]


def _row(job: _Job, result: _Result, number: int, written: list[Path]) -> list[str]:
    grid = result.grid
    used = [name for name, count in zip(grid.channels, _channel_atoms(result.atoms), strict=True) if count]
    if job.receptor is not None:
        used = [name.removeprefix("ligand ") for name in used if name.startswith("ligand ")]
    total = grid.density.sum(dtype=np.float64)
    files = f"  -> {written[0]}" + (f" (+{len(written) - 1})" if len(written) > 1 else "") if written else ""
    line = (
        f"{number:>5} {result.ligand.name[:24]:<24} {len(result.ligand):>5} {_outside(result):>7} {total:>10.2f} "
        f"{1e3 * result.seconds:>8.2f}  {' '.join(used)}{files}"
    )
    return [line, *(f"{'':>5} {remark}" for remark in _remarks(result.ligand))]
