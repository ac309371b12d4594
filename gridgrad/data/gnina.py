"""The molecules that gnina and libmolgrid train with: ``.gninatypes`` and ``.molcache2`` files.

An atom is 16 bytes, little-endian: three float32, its position in angstrom, and an int32, the number of its smina type
(`gridgrad.mol.GNINA_TYPES`). A ``.gninatypes`` file is the atoms of one molecule. A ``.molcache2`` file begins with
int32 -1 and the uint64 place of its table of names; then come molecules, each the int32 number of its atoms and the
atoms; then the table: for each molecule the uint8 length of its name, the name, and the uint64 place of the molecule.

As in libmolgrid, atoms for which the typer has no channel are left out when a molecule is read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gridgrad.data.batch import AtomBatch
from gridgrad.data.mapped import map_file
from gridgrad.data.ragged import chosen_examples
from gridgrad.io import atomic_files
from gridgrad.mol import GNINA_TYPES, GninaTyper, MoleculeError, TypedAtoms

__all__ = ["GninaTypesFiles", "MolCache", "read_gninatypes", "read_molcache2", "write_gninatypes", "write_molcache2"]

_ATOM = 16  # bytes
_HEADER, _COUNT, _PLACE = struct.Struct("<iQ"), struct.Struct("<i"), struct.Struct("<Q")
_NUMBERS = np.arange(-1, len(GNINA_TYPES) + 1)
"""Type numbers that a file may have: from -1, an atom to ignore, to 28, which smina gives to an unknown element."""


def read_gninatypes(path: str | Path, typer: GninaTyper | None = None) -> TypedAtoms:
    """Read the molecule of a ``.gninatypes`` file.

    Parameters
    ----------
    path : str or Path
        The file.
    typer : GninaTyper, optional
        Whose channels and radii the atoms get; by default ``GninaTyper()``, with a channel for each of smina's types.

    Returns
    -------
    TypedAtoms
        The atoms that have a channel.

    Raises
    ------
    MoleculeError
        If the file is missing, holds no whole number of atoms, a position that is not finite or no type of smina.
    """
    files = GninaTypesFiles([Path(path).name], Path(path).parent, typer)
    coords, types, radii, _ = files.arrays(np.zeros(1, np.int64))
    return TypedAtoms(coords.astype(np.float64), types, radii.astype(np.float64), files.channels)


def read_molcache2(path: str | Path, typer: GninaTyper | None = None) -> MolCache:
    """Open a ``.molcache2`` file.

    Parameters
    ----------
    path : str or Path
        The file.
    typer : GninaTyper, optional
        Whose channels and radii the atoms get; by default ``GninaTyper()``, with a channel for each of smina's types.

    Returns
    -------
    MolCache
        Its molecules.

    Raises
    ------
    MoleculeError
        If the file is missing, truncated, or its table of names says what cannot be.
    """
    return MolCache(path, typer)


class _GninaMolecules:
    """Molecules whose atoms have smina's types: ``len``, rows by name, batches.

    Subclasses set `names` and return from `_atoms` the words (N, 4) int32 of the atoms of some molecules, and how many
    atoms each has.
    """

    names: tuple[str, ...]

    def __init__(self, names: Iterable[str], typer: GninaTyper | None):
        self.names = tuple(names)
        self._typer = GninaTyper() if typer is None else typer
        if not isinstance(self._typer, GninaTyper):
            raise TypeError(f"typer: {type(typer).__name__}; expected a GninaTyper")
        types, radii, self.channels = self._typer.from_types(_NUMBERS)
        self._types, self._radii = types, radii.astype(np.float32)
        self._rows = {name: row for row, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> AtomBatch:
        """Return the molecules of some rows as a batch."""
        rows = chosen_examples(rows, len(self))
        coords, types, radii, counts = self.arrays(rows)
        offsets = torch.from_numpy(np.concatenate([[0], counts.cumsum()]).astype(np.int64))
        return AtomBatch(
            torch.from_numpy(coords), torch.from_numpy(types), torch.from_numpy(radii), offsets,
            names=[self.names[row] for row in rows], channels=self.channels,
        )  # fmt: skip

    __getitems__ = __getitem__

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Return the rows of molecules by name.

        Raises
        ------
        KeyError
            If there is no molecule of a name.
        """
        try:
            return np.array([self._rows[name] for name in names], np.int64)
        except KeyError as error:
            raise KeyError(f"{self._where()}: no molecule is named {error}; expected one") from None

    def arrays(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return coordinates (N, 3), channels (N,) and radii (N,) of some rows, and how many atoms each has.

        Atoms without a channel are left out, as libmolgrid does.
        """
        words, counts = self._atoms(rows)
        coords = words.view("<f4")[:, :3].astype(np.float32)
        numbers = words[:, 3] - _NUMBERS[0]
        wrong = ~np.isfinite(coords).all(axis=1) | (numbers < 0) | (numbers >= len(_NUMBERS))
        if wrong.any():
            atom = int(wrong.argmax())
            row = int(np.searchsorted(counts.cumsum(), atom, side="right"))
            found = f"at {coords[atom].tolist()} of type {words[atom, 3]}"
            within = atom - counts[:row].sum() + 1
            expected = f"expected finite numbers and a type of {_NUMBERS[0]} to {_NUMBERS[-1]}"
            raise self._error(rows[row], f"atom {within} lies {found}; {expected}")
        types, radii = self._types[numbers], self._radii[numbers]
        there = types >= 0
        if not there.all():
            coords, types, radii = coords[there], types[there], radii[there]
            ends, before = counts.cumsum(), np.concatenate([[0], there.cumsum()])
            counts = before[ends] - before[ends - counts]
        return coords, types, radii, counts

    def _atoms(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def _where(self) -> Path:
        raise NotImplementedError

    def _error(self, row: int, reason: str) -> MoleculeError:
        raise NotImplementedError


class GninaTypesFiles(_GninaMolecules):
    """Molecules in ``.gninatypes`` files, each of which is read when it is asked for.

    ``len(files)`` is their number, ``files[i]`` is the `AtomBatch` of one, ``files[[i, j]]`` of several.

    Parameters
    ----------
    names : iterable of str
        Names of the files below `root`, each once: `TypesTable.names` of a part, for instance.
    root : str or Path
        Folder of the files.
    typer : GninaTyper, optional
        Whose channels and radii the atoms get; by default ``GninaTyper()``, with a channel for each of smina's types.

    Raises
    ------
    MoleculeError
        When a file is read: see `read_gninatypes`.
    """

    def __init__(self, names: Iterable[str], root: str | Path = ".", typer: GninaTyper | None = None):
        super().__init__(names, typer)
        self.root = Path(os.path.abspath(root))
        if len(self._rows) < len(self.names):
            twice = next(name for row, name in enumerate(self.names) if self._rows[name] != row)
            raise ValueError(f"names: {twice!r} twice; expected each name once")

    def __repr__(self) -> str:
        return f"GninaTypesFiles: {len(self)} files in {str(self.root)!r}, {self._typer}"

    def _atoms(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        contents = []
        for row in rows.tolist():
            try:
                contents.append((self.root / self.names[row]).read_bytes())
            except OSError as error:
                raise self._error(row, f"cannot be read: {error.strerror}") from error
            if len(contents[-1]) % _ATOM:
                raise self._error(row, f"{len(contents[-1])} bytes; expected a multiple of {_ATOM}")
        counts = np.array([len(content) // _ATOM for content in contents], np.int64)
        return np.frombuffer(b"".join(contents), "<i4").reshape(-1, 4), counts

    def _where(self) -> Path:
        return self.root

    def _error(self, row: int, reason: str) -> MoleculeError:
        return MoleculeError(self.root / self.names[row], None, reason)


class MolCache(_GninaMolecules):
    """The molecules of a ``.molcache2`` file, which stays on disk; it pickles as its path.

    ``len(cache)`` is their number, ``cache[i]`` is the `AtomBatch` of one, ``cache[[i, j]]`` of several.

    Parameters
    ----------
    path, typer
        As for `read_molcache2`.

    Attributes
    ----------
    names : tuple of str
        Names of the molecules.
    channels : tuple of str
        Names of the channels.
    """

    def __init__(self, path: str | Path, typer: GninaTyper | None = None):
        self.path = Path(os.path.abspath(path))
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise MoleculeError(self.path, None, f"cannot be read: {error.strerror}") from error
        if size < _HEADER.size:
            raise MoleculeError(self.path, None, f"{size} bytes; expected at least the {_HEADER.size} of a header")
        data = map_file(self.path, size)
        magic, table = _HEADER.unpack(data[: _HEADER.size].tobytes())
        if magic != -1 or not _HEADER.size <= table <= size:
            found = f"begins with {magic} and a table of names at {table}"
            raise MoleculeError(
                self.path, None, f"{found}; expected -1 and a place in its {size} bytes, a .molcache2 file"
            )
        names, places = self._read_table(data[table:].tobytes(), table)
        super().__init__(names, typer)
        self._find_ends(places, table)
        self._words = data[: table // 4 * 4].view("<i4")

    def __repr__(self) -> str:
        return f"MolCache({str(self.path)!r}): {len(self)} molecules, {self._typer}"

    def __reduce__(self) -> tuple[Any, ...]:
        return MolCache, (str(self.path), self._typer)

    def _read_table(self, table: bytes, start: int) -> tuple[list[str], list[int]]:
        """Return names and places of the molecules."""
        names: list[str] = []
        places: list[int] = []
        at = 0
        while at < len(table):
            end = at + 1 + table[at]
            if end + _PLACE.size > len(table):
                reason = f"the table of names ends within name {len(names) + 1}; expected a name and a place, truncated"
                raise MoleculeError(self.path, None, reason)
            names.append(table[at + 1 : end].decode("utf-8", "surrogateescape"))
            places.append(_PLACE.unpack_from(table, end)[0])
            if not _HEADER.size <= places[-1] <= start - _COUNT.size or places[-1] % 4:
                expected = f"a multiple of 4 from {_HEADER.size} to {start - _COUNT.size}"
                raise MoleculeError(self.path, None, f"molecule {names[-1]!r} at {places[-1]}; expected {expected}")
            at = end + _PLACE.size
        return names, places

    def _find_ends(self, places: list[int], table: int) -> None:
        """Set where, in words, each molecule begins and how many atoms have room before the next one."""
        if len(self._rows) < len(self.names):
            twice = next(name for row, name in enumerate(self.names) if self._rows[name] != row)
            raise MoleculeError(self.path, None, f"name {twice!r} twice; expected each name once")
        begins = np.array(places, np.int64)
        order = begins.argsort(kind="stable")
        ends = np.empty_like(begins)
        ends[order] = np.append(begins[order][1:], table) if len(begins) else begins
        same = np.flatnonzero(ends == begins)
        if len(same):
            names = [self.names[row] for row in np.flatnonzero(begins == begins[same[0]])[:2]]
            raise MoleculeError(self.path, None, f"molecules {names} at the same place; expected one behind the other")
        self._begins, self._room = begins // 4, (ends - begins - _COUNT.size) // _ATOM

    def _atoms(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        begins = self._begins[rows]
        counts = self._words[begins].astype(np.int64)
        wrong = (counts < 0) | (counts > self._room[rows])
        if wrong.any():
            row, count = rows[wrong][0], counts[wrong][0]
            raise self._error(row, f"{count} atoms; expected 0 to {self._room[row]}, for which there is room")
        first = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts, out=first[1:])
        words = np.arange(first[-1]) * 4 + np.repeat(begins + 1 - first[:-1] * 4, counts)
        return self._words.take(words[:, None] + np.arange(4)), counts

    def _where(self) -> Path:
        return self.path

    def _error(self, row: int, reason: str) -> MoleculeError:
        return MoleculeError(self.path, None, f"molecule {self.names[row]!r}: {reason}")


# --- writing ----------------------------------------------------------------------------------------------------------


def write_gninatypes(path: str | Path, atoms: TypedAtoms) -> None:
    """Write a ``.gninatypes`` file.

    Parameters
    ----------
    path : str or Path
        The file.
    atoms : TypedAtoms
        Atoms as ``GninaTyper()`` types them. Their radii are not stored.

    Raises
    ------
    ValueError
        If the atoms have other channels, or positions that are not finite in float32.
    """
    data = _packed("atoms", atoms)
    with atomic_files([Path(path)]) as (temporary,):
        temporary.write_bytes(data)


def write_molcache2(path: str | Path, molecules: Iterable[tuple[str, TypedAtoms]]) -> None:
    """Write a ``.molcache2`` file.

    Parameters
    ----------
    path : str or Path
        The file; it appears when it is whole.
    molecules : iterable of (str, TypedAtoms)
        Names, which ``.types`` files refer to, and atoms as ``GninaTyper()`` types them. Radii are not stored.

    Raises
    ------
    ValueError
        If a name comes twice or is not 1 to 255 bytes long, or atoms have other channels or positions that are not
        finite in float32.
    """
    places: dict[bytes, int] = {}
    with atomic_files([Path(path)]) as (temporary,), open(temporary, "wb") as file:
        file.write(_HEADER.pack(-1, 0))
        for name, atoms in molecules:
            key = os.fsencode(name)
            if not 1 <= len(key) <= 255 or key in places:
                found = "twice" if key in places else f"{len(key)} bytes"
                raise ValueError(f"molecules: name {name!r}, {found}; expected 1 to 255 bytes, each name once")
            places[key] = file.tell()
            file.write(_COUNT.pack(len(atoms)) + _packed(f"molecules: {name!r}", atoms))
        table = file.tell()
        for key, place in places.items():
            file.write(bytes([len(key)]) + key + _PLACE.pack(place))
        file.seek(0)
        file.write(_HEADER.pack(-1, table))


def _packed(what: str, atoms: TypedAtoms) -> bytes:
    """Return the bytes of the atoms of a molecule."""
    channels = GninaTyper().channels
    if tuple(atoms.channels) != channels or atoms.types.ndim != 1:
        raise ValueError(
            f"{what}: channels {', '.join(atoms.channels)}; expected type indices of {', '.join(channels)}"
        )
    words = np.empty((len(atoms), 4), "<i4")
    with np.errstate(over="ignore"):
        words.view("<f4")[:, :3] = atoms.coords
    words[:, 3] = np.maximum(atoms.types, -1)
    if not np.isfinite(words.view("<f4")[:, :3]).all():
        raise ValueError(f"{what}: positions that are not finite; expected finite numbers in the range of float32")
    return words.tobytes()
