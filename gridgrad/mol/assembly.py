"""The chemistry of a structure that gives elements, positions and names: bonds, orders, charges, without guessing.

Residues whose names are known take bonds, orders and charges from `gridgrad.mol.residues`, by the names of their atoms
or, where these are others, by their connections. What is not known takes its bonds from the records of the file, or
else from distances, and its orders from geometry. Between residues there are the bonds of a chain where an atom of the
residue alone is missing, disulfides, and what the file records. Nothing is protonated: hydrogens that the file lacks
fill the valences of neutral residues.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gridgrad.extras import require
from gridgrad.mol.elements import SYMBOLS
from gridgrad.mol.geometry import bonds_by_distance, covalent_radii, is_metal
from gridgrad.mol.orders import perceive_orders
from gridgrad.mol.residues import Template, match_graph, match_names, template

__all__ = ["assemble"]

_LONGEST = 3.0
"""Atoms of one residue farther apart than this, in angstrom, are not bonded, whatever the template says."""
_STRETCHED = 2.3
"""A bond longer than this, in angstrom, makes the names of its atoms doubtful; iodine's are shorter."""
_VALENCE = {7: 3, 8: 2}
_MOST = {5: 4, 6: 4, 7: 3, 8: 2, 9: 1, 15: 5, 16: 6, 17: 1, 35: 1, 53: 1}
"""Bonds that an atom may have before it takes one to another residue."""


@dataclass
class _Draft:
    """Atoms and the bonds found so far."""

    elements: list[int]
    coords: np.ndarray
    radii: list[float]
    charges: list[int]
    bonds: list[dict[int, int]]
    """For each atom its neighbours and the orders."""
    open: set[int] = field(default_factory=set)
    """Atoms whose residue alone has a neighbour that is not in the file: there a chain may go on."""
    known: set[int] = field(default_factory=set)
    """Atoms that a template describes."""
    alone: set[int] = field(default_factory=set)
    """Oxygens of water and ions: they have no bonds to other residues."""

    def add(self, i: int, j: int, order: int = 1) -> None:
        self.bonds[i][j] = self.bonds[j][i] = order

    def valence(self, i: int) -> int:
        return sum(self.bonds[i].values())

    def hydrogens(self, i: int) -> int:
        return sum(self.elements[j] == 1 for j in self.bonds[i])

    def spare(self, i: int) -> bool:
        """Return whether an atom has room for another bond."""
        return self.valence(i) < _MOST.get(self.elements[i], 4)

    def relative_lengths(self, pairs: Sequence[Sequence[int]]) -> list[float]:
        """Return the distances of pairs of atoms in units of the sum of their covalent radii."""
        return [self.distance(i, j) / (self.radii[i] + self.radii[j]) for i, j in pairs]

    def distance(self, i: int, j: int) -> float:
        return float(np.linalg.norm(self.coords[i] - self.coords[j]))


def assemble(elements: np.ndarray, coords: np.ndarray, bonds: np.ndarray | None = None, sites: Any = None) -> Any:
    """Return the unsanitized RDKit molecule of atoms whose bonds no file gives in full.

    Parameters
    ----------
    elements : ndarray of int64, shape (N,)
        Atomic numbers.
    coords : ndarray of float64, shape (N, 3)
        Positions in angstrom.
    bonds : ndarray of int64, shape (M, 2), optional
        All bonded pairs, where they are known; otherwise distances tell them.
    sites : Sites, optional
        Names, residues, charges and recorded bonds.
    """
    n = len(elements)
    draft = _Draft(elements.tolist(), coords, covalent_radii(elements).tolist(), [0] * n, [{} for _ in range(n)])
    residue = np.zeros(n, dtype=np.int64) if sites is None else sites.residues
    links = np.empty((0, 2), dtype=np.int64) if sites is None else sites.links
    near = bonds_by_distance(elements, coords, residue) if bonds is None else bonds
    for pairs in (links[(elements[links] == 1).sum(axis=1) == 1], near[(elements[near] == 1).any(axis=1)]):
        for i, j in pairs.tolist():
            if not draft.bonds[i if elements[i] == 1 else j]:  # a hydrogen has one bond, by preference the recorded one
                draft.add(i, j)
    heavy = near[(elements[near] != 1).all(axis=1)]
    same = residue[heavy[:, 0]] == residue[heavy[:, 1]]
    for atoms, inside, recorded in _by_residue(residue, heavy[same], links):
        name = "" if sites is None else str(sites.residue_names[atoms[0]])
        names = ("",) * len(atoms) if sites is None else tuple(sites.atom_names[atoms].tolist())
        given = None if sites is None else sites.templates.get(name)
        _describe(draft, given, name, names, atoms, inside, recorded)
    if sites is not None:
        for i in np.flatnonzero(sites.charges).tolist():
            draft.charges[i] = int(sites.charges[i])
    _join(draft, heavy[~same], links[residue[links[:, 0]] != residue[links[:, 1]]])
    _settle(draft, residue)
    return _to_rdkit(draft, sites)


