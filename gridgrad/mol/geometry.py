"""Atoms near each other, and who is bonded to whom by distance."""

from __future__ import annotations

from functools import cache

import numpy as np

from gridgrad.extras import require

__all__ = ["bonds_by_distance", "close_pairs", "covalent_radii", "is_metal"]

_SLACK = 0.4
"""How much longer than the sum of the covalent radii a bond may be, in angstrom."""
_SHORTEST = 0.5
"""Atoms closer than this are the same atom twice."""


@cache
def _elements() -> tuple[np.ndarray, np.ndarray]:
    gemmi = require("gemmi", "mol")
    table = [gemmi.Element(number) for number in range(119)]
    metal = np.array([element.is_metal for element in table])
    metal[[14, 32, 33, 51, 52, 85]] = False  # silicon and its kind have bonds as carbon does
    return np.array([element.covalent_r for element in table]), metal


def covalent_radii(elements: np.ndarray) -> np.ndarray:
    """Return covalent radii in angstrom (Cordero et al., Dalton Trans. 2008, 2832, as in gemmi)."""
    return _elements()[0][elements]


def is_metal(elements: np.ndarray) -> np.ndarray:
    """Return which atoms are metals, whose bonds no distance tells."""
    return _elements()[1][elements]


def close_pairs(coords: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all pairs of points closer than `cutoff`: first and second index, distance; the first is the smaller."""
    cells = []
    for x in coords.T:
        cell = np.floor((x - x.min()) / cutoff)
        values, place = np.unique(cell, return_inverse=True)
        # empty cells between two points are as good as one: the numbers stay small however far apart the points are
        cells.append(np.concatenate([[1.0], 1.0 + np.cumsum(np.minimum(np.diff(values), 2.0))])[place].astype(np.int64))
    sides = [int(cell.max()) + 2 for cell in cells]
    key = (cells[0] * sides[1] + cells[1]) * sides[2] + cells[2]
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    found = []
    for step in range(14):  # this cell and half of its neighbours
        x, y, z = (step + 13) // 9 - 1, (step + 13) // 3 % 3 - 1, (step + 13) % 3 - 1
        target = ordered + (x * sides[1] + y) * sides[2] + z
        start, stop = np.searchsorted(ordered, target, "left"), np.searchsorted(ordered, target, "right")
        if step == 0:
            start = np.arange(len(key)) + 1  # in the same cell only those after it
        count = np.maximum(stop - start, 0)
        first = np.repeat(np.arange(len(key)), count)
        second = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(start, count)
        found.append((order[first], order[second]))
    i, j = (np.concatenate(part) for part in zip(*found, strict=True))
    distance = np.sqrt(((coords[i] - coords[j]) ** 2).sum(axis=1))
    near = distance < cutoff
    i, j = np.minimum(i, j)[near], np.maximum(i, j)[near]
    return i, j, distance[near]


def bonds_by_distance(elements: np.ndarray, coords: np.ndarray, residues: np.ndarray | None = None) -> np.ndarray:
    """Return the pairs of atoms that are as close as bonded ones, (M, 2).

    A hydrogen has one bond, to the heavy atom that is nearest in units of the sum of their radii, in its own residue if
    there is one; metals have none.
    """
    radii = covalent_radii(elements)
    organic = np.flatnonzero(~is_metal(elements) & (elements > 0))
    if len(organic) < 2:
        return np.empty((0, 2), dtype=np.int64)
    cutoff = 2 * radii[organic].max() + _SLACK
    i, j, distance = close_pairs(coords[organic], cutoff)
    i, j = organic[i], organic[j]
    near = (distance < radii[i] + radii[j] + _SLACK) & (distance > _SHORTEST)
    i, j, relative = i[near], j[near], (distance / (radii[i] + radii[j]))[near]
    light = (elements[i] == 1).astype(int) + (elements[j] == 1)
    heavy = np.stack([i, j], axis=1)[light == 0]
    # of the partners of a hydrogen the nearest
    one = light == 1
    hydrogen = np.where(elements[i] == 1, i, j)[one]
    partner = np.where(elements[i] == 1, j, i)[one]
    stranger = np.zeros(len(hydrogen), dtype=bool) if residues is None else residues[hydrogen] != residues[partner]
    order = np.lexsort((relative[one], stranger, hydrogen))
    _, first = np.unique(hydrogen[order], return_index=True)
    return np.concatenate([heavy, np.stack([partner, hydrogen], axis=1)[order][first]])
