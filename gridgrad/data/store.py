"""Typed molecules on disk: a folder of Arrow IPC files that are read in place (extra ``data``)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gridgrad.data.batch import AtomBatch
from gridgrad.data.folder import Header
from gridgrad.data.parts import Block, Layout, StoreError, checksum, offsets_of, open_part
from gridgrad.data.ragged import chosen_examples, rows_of
from gridgrad.extras import require

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["AtomStore"]


class AtomStore:
    """Typed molecules on disk, mapped into memory; made by ``gridgrad prepare`` or `write_store`.

    ``len(store)`` is the number of molecules, ``store[i]`` is the `AtomBatch` of one of them, ``store[[i, j]]`` and
    ``store[a:b]`` that of several. Opening reads no atoms; what is indexed is copied from the files, at about a
    microsecond a molecule, and the memory of the process does not grow with the store. A store pickles as its path.

    Parameters
    ----------
    path : str or Path
        The folder.

    Attributes
    ----------
    path : Path
        The folder.
    n_atoms : int
        Number of atoms of all molecules.
    settings : dict
        How the molecules were typed.

    Raises
    ------
    StoreError
        If the folder is no store, was written by a newer gridgrad, lacks parts, or a part is damaged, truncated or
        foreign. Sizes and footers are looked at; `verify` reads everything.
    """

    def __init__(self, path: str | Path):
        self.path = Path(os.path.abspath(path))
        header = Header.read(self.path)
        self._layout, self.settings = header.layout, header.settings
        self._entries = header.entries(self.path)
        self._files = [self.path / entry.file for entry in self._entries]
        self._blocks: list[Block] = []
        for file, entry in zip(self._files, self._entries, strict=True):
            self._blocks += open_part(file, self._layout, entry)
        self._bounds = np.cumsum([0] + [block.batch.num_rows for block in self._blocks])
        self._starts = self._bounds.tolist()
        self._radii = None if self._layout.radii is None else np.array(self._layout.radii, np.float32)
        self.n_atoms = sum(len(block.columns[0]) for block in self._blocks)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the T channels."""
        return self._layout.channels

    def __len__(self) -> int:
        return self._starts[-1]

    def __repr__(self) -> str:
        return (
            f"AtomStore({str(self.path)!r}): {len(self)} molecules, {self.n_atoms} atoms, {len(self.channels)} channels"
        )

    def __reduce__(self):
        return AtomStore, (str(self.path),)

    # --- reading ------------------------------------------------------------------------------------------------------

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | torch.Tensor) -> AtomBatch:
        """Return the molecules of some rows as a batch, with their names."""
        blocks, local = self._places(rows)
        return self._batch(blocks, local, _names(blocks, local))

    def gather(self, rows: int | slice | Sequence[int] | np.ndarray | torch.Tensor) -> AtomBatch:
        """Return the molecules of some rows as a batch without names, which is faster."""
        return self._batch(*self._places(rows), None)

    def _places(self, rows: Any) -> tuple[list[Block], np.ndarray]:
        """Return the record batch of each row, once if it is the same for all, and the rows within them."""
        rows = chosen_examples(rows, len(self))
        places = np.searchsorted(self._bounds, rows, side="right") - 1
        if len(rows) and (places == places[0]).all():
            places = places[:1]
        return [self._blocks[place] for place in places.tolist()], rows - self._bounds[places]

    def _batch(self, blocks: list[Block], local: np.ndarray, names: list[str] | None) -> AtomBatch:
        gather = _gather_from_one if len(blocks) == 1 else _gather_from_many
        try:
            offsets, columns = gather(blocks, local, self._layout)
        except IndexError as error:
            raise StoreError(f"{self.path}: {error}; the store is damaged, see AtomStore.verify") from error
        coords, types, *stored = columns
        if not self._layout.vector_types:
            types = types.astype(np.int64)
        radii = self._radii[types] if self._radii is not None else stored[0]
        return AtomBatch(
            torch.from_numpy(coords), torch.from_numpy(types), torch.from_numpy(radii), torch.from_numpy(offsets),
            names=names, channels=self.channels,
        )  # fmt: skip

    __getitems__ = __getitem__

    def table(self, columns: Sequence[str] = ("name", "source", "record")) -> pa.Table:
        """Return columns of all rows as an Arrow table, looked through but not copied."""
        pa = require("pyarrow", "data")
        names = self._layout.schema().names
        for column in columns:
            if column not in names:
                raise ValueError(f"columns: {column!r}; expected one of {', '.join(names)}")
        schema = pa.schema([self._layout.schema().field(column) for column in columns])
        batches = [block.batch.select(list(columns)) for block in self._blocks]
        try:
            for batch in batches:
                batch.validate(full=True)
        except pa.ArrowInvalid as error:
            raise StoreError(f"{self.path}: {error}; the store is damaged, see AtomStore.verify") from error
        return pa.Table.from_batches(batches, schema)

    def rows(self, names: Sequence[str], by: str = "name") -> np.ndarray:
        """Return the rows of molecules by name.

        Parameters
        ----------
        names : sequence of str
            Names, each as often as you like.
        by : {"name", "source"}, default "name"
            What is looked for: the name of a molecule, or the file that it came from.

        Returns
        -------
        ndarray of int64
            Their rows.

        Raises
        ------
        KeyError
            If no molecule, or more than one, has such a name.
        """
        pa = require("pyarrow", "data")
        compute = require("pyarrow.compute", "data")
        wanted = pa.array(list(names), pa.string())
        if by not in ("name", "source"):
            raise ValueError(f"by: {by!r}; expected 'name' or 'source'")
        column = self.table([by]).column(by)
        unique = wanted.unique()
        hits = compute.index_in(column, value_set=unique).to_numpy()
        rows = np.flatnonzero(~np.isnan(hits)) if hits.dtype.kind == "f" else np.arange(len(hits))
        found = hits[rows].astype(np.int64)
        times = np.bincount(found, minlength=len(unique))
        if len(unique) and (times != 1).any():
            number = int(np.flatnonzero(times != 1)[0])
            raise KeyError(f"{self.path}: {times[number]} molecules of {by} {unique[number].as_py()!r}; expected one")
        place = np.empty(len(unique), np.int64)
        place[found] = rows
        return place[compute.index_in(wanted, value_set=unique).to_numpy()]

    def verify(self) -> None:
        """Read everything: checksums of all parts, offsets of all rows.

        Raises
        ------
        StoreError
            For the first part that is not what was written.
        """
        for file, entry in zip(self._files, self._entries, strict=True):
            found = checksum(file)
            if found != entry.sha256:
                raise StoreError(f"{file}: SHA-256 {found}; expected {entry.sha256}, damaged")
        for number, block in enumerate(self._blocks):
            same = all(np.array_equal(block.offsets, offsets_of(block.batch, name)) for name in self._layout.columns)
            if not same or (np.diff(block.offsets) < 0).any():
                raise StoreError(f"{self.path}: offsets of record batch {number} do not agree; the store is damaged")