def _by_residue(residue: np.ndarray, inside: np.ndarray, links: np.ndarray) -> Any:
    """Yield for each residue its atoms, the close pairs inside of it, and the recorded pairs inside of it."""
    order = np.argsort(residue, kind="stable")
    bounds = np.flatnonzero(np.diff(residue[order])) + 1
    links = links[residue[links[:, 0]] == residue[links[:, 1]]]
    groups = []
    for pairs in (inside, links):
        of = residue[pairs[:, 0]]
        sort = np.argsort(of, kind="stable")
        groups.append((pairs[sort], of[sort]))
    for atoms in np.split(order, bounds):
        number = residue[atoms[0]]
        yield (
            atoms, *(pairs[slice(*np.searchsorted(of, [number, number + 1]))].tolist() for pairs, of in groups)
        )  # fmt: skip


def _describe(
    draft: _Draft,
    given: Template | None,
    name: str,
    names: Sequence[str],
    atoms: np.ndarray,
    inside: list[list[int]],
    recorded: list[list[int]],
) -> None:
    """Set bonds, orders and charges inside of a residue."""
    numbers = atoms.tolist()
    heavy = [i for i in numbers if draft.elements[i] != 1]
    if not heavy:
        return
    local = {i: k for k, i in enumerate(heavy)}
    elements = tuple(draft.elements[i] for i in heavy)
    heavy_names = tuple(n for n, i in zip(names, numbers, strict=True) if draft.elements[i] != 1)
    for known in (given, template(name, len(heavy)) if name else None):
        if known is None:
            continue
        match = match_names(known, heavy_names, elements)
        if match is None or _too_long(draft, known, match, heavy):
            near = [(local[i], local[j]) for i, j in inside]
            match = match_graph(known, elements, near, draft.relative_lengths(inside)) or match
        if match is not None:
            atom = dict(zip(match, heavy, strict=True))
            if all(order for _, _, order in known.bonds):
                _apply(draft, known, atom)
                return
            # only who is bonded is known
            inside = [[atom[i], atom[j]] for i, j, _ in known.bonds if i in atom and j in atom]
    if len(heavy) == 1:
        return
    bonds, orders = _recorded_bonds(heavy, recorded)
    pairs: Sequence[Sequence[int]] = inside if bonds is None else bonds
    indices = np.array([[local[i], local[j]] for i, j in pairs], dtype=np.int64).reshape(-1, 2)
    if orders is None:
        hydrogens = np.array([draft.hydrogens(i) for i in heavy])
        found, charges = perceive_orders(np.array(elements), draft.coords[heavy], indices, hydrogens)
        orders = found.tolist()
        for i, charge in zip(heavy, charges.tolist(), strict=True):
            draft.charges[i] = charge
    for (i, j), order in zip(pairs, orders, strict=True):
        draft.add(i, j, order)


def _too_long(draft: _Draft, known: Template, match: Sequence[int], heavy: Sequence[int]) -> bool:
    """Return whether a bond of the template is so long that the names of its atoms are probably others'."""
    atom = dict(zip(match, heavy, strict=True))
    pairs = [(atom[i], atom[j]) for i, j, _ in known.bonds if i in atom and j in atom]
    return any(draft.distance(i, j) > _STRETCHED for i, j in pairs)


