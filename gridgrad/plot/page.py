"""A page with 3D isosurfaces: one HTML file, data and code inside, for any browser with WebGL 2, no network."""

from __future__ import annotations

import base64
import html
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.atomic import atomic_files
from gridgrad.io.density import DensityGrid
from gridgrad.mol.molecule import Molecule
from gridgrad.plot.scene import Sticks, atom_colors, channel_color, sticks

__all__ = ["write_page"]

_LEVELS = 255  # densities travel as bytes
_POCKET = 6.0  # angstrom: atoms of the receptor this close to the ligand are drawn


def write_page(path: str | Path, grid: DensityGrid, ligand: Molecule, receptor: Molecule | None = None) -> None:
    """Write a page that shows the isosurface of each channel around the molecule, to turn, zoom and re-level.

    Parameters
    ----------
    path : str or Path
        The HTML file.
    grid : DensityGrid
        The grid.
    ligand : Molecule
        The molecule that was gridded, drawn as sticks.
    receptor : Molecule, optional
        Its surroundings, drawn as thin sticks near the ligand; its channels are hidden at first.
    """
    inside = sticks(ligand, grid.extent)
    places = inside.coords if len(inside.coords) else grid.extent.T
    focus = places.mean(axis=0)
    drawn = [(inside, 0.14)]
    if receptor is not None:
        drawn.append((sticks(receptor, grid.extent).near(ligand.coords, _POCKET), 0.05))
    scene = {
        "title": grid.name,
        "subtitle": _subtitle(grid, ligand, receptor),
        "extent": grid.extent.tolist(),
        "resolution": grid.resolution,
        "focus": focus.tolist(),
        "reach": float(np.linalg.norm(places - focus, axis=1).max() + 2.5),
        "channels": [_channel(grid, index) for index in range(len(grid.channels)) if grid.density[index].any()],
        "sticks": [_encoded(shown, radius) for shown, radius in drawn],
    }
    folder = files(__package__)
    text = (folder / "isosurface.html").read_text(encoding="utf-8")
    parts = {
        "@TITLE@": html.escape(f"{grid.name}: density grid"),
        "@SCENE@": json.dumps(scene, separators=(",", ":")).replace("<", "\\u003c"),
        "@CODE@": "".join((folder / name).read_text(encoding="utf-8") for name in ("meshes.js", "viewer.js")),
    }
    text = re.sub("|".join(parts), lambda mark: parts[mark.group()], text)
    with atomic_files([Path(path)]) as (temporary,):
        temporary.write_text(text, encoding="utf-8")


def _subtitle(grid: DensityGrid, ligand: Molecule, receptor: Molecule | None) -> str:
    shape = " × ".join(map(str, grid.density.shape[1:]))
    atoms = f"{len(ligand)} atoms" + (f", {len(receptor)} around ({receptor.name})" if receptor is not None else "")
    return f"{atoms}; {shape} points, {grid.resolution:g} Å apart"


def _channel(grid: DensityGrid, index: int) -> dict[str, Any]:
    """Return a channel cut to the box where it is not zero, as bytes, z fastest."""
    density = np.maximum(grid.density[index], 0)
    bounds = [np.flatnonzero(density.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    cut = density[tuple(slice(first, last + 1) for first, last in bounds)]
    peak = float(cut.max())
    values = np.rint(cut * (_LEVELS / peak)).astype(np.uint8)
    return {
        "name": grid.channels[index],
        "color": channel_color(grid.channels[index], index),
        "receptor": grid.channels[index].startswith("receptor "),
        "sum": float(grid.density[index].sum(dtype=np.float64)),
        "peak": peak,
        "start": [int(first) for first, _ in bounds],
        "shape": list(values.shape),
        "values": _base64(values),
    }


def _encoded(shown: Sticks, radius: float) -> dict[str, Any]:
    colors = atom_colors(shown.elements)
    palette = sorted(set(colors))
    return {
        "radius": radius,
        "coords": _base64(shown.coords.astype("<f4")),
        "bonds": _base64(shown.bonds.astype("<u4")),
        "hydrogen": _base64((shown.elements == 1).astype(np.uint8)),
        "palette": palette,
        "colors": _base64(np.array([palette.index(color) for color in colors], dtype=np.uint8)),
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
