"""Text of a molecule file, line by line: plain or gzipped, from a disk or a pipe, a bounded record at a time."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from gridgrad.mol.molecule import MoleculeError

__all__ = ["RECORD_LIMIT", "Lines"]

RECORD_LIMIT = 2**28
"""Bytes of text that one record may have unless the caller says otherwise: 256 MiB, some three million atoms."""

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """The lines of a plain or gzipped text file, which is opened and read once.

    The reader of a format says where a record ends; an endless line and a record that does not end are errors.

    Parameters
    ----------
    path : Path
        The file; gzip is told by the content.
    limit : int
        Largest size of a record in bytes of text.
    data : bytes, optional
        Some of the file's text, from the beginning of a record on: the file is then not opened.
    first : int
        Number of the record that the text begins with.

    Attributes
    ----------
    record : int
        Number of the record that is being read, from 1.
    """

    def __init__(self, path: Path, limit: int = RECORD_LIMIT, data: bytes | None = None, first: int = 1):
        self.path, self.limit, self._data = path, limit, data
        self.record, self._size = first, 0

    def end_record(self) -> None:
        """Say that what follows belongs to the next record."""
        self.record += 1
        self.skip_record()

    def skip_record(self) -> None:
        """Say that what was read is no record."""
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        if self._data is not None:
            yield from self._bounded(io.BytesIO(self._data))
            return
        try:
            with open(self.path, "rb") as file:
                magic = file.peek(2)[:2]
                if not magic:
                    raise MoleculeError(self.path, None, "the file is empty")
                with gzip.GzipFile(fileobj=file) if magic == _GZIP_MAGIC else file as text:
                    yield from self._bounded(text)
        except FileNotFoundError:
            raise MoleculeError(self.path, None, "no such file") from None
        except (OSError, EOFError, zlib.error) as error:
            raise MoleculeError(self.path, None, f"cannot be read: {error}") from error

    def _bounded(self, text: io.BufferedIOBase) -> Iterator[str]:
        mark = _BYTE_ORDER_MARK
        while line := text.readline(self.limit - self._size + 1):
            self._size += len(line)
            if self._size > self.limit:
                raise MoleculeError(
                    self.path, self.record,
                    f"longer than {self.limit} bytes, the limit of a record; reading of this file ends here",
                )  # fmt: skip
            yield line.removeprefix(mark).decode("utf-8", errors="replace").replace("\r\n", "\n")
            mark = b""
