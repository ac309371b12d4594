"""AtomBudgetBatchSampler: batches of about the same number of atoms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gridgrad.data.samplers import ResumableSampler, StratifiedSampler, whole_number

__all__ = ["AtomBudgetBatchSampler"]


class AtomBudgetBatchSampler(ResumableSampler):
    """Batches with as many atoms as fit: about the same number in each, and equally many batches on every rank.

    Each row comes once per epoch, or as often as `sampler` says, in its order. With the smallest number of batches, a
    multiple of the number of ranks, that keeps within the limits, the largest batch is as small as it can be.

    Parameters
    ----------
    n_atoms : array_like
        (N,) integers: the atoms of each row, see `ComplexDataset.count_atoms`.
    max_atoms : int
        Most atoms of a batch.
    max_examples : int, optional
        Most rows of a batch; by default any number.
    sampler : StratifiedSampler, optional
        What order the rows come in, with its seed and rank; by default at random.
    seed, rank, world_size : int
        As for `ResumableSampler`; not with `sampler`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    """

    def __init__(
        self,
        n_atoms: Any,
        max_atoms: int,
        *,
        max_examples: int | None = None,
        sampler: StratifiedSampler | None = None,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        if sampler is None:
            super().__init__(0 if seed is None else seed, rank, world_size)
        else:
            if not isinstance(sampler, StratifiedSampler):
                raise TypeError(f"sampler: {type(sampler).__name__}; expected a StratifiedSampler or a BalancedSampler")
            if not seed is rank is world_size is None:
                raise ValueError("seed, rank, world_size: given with sampler; expected those of the sampler")
            super().__init__(sampler.seed, sampler.rank, sampler.world_size)
        self.n_atoms = np.asarray(n_atoms)
        if self.n_atoms.ndim != 1 or self.n_atoms.dtype.kind not in "iu" or (self.n_atoms < 0).any():
            raise ValueError(
                f"n_atoms: {self.n_atoms.dtype} of shape {self.n_atoms.shape}; expected integers >= 0 (N,)"
            )
        self.n_atoms = self.n_atoms.astype(np.int64)
        n_rows = len(self.n_atoms)
        if sampler is not None and sampler.n_rows != n_rows:
            raise ValueError(f"sampler: of {sampler.n_rows} rows; expected {n_rows}, as of n_atoms")
        self.max_atoms = whole_number("max_atoms", max_atoms, 1)
        self.max_examples = n_rows if max_examples is None else whole_number("max_examples", max_examples, 1)
        too_large = np.flatnonzero(self.n_atoms > self.max_atoms)
        if len(too_large):
            row = too_large[0]
            raise ValueError(f"n_atoms: row {row} has {self.n_atoms[row]}; expected at most max_atoms = {max_atoms}")
        if n_rows < self.world_size:
            raise ValueError(f"n_atoms: {n_rows} rows; expected at least {self.world_size}, one per rank")
        self.sampler = sampler
        self._batches: tuple[int, np.ndarray, np.ndarray] = (-1, np.zeros(0), np.zeros(0))

    def _identity(self) -> dict[str, Any]:
        rows = {"n_rows": len(self.n_atoms), "n_atoms": int(self.n_atoms.sum())}
        limits = {"max_atoms": self.max_atoms, "max_examples": self.max_examples}
        order = {} if self.sampler is None else {"sampler": self.sampler._identity()}
        return {**super()._identity(), **rows, **limits, **order}

    def _cut(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the epoch on all ranks, and where batches begin and the last ends."""
        if self._batches[0] != self.epoch:
            if self.sampler is None:
                order = self._generator().permutation(len(self.n_atoms))
            else:
                self.sampler.set_epoch(self.epoch)
                order = self.sampler.order()
            self._batches = self.epoch, order, self._bounds(self.n_atoms[order])
        return self._batches[1:]

    def __len__(self) -> int:
        """Return the number of batches that this rank has in this epoch."""
        return (len(self._cut()[1]) - 1) // self.world_size

    def _pick(self, places: range) -> Iterator[list[int]]:
        order, bounds = self._cut()
        numbers = range(self.rank, len(bounds) - 1, self.world_size)[places.start : places.stop : places.step]
        return (order[bounds[number] : bounds[number + 1]].tolist() for number in numbers)

    def _bounds(self, n_atoms: np.ndarray) -> np.ndarray:
        total = n_atoms.cumsum()
        fewest = len(self._filled(total, self.max_atoms)) - 1
        n_batches = -(-fewest // self.world_size) * self.world_size
        if n_batches > len(total):
            raise ValueError(
                f"max_atoms: {self.max_atoms} makes {fewest} batches of {len(total)} rows; expected enough rows for a "
                f"multiple of {self.world_size}, the ranks"
            )
        high = self.max_atoms  # is enough
        low = max(int(total[-1]) // n_batches, int(n_atoms.max()), 1) - 1  # is too little
        while high - low > 1:
            middle = (low + high) // 2
            if len(self._filled(total, middle)) - 1 <= n_batches:
                high = middle
            else:
                low = middle
        bounds = self._filled(total, high)
        while len(bounds) - 1 < n_batches:  # halve the batch with most rows
            i = int(np.diff(bounds).argmax())
            bounds.insert(i + 1, (bounds[i] + bounds[i + 1]) // 2)
        return np.array(bounds)

    def _filled(self, total: np.ndarray, max_atoms: int) -> list[int]:
        """Return the bounds of batches that are filled one after the other."""
        bounds, before = [0], 0
        while bounds[-1] < len(total):
            end = int(total.searchsorted(before + max_atoms, side="right"))
            bounds.append(min(end, bounds[-1] + self.max_examples))
            before = int(total[bounds[-1] - 1])
        return bounds
