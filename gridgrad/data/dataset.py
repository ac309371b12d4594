"""ComplexDataset: rows of labels and of parts, whose molecules lie in stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gridgrad.data.batch import AtomBatch
from gridgrad.data.crop import Crop
from gridgrad.data.packing import empty_together
from gridgrad.data.part import Atoms, Part, join_channels, pieces
from gridgrad.data.rigid import RandomRigid
from gridgrad.grid import Grid

__all__ = ["ComplexDataset"]


class ComplexDataset(Dataset):
    """Rows of labels and parts, each part a molecule, as batches of atoms.

    ``dataset[i]`` is the `AtomBatch` of row i alone; ``dataset.__getitems__(rows)``, which torch's DataLoader calls,
    makes the batch of many rows at once, at a fraction of the cost of one after the other. The atoms of an example come
    part by part.

    Parameters
    ----------
    stores : mapping of str to store
        By name of the part: the molecules. A store has a length and gives the `AtomBatch` of rows i and j at
        ``[[i, j]]``, as `AtomStore` and `AtomBatch` do; or it is a list of examples, as `collate` takes them.
    rows : mapping of str to sequence of int or of str, optional
        By name of the part: the molecule of each row, as number or as name in the store; -1 or "" where the row lacks
        the part. By default row i has molecule i of each store.
    labels : mapping of str to array_like, optional
        By name of the label: a number, or an array, per row.
    center : str or array_like, default: the last part
        Part whose mean position is the centre of the box, or (R, 3) centres in angstrom. The batches have it in
        float64.
    grid : GridMaker, optional
        The grid that is to be made: atoms of the parts `crop` that cannot reach it are left out, which changes no bit
        of it. What is kept of a molecule is computed once for all boxes whose centres lie in the same cell of 1 Å.
    crop : sequence of str, optional
        Parts from which atoms are left out: large molecules that many rows have. By default "receptor", if there is one
        and it does not give the centre.
    transform : RandomRigid, optional
        Moves each batch.
    apply_transform : bool, default True
        False: only leave out what `transform` cannot bring into the grid, and leave it to the caller to move the batch,
        say on a GPU, or where it is to be known what was done.
    shared_channels : bool, default False
        Whether all parts have the same channels. By default each has its own, in the order of the parts, with its name
        in front: "receptor C", ..., "ligand C", ...
    cache_bytes : int, default 2 ** 28
        Memory for what is kept of cropped molecules, in each process and for each part.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    """

    def __init__(
        self,
        stores: Mapping[str, Any],
        rows: Mapping[str, Sequence[int] | Sequence[str]] | None = None,
        labels: Mapping[str, Any] | None = None,
        *,
        center: Any = None,
        grid: Grid | None = None,
        crop: Sequence[str] | None = None,
        transform: RandomRigid | None = None,
        apply_transform: bool = True,
        shared_channels: bool = False,
        cache_bytes: int = 2**28,
    ):
        if not isinstance(stores, Mapping) or not stores:
            raise TypeError(f"stores: {stores!r}; expected a mapping of names of parts to stores")
        if rows is not None and set(rows) != set(stores):
            raise ValueError(f"rows: of {tuple(rows)}; expected of {tuple(stores)}, the parts")
        self.parts = {name: Part(name, store, None if rows is None else rows[name]) for name, store in stores.items()}
        first, *others = self.parts.values()
        self._length = len(first.numbers)
        for part in others:
            if len(part.numbers) != self._length:
                raise ValueError(
                    f"rows[{part.name!r}]: {len(part.numbers)}; expected {self._length}, as of {first.name!r}"
                )
        self.channels, self._radii = join_channels(list(self.parts.values()), shared_channels)
        nothing = first.nothing
        per_atom = {"types": nothing.types, "radii": nothing.radii, "coords": nothing.coords}  # coords are moved next
        if self._radii is not None:
            del per_atom["radii"]
        self._per_atom = {name: (torch.from_numpy(array).dtype, array.shape[1:]) for name, array in per_atom.items()}
        self.labels = {name: self._label(name, value) for name, value in (labels or {}).items()}
        self.center = self._checked_center(next(reversed(self.parts)) if center is None else center)
        if transform is not None and not isinstance(transform, RandomRigid):
            raise TypeError(f"transform: {type(transform).__name__}; expected a RandomRigid")
        self.transform, self.apply_transform = transform, apply_transform
        self._crops = self._make_crops(grid, crop, cache_bytes)
        self._merges = len(self.parts) > 1 or bool(self._crops)

    def _label(self, name: str, value: Any) -> Tensor:
        try:
            value = torch.as_tensor(value if isinstance(value, (Tensor, list, tuple)) else np.asarray(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"labels[{name!r}]: {error}; expected numbers") from None
        if value.dim() == 0 or value.shape[0] != self._length:
            raise ValueError(f"labels[{name!r}]: shape {tuple(value.shape)}; expected ({self._length}, ...), the rows")
        return value

    def _checked_center(self, center: Any) -> str | np.ndarray:
        if isinstance(center, str):
            if center not in self.parts:
                raise ValueError(f"center: {center!r}; expected one of {tuple(self.parts)}, or positions (R, 3)")
            return center
        try:
            center = np.asarray(center, dtype=np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"center: {center!r}; expected the name of a part, or positions (R, 3)") from None
        if center.shape != (self._length, 3):
            raise ValueError(f"center: shape {center.shape}; expected {(self._length, 3)}, one per row")
        return center

    def _make_crops(self, grid: Grid | None, crop: Sequence[str] | None, cache_bytes: int) -> dict[str, Crop]:
        if grid is not None and not isinstance(grid, Grid):
            raise TypeError(f"grid: {type(grid).__name__}; expected a GridMaker")
        giving = self.center if isinstance(self.center, str) else None
        if crop is None:
            crop = [name for name in ("receptor",) if name in self.parts and name != giving]
        crop = [crop] if isinstance(crop, str) else crop
        for name in crop:
            if name not in self.parts or name == giving:
                others = tuple(part for part in self.parts if part != giving)
                raise ValueError(f"crop: {name!r}; expected parts that do not give the centre, out of {others}")
        return {} if grid is None else {name: Crop(grid, self.transform, self._radii, cache_bytes) for name in crop}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> AtomBatch:
        """Return the batch of one row."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> AtomBatch:
        """Return the batch of some rows.

        Parameters
        ----------
        indices : sequence of int
            The rows.

        Returns
        -------
        AtomBatch
            Their atoms, centres, labels and names, moved by `transform`.

        Raises
        ------
        IndexError
            If there is no such row.
        ValueError
            If the part that is to give the centre has no atoms.
        """
        rows = self._checked_rows(indices)
        batch, centers, names = self._atoms(rows)
        index = torch.from_numpy(rows)
        batch = batch.changed(
            center=torch.from_numpy(centers),
            labels={name: value.index_select(0, index) for name, value in self.labels.items()},
            names=names,
            channels=self.channels,
        )
        if self.transform is not None and self.apply_transform:
            rigid = self.transform.draw_for(batch)
            batch = rigid(batch, in_place=self._merges)  # what was merged is nobody else's
        return batch

    def _atoms(self, rows: np.ndarray) -> tuple[AtomBatch, np.ndarray, Sequence[str] | None]:
        """Return the atoms of some rows as a batch, their centres (B, 3) in float64, and their names."""
        whole = {name: part.take(rows) for name, part in self.parts.items() if name not in self._crops}
        centers = self._centers(rows, whole)
        named = whole[self.center] if isinstance(self.center, str) else next(reversed(whole.values()), None)
        if self._merges:
            batch = self._merged(
                [pieces(whole[name]) if name in whole else self._cropped(name, rows, centers) for name in self.parts]
            )
        else:
            (batch,) = whole.values()
        return batch, centers, None if named is None else named.names

    def count_atoms(self) -> np.ndarray:
        """Count the atoms of every row, without those that are left out, by walking all rows once.

        Returns
        -------
        ndarray of int64
            (R,), what `AtomBudgetBatchSampler` takes.
        """
        chunks = (np.arange(start, min(start + 1024, len(self))) for start in range(0, len(self), 1024))
        return np.concatenate([np.zeros(0, dtype=np.int64), *(self._atoms(rows)[0].n_atoms.numpy() for rows in chunks)])

    def _checked_rows(self, indices: Sequence[int]) -> np.ndarray:
        rows = np.asarray(indices)
        if rows.ndim != 1 or (rows.dtype.kind not in "iu" and rows.size):
            raise TypeError(f"index: {rows.dtype} of shape {rows.shape}; expected integers")
        rows = rows.astype(np.int64)
        if len(rows) and (rows.min() < -self._length or rows.max() >= self._length):
            wrong = rows[(rows < -self._length) | (rows >= self._length)]
            raise IndexError(f"index: {wrong[0]}; expected one of {self._length} rows")
        return np.where(rows < 0, rows + self._length, rows)

    def _centers(self, rows: np.ndarray, whole: dict[str, AtomBatch]) -> np.ndarray:
        """Return (B, 3) float64."""
        if not isinstance(self.center, str):
            return self.center[rows]
        batch = whole[self.center]
        offsets = batch.offsets.numpy()
        n_atoms = np.diff(offsets)
        if (n_atoms == 0).any():
            row = rows[n_atoms == 0][0]
            raise ValueError(f"row {row}: no atoms in {self.center!r}; expected some, whose mean is the centre")
        if not len(rows):
            return np.zeros((0, 3))
        return np.add.reduceat(batch.coords.numpy(), offsets[:-1], dtype=np.float64) / n_atoms[:, None]

    def _cropped(self, name: str, rows: np.ndarray, centers: np.ndarray) -> list[Atoms]:
        """Return what of a part can reach the boxes of some rows."""
        part, crop = self.parts[name], self._crops[name]
        numbers = part.numbers[rows].tolist()
        return [
            crop(number, cell, part.molecule) if number >= 0 else part.nothing
            for number, cell in zip(numbers, crop.cells(centers), strict=True)
        ]

    def _merged(self, by_part: list[list[Atoms]]) -> AtomBatch:
        """Return the atoms of a batch, of each example part by part."""
        atoms = [piece for example in zip(*by_part, strict=True) for piece in example]
        n_atoms = np.array([len(piece.coords) for piece in atoms], dtype=np.int64)
        offsets = np.zeros(len(by_part[0]) + 1, dtype=np.int64)
        n_atoms.reshape(-1, len(by_part)).sum(1).cumsum(out=offsets[1:])
        n = int(offsets[-1])
        shapes = {name: (dtype, (n, *rest)) for name, (dtype, rest) in self._per_atom.items()}
        tensors = empty_together({"part": (torch.uint8, (n,)), **shapes})
        part = np.tile(np.arange(len(by_part), dtype=np.uint8), len(by_part[0]))
        tensors["part"].numpy()[:] = part.repeat(n_atoms)
        for name in shapes if atoms else ():
            np.concatenate([getattr(piece, name) for piece in atoms], out=tensors[name].numpy())
        return AtomBatch(
            coords=tensors["coords"],
            types=tensors["types"],
            radii=tensors["radii"] if self._radii is None else self._radii,
            part=tensors["part"],
            offsets=torch.from_numpy(offsets),
            parts=tuple(self.parts),
            radius_type_indexed=self._radii is not None,
        )
