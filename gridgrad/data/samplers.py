"""Samplers: which rows come in which order, on which rank; from a seed and an epoch, and resumable within it."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler, get_worker_info

__all__ = ["BalancedSampler", "ResumableSampler", "StratifiedSampler", "whole_number"]


def whole_number(name: str, value: object, least: int) -> int:
    """Return an argument that is an integer, and at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}: {value!r}; expected an integer >= {least}")
    return int(value)


class ResumableSampler(Sampler):
    """What the samplers here have in common: seed and epoch, rank, and how much of the epoch has been used.

    The order of an epoch follows from the seed and the number of the epoch alone. All ranks get equally much of it. In
    a worker process, where an iterable dataset may use a sampler, each worker gets its share of what its rank has.

    Parameters
    ----------
    seed : int
        Seed; the same on all ranks.
    rank, world_size : int or None
        Number of this process, and how many there are; by default those of torch.distributed, or 0 and 1.

    Attributes
    ----------
    epoch : int
        Number of the epoch, from 0.
    position : int
        How many of the items (rows; batches of a batch sampler) that this rank has in the epoch have been used.
    """

    def __init__(self, seed: int, rank: int | None, world_size: int | None):
        if (rank is None) != (world_size is None):
            raise ValueError(f"rank: {rank} with world_size {world_size}; expected both or neither")
        if rank is None:
            rank, world_size = 0, 1
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.seed, self.world_size = whole_number("seed", seed, 0), whole_number("world_size", world_size, 1)
        self.rank = whole_number("rank", rank, 0)
        if self.rank >= self.world_size:
            raise ValueError(f"rank: {rank}; expected less than world_size, {world_size}")
        self.epoch = self.position = 0
        self._begin_at = 0
        self._is_counted = True

    def _pick(self, places: range) -> Iterator[Any]:
        """Return some of the items that this rank has in this epoch."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def _generator(self) -> np.random.Generator:
        """Return the random number generator of this epoch, the same on all ranks."""
        return np.random.default_rng([self.seed, self.epoch])

    def __iter__(self) -> Iterator[Any]:
        # when the first item is asked for: torch's loader makes two iterators and uses one
        self.position, self._begin_at = self._begin_at, 0
        self._is_counted = False
        places, worker = range(self.position, len(self)), get_worker_info()
        yield from self._pick(places if worker is None else places[worker.id :: worker.num_workers])

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, at its beginning unless it is the one that `load_state_dict` went to.

        Parameters
        ----------
        epoch : int
            Its number.
        """
        if epoch != self.epoch:
            self.epoch = whole_number("epoch", epoch, 0)
            self.position = self._begin_at = 0
            self._is_counted = True

    def advance(self, n: int) -> None:
        """Count items as used. `gridgrad.data.DataLoader` does it for each batch that it hands out.

        Parameters
        ----------
        n : int
            How many.
        """
        self.position = min(self.position + whole_number("n", n, 0), len(self))
        self._is_counted = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state after what was used so far.

        Returns
        -------
        dict
            What `load_state_dict` takes on the same rank, in a process of any number of workers.

        Raises
        ------
        RuntimeError
            If items were handed out of which nobody said how many were used: a loader's workers run ahead.
        """
        if not self._is_counted:
            raise RuntimeError(
                "state_dict: rows were handed out, and nobody said how many were used; expected a "
                "gridgrad.data.DataLoader around this sampler, or a call of advance(n)"
            )
        return {"epoch": self.epoch, "position": self.position, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        """Return what must be the same for a position to mean the same."""
        return {"seed": self.seed, "world_size": self.world_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where another sampler of the same settings was: the next iteration goes on from there.

        Parameters
        ----------
        state : dict
            What `state_dict` returned.

        Raises
        ------
        ValueError
            If it belongs to a sampler with other settings.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ValueError(f"state_dict: {name} {state.get(name)}; expected {value}, as of this sampler")
        epoch = whole_number("state_dict: epoch", state.get("epoch"), 0)
        position = whole_number("state_dict: position", state.get("position"), 0)
        self.set_epoch(epoch)
        self.position = self._begin_at = position
        self._is_counted = True


class StratifiedSampler(ResumableSampler):
    """Rows by turns from all strata: from each value of the first key equally many, among them from each of the second.

    Every round takes one row from each value of the first key, in random order; whose turn it is within that value
    goes round the values of the second key among its rows, and so on. So gnina trains on receptors, on ranges of
    affinity and on classes, however unequally filled; ``numpy.digitize`` makes ranges of values. Rows of the same
    stratum come in random order, none twice before all have come once.

    Parameters
    ----------
    *keys : array_like
        (N,) integers, strings or bools: in what stratum a row is, the outermost first. The same value for all rows is
        plain random order.
    epoch_size : {"large", "small"}, default "large"
        What an epoch is, as in libmolgrid: "large" has every row at least once, "small" at most once. Both are rounded
        to whole rounds, the same number on every rank.
    seed, rank, world_size : int
        As for `ResumableSampler`: by default 0 and what torch.distributed says.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    """

    def __init__(
        self,
        *keys: Any,
        epoch_size: str = "large",
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        super().__init__(seed, rank, world_size)
        codes = [_codes(f"keys[{i}]", key) for i, key in enumerate(keys)]
        sizes = sorted({len(code) for code in codes})
        if len(sizes) != 1 or sizes == [0]:
            raise ValueError(f"keys: of {sizes} rows; expected one or more, of the same number of rows")
        (self.n_rows,) = sizes
        if epoch_size not in ("large", "small"):
            raise ValueError(f"epoch_size: {epoch_size!r}; expected 'large' or 'small'")
        self.epoch_size = epoch_size
        self._root = _Stratum(np.arange(self.n_rows), codes)
        rounds = self._root.rounds(max if epoch_size == "large" else min)
        per_rank = -(-rounds // self.world_size) if epoch_size == "large" else rounds // self.world_size
        if per_rank == 0:
            raise ValueError(f"world_size: {world_size}; expected at most {rounds}, the rounds of a small epoch")
        self.n_rounds = per_rank * self.world_size
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0))

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "n_rows": self.n_rows, "n_rounds": self.n_rounds}

    def order(self) -> np.ndarray:
        """Return the rows of the epoch on all ranks, rank after rank.

        Returns
        -------
        ndarray of int64
            Row numbers.
        """
        if self._order[0] != self.epoch:
            self._order = self.epoch, self._root.draw(self.n_rounds * len(self._root.parts), self._generator())
        return self._order[1]

    def __len__(self) -> int:
        return self.n_rounds * len(self._root.parts) // self.world_size

    def _pick(self, places: range) -> Iterator[int]:
        rows = self.order()[self.rank * len(self) :][places.start : places.stop : places.step]
        return (row for start in range(0, len(rows), 4096) for row in rows[start : start + 4096].tolist())


class BalancedSampler(StratifiedSampler):
    """Rows of all classes by turns: of two classes, as many of one as of the other in every batch of even size.

    Parameters
    ----------
    labels : array_like
        (N,) integers, strings or bools: the classes.
    epoch_size, seed, rank, world_size
        As for `StratifiedSampler`.
    """

    def __init__(
        self,
        labels: Any,
        *,
        epoch_size: str = "large",
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        super().__init__(_codes("labels", labels), epoch_size=epoch_size, seed=seed, rank=rank, world_size=world_size)


class _Stratum:
    """Rows with the same values of the outer keys, by their values of the next one."""

    def __init__(self, rows: np.ndarray, codes: list[np.ndarray]):
        values = codes[0][rows]
        order = values.argsort(kind="stable")
        parts = np.split(rows[order], np.flatnonzero(np.diff(values[order])) + 1)
        self.parts: list[Any] = parts if len(codes) == 1 else [_Stratum(part, codes[1:]) for part in parts]

    def rounds(self, extreme) -> int:
        """Return after how many rounds the first (`min`) or the last (`max`) stratum within has given all its rows."""
        return extreme(
            part.rounds(extreme) * len(part.parts) if isinstance(part, _Stratum) else len(part) for part in self.parts
        )

    def draw(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Return n rows, from the parts by turns."""
        n_parts = len(self.parts)
        turns = np.tile(np.arange(n_parts), (-(-n // n_parts), 1))
        turns = generator.permuted(turns, axis=1).ravel()[:n]
        times = np.bincount(turns, minlength=n_parts)
        drawn = [_draw(part, m, generator) for part, m in zip(self.parts, times, strict=True)]
        rows = np.empty(n, dtype=np.int64)
        rows[turns.argsort(kind="stable")] = np.concatenate(drawn)
        return rows


def _draw(part: _Stratum | np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    if isinstance(part, _Stratum):
        return part.draw(n, generator)
    return generator.permuted(np.tile(part, (-(-n // len(part)), 1)), axis=1).ravel()[:n]


def _codes(name: str, key: Any) -> np.ndarray:
    """Return the number of each value."""
    key = np.asarray(key)
    if key.size == 0:
        return np.zeros(len(key), dtype=np.int64)
    if key.ndim != 1 or key.dtype.kind not in "iubUSO":
        raise TypeError(
            f"{name}: {key.dtype} of shape {key.shape}; expected integers, strings or bools (N,); numpy.digitize makes "
            "ranges of values"
        )
    return np.unique(key, return_inverse=True)[1]
