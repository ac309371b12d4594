"""What Open Babel makes of a structure without hydrogens, where it differs from the chemistry.

libmolgrid reads a PDB file with Open Babel 3.1, which finds bond orders by geometry and only then adds hydrogens. Two
things follow that the networks of gnina have seen. A ring with a nitrogen, oxygen or sulfur is not found aromatic (the
double bonds cannot be placed while the hydrogens that decide are missing), and its nitrogens get none: the side chains
of histidine and tryptophan, adenine. And of the oxygens of an acid the one with the larger z holds the hydrogen,
whichever way the molecule is turned.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from gridgrad.mol.chemistry import Chemistry

__all__ = ["as_open_babel"]


def as_open_babel(chemistry: Chemistry, coords: np.ndarray) -> Chemistry:
    """Return the chemistry that Open Babel finds in a structure, where hydrogens are absent.

    Parameters
    ----------
    chemistry : Chemistry
        Of a molecule read from a file that gives no bond orders.
    coords : ndarray of float64, shape (N, 3)
        Positions in angstrom.
    """
    aromatic, orders = chemistry.aromatic.copy(), chemistry.orders.copy()
    hydrogens = chemistry.implicit_hydrogens.copy()
    explicit = chemistry.count_neighbors(chemistry.elements == 1) > 0
    for system in _aromatic_systems(chemistry):
        if (chemistry.elements[system] != 6).any() and not explicit[system].any():
            aromatic[system] = False
            hydrogens[system[chemistry.elements[system] == 7]] = 0
    _move_acid_hydrogens(chemistry, coords[:, 2], hydrogens)
    return replace(chemistry, aromatic=aromatic, orders=orders, implicit_hydrogens=hydrogens)


def _aromatic_systems(chemistry: Chemistry) -> list[np.ndarray]:
    """Return the atoms of each system of fused aromatic rings."""
    neighbors = defaultdict(list)
    for i, j in chemistry.bonds[chemistry.orders == 1.5].tolist():
        neighbors[i].append(j)
        neighbors[j].append(i)
    systems, seen = [], set()
    for start in neighbors:
        if start in seen:
            continue
        system, waiting = {start}, [start]
        while waiting:
            fresh = set(neighbors[waiting.pop()]) - system
            system |= fresh
            waiting += fresh
        seen |= system
        systems.append(np.array(sorted(system)))
    return systems


def _move_acid_hydrogens(chemistry: Chemistry, z: np.ndarray, hydrogens: np.ndarray) -> None:
    """Give the hydrogens of each acid's oxygens to those with the largest z."""
    heavy = chemistry.degree - chemistry.hydrogens
    explicit = chemistry.hydrogens - chemistry.implicit_hydrogens
    terminal = (chemistry.elements == 8) & (heavy == 1) & (explicit == 0) & (chemistry.charges == 0)
    oxygens = defaultdict(list)
    for i, j in chemistry.bonds[terminal[chemistry.bonds].any(axis=1)].tolist():
        center, oxygen = (i, j) if terminal[j] else (j, i)
        oxygens[center].append(oxygen)
    for center, group in oxygens.items():
        if chemistry.elements[center] in (6, 15, 16) and len(group) > 1:
            group.sort(key=lambda oxygen: z[oxygen])
            hydrogens[group] = np.sort(hydrogens[group])
