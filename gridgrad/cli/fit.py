"""``gridgrad fit``: from a density grid back to atoms."""

from __future__ import annotations

import argparse
import ast
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gridgrad.atomic import refuse_existing
from gridgrad.cli.terminal import printable
from gridgrad.data import AtomBatch
from gridgrad.extras import require
from gridgrad.fit import STATUS, fit_atoms
from gridgrad.gridmaker import GridMaker
from gridgrad.io import DensityGrid, atomic_files, read
from gridgrad.mol import SYMBOLS, VDW_RADII, element_of_channel

FORMATS = (".sdf", ".xyz")
PROFILE = ("tail", "radius_scale", "gaussian_radius_multiple")


def run(options: argparse.Namespace) -> int:
    """Fit atoms to a grid, write them and print a report; 1 if the fit did not converge."""
    suffix = options.output.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"--output: unknown format {suffix!r}; expected one of {', '.join(FORMATS)}")
    if not options.overwrite:
        refuse_existing([options.output])
    grid = read(options.grid)
    used = [i for i, volume in enumerate(grid.density) if volume.any()]
    channels = [_channel(name, options) if i in used else ("", 1.0) for i, name in enumerate(grid.channels)]
    gm = _grid_maker(grid, options)
    density = torch.from_numpy(np.ascontiguousarray(grid.density))
    center = grid.extent.mean(axis=1)
    start = time.perf_counter()
    atoms = fit_atoms(
        gm, density, torch.tensor([radius for _, radius in channels]), center=center, n_atoms=options.atoms,
        channels=used, min_distance=options.min_distance, method=options.method,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    elements = [channels[channel][0] for channel in atoms.types.tolist()]
    text = _text(suffix, grid, elements, atoms)
    with atomic_files([options.output], overwrite=options.overwrite) as (temporary,):
        Path(temporary).write_text(text, encoding="utf-8")
    _report(grid, channels, atoms, seconds, options.output)
    return int(atoms.labels["status"].item() != STATUS.index("converged"))


def _channel(name: str, options: argparse.Namespace) -> tuple[str, float]:
    """Return the element and the radius of the atoms of a channel."""
    element, radius = element_of_channel(name) or (options.element, None)
    if element is None:
        raise ValueError(f"--element: not given, and channel {name!r} names none; expected the symbol of an element")
    if element not in SYMBOLS:
        raise ValueError(f"--element: {element!r}; expected the symbol of a chemical element")
    radius = options.radius or radius or VDW_RADII.get(element)
    if radius is None:
        raise ValueError(f"--radius: not given, and {element} has none in the table; expected a length in angstrom")
    return element, radius


def _grid_maker(grid: DensityGrid, options: argparse.Namespace) -> GridMaker:
    """Return the grid with its profile: what the options say, else what the file says, else the default."""
    profile = _written_profile(str(grid.extra.get("gridmaker", "")))
    profile |= {name: getattr(options, name) for name in PROFILE if getattr(options, name) is not None}
    # an axis of one point has no length; a quarter of a step still is one point
    x, y, z = (grid.resolution * max(n - 1, 0.25) for n in grid.density.shape[1:])
    return GridMaker(grid.resolution, (x, y, z), **profile)


def _written_profile(text: str) -> dict[str, Any]:
    """Return the settings of the profile in the ``repr`` of a GridMaker; empty for any other text."""
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call):
            return {}
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg in (*PROFILE, "binary")}
    except (SyntaxError, ValueError):
        return {}


def _text(suffix: str, grid: DensityGrid, elements: list[str], atoms: AtomBatch) -> str:
    """Return a molecule file of the atoms, without bonds."""
    require("rdkit", "mol")
    from rdkit import Chem

    molecule = Chem.RWMol()
    conformer = Chem.Conformer(len(elements))
    for i, (element, place) in enumerate(zip(elements, atoms.coords.double().tolist(), strict=True)):
        atom = Chem.Atom(element)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
        conformer.SetAtomPosition(i, place)
    molecule.AddConformer(conformer)
    molecule.SetProp("_Name", grid.name.replace("\n", " "))
    if suffix == ".xyz":
        return Chem.MolToXYZBlock(molecule)
    return Chem.MolToMolBlock(molecule, kekulize=False) + "$$$$\n"


def _report(grid: DensityGrid, channels, atoms: AtomBatch, seconds: float, output: Path) -> None:
    labels = {name: value.item() for name, value in atoms.labels.items()}
    counts = torch.bincount(atoms.types, minlength=len(channels)).tolist()
    print(f"{printable(grid.name) or 'grid'}: {len(atoms.types)} atoms in {seconds:.2f} s")
    width = max(map(len, (*grid.channels, "channel")))
    print(f"  {'channel':<{width}}  element  radius   atoms")
    for name, (element, radius), count in zip(grid.channels, channels, counts, strict=True):
        if count:
            print(f"  {printable(name):<{width}}  {element:<7}  {radius:>6.3f}  {count:>6}")
    print(f"  residual    {labels['residual']:.2e} of the density's norm")
    print(f"  iterations  {labels['iterations']}, {STATUS[int(labels['status'])]}")
    print(f"  computed    {labels['evaluations']} densities, {labels['products']} Hessian-vector products")
    print(f"  wrote       {output}")