def _apply(draft: _Draft, known: Template, atom: Mapping[int, int]) -> None:
    """Take bonds and charges from a template; `atom` gives the atom for a number of the template."""
    draft.known.update(atom.values())
    if len(known.names) == 1 and (known.charges[0] or known.elements[0] == 8):
        draft.alone.update(atom.values())
    for number, i in atom.items():
        draft.charges[i] = known.charges[number]
    for begin, end, order in known.bonds:
        one, other = atom.get(begin), atom.get(end)
        if one is not None and other is not None:
            if draft.distance(one, other) < _LONGEST:
                draft.add(one, other, order)
        elif one is not None:
            draft.open.add(one)
        elif other is not None:
            draft.open.add(other)
    for i in atom.values():  # an aldehyde, as caps of chains are in the dictionary
        oxygens = [j for j, order in draft.bonds[i].items() if order == 2 and draft.elements[j] == 8]
        if oxygens and draft.elements[i] == 6 and draft.valence(i) == 3:
            draft.open.add(i)


def _recorded_bonds(
    heavy: Sequence[int], recorded: Sequence[Sequence[int]]
) -> tuple[list[tuple[int, int]] | None, list[int] | None]:
    """Return the recorded bonds of a residue if they hold all of it together, and their orders if they tell any."""
    count: dict[tuple[int, int], int] = {}
    for i, j in recorded:
        count[min(i, j), max(i, j)] = count.get((min(i, j), max(i, j)), 0) + 1
    inside = set(heavy)
    pairs = [(i, j) for i, j in count if i in inside and j in inside]
    reached, waiting = {heavy[0]}, [heavy[0]]
    neighbors: dict[int, list[int]] = {}
    for i, j in pairs:
        neighbors.setdefault(i, []).append(j)
        neighbors.setdefault(j, []).append(i)
    while waiting:
        for j in neighbors.get(waiting.pop(), ()):
            if j not in reached:
                reached.add(j)
                waiting.append(j)
    if len(reached) < len(heavy):
        return None, None
    orders = [min(count[pair], 3) for pair in pairs]
    return pairs, orders if max(orders) > 1 else None


def _join(draft: _Draft, contacts: np.ndarray, links: np.ndarray) -> None:
    """Set the bonds between residues, of recorded pairs and of close ones."""
    z = draft.elements
    metal = is_metal(np.array(z))
    for i, j in links.tolist():
        if not (metal[i] or metal[j] or 1 in (z[i], z[j])) and draft.distance(i, j) < _LONGEST:
            draft.add(i, j)
            draft.open -= {i, j}
    off = {(i, j): abs(draft.distance(i, j) - draft.radii[i] - draft.radii[j]) for i, j in contacts.tolist()}
    for i, j in sorted(off, key=lambda pair: (off[pair], pair)):
        if j in draft.bonds[i] or draft.alone & {i, j} or not (draft.spare(i) and draft.spare(j)):
            continue
        closed = i in draft.known and j in draft.known and not draft.open & {i, j}
        disulfide = z[i] == z[j] == 16 and len(draft.bonds[i]) == len(draft.bonds[j]) == 1
        if closed and not disulfide:
            continue
        draft.add(i, j)
        draft.open -= {i} if i in draft.open else {j}


