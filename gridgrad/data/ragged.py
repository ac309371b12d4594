"""Where the atoms of examples lie that lie one after the other."""

from __future__ import annotations

import numpy as np
from torch import Tensor

__all__ = ["chosen_examples", "rows_of"]


def rows_of(examples: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets (n + 1,) of some examples put together, and the rows of their atoms."""
    starts = offsets[examples]
    n_atoms = offsets[examples + 1] - starts
    new = np.zeros(len(examples) + 1, dtype=np.int64)
    n_atoms.cumsum(out=new[1:])
    return new, np.arange(new[-1]) + (starts - new[:-1]).repeat(n_atoms)


def chosen_examples(index: object, size: int) -> np.ndarray:
    """Return what `index` selects out of `size` examples, int64."""
    if isinstance(index, slice):
        return np.arange(*index.indices(size))
    array = np.asarray(index.cpu() if isinstance(index, Tensor) else index)
    if array.dtype == bool and array.shape == (size,):
        array = np.flatnonzero(array)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise TypeError(f"index: {index!r}; expected an integer, a slice or integers")
    array = array.astype(np.int64).reshape(-1)
    if len(array) and (array.min() < -size or array.max() >= size):
        outside = array[(array < -size) | (array >= size)]
        raise IndexError(f"index: {outside[0]}; expected one of {size} examples")
    return np.where(array < 0, array + size, array)
