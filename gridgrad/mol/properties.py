"""A typer of float weights: elements, and properties that overlap with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridgrad.mol.elements import SYMBOLS, VDW_RADII, atomic_number
from gridgrad.mol.gnina import GNINA_TYPES, smina_types
from gridgrad.mol.molecule import Molecule

__all__ = ["PROPERTIES", "PropertyTyper"]

PROPERTIES = ("aromatic", "hydrophobe", "donor", "acceptor", "formal_charge", "partial_charge")
"""What `PropertyTyper` can weigh."""


def _flags(test: str) -> np.ndarray:
    return np.array([test in kind.name for kind in GNINA_TYPES])


_METAL = np.isin(np.arange(len(GNINA_TYPES)), np.arange(21, 27))
_OF_TYPE = {
    "aromatic": _flags("Aromatic"),
    "hydrophobe": _flags("XSHydrophobe") | np.isin(np.arange(len(GNINA_TYPES)), [17, 18, 19, 20, 27]),
    "donor": _flags("Donor") | _METAL,
    "acceptor": _flags("Acceptor"),
}


@dataclass(frozen=True)
class PropertyTyper:
    """Vector types with weights of any size and sign: elements and properties.

    An atom has weight 1 in the channel of its element, and its properties in theirs. They are smina's: a donor is a
    nitrogen or oxygen with a hydrogen, or a metal; an acceptor, as for `GninaTyper`; a hydrophobe, a carbon with no
    neighbour but carbon and hydrogen, a halogen or boron. Partial charges are Gasteiger's, by RDKit; the charges of
    hydrogens that are not atoms of the molecule are added to their neighbours.

    Parameters
    ----------
    elements : sequence of str, optional
        A channel for each; several symbols separated by spaces share one.
    other : str or None, default "other"
        Name of the channel of all other elements; None: they have no weight but their properties.
    properties : sequence of str
        Some of `PROPERTIES`, in the order of their channels.
    radii : {"vdw", "xs", "covalent"}, default "vdw"
        Radii: `VDW_RADII`, or smina's of one of two kinds. An element without a radius in the first has smina's.
    """

    elements: tuple[str, ...] = ("H", "C", "N", "O", "S Se", "P", "F Cl Br I")
    other: str | None = "other"
    properties: tuple[str, ...] = ("aromatic", "donor", "acceptor", "partial_charge")
    radii: str = "vdw"

    def __post_init__(self):
        symbols = [symbol for group in self.elements for symbol in group.split()]
        numbers = [atomic_number(symbol) for symbol in symbols]
        if len(set(numbers)) < len(numbers) or 0 in numbers or not all(map(str.strip, self.elements)):
            raise ValueError(f"elements: got {self.elements}, expected groups of symbols, each symbol once")
        wrong = [name for name in self.properties if name not in PROPERTIES or self.properties.count(name) > 1]
        if wrong:
            raise ValueError(f"properties: got {wrong[0]!r}, expected some of {', '.join(PROPERTIES)}, each once")
        if self.radii not in ("vdw", "xs", "covalent"):
            raise ValueError(f"radii: got {self.radii!r}, expected 'vdw', 'xs' or 'covalent'")
        if not self.channels or len(set(self.channels)) < len(self.channels):
            raise ValueError(f"elements: got the channels {self.channels}, expected at least one, each name once")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels: the elements, the other ones, the properties."""
        other = () if self.other is None else (self.other,)
        return (*("_".join(group.split()) for group in self.elements), *other, *self.properties)

    def __call__(self, molecule: Molecule) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return weights (N, T), radii (N,) and channel names.

        Raises
        ------
        MoleculeError
            If an atom is a dummy.
        """
        kinds = smina_types(molecule)
        channel = np.full(len(SYMBOLS), -1 if self.other is None else len(self.elements))
        for index, group in enumerate(self.elements):
            channel[[atomic_number(symbol) for symbol in group.split()]] = index
        columns = [channel[molecule.elements] == index for index in range(len(self.channels) - len(self.properties))]
        for name in self.properties:
            if name in _OF_TYPE:
                columns.append(_OF_TYPE[name][kinds])
            elif name == "formal_charge":
                columns.append(molecule.chemistry().charges)
            else:
                columns.append(molecule.partial_charges())
        return np.stack(columns, axis=1).astype(np.float64), self._radii(molecule, kinds), self.channels

    def _radii(self, molecule: Molecule, kinds: np.ndarray) -> np.ndarray:
        covalent = self.radii == "covalent"
        radii = np.array([kind.covalent_radius if covalent else kind.xs_radius for kind in GNINA_TYPES])[kinds]
        if self.radii != "vdw":
            return radii
        table = np.array([VDW_RADII.get(symbol, np.nan) for symbol in SYMBOLS])[molecule.elements]
        return np.where(np.isnan(table), radii, table)
