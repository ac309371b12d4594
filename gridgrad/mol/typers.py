"""Typers: from a molecule to the types, radii and channel names that `coords2grid` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gridgrad.mol.elements import SYMBOLS, VDW_RADII, atomic_number
from gridgrad.mol.molecule import Molecule, MoleculeError

__all__ = ["ElementTyper", "TypedAtoms", "Typer", "join_atoms", "type_atoms"]

Typer = Callable[[Molecule], tuple[Any, Any, Any]]
"""The hook: molecule -> (types, radii, channel names).

`types` is an integer array (N,), negative for an atom to ignore, or a float array (N, T); `radii` is (N,) in angstrom;
the names are T strings. `Molecule.to_rdkit` gives a typer the chemistry.
"""


class ChannelTyper(Protocol):
    """A typer that knows its channels before it sees a molecule."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""

    def __call__(self, molecule: Molecule, /) -> tuple[Any, Any, Any]:
        """Return what `Typer` says."""


@dataclass(frozen=True)
class ElementTyper:
    """One channel per element, and one for all the others; van der Waals radii.

    Parameters
    ----------
    elements : sequence of str
        Elements with a channel of their own, in the order of the channels.
    other : str or None, default "other"
        Name of the last channel, which takes every other element, each with its own radius. None: an element without
        a channel is an error.
    radii : mapping of str to float, optional
        Radii in angstrom by symbol that replace or complete `gridgrad.mol.VDW_RADII`.
    """

    elements: tuple[str, ...] = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I")
    other: str | None = "other"
    radii: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        numbers = [atomic_number(symbol) for symbol in self.elements]
        if not numbers or len(set(numbers)) < len(numbers) or 0 in numbers:
            raise ValueError(f"elements: got {self.elements}, expected at least one symbol, each of them once")
        object.__setattr__(self, "elements", tuple(SYMBOLS[number] for number in numbers))

    def without_hydrogen(self) -> ElementTyper:
        """Return this typer without a channel for hydrogen."""
        return ElementTyper(tuple(e for e in self.elements if e != "H"), self.other, self.radii)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return self.elements if self.other is None else (*self.elements, self.other)

    def __call__(self, molecule: Molecule) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return index types (N,), radii (N,) and channel names.

        Raises
        ------
        MoleculeError
            If an atom is a dummy, has no channel or no known radius.
        """
        table = VDW_RADII | dict(self.radii)
        channel, radius = {}, {}
        for number in np.unique(molecule.elements).tolist():
            symbol = SYMBOLS[number]
            first = int(np.flatnonzero(molecule.elements == number)[0])
            where = f"atom {first + 1} is {symbol}"
            if number == 0:
                raise molecule.error(molecule.unknown_element(first))
            if symbol not in self.elements and self.other is None:
                raise molecule.error(f"{where}, which has no channel; expected one of {', '.join(self.elements)}")
            if symbol not in table:
                raise molecule.error(
                    f"{where}, which has no van der Waals radius in the table; expected one in `radii`"
                )
            channel[number] = self.elements.index(symbol) if symbol in self.elements else len(self.elements)
            radius[number] = table[symbol]
        numbers = molecule.elements.tolist()
        types = np.array([channel[number] for number in numbers], dtype=np.int64)
        return types, np.array([radius[number] for number in numbers]), self.channels


@dataclass(frozen=True, eq=False)
class TypedAtoms:
    """Atoms ready for a grid.

    Attributes
    ----------
    coords : ndarray of float64, shape (N, 3)
        Positions in angstrom.
    types : ndarray, int64 of shape (N,) or float64 of shape (N, T)
        Index types (negative: ignored) or vector types.
    radii : ndarray of float64, shape (N,)
        Radii in angstrom.
    channels : tuple of str
        Names of the T channels.
    """

    coords: np.ndarray
    types: np.ndarray
    radii: np.ndarray
    channels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.coords)

    def vector_types(self) -> np.ndarray:
        """Return the types as vectors, shape (N, T)."""
        if self.types.ndim == 2:
            return self.types
        return (self.types[:, None] == np.arange(len(self.channels))).astype(np.float64)


def type_atoms(molecule: Molecule, typer: Typer | None = None) -> TypedAtoms:
    """Apply a typer and check what it returns.

    Parameters
    ----------
    molecule : Molecule
        The molecule.
    typer : callable, optional
        The typer, see `Typer`; by default `ElementTyper`.

    Returns
    -------
    TypedAtoms
        The atoms with types, radii and channel names.

    Raises
    ------
    MoleculeError
        If the typer raises, or returns anything else than `Typer` promises.
    """
    try:
        types, radii, channels = (typer or ElementTyper())(molecule)
    except (MoleculeError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise molecule.error(f"the typer raised {type(error).__name__}: {error}") from error
    types, radii, channels = np.asarray(types), np.asarray(radii, dtype=np.float64), tuple(channels)
    n, t = len(molecule), len(channels)
    if t == 0 or len(set(channels)) < t or not all(isinstance(channel, str) for channel in channels):
        raise molecule.error(f"typer: channel names are {channels}, expected different strings")
    if types.dtype.kind in "iu" and types.shape == (n,):
        types = types.astype(np.int64)
        if types.max(initial=-1) >= t:
            raise molecule.error(f"typer: type index {types.max()}, expected less than the {t} channels")
    elif types.dtype.kind == "f" and types.shape == (n, t):
        types = types.astype(np.float64)
    else:
        raise molecule.error(
            f"typer: types are {types.dtype} of shape {types.shape}, expected integers ({n},) or floats ({n}, {t})"
        )
    if radii.shape != (n,) or not (np.isfinite(radii) & (radii > 0)).all():
        raise molecule.error(f"typer: radii of shape {radii.shape}, expected ({n},), each positive and finite")
    return TypedAtoms(molecule.coords, types, radii, channels)


def join_atoms(**parts: TypedAtoms) -> TypedAtoms:
    """Join sets of atoms; each keeps channels of its own.

    Parameters
    ----------
    **parts : TypedAtoms
        The sets; the keyword comes in front of the channel names: ``join_atoms(receptor=r, ligand=l)`` has the
        channels "receptor H", ..., "ligand H", ...

    Returns
    -------
    TypedAtoms
        All atoms, in the order given; index types if all parts have index types, vector types otherwise.
    """
    channels = tuple(f"{name} {channel}" for name, part in parts.items() for channel in part.channels)
    sets = list(parts.values())
    starts = np.cumsum([0] + [len(part.channels) for part in sets])
    if all(part.types.ndim == 1 for part in sets):
        shifted = [np.where(part.types < 0, -1, part.types + start) for part, start in zip(sets, starts, strict=False)]
        types = np.concatenate(shifted)
    else:
        blocks = [
            np.pad(part.vector_types(), ((0, 0), (start, len(channels) - end)))
            for part, start, end in zip(sets, starts[:-1], starts[1:], strict=True)
        ]
        types = np.concatenate(blocks)
    coords = np.concatenate([part.coords for part in sets])
    return TypedAtoms(coords, types, np.concatenate([part.radii for part in sets]), channels)
