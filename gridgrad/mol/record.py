"""What the readers of the formats share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gridgrad.mol.molecule import Molecule

__all__ = ["Parse", "Parsed", "Records", "out_of_plane", "stem"]


class Parsed(NamedTuple):
    """A molecule, and whether it has 3D coordinates or might be a drawing."""

    molecule: Molecule
    is_3d: bool


Parse = Callable[[], Parsed]
"""Parses one record, or raises `MoleculeError`."""

Records = Iterator[tuple[int, Parse]]
"""The records of a file: number, from 1, and how to parse it."""


def out_of_plane(coords: np.ndarray) -> bool:
    """Whether the atoms leave the plane z = 0, or are too few to tell a drawing from a conformer."""
    return len(coords) <= 3 or bool(coords[:, 2].any())


def stem(path: Path) -> str:
    """Return the file's name without its suffixes."""
    return path.name.partition(".")[0] or path.name
