"""Typers made of typers: channels merged, selected, renamed; index types as one-hot vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.mol.molecule import Molecule
from gridgrad.mol.typers import ChannelTyper

__all__ = ["MappedTyper", "OneHotTyper", "read_map"]


class MappedTyper:
    """Another typer with its channels merged, selected or renamed.

    Parameters
    ----------
    typer : callable
        A typer that names its channels in an attribute `channels`, as the typers of this package do.
    groups : mapping of str to sequence of str, or sequence of sequences of str
        For each new channel the old channels that go there. Without a mapping the new name is the old ones joined by
        "_", as libmolgrid has it.
    other : str, optional
        Name of a last channel for all that no group names. By default these atoms are ignored: index -1 or no weight.

    Examples
    --------
    >>> typer = MappedTyper(ElementTyper(), {"carbon": ["C"], "polar": ["N", "O", "S"]}, other="rest")
    >>> typer.channels
    ('carbon', 'polar', 'rest')
    """

    def __init__(
        self,
        typer: ChannelTyper,
        groups: Mapping[str, Sequence[str]] | Iterable[Sequence[str]],
        other: str | None = None,
    ):
        named = groups.items() if isinstance(groups, Mapping) else (("_".join(old), old) for old in map(tuple, groups))
        self.typer, self.other = typer, other
        self.groups: dict[str, tuple[str, ...]] = {name: tuple(old) for name, old in named}
        names = [name for old in self.groups.values() for name in old]
        wrong = [name for name in names if name not in typer.channels or names.count(name) > 1]
        if wrong:
            raise ValueError(f"groups: got {wrong[0]!r}, expected each a channel of the typer, at most once")
        self.channels: tuple[str, ...] = tuple(self.groups) if other is None else (*self.groups, other)
        if not self.channels or len(set(self.channels)) < len(self.channels):
            raise ValueError(f"groups: got the channels {self.channels}, expected at least one, each name once")
        new = {name: index for index, old in enumerate(self.groups.values()) for name in old}
        rest = -1 if other is None else len(self.groups)
        self._index = np.array([new.get(name, rest) for name in typer.channels], dtype=np.int64)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MappedTyper):
            return NotImplemented
        same = self.typer == other.typer and self.other == other.other
        return same and list(self.groups.items()) == list(other.groups.items())

    def __hash__(self) -> int:
        return hash((self.typer, tuple(self.groups.items()), self.other))

    def __repr__(self) -> str:
        return f"MappedTyper({self.typer!r}, {self.groups!r}, other={self.other!r})"

    def __call__(self, molecule: Molecule) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return the types of the other typer in the new channels, its radii and the new names."""
        types, radii, _ = self.typer(molecule)
        if types.ndim == 1:
            return np.where(types < 0, -1, self._index[types]), radii, self.channels
        return types @ (self._index[:, None] == np.arange(len(self.channels))).astype(types.dtype), radii, self.channels


@dataclass(frozen=True)
class OneHotTyper:
    """Another typer with its index types as vectors: weight 1 in the channel of the index, 0 elsewhere.

    Parameters
    ----------
    typer : callable
        A typer that names its channels in an attribute `channels`.
    """

    typer: Any

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return self.typer.channels

    def __call__(self, molecule: Molecule) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Return vector types (N, T), radii (N,) and channel names."""
        types, radii, channels = self.typer(molecule)
        if types.ndim == 1:
            types = (types[:, None] == np.arange(len(channels))).astype(np.float64)
        return types, radii, channels


def read_map(path: str | Path) -> list[tuple[str, ...]]:
    """Read a map of libmolgrid or gnina for `MappedTyper`: a line for each new channel, naming the old ones.

    Parameters
    ----------
    path : str or Path
        Text file; empty lines are skipped.

    Returns
    -------
    list of tuple of str
        The groups.
    """
    groups = [tuple(line.split()) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [group for group in groups if group]
