"""Which atoms of a structure are alternative locations, and which of them stay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gridgrad.mol.names import names_are_unique

__all__ = ["Site", "kept_sites"]


class Site(NamedTuple):
    """What decides whether an atom is an alternative of another."""

    place: tuple[str, ...]
    """Chain, residue number with insertion code, segment."""
    residue: str
    """Name of the residue."""
    atom: str
    """Name of the atom, that of hydrogen for deuterium: the two may share a place."""
    label: str
    """Label of the alternative location, empty if it has none."""
    occupancy: float


@dataclass
class _Run:
    """Consecutive atoms of a file that name the same place."""

    place: tuple[str, ...]
    atoms: list[int] = field(default_factory=list)
    names: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    """How often each residue name, atom name and label occur."""

    @property
    def labels(self) -> set[str]:
        return {label for _, _, label in self.names}


def _runs(sites: Sequence[Site]) -> list[_Run]:
    runs: list[_Run] = []
    run = None
    for index, (place, residue, atom, label, _) in enumerate(sites):
        key = residue, atom, label
        if run is None or run.place != place or (key in run.names and _begins_another(*key)):
            run = _Run(place)
            runs.append(run)
        run.atoms.append(index)
        run.names[key] += 1
    return runs


def _begins_another(residue: str, atom: str, label: str) -> bool:
    """Whether an atom that its residue already has must be one of the next; hydrogens of one name are not rare."""
    return names_are_unique(residue) and not atom.lstrip("0123456789").startswith(("H", "D"))


def _residues(sites: Sequence[Site], runs: list[_Run]) -> np.ndarray:
    numbers = np.empty(len(sites), dtype=np.int64)
    count = 0
    for run in runs:
        of_name: dict[str, int] = {}
        for index in run.atoms:
            numbers[index] = of_name.setdefault(sites[index].residue, count + len(of_name))
        count += len(of_name)
    return numbers


def kept_sites(sites: Sequence[Site]) -> tuple[np.ndarray, np.ndarray]:
    """Keep one conformer of each group of alternative ones, and tell the residues apart.

    A conformer is the atoms of a residue that share a label; an atom without one belongs to all of them, unless one has
    an atom of that name. Two conformers are alternatives if both have an atom of the same name, or if they are
    different residues at one place (microheterogeneity). Of each group the conformer with the highest mean occupancy
    stays, the first among equals, as a whole. Whatever is no alternative stays: atoms whose names or residue numbers
    repeat without a label, and conformers that have no rival.

    A residue is a run of atoms with the same place and residue name, and in proteins, nucleic acids and water without a
    repeated heavy atom: files repeat numbers, as of waters beyond 9999 and of chains without a name, and a ligand may
    have the number of a residue of its protein.

    Parameters
    ----------
    sites : sequence of Site
        The atoms in the order of the file.

    Returns
    -------
    kept : ndarray of bool, shape (N,)
        True for the atoms that stay.
    residues : ndarray of int64, shape (N,)
        The residue of each atom, numbered in the order of the file, from 0.
    """
    kept = np.ones(len(sites), dtype=bool)
    runs = _runs(sites)
    for conformers in _conformers(sites, runs):
        for group in _alternatives(conformers):
            occupancies = [np.mean([sites[index].occupancy for index in atoms]) for atoms in group]
            best = int(np.argmax(occupancies))  # the first among equals
            for number, atoms in enumerate(group):
                kept[atoms] = number == best
    return kept, _residues(sites, runs)


@dataclass
class _Conformer:
    """Atoms of a residue with one label."""

    residue: str
    label: str
    atoms: list[int] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    whole: bool = True  # no atom of the residue is common to all conformers

    def rivals(self, other: _Conformer) -> bool:
        if self.residue == other.residue:
            return not self.names.isdisjoint(other.names)
        return self.whole and other.whole


def _conformers(sites: Sequence[Site], runs: list[_Run]) -> Iterator[list[_Conformer]]:
    """Yield the conformers of each place that has any, in the order of the file."""
    found: dict[tuple[str, ...], list[dict[tuple[str, str], _Conformer]]] = defaultdict(list)
    for run in runs:
        if run.labels == {""}:
            continue
        labelled = {(residue, atom) for residue, atom, label in run.names if label}
        shared = set()  # residues with atoms that are common to their conformers
        conformers: dict[tuple[str, str], _Conformer] = {}
        for index in run.atoms:
            residue, atom, label = sites[index][1:4]
            if not label and ((residue, atom) not in labelled or run.names[residue, atom, label] > 1):
                shared.add(residue)
                continue
            conformer = conformers.setdefault((residue, label), _Conformer(residue, label))
            conformer.atoms.append(index)
            conformer.names.add(atom)
        of_label: dict[str, set[str]] = defaultdict(set)
        for residue, label in conformers:
            of_label[label].add(residue)
        for (residue, label), conformer in conformers.items():
            conformer.whole = residue not in shared and of_label[label] == {residue}
        # a later run may bring further conformers of a residue: all of its atoms have labels that are new there
        earlier = found[run.place]
        if earlier and run.labels.isdisjoint({"", *(label for _, label in earlier[-1])}):
            earlier[-1].update(conformers)
        else:
            earlier.append(conformers)
    for places in found.values():
        for conformers in places:
            yield list(conformers.values())


def _alternatives(conformers: list[_Conformer]) -> Iterator[list[list[int]]]:
    """Yield the atoms of the conformers that are alternatives of one another, group by group."""
    rest = conformers
    while rest:
        group, rest = rest[:1], rest[1:]
        for member in group:  # grows while it is gone through
            group += [other for other in rest if member.rivals(other)]
            rest = [other for other in rest if not member.rivals(other)]
        if len(group) > 1:
            yield [member.atoms for member in group]
