"""``gridgrad grid``: molecules in, density grids out."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from gridgrad import gpu
from gridgrad.extras import require
from gridgrad.gridmaker import GridMaker
from gridgrad.io import DensityGrid, check_output, write
from gridgrad.io.writers import check_picture
from gridgrad.mol import (
    ElementTyper,
    GninaTyper,
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

__all__ = ["run"]


@dataclass
class _Job:
    """What stays the same from one ligand to the next."""

    gm: GridMaker
    options: argparse.Namespace
    typer: Typer
    receptor: Molecule | None = None
    receptor_atoms: TypedAtoms | None = None
    errors: list[Exception] = field(default_factory=list)

    def report(self, error: Exception) -> None:
        self.errors.append(error)
        require("tqdm", "mol").tqdm.write(f"gridgrad grid: skipped: {error}", file=sys.stderr)


@dataclass(frozen=True)
class _Result:
    grid: DensityGrid
    ligand: Molecule
    atoms: TypedAtoms
    seconds: float


def run(options: argparse.Namespace) -> int:
    """Grid every molecule that the arguments name; 1 if any of them could not be."""
    job = _prepare(options)
    records = sum(count_records(path) for path in options.ligands)
    table = _print_one if records == 1 else _print_row
    if records > 1:
        print(f"{'':>5} {'name':<24} {'atoms':>5} {'outside':>7} {'sum':>10} {'ms':>8}  channels")
    done = 0
    progress = require("tqdm", "mol").tqdm(total=records, unit="molecule", disable=None if records > 1 else True)
    with progress:
        for number, ligand in _ligands(job):
            try:
                result = _grid(job, ligand)
                written = _write(job, result, number if records > 1 else None)
            except MoleculeError as error:
                job.report(error)
            else:
                table(job, result, number, written)
                done += 1
            progress.n = number
            progress.refresh()
    if records > 1:
        print(f"{done} of {records} molecules gridded on {options.device}")
    if not (options.output or options.png or options.html):
        print("no file written: -o, --png and --html name one")
    return 1 if job.errors else 0


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
            print("note: PyMOL puts .ccp4 maps at the origin; it places .mrc and .map right", file=sys.stderr)
    elif options.channel != "total":
        raise ValueError(f"--channel: got {options.channel!r} without -o, expected an output file to put it in")
    for path, suffix, module in ((options.png, ".png", "matplotlib"), (options.html, ".html", None)):
        if path is not None:
            check_picture(path, suffix, module)
    _check_device(options.device)
    job = _Job(gm, options, _typer(options, "ligand"))
    if options.receptor is not None:
        job.receptor = next(_read(options, options.receptor))
        job.receptor_atoms = type_atoms(job.receptor, _typer(options, "receptor"))
        for remark in _remarks(job.receptor):
            print(f"{options.receptor}: {remark}", file=sys.stderr)
        models = count_records(options.receptor)
        if models > 1:
            print(f"{options.receptor} has {models} records; the first is the receptor", file=sys.stderr)
    return job


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


def _typer(options: argparse.Namespace, part: str) -> Typer:
    """Return the typer of a part, "ligand" or "receptor"."""
    if options.typer is None:
        elements = {"elements": tuple(options.elements.split(","))} if options.elements else {}
        typer = ElementTyper(**elements)
        return typer if options.hydrogens else typer.without_hydrogen()
    if options.elements:
        raise ValueError("--elements: is for the element typer, expected it without --typer")
    if options.typer == "gnina":
        return GninaTyper(part)
    module, colon, name = options.typer.partition(":")
    if not (module and colon and name):
        raise ValueError(f"--typer: got {options.typer!r}, expected gnina or MODULE:NAME")
    sys.path.insert(0, os.getcwd())
    typer = getattr(importlib.import_module(module), name, None)
    if not callable(typer):
        raise TypeError(f"--typer: {name} of {module} is {typer!r}, expected a callable")
    return typer


# --- one molecule after the other -------------------------------------------------------------------------------------


def _read(options: argparse.Namespace, path: Path, on_error=None) -> Iterator[Molecule]:
    return read_molecules(
        path, hydrogens=options.hydrogens, skip_unknown=options.skip_unknown, flat=options.flat, on_error=on_error
    )


def _remarks(molecule: Molecule) -> list[str]:
    """Say what of a record is not in the molecule, unless the user asked for it, and what it is."""
    left_out = [f"{n} of {reason}" for reason, n in molecule.left_out.items() if reason != "hydrogens"]
    return [f"atoms left out: {', '.join(left_out)}"] * bool(left_out) + list(molecule.notes)


def _ligands(job: _Job) -> Iterator[tuple[int, Molecule]]:
    """Yield the number, over all files, and the molecule of every readable record."""
    before = 0
    for path in job.options.ligands:
        for ligand in _read(job.options, path, job.report):
            yield before + ligand.record, ligand
        before += count_records(path) if len(job.options.ligands) > 1 else 0


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


def _write(job: _Job, result: _Result, number: int | None) -> list[Path]:
    def numbered(path: Path) -> Path:
        return path if number is None else path.with_name(f"{path.stem}_{number:04d}{path.suffix}")

    options, written = job.options, []
    if options.output is not None:
        written += write(numbered(options.output), result.grid, options.channel)
    if options.png is not None:
        from gridgrad.plot import draw_grid

        draw_grid(numbered(options.png), result.grid, result.ligand, job.receptor)
        written.append(numbered(options.png))
    if options.html is not None:
        from gridgrad.plot import write_page

        write_page(numbered(options.html), result.grid, result.ligand, job.receptor)
        written.append(numbered(options.html))
    return written


# --- tables -----------------------------------------------------------------------------------------------------------


def _channel_atoms(atoms: TypedAtoms) -> np.ndarray:
    """Count the atoms of each channel: those with a weight there."""
    return np.count_nonzero(atoms.vector_types(), axis=0)


def _outside(result: _Result) -> int:
    low, high = result.grid.extent.T
    return int((~((result.ligand.coords >= low) & (result.ligand.coords <= high)).all(axis=1)).sum())


def _print_one(job: _Job, result: _Result, number: int, written: list[Path]) -> None:
    grid, ligand = result.grid, result.ligand
    center = ", ".join(f"{value:.3f}" for value in grid.extra["center"])
    points = " × ".join(map(str, grid.density.shape[1:]))
    box = " × ".join(f"{side:g}" for side in job.gm.dimension)
    print(f"{ligand.name}  ({ligand.path.name}, record {ligand.record})")
    print(
        f"  atoms     {len(ligand)}" + (f" + {len(job.receptor)} of {job.receptor.path.name}" if job.receptor else "")
    )
    for remark in _remarks(ligand):
        print(f"            {remark}")
    if outside := _outside(result):
        print(f"            {outside} of the {len(ligand)} lie outside the box")
    print(f"  box       {box} Å around ({center})")
    print(f"  points    {points}, {grid.resolution:g} Å apart, {len(grid.channels)} channels")
    print(f"  device    {job.options.device}, {grid.density.dtype}, {1e3 * result.seconds:.1f} ms")
    width = max(len(name) for name in (*grid.channels, "channel"))
    print(f"  {'channel':<{width}}  {'atoms':>6}  {'sum':>12}  {'maximum':>8}")
    for name, volume, count in zip(grid.channels, grid.density, _channel_atoms(result.atoms), strict=True):
        if count:
            print(f"  {name:<{width}}  {count:>6}  {volume.sum(dtype=np.float64):>12.3f}  {volume.max():>8.3f}")
    print(f"  {'total':<{width}}  {len(result.atoms):>6}  {grid.density.sum(dtype=np.float64):>12.3f}")
    for path in written:
        print(f"  wrote     {path}")


def _print_row(job: _Job, result: _Result, number: int, written: list[Path]) -> None:
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
    require("tqdm", "mol").tqdm.write(line)
    for remark in _remarks(result.ligand):
        require("tqdm", "mol").tqdm.write(f"{'':>5} {remark}")