def _names(blocks: list[Block], local: np.ndarray) -> list[str]:
    """Return the names of rows."""
    if len(blocks) == 1:
        ends, text = blocks[0].names
        bounds = zip(ends[local].tolist(), ends[local + 1].tolist(), strict=True)
        return [str(text[start:stop], "utf-8", "replace") for start, stop in bounds]
    rows = zip((block.names for block in blocks), local.tolist(), strict=True)
    return [str(text[ends.item(row) : ends.item(row + 1)], "utf-8", "replace") for (ends, text), row in rows]


def _gather_from_one(blocks: list[Block], local: np.ndarray, layout: Layout) -> tuple[np.ndarray, Iterable[np.ndarray]]:
    """Return offsets and columns of rows that lie in the same record batch."""
    block = blocks[0]
    _check_places(block.offsets[local], block.offsets[local + 1], len(block.columns[0]))
    offsets, atoms = rows_of(local, block.offsets)
    return offsets, (column.take(atoms, axis=0) for column in block.columns)


def _gather_from_many(
    blocks: list[Block], local: np.ndarray, layout: Layout
) -> tuple[np.ndarray, Iterable[np.ndarray]]:
    """Return offsets and columns of rows that lie in different record batches."""
    places = [(block.offsets, row) for block, row in zip(blocks, local.tolist(), strict=True)]
    starts = np.array([offsets.item(row) for offsets, row in places], np.int64)
    stops = np.array([offsets.item(row + 1) for offsets, row in places], np.int64)
    _check_places(starts, stops, np.array([len(block.columns[0]) for block in blocks], np.int64))
    pieces = list(zip(blocks, starts.tolist(), stops.tolist(), strict=True))
    columns = (
        np.concatenate([empty, *[block.columns[i][start:stop] for block, start, stop in pieces]])
        for i, empty in enumerate(layout.empty())
    )
    return np.concatenate([[0], (stops - starts).cumsum()]), columns


def _check_places(starts: np.ndarray, stops: np.ndarray, n_atoms: int | np.ndarray) -> None:
    """Refuse atoms outside of the file."""
    wrong = (starts < 0) | (starts > stops) | (stops > n_atoms)
    if wrong.any():
        raise IndexError(f"atoms {starts[wrong][0]} to {stops[wrong][0]}; expected offsets that rise within the file")
