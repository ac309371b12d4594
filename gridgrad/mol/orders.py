"""Bond orders from geometry, for molecules that come as elements and positions only.

Unsaturated are, where all hydrogens are there, the atoms with fewer neighbours than bonds; otherwise those that lie in
a plane with their neighbours, are linear, or have a bond too short for a single one. Among them double bonds are laid
from the shortest on, and then moved until as few as possible are left over.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from gridgrad.mol.geometry import covalent_radii

__all__ = ["perceive_orders"]

_VALENCE = {5: 3, 6: 4, 7: 3, 8: 2, 9: 1, 14: 4, 15: 3, 16: 2, 17: 1, 33: 3, 34: 2, 35: 1, 52: 2, 53: 1}
_LONGEST_DOUBLE = {(6, 6): 1.46, (6, 7): 1.41, (6, 8): 1.31, (7, 7): 1.36, (7, 8): 1.31, (6, 16): 1.72}
"""A bond longer than this, in angstrom, is single."""
_LINEAR, _PLANAR = 155.0, 350.0  # degrees: an angle, the sum of three
_OFF_PLANE = 0.08  # angstrom
_WITH_HYDROGEN = {5: 108.5, 6: 121.5}  # degrees: wider is the angle of a ring at a nitrogen with a hydrogen
_LONGEST_AROMATIC = 0.98  # in units of a single bond
_OXO = {15: 1, 16: 2, 17: 3, 33: 1, 34: 2, 35: 3, 53: 3}
"""Double bonds to terminal oxygens that a hypervalent atom may have."""


class _Fragment:
    """Heavy atoms with their hydrogens counted, and what is known of their bonds so far."""

    def __init__(self, elements: np.ndarray, coords: np.ndarray, bonds: np.ndarray, hydrogens: np.ndarray):
        self.z = elements.tolist()
        self.coords = coords
        self.hydrogens = hydrogens.tolist()
        self.complete = any(h and z == 6 for h, z in zip(self.hydrogens, self.z, strict=True))
        self.neighbors: list[list[int]] = [[] for _ in self.z]
        self.order: dict[tuple[int, int], int] = {}
        self.length: dict[tuple[int, int], float] = {}
        self.charges = [0] * len(self.z)
        for i, j in bonds.tolist():
            self.neighbors[i].append(j)
            self.neighbors[j].append(i)
            self.order[i, j] = self.order[j, i] = 1
            self.length[i, j] = self.length[j, i] = float(np.linalg.norm(coords[i] - coords[j]))
        self.rings = _planar_rings(self)
        self.may_be_positive: set[int] = set()
        """Nitrogens with three bonds that may take a fourth: those of pyridinium, guanidinium."""

    def free(self, i: int) -> int:
        """Return how many more bonds an atom may have."""
        valence = _VALENCE.get(self.z[i], 0) + (self.charges[i] if self.z[i] in (7, 8) else 0)
        return valence - self.hydrogens[i] - sum(self.order[i, j] for j in self.neighbors[i])

    def terminal(self, i: int) -> bool:
        return len(self.neighbors[i]) == 1 and self.hydrogens[i] == 0

    def raise_order(self, i: int, j: int, by: int = 1) -> None:
        self.order[i, j] += by
        self.order[j, i] = self.order[i, j]

    def angles(self, i: int) -> list[float]:
        """Return the angles between the bonds of an atom in degrees."""
        v = self.coords[self.neighbors[i]] - self.coords[i]
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        cosine = np.clip((v @ v.T)[np.triu_indices(len(v), 1)], -1, 1)
        return np.degrees(np.arccos(cosine)).tolist()

    def linear(self, i: int) -> bool:
        degree = len(self.neighbors[i]) + self.hydrogens[i]
        return degree == 2 and len(self.neighbors[i]) == 2 and self.angles(i)[0] > _LINEAR


def perceive_orders(
    elements: np.ndarray, coords: np.ndarray, bonds: np.ndarray, hydrogens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the orders of bonds between heavy atoms and the formal charges of the atoms.

    Parameters
    ----------
    elements : ndarray of int64, shape (N,)
        Atomic numbers of the heavy atoms.
    coords : ndarray of float64, shape (N, 3)
        Positions in angstrom.
    bonds : ndarray of int64, shape (M, 2)
        Bonded pairs.
    hydrogens : ndarray of int64, shape (N,)
        Hydrogens of each atom that are known. If any of them is on a carbon, all are.

    Returns
    -------
    orders : ndarray of int64, shape (M,)
        1, 2 or 3.
    charges : ndarray of int64, shape (N,)
        Formal charges.
    """
    fragment = _Fragment(elements, coords, bonds, hydrogens)
    _set_groups(fragment)
    for i, z in enumerate(fragment.z):
        in_ring = i in fragment.rings and len(fragment.neighbors[i]) == 3
        if z == 7 and fragment.charges[i] == fragment.free(i) == 0 and (fragment.complete or in_ring):
            fragment.may_be_positive.add(i)
    unsaturated = {i for i in range(len(elements)) if _unsaturated(fragment, i)}
    _lay_double_bonds(fragment, _candidates(fragment, unsaturated))
    _raise_linear(fragment, unsaturated)
    if fragment.complete:
        for i, z in enumerate(fragment.z):
            if z in (8, 16) and fragment.terminal(i) and fragment.free(i) == 1:
                fragment.charges[i] = -1
    orders = [fragment.order[i, j] for i, j in bonds.tolist()]
    return np.array(orders, dtype=np.int64), np.array(fragment.charges, dtype=np.int64)


