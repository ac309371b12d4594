"""Molecule files in runs of whole records, for several processes to read one file."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gridgrad.mol.molecule import MoleculeError
from gridgrad.mol.readers import count_records, file_format
from gridgrad.mol.text import RECORD_LIMIT

__all__ = ["Chunk", "split_records"]

_MARKERS = {
    "sdf": re.compile(rb"^\$\$\$\$[^\n]*\n?", re.M),  # ends a record
    "mol2": re.compile(rb"^@<TRIPOS>MOLECULE", re.M),  # begins one
}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """Some records of a molecule file.

    Attributes
    ----------
    path : Path
        The file.
    records : range
        Numbers of the records, from 1.
    offset : int
        Place of the first one in the (decompressed) text.
    data : bytes or None
        Their text, where the format can be split without being parsed; None: the file has to be read.
    error : MoleculeError or None
        Why the file cannot be read from here on; the chunk is then a single record that does not exist.
    """

    path: Path
    records: range
    offset: int = 0
    data: bytes | None = None
    error: MoleculeError | None = None

    def singles(self) -> list[Chunk]:
        """Return a chunk for each of the records."""
        if self.data is None or self.error is not None:
            return [replace(self, records=range(record, record + 1)) for record in self.records]
        marker, records = _MARKERS[file_format(self.path)], self.records
        text, size = io.BytesIO(self.data), len(self.data)
        return list(_cut(self.path, text, marker, 1, records.start, records.stop, self.offset, size))


def split_records(
    path: Path, every: int, *, first: int = 1, stop: int | None = None, offset: int = 0, limit: int = RECORD_LIMIT
) -> Iterator[Chunk]:
    """Cut a file into chunks of whole records.

    SDF and MOL2 are cut without being parsed, at about the speed of a disk.

    Parameters
    ----------
    path : Path
        The file, plain or gzipped.
    every : int
        Records per chunk; the last one may have fewer.
    first, offset : int
        Where to begin: a record, and its place in the text.
    stop : int, optional
        The record before which to end; by default the end of the file.
    limit : int
        Largest size of a record in bytes of text.

    Yields
    ------
    Chunk
        A file that cannot be read, or has no record, gives a chunk with `error`, or one to be read whole, which then
        says why.
    """
    try:
        marker = _MARKERS.get(file_format(path))
        if marker is None:
            end = max(1, count_records(path, record_limit=limit)) + 1 if stop is None else stop
            for start in range(first, end, every):
                yield Chunk(path, range(start, min(start + every, end)))
            return
        with open(path, "rb") as file:
            compressed = file.peek(2)[:2] == b"\x1f\x8b"
            with gzip.GzipFile(fileobj=file) if compressed else file as text:
                text.seek(offset)
                for chunk in _cut(path, text, marker, every, first, stop, offset, limit):
                    yield chunk
                    first = chunk.records.stop
    except FileNotFoundError:
        yield _broken(MoleculeError(path, None, "no such file"), first)
    except (OSError, EOFError, zlib.error) as error:
        yield _broken(MoleculeError(path, None, f"cannot be read: {error}"), first)
    except MoleculeError as error:
        yield _broken(error, first)


def _broken(error: MoleculeError, record: int) -> Chunk:
    return Chunk(error.path, range(record, record + 1), error=error)


def _cut(
    path: Path,
    text: io.BufferedReader | io.BytesIO | gzip.GzipFile,
    marker: re.Pattern,
    every: int,
    first: int,
    stop: int | None,
    offset: int,
    limit: int,
) -> Iterator[Chunk]:
    """Yield the chunks of an SDF or MOL2 file that is open at `offset`, where record `first` begins."""
    ends = marker is _MARKERS["sdf"]
    buffer, scanned, count, last = bytearray(), 0, 0, 0  # the text of `count` records ends at `last`
    begun, whole_file = False, first == 1
    failure: Exception | None = None
    while True:
        try:
            block = text.read1(_BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            block, failure = b"", error
        buffer += block
        start, end = 0, buffer.rfind(b"\n") + 1 if block or failure else len(buffer)
        for match in marker.finditer(buffer, scanned, end):
            if not ends and not begun:
                begun = True  # a MOL2 record ends where the next one begins
                continue
            count, last = count + 1, match.end() if ends else match.start()
            if count == every or first + count == stop:
                yield Chunk(path, range(first, first + count), offset, bytes(buffer[start:last]))
                first, offset, start, count = first + count, offset + last - start, last, 0
                if first == stop:
                    return
        del buffer[:start]
        scanned, last = end - start, last - start
        if not block:
            break
        if len(buffer) - last > limit:
            failure = MoleculeError(
                path, first + count,
                f"longer than {limit} bytes, the limit of a record; reading of this file ends here",
            )  # fmt: skip
            break
    if not failure and (buffer[last:].strip() if ends else begun):
        count, last = count + 1, len(buffer)
    if count:
        yield Chunk(path, range(first, first + count), offset, bytes(buffer[:last]))
    elif whole_file and first == 1 and not failure:
        yield Chunk(path, range(1, 2))
    if failure:
        raise failure