def _settle(draft: _Draft, residue: np.ndarray) -> None:
    """Let the hydrogens of the file decide where double bonds and charges are."""
    z, bonds = draft.elements, draft.bonds
    explicit = {int(residue[j]) for i, element in enumerate(z) if element == 1 for j in bonds[i] if z[j] in (7, 8, 16)}
    for i, charge in enumerate(draft.charges):
        if charge:
            _follow_charge(draft, i)
    for i, element in enumerate(z):
        if element in _VALENCE and draft.charges[i] == 0 and draft.valence(i) > _VALENCE[element]:
            _shift_or_charge(draft, i)
        elif element == 16 and draft.charges[i] == 0 and len(bonds[i]) == draft.valence(i) == 3:
            draft.charges[i] = 1
        elif element == 5 and draft.charges[i] == 0 and draft.valence(i) == 4:
            draft.charges[i] = -1
    for i in range(len(z)):
        if z[i] == 8 and draft.charges[i] == 0 and draft.valence(i) == 1:
            (j,) = bonds[i]
            if z[j] == 7 and draft.charges[j] == 1:  # nitro groups, N-oxides
                draft.charges[i] = -1
    for i in range(len(z)):
        oxo = [j for j in bonds[i] if z[j] == 8 and len(bonds[j]) == 1 and draft.charges[j] == 0]
        double = sum(bonds[i][j] == 2 for j in oxo)
        if double and len(oxo) > double:  # an acid without its hydrogen: the longer bond is the single one
            oxo.sort(key=lambda j: draft.distance(i, j))
            for number, j in enumerate(oxo):
                draft.add(i, j, 2 if number < double else 1)
                if number >= double and int(residue[j]) in explicit:
                    draft.charges[j] = -1


def _follow_charge(draft: _Draft, i: int) -> None:
    """Move a double bond away from an anionic oxygen, or to a cationic nitrogen, that the file has charged."""
    z, bonds, charges = draft.elements, draft.bonds, draft.charges
    anion = z[i] == 8 and charges[i] == -1 and draft.valence(i) == 2
    cation = z[i] == 7 and charges[i] == 1 and draft.valence(i) == len(bonds[i]) < 4
    for c, order in bonds[i].items() if anion or cation else ():
        for k, other in bonds[c].items():
            if charges[k] == 0 and k != i and z[k] == z[i] and (order, other) == ((2, 1) if anion else (1, 2)):
                draft.add(i, c, other)
                draft.add(c, k, order)
                return


def _shift_or_charge(draft: _Draft, i: int) -> None:
    """Move the double bond of a nitrogen or oxygen that its hydrogens leave no room for, or else charge it."""
    z, bonds = draft.elements, draft.bonds
    for c in [j for j, order in bonds[i].items() if order == 2]:
        for k, order in bonds[c].items():
            if k != i and order == 1 and z[k] in _VALENCE and draft.valence(k) < _VALENCE[z[k]] + draft.charges[k]:
                draft.add(i, c, 1)
                draft.add(c, k, 2)
                return
    if draft.valence(i) == _VALENCE[z[i]] + 1:
        draft.charges[i] = 1


def _to_rdkit(draft: _Draft, sites: Any) -> Any:
    chem = require("rdkit.Chem", "mol")
    molecule = chem.RWMol()
    alone = is_metal(np.array(draft.elements))
    for i, element in enumerate(draft.elements):
        atom = chem.Atom(element)
        atom.SetFormalCharge(draft.charges[i])
        atom.SetNoImplicit(bool(alone[i] or element == 1 or (draft.charges[i] and not draft.bonds[i])))
        if sites is not None:
            atom.SetMonomerInfo(_residue_info(chem, sites, i, element))
        molecule.AddAtom(atom)
    kinds = {1: chem.BondType.SINGLE, 2: chem.BondType.DOUBLE, 3: chem.BondType.TRIPLE}
    for i, neighbors in enumerate(draft.bonds):
        for j, order in neighbors.items():
            if i < j:
                molecule.AddBond(i, j, kinds[order])
    conformer = chem.Conformer(len(draft.elements))
    conformer.SetPositions(np.ascontiguousarray(draft.coords, dtype=np.float64))
    conformer.Set3D(True)
    molecule.AddConformer(conformer)
    return molecule.GetMol()


def _residue_info(chem: Any, sites: Any, i: int, element: int) -> Any:
    name, number = str(sites.atom_names[i]), re.fullmatch(r"(-?\d+)(.?)", str(sites.numbers[i]))
    first_column = len(SYMBOLS[element]) == 2 or len(name) > 3
    return chem.AtomPDBResidueInfo(
        f"{name:<4}" if first_column else f" {name:<3}",
        residueName=str(sites.residue_names[i]),
        residueNumber=int(number[1]) if number else 0,
        insertionCode=number[2] if number else "",
        chainId=str(sites.chains[i]),
    )