def _set_groups(f: _Fragment) -> None:
    """Set the double bonds and charges of oxo acids, nitro groups, N-oxides and quaternary nitrogens."""
    for i, z in enumerate(f.z):
        degree = len(f.neighbors[i]) + f.hydrogens[i]
        oxo = sorted((j for j in f.neighbors[i] if f.z[j] in (8, 16) and f.terminal(j)), key=lambda j: f.length[i, j])
        if z in _OXO and degree > _VALENCE[z] - (z == 15):
            for j in oxo[: min(_OXO[z], degree - _VALENCE[z] + (z == 15))]:
                f.raise_order(i, j)
        elif z == 7 and f.linear(i) and any(f.z[j] == 7 and f.terminal(j) for j in f.neighbors[i]):
            f.charges[i] = 1  # azides, diazo compounds
            for j in f.neighbors[i]:
                f.raise_order(i, j)
                f.charges[j] = -1 if f.terminal(j) and f.z[j] == 7 else 0
        elif z == 7 and degree == 4:
            f.charges[i] = 1
            for j in oxo:
                f.charges[j] = -1
        elif z == 7 and degree == 3 and len(f.neighbors[i]) == 3 and oxo:
            if len(oxo) == 2:
                f.raise_order(i, oxo[0])
            elif i not in f.rings or f.length[i, oxo[0]] > _LONGEST_DOUBLE[7, 8] + 0.07:
                continue
            f.charges[i], f.charges[oxo[-1]] = 1, -1


def _unsaturated(f: _Fragment, i: int) -> bool:
    if i in f.may_be_positive:
        return True
    if f.free(i) < 1 or f.charges[i] < 0 or f.z[i] not in (5, 6, 7, 8, 16):
        return False
    if f.complete:
        return True
    degree = len(f.neighbors[i]) + f.hydrogens[i]
    if i in f.rings:
        return True
    if degree == 3:
        return f.z[i] == 7 or (len(f.neighbors[i]) == 3 and sum(f.angles(i)) > _PLANAR)
    return degree < 3


def _candidates(f: _Fragment, unsaturated: set[int]) -> list[tuple[int, int]]:
    """Return the bonds that may be double, from the shortest on, relative to a single bond."""
    radii = covalent_radii(np.array(f.z)).tolist()
    relative = {}
    for (i, j), length in f.length.items():
        if i > j or i not in unsaturated or j not in unsaturated:
            continue
        pair = min(f.z[i], f.z[j]), max(f.z[i], f.z[j])
        single = radii[i] + radii[j]
        if f.complete or (i in f.rings and j in f.rings) or length < _LONGEST_DOUBLE.get(pair, 0.93 * single):
            relative[i, j] = length / single
    return sorted(relative, key=lambda bond: (relative[bond], bond))


def _worth(f: _Fragment, i: int) -> float:
    """Return how much an atom wants a double bond, below zero if it would rather have a hydrogen."""
    if i in f.may_be_positive:
        return -5
    if f.complete or f.z[i] == 6:
        return 10
    if f.z[i] != 7:
        return 5
    if i in f.rings:  # a hydrogen widens the angle at its nitrogen
        return min(4.0, (_WITH_HYDROGEN[f.rings[i]] - f.angles(i)[0]) / 2)
    shortest = min(f.length[i, j] for j in f.neighbors[i])
    return 10 if shortest < 1.22 else 3 if shortest < 1.32 else -1


