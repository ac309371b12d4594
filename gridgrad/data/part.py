"""One part of the rows of a ComplexDataset: a store, and which of its molecules each row has."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gridgrad.data.batch import AtomBatch
from gridgrad.data.collate import collate

__all__ = ["Atoms", "Part", "join_channels", "pieces"]


class Atoms(NamedTuple):
    """Atoms of one molecule as arrays; `radii` is (N,), or (T,) by type."""

    coords: np.ndarray
    types: np.ndarray
    radii: np.ndarray


class Part:
    """A store, and which of its molecules each row has.

    Parameters
    ----------
    name : str
        Name of the part.
    store : store
        As for `ComplexDataset`.
    numbers : sequence of int or of str, or None
        The molecule of each row.
    """

    def __init__(self, name: str, store: Any, numbers: Sequence[int] | Sequence[str] | None):
        self.name, self.store = name, store
        try:
            size = len(store)
        except TypeError:
            raise TypeError(
                f"stores[{name!r}]: {type(store).__name__}; expected an AtomStore, an AtomBatch or a list"
            ) from None
        if size == 0:
            raise ValueError(f"stores[{name!r}]: no molecules; expected at least one, to know the channels")
        self.layout = self._load(np.array([0]))[:0]
        self.numbers = self._numbers(range(size) if numbers is None else numbers, size)
        self.first_channel = 0
        self.n_vector: int | None = None

    def _numbers(self, numbers: Sequence[int] | Sequence[str], size: int) -> np.ndarray:
        array = np.asarray(numbers)
        if array.ndim != 1 or (array.dtype.kind not in "iuUO" and array.size):
            raise TypeError(
                f"rows[{self.name!r}]: {array.dtype} of shape {array.shape}; expected numbers or names (R,)"
            )
        if array.dtype.kind in "UO":
            known = array != ""
            found = np.full(len(array), -1)
            if not hasattr(self.store, "rows"):
                raise TypeError(
                    f"rows[{self.name!r}]: names; expected numbers, since a {type(self.store).__name__} has none"
                )
            found[known] = self.store.rows(array[known].tolist())
            return found
        array = array.astype(np.int64)
        wrong = np.flatnonzero((array < -1) | (array >= size))
        if len(wrong):
            raise ValueError(
                f"rows[{self.name!r}]: row {wrong[0]} has molecule {array[wrong[0]]}; expected one of {size}, or -1"
            )
        return array

    def _load(self, numbers: np.ndarray) -> AtomBatch:
        """Return some molecules."""
        if not len(numbers):
            return self.layout
        if isinstance(self.store, (list, tuple)):
            return collate([self.store[number] for number in numbers.tolist()])
        batch = self.store[numbers]
        return batch if isinstance(batch, AtomBatch) else collate(batch)

    def set_channels(self, first: int, n_types: int, vectors: bool) -> None:
        """Say that the channels of this part begin with `first` out of `n_types`, and whether types are vectors."""
        self.first_channel, self.n_vector = first, n_types if vectors else None

    def _typed(self, numbers: np.ndarray) -> AtomBatch:
        """Return some molecules with types in the channels of the dataset."""
        batch = self._load(numbers)
        return batch.changed(types=self._types(batch))

    def _types(self, batch: AtomBatch) -> Tensor:
        types, first = batch.types, self.first_channel
        if self.n_vector is None:
            return torch.where(types < 0, types, types + first) if first else types
        if not types.is_floating_point():
            n_types = self.layout.n_types
            assert n_types is not None  # `join_channels` wants names
            types = (types.unsqueeze(1) == torch.arange(n_types)).to(batch.dtype)
        after = self.n_vector - first - types.shape[1]
        return torch.nn.functional.pad(types, (first, after)) if first or after else types

    @property
    def nothing(self) -> Atoms:
        """Atoms: No atoms, for rows that lack this part."""
        return _arrays(self._typed(np.zeros(0, dtype=np.int64)))

    def take(self, rows: np.ndarray) -> AtomBatch:
        """Return the molecules of some rows, without atoms where a row lacks this part.

        Parameters
        ----------
        rows : ndarray of int64
            The rows.

        Returns
        -------
        AtomBatch
            With types in the channels of the dataset.
        """
        numbers = self.numbers[rows]
        there = numbers >= 0
        if there.all():
            return self._typed(numbers)
        batch = self._typed(numbers[there])
        n_atoms = np.zeros(len(rows), dtype=np.int64)
        n_atoms[there] = batch.n_atoms.numpy()
        given = iter(batch.names or ())
        names = None if batch.names is None else tuple(next(given) if is_there else "" for is_there in there.tolist())
        return batch.changed(offsets=torch.from_numpy(np.concatenate([[0], n_atoms.cumsum()])), names=names)

    def molecule(self, number: int) -> Atoms:
        """Return one molecule of the store, with types in the channels of the dataset."""
        return _arrays(self._typed(np.array([number])))


def _arrays(batch: AtomBatch) -> Atoms:
    return Atoms(batch.coords.numpy(), batch.types.numpy(), batch.radii.numpy())


def pieces(batch: AtomBatch) -> list[Atoms]:
    """Return the examples of a batch as arrays."""
    bounds = batch.offsets.tolist()
    coords, types, radii = _arrays(batch)
    by_type = batch.radius_type_indexed
    return [Atoms(coords[a:b], types[a:b], radii if by_type else radii[a:b]) for a, b in pairwise(bounds)]


def join_channels(parts: Sequence[Part], shared: bool) -> tuple[tuple[str, ...] | None, Tensor | None]:
    """Give the parts their channels.

    Parameters
    ----------
    parts : sequence of Part
        The parts.
    shared : bool
        Whether they have the same ones.

    Returns
    -------
    channels : tuple of str or None
        Names of the channels of the dataset; None for one part whose channels have no names.
    radii : Tensor or None
        (T,) radii by type, if they are.

    Raises
    ------
    ValueError
        If the parts do not fit one another.
    """
    layouts = [part.layout for part in parts]
    first = layouts[0]
    for part, layout in zip(parts, layouts, strict=True):
        where = f"stores[{part.name!r}]"
        if layout.dtype != first.dtype:
            raise ValueError(f"{where}: {layout.dtype}; expected {first.dtype}, as of {parts[0].name!r}")
        if layout.radius_type_indexed != first.radius_type_indexed:
            raise ValueError(
                f"{where}: radii by type {layout.radius_type_indexed}; expected {first.radius_type_indexed}"
            )
        if layout.channels is None and len(parts) > 1:
            raise ValueError(f"{where}: channels without names; expected names, to keep the parts apart")
        if shared and (layout.channels != first.channels or not torch.equal(layout.radii, first.radii)):
            raise ValueError(f"{where}: channels {layout.channels}; expected {first.channels}, with the same radii")
    if shared or len(parts) == 1:
        channels = None if first.channels is None else tuple(first.channels)
        radii = first.radii
        starts = [0] * len(parts)
    else:
        channels = tuple(f"{part.name} {channel}" for part in parts for channel in part.layout.channels or ())
        radii = torch.cat([layout.radii for layout in layouts])
        starts = np.cumsum([0] + [layout.n_types for layout in layouts[:-1]]).tolist()
    vectors = any(layout.types.is_floating_point() for layout in layouts)
    for part, start in zip(parts, starts, strict=True):
        part.set_channels(start, len(channels) if channels else part.layout.types.shape[-1], vectors)
    return channels, radii if first.radius_type_indexed else None
