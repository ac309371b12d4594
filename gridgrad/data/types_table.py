"""Tables of gnina's training examples: ``.types`` files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["TypesTable", "read_types"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_PARTS = {1: ("ligand",), 2: ("receptor", "ligand")}
_NOTHING = "none"


@dataclass(frozen=True, eq=False)
class TypesTable:
    """Labels and molecules of examples; ``len(table)`` is their number R.

    Attributes
    ----------
    labels : ndarray of float64, shape (R, L)
        The labels of each.
    names : dict of str to list of str
        By part: the names of the molecules, each once, in the order in which they appear.
    index : dict of str to ndarray of int64, shape (R,)
        By part: the molecule of each example, a place in `names`; -1 where it has none.
    """

    labels: np.ndarray
    names: dict[str, list[str]]
    index: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, stores: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the rows of the examples' molecules in stores, as `ComplexDataset` takes them.

        Parameters
        ----------
        stores : mapping of str to store
            By part: an `AtomStore`, a `MolCache` or `GninaTypesFiles` with molecules of these names.

        Returns
        -------
        dict of str to ndarray of int64, shape (R,)
            By part: the row of each example's molecule in the store; -1 where it has none.

        Raises
        ------
        ValueError
            If the stores are of other parts.
        KeyError
            If a store lacks a name.
        """
        if set(stores) != set(self.names):
            raise ValueError(f"stores: of {tuple(stores)}; expected of {tuple(self.names)}, the parts of the table")
        found = {part: np.append(store.rows(self.names[part]), -1) for part, store in stores.items()}
        return {part: rows[self.index[part]] for part, rows in found.items()}


def read_types(path: str | Path, *, n_labels: int | None = None, parts: Sequence[str] | None = None) -> TypesTable:
    """Read a ``.types`` file.

    Each line has labels, which are numbers, then the names of molecules, then perhaps a comment, which begins with
    ``#``. The name ``none`` stands for no molecule. Empty lines are skipped.

    Parameters
    ----------
    path : str or Path
        The file.
    n_labels : int, optional
        Number of labels; by default all numbers at the beginning of the first line.
    parts : sequence of str, optional
        What the molecules of a line are; by default ligand, or receptor and ligand.

    Returns
    -------
    TypesTable
        Labels and names.

    Raises
    ------
    ValueError
        Naming the line that has other numbers of labels or molecules than the first one, or a label that is no finite
        number; or if there is no line.
    """
    labels: list[list[float]] = []
    known: tuple[str, ...] = ()
    width = 0
    places: list[dict[str, int]] = []
    columns: list[list[int]] = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            words = _words(path, number, line)
            if not words:
                continue
            if not labels:
                width = _count_numbers(words) if n_labels is None else n_labels
                known = _parts(path, number, len(words) - width, parts)
                places, columns = [{} for _ in known], [[] for _ in known]
            if len(words) != width + len(known):
                expected = f"{width} labels and {len(known)} molecules ({', '.join(known)})"
                raise ValueError(f"{path}, line {number}: {len(words)} words; expected {expected}")
            labels.append([_label(path, number, word) for word in words[:width]])
            for word, place, column in zip(words[width:], places, columns, strict=True):
                column.append(-1 if word == _NOTHING else place.setdefault(word, len(place)))
    if not labels:
        raise ValueError(f"{path}: no line; expected lines of labels and molecules")
    names = {part: list(place) for part, place in zip(known, places, strict=True)}
    index = {part: np.array(column, np.int64) for part, column in zip(known, columns, strict=True)}
    return TypesTable(np.array(labels, np.float64).reshape(len(labels), width), names, index)


def _words(path: str | Path, number: int, line: bytes) -> list[str]:
    """Return the words of a line before its comment."""
    try:
        words = line.decode("utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason}); expected text") from None
    comment = next((i for i, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment]


def _count_numbers(words: list[str]) -> int:
    return next((i for i, word in enumerate(words) if not _NUMBER.fullmatch(word)), len(words))


def _parts(path: str | Path, line: int, found: int, parts: Sequence[str] | None) -> tuple[str, ...]:
    if parts is None:
        if found not in _PARTS:
            raise ValueError(f"{path}, line {line}: {found} molecules; expected 1 or 2, or their `parts`")
        return _PARTS[found]
    if len(parts) != found or len(set(parts)) < len(parts):
        raise ValueError(f"{path}, line {line}: {found} molecules; expected one for each of the parts {tuple(parts)}")
    return tuple(parts)


def _label(path: str | Path, line: int, word: str) -> float:
    value = float(word) if _NUMBER.fullmatch(word) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{path}, line {line}: label {word!r}; expected a finite number")
    return value