def _lay_double_bonds(f: _Fragment, bonds: list[tuple[int, int]]) -> None:
    """Match unsaturated atoms in pairs, so that those matched are worth as much as possible.

    Short bonds first; then each atom left over, the worthiest first, looks along paths of alternating bonds for another
    one left over, or for one that is worth less and gives its place.
    """
    partner: dict[int, int] = {}
    edges: dict[int, list[int]] = defaultdict(list)
    worth = {i: _worth(f, i) for bond in bonds for i in bond}
    for i, j in bonds:
        edges[i].append(j)
        edges[j].append(i)
        if i not in partner and j not in partner and min(worth[i], worth[j]) > 0:
            partner[i], partner[j] = j, i
    for start in sorted(worth, key=lambda i: (-worth[i], i)):
        if start in partner or worth[start] < 0:
            continue
        came: dict[int, int] = {start: -1}  # atoms that the path may leave single -> the one before, two bonds back
        waiting, ends = [start], []
        while waiting:
            i = waiting.pop(0)
            for j in edges[i]:
                k = partner.get(j)
                if k is None and j != start:
                    ends.append((worth[start] + worth[j], i, j))
                elif k is not None and k not in came and j not in came:
                    came[k] = i
                    waiting.append(k)
        ends += [(worth[start] - worth[k], came[k], -k) for k in came if k != start]
        gain, i, j = max(ends, default=(0, -1, -1))
        if gain <= 0:
            continue
        if j < 0:  # the atom -j gives up its partner to i
            k = -j
            j = partner.pop(k)
        while True:
            before = came[i]
            freed = partner.get(i, -1)
            partner[i], partner[j] = j, i
            if before < 0:
                break
            i, j = before, freed
    for i, j in partner.items():
        if i in f.may_be_positive:
            f.charges[i] = 1
        if i < j:
            f.raise_order(i, j)


def _raise_linear(f: _Fragment, unsaturated: set[int]) -> None:
    """Make triple bonds, or a second double bond, at atoms that are linear."""
    sp = {i for i in unsaturated if f.free(i) > 0 and (f.linear(i) or len(f.neighbors[i]) + f.hydrogens[i] < 2)}
    sp |= {i for i in unsaturated if f.free(i) > 0 and f.complete}
    for (i, j), length in sorted(f.length.items(), key=lambda item: item[1]):
        if i < j and i in sp and j in sp and f.free(i) > 0 and f.free(j) > 0:
            triple = f.order[i, j] == 2 and length < 0.84 * float(covalent_radii(np.array([f.z[i], f.z[j]])).sum())
            if triple or (f.order[i, j] == 1 and (f.linear(i) or f.linear(j))):
                f.raise_order(i, j)


def _planar_rings(f: _Fragment) -> dict[int, int]:
    """Return the atoms of rings of five and six that lie in a plane, with the size of the largest one."""
    atoms: dict[int, int] = {}
    for start in range(len(f.z)):
        for path in _rings_from(f, start):
            points = f.coords[path] - f.coords[path].mean(axis=0)
            off_plane = np.abs(np.linalg.svd(points)[2][2] @ points.T).max()
            if off_plane < _OFF_PLANE and all(_like_aromatic(f, path[k - 1], path[k]) for k in range(len(path))):
                atoms.update((k, max(len(path), atoms.get(k, 0))) for k in path)
    return atoms


def _rings_from(f: _Fragment, start: int) -> list[list[int]]:
    """Return the rings of five and six whose smallest atom is `start`, each in both directions."""
    rings, paths = [], [[start]]
    while paths:
        path = paths.pop()
        for k in f.neighbors[path[-1]]:
            if k == start and len(path) in (5, 6):
                rings.append(path)
            elif k > start and k not in path and len(path) < 6:
                paths.append([*path, k])
    return rings


def _like_aromatic(f: _Fragment, i: int, j: int) -> bool:
    """Return whether the bond is short enough, and its second atom flat enough, for an aromatic ring."""
    degree = len(f.neighbors[j]) + f.hydrogens[j]
    flat = degree < 3 or (degree == 3 and (f.hydrogens[j] > 0 or sum(f.angles(j)) > _PLANAR))
    single = float(covalent_radii(np.array([f.z[i], f.z[j]])).sum())
    return flat and f.length[i, j] < _LONGEST_AROMATIC * single
