"""One file of a store: typed molecules as an Arrow IPC file, written whole and read in place (extra ``data``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gridgrad.data.mapped import map_file
from gridgrad.extras import require
from gridgrad.io import atomic_files

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT", "VERSION", "Block", "Entry", "Layout", "Rows", "StoreError", "checksum", "open_part", "write_part"]

FORMAT = "gridgrad atom store"
VERSION = 1
BATCH_ATOMS = 1 << 24
"""A record batch is closed when it holds so many atoms; otherwise a part is one batch."""

_METADATA = b"gridgrad"


class StoreError(ValueError):
    """A store, or a file of one, that is damaged, incomplete, foreign or newer than this gridgrad."""


@dataclass(frozen=True)
class Layout:
    """What all rows of a store have in common.

    Attributes
    ----------
    channels : tuple of str
        Names of the T channels.
    vector_types : bool
        Whether types are weights (N, T); otherwise they are indices (N,).
    radii : tuple of float or None
        Radius in angstrom of each channel, where it depends on nothing else; None: every atom has its own.
    """

    channels: tuple[str, ...]
    vector_types: bool = False
    radii: tuple[float, ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(self.channels))
        if self.radii is not None:
            object.__setattr__(self, "radii", tuple(map(float, self.radii)))
            if self.vector_types or len(self.radii) != len(self.channels):
                raise ValueError(f"radii: {len(self.radii)}; expected one for each of the channels, and index types")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that have a value per atom."""
        return ("coords", "types", "radii")[: 2 + (self.radii is None)]

    def empty(self) -> tuple[np.ndarray, ...]:
        """Return these columns of no atoms."""
        types = np.empty((0, len(self.channels)), np.float32) if self.vector_types else np.empty(0, np.int32)
        return (np.empty((0, 3), np.float32), types, np.empty(0, np.float32))[: len(self.columns)]

    def schema(self) -> pa.Schema:
        """Return the Arrow schema, with the layout as its metadata."""
        pa = require("pyarrow", "data")
        vector = pa.list_(pa.float32(), len(self.channels))
        columns = {
            "name": pa.string(),
            "source": pa.string(),
            "record": pa.int64(),
            "coords": pa.large_list(pa.list_(pa.float32(), 3)),
            "types": pa.large_list(vector if self.vector_types else pa.int32()),
        }
        if self.radii is None:
            columns["radii"] = pa.large_list(pa.float32())
        about = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return pa.schema(list(columns.items()), metadata={_METADATA: json.dumps(about).encode()})


@dataclass(frozen=True, eq=False)
class Rows:
    """Typed molecules, one after the other.

    Attributes
    ----------
    names, sources : list of str
        Name of each molecule, and the file that it came from.
    records : list of int
        Number of its record in the file, from 1.
    counts : ndarray of int64, shape (n,)
        Number of its atoms.
    columns : tuple of ndarray
        Of all atoms: coordinates (N, 3) float32, types (N,) int32 or (N, T) float32 and, if each atom has its own,
        radii (N,) float32.
    """

    names: list[str]
    sources: list[str]
    records: list[int]
    counts: np.ndarray
    columns: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(
        cls,
        layout: Layout,
        names: list[str],
        sources: list[str],
        records: list[int],
        atoms: Sequence[tuple[np.ndarray, ...]],
    ) -> Rows:
        """Make rows from the coordinates, types and radii of each molecule."""
        columns = zip(layout.empty(), *(molecule[: len(layout.columns)] for molecule in atoms), strict=True)
        counts = np.array([len(molecule[0]) for molecule in atoms], np.int64)
        return cls(names, sources, records, counts, tuple(map(np.concatenate, columns)))

    @staticmethod
    def join(rows: list[Rows]) -> Rows:
        """Return several as one."""
        names, sources, records = ([x for r in rows for x in getattr(r, f)] for f in ("names", "sources", "records"))
        columns = tuple(np.concatenate(column) for column in zip(*(r.columns for r in rows), strict=True))
        return Rows(names, sources, records, np.concatenate([r.counts for r in rows]), columns)


class Entry(NamedTuple):
    """What ``store.json`` says of a part: file name, rows, atoms, size in bytes, SHA-256 of the file."""

    file: str
    rows: int
    atoms: int
    bytes: int
    sha256: str


class Block(NamedTuple):
    """The rows of one record batch, as views on the file.

    Atoms `offsets[i]` to `offsets[i + 1] - 1` of `columns` are those of row i; the columns are coordinates, types and,
    if each atom has its own, radii. Names are where each ends, beginning with 0, and their bytes.
    """

    offsets: np.ndarray
    columns: tuple[np.ndarray, ...]
    names: tuple[np.ndarray, memoryview]
    batch: pa.RecordBatch


# --- writing ----------------------------------------------------------------------------------------------------------


def write_part(path: Path, layout: Layout, chunks: Iterable[Rows]) -> Entry:
    """Write a part, which appears under its name only when it is whole and on the disk; return what to say of it."""
    pa = require("pyarrow", "data")
    schema = layout.schema()
    n_rows, n_atoms, pending = 0, 0, []
    with atomic_files([path], sync=True) as (temporary,):
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for rows in chunks:
                if len(rows):
                    pending.append(rows)
                    n_rows += len(rows)
                    n_atoms += len(rows.columns[0])
                if sum(len(r.columns[0]) for r in pending) >= BATCH_ATOMS:
                    writer.write_batch(_record_batch(schema, Rows.join(pending)))
                    pending = []
            if pending:
                writer.write_batch(_record_batch(schema, Rows.join(pending)))
        size, digest = temporary.stat().st_size, checksum(temporary)
    return Entry(path.name, n_rows, n_atoms, size, digest)


def _record_batch(schema: pa.Schema, rows: Rows) -> pa.RecordBatch:
    pa = require("pyarrow", "data")
    offsets = pa.array(np.concatenate([[0], np.cumsum(rows.counts)]).astype(np.int64))

    def ragged(values: np.ndarray) -> Any:
        items = pa.array(values.reshape(-1))
        if values.ndim == 2:
            items = pa.FixedSizeListArray.from_arrays(items, values.shape[1])
        return pa.LargeListArray.from_arrays(offsets, items)

    texts = [pa.array(values, pa.string()) for values in (rows.names, rows.sources)]
    columns = [*texts, pa.array(rows.records, pa.int64()), *map(ragged, rows.columns)]
    return pa.record_batch(columns, schema=schema)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- reading ----------------------------------------------------------------------------------------------------------


def open_part(path: Path, layout: Layout, entry: Entry) -> list[Block]:
    """Map a part into memory and return its record batches.

    Parameters
    ----------
    path : Path
        The file.
    layout : Layout
        What its rows have to be like.
    entry : Entry
        What is said of it.

    Raises
    ------
    StoreError
        If the file is missing, of another size, no Arrow IPC file, or holds other columns or another number of rows.
    """
    pa = require("pyarrow", "data")
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; expected a part of the store") from None
    if size != entry.bytes:
        raise StoreError(f"{path}: {size} bytes; expected {entry.bytes}, damaged or truncated")
    mapping = map_file(path, size)
    try:
        reader = pa.ipc.open_file(pa.py_buffer(mapping))
        _check_schema(path, reader.schema, layout)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        blocks = [_block(path, layout, batch) for batch in batches]
    except StoreError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise StoreError(f"{path}: not readable ({error}); expected an Arrow IPC file, damaged") from error
    found = sum(batch.num_rows for batch in batches), sum(len(block.columns[0]) for block in blocks)
    for name, count, expected in zip(("rows", "atoms"), found, (entry.rows, entry.atoms), strict=True):
        if count != expected:
            raise StoreError(f"{path}: {count} {name}; expected {expected}")
    return blocks


def _check_schema(path: Path, schema: pa.Schema, layout: Layout) -> None:
    if _METADATA not in (schema.metadata or {}):
        raise StoreError(f"{path}: an Arrow file of columns {', '.join(schema.names)}; expected a part of a {FORMAT}")
    expected = layout.schema()
    if not schema.equals(expected, check_metadata=True):
        raise StoreError(
            f"{path}: {_described(schema)}; expected that of the store: {_described(expected)}: a part of another store"
        )


def _described(schema: pa.Schema) -> str:
    columns = ", ".join(f"{field.name} {field.type}" for field in schema)
    return f"{columns}, {schema.metadata[_METADATA].decode(errors='replace')}"


def _block(path: Path, layout: Layout, batch: pa.RecordBatch) -> Block:
    """Take NumPy views on the columns of a record batch."""
    batch.validate()
    width = len(layout.channels) if layout.vector_types else 0
    offsets, coords = _ragged(path, batch, "coords", np.float32, 3)
    columns = [coords, _ragged(path, batch, "types", np.float32 if width else np.int32, width)[1]]
    if layout.radii is None:
        columns.append(_ragged(path, batch, "radii", np.float32, 0)[1])
    for name, values in zip(layout.columns, columns, strict=True):
        if len(values) != len(coords):
            raise StoreError(f"{path}: {name} of {len(values)} atoms; expected {len(coords)}, those of coords")
    _, ends, text = batch.column("name").buffers()
    ends = np.frombuffer(ends or bytes(4), np.int32, batch.num_rows + 1)
    return Block(offsets, tuple(columns), (ends, memoryview(text or b"")), batch)


def _ragged(path: Path, batch: pa.RecordBatch, name: str, dtype: type, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets (n + 1,) and values (N,) or (N, width) of a column of lists."""
    column = batch.column(name)
    items = column.values.values if width else column.values
    if column.null_count or column.values.null_count or items.null_count:
        raise StoreError(f"{path}: nulls in column {name}; expected none")
    offsets = offsets_of(batch, name)
    values: np.ndarray = np.frombuffer(items.buffers()[-1] or b"", dtype)[: len(items)]
    if len(offsets) != len(column) + 1 or offsets[0] != 0 or offsets[-1] * max(width, 1) != len(values):
        raise StoreError(f"{path}: offsets of column {name} do not fit its {len(values)} values; expected 0 to the end")
    return offsets, values.reshape(-1, width) if width else values


def offsets_of(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return the offsets of a column of lists."""
    column = batch.column(name)
    return np.frombuffer(column.buffers()[1] or bytes(8), np.int64)[: len(column) + 1]
