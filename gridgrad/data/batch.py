"""AtomBatch: the atoms of a batch of examples, ragged, with all that belongs to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gridgrad.data.fields import FLOATS, check_fields
from gridgrad.data.packing import can_pack, pack, unpack
from gridgrad.data.padding import PaddedAtoms, padded_atoms
from gridgrad.data.ragged import chosen_examples, rows_of

__all__ = ["AtomBatch"]


@dataclass(eq=False, repr=False)
class AtomBatch:
    """Typed atoms of B examples, one after the other, with the labels and the names of the examples.

    ``len(batch)`` is B; ``batch[i]`` is the batch of that one example, ``batch[[i, j]]`` and ``batch[a:b]`` are batches
    of several, so that a batch also serves as a store of molecules in memory. Tensors are not copied.

    Parameters
    ----------
    coords : Tensor
        (N, 3) positions in angstrom, float32 or float64.
    types : Tensor
        (N,) int64, the channel of each atom (negative: ignored), or (N, T) of the dtype of `coords`, its weights.
    radii : Tensor
        (N,) radii in angstrom, or (T,) by type, of the dtype of `coords`.
    offsets : Tensor
        (B + 1,) int64: the atoms of example b are ``offsets[b]`` to ``offsets[b + 1] - 1``.
    center : Tensor, optional
        (B, 3) centres of the boxes in angstrom, of the dtype of `coords` or float64, which loses nothing far from zero.
    labels : mapping of str to Tensor, optional
        Tensors whose first size is B.
    names : sequence of str, optional
        B names, of the examples.
    channels : sequence of str, optional
        T names, of the channels.
    part : Tensor, optional
        (N,) uint8: the part that an atom belongs to, an index into `parts`.
    parts : sequence of str, optional
        Names of the parts, say "receptor" and "ligand".
    fixed : Tensor, optional
        (N,) bool: atoms that get no gradients, see `requires_grad_`.
    radius_type_indexed : bool, default False
        Whether `radii` are (T,), as for `GridMaker`.

    Raises
    ------
    TypeError, ValueError
        Naming the field, what was seen and what is expected.
    """

    coords: Tensor
    types: Tensor
    radii: Tensor
    offsets: Tensor
    center: Tensor | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    names: Sequence[str] | None = None
    channels: Sequence[str] | None = None
    part: Tensor | None = None
    parts: Sequence[str] = ()
    fixed: Tensor | None = None
    radius_type_indexed: bool = False

    def __post_init__(self):
        self._batch = None
        self.names = None if self.names is None else tuple(self.names)
        self.channels = None if self.channels is None else tuple(self.channels)
        self.parts = tuple(self.parts)
        check_fields(self)

    @classmethod
    def from_batch_index(
        cls, coords: Tensor, types: Tensor, radii: Tensor, batch: Tensor, batch_size: int | None = None, **others
    ) -> AtomBatch:
        """Make a batch from the example that each atom belongs to.

        Parameters
        ----------
        coords, types, radii
            As for `AtomBatch`.
        batch : Tensor
            (N,) integers, sorted: the example of each atom.
        batch_size : int, optional
            B; by default ``batch[-1] + 1``.
        **others
            Further fields of `AtomBatch`.

        Returns
        -------
        AtomBatch
            The batch.
        """
        if not isinstance(batch, Tensor):
            raise TypeError(f"batch: {type(batch).__name__}; expected a torch.Tensor")
        if batch.dtype not in (torch.int64, torch.int32) or batch.shape != coords.shape[:1]:
            raise ValueError(
                f"batch: {batch.dtype} of shape {tuple(batch.shape)}; expected torch.int64 {tuple(coords.shape[:1])}"
            )
        if batch_size is None:
            batch_size = int(batch[-1]) + 1 if batch.numel() else 0
        offsets = torch.ops.gridgrad.batch_offsets(batch.long(), batch_size)
        return cls(coords, types, radii, offsets, **others)

    # --- what it holds ------------------------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """int: B, the number of examples."""
        return self.offsets.shape[0] - 1

    @property
    def batch(self) -> Tensor:
        """Tensor: (N,) int64, the example of each atom."""
        if self._batch is None:
            examples = torch.arange(self.batch_size, device=self.device)
            self._batch = torch.repeat_interleave(examples, self.n_atoms, output_size=self.coords.shape[0])
        return self._batch

    @property
    def n_atoms(self) -> Tensor:
        """Tensor: (B,) int64, the number of atoms of each example."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def n_types(self) -> int | None:
        """T, the number of channels; None for type indices whose channels have no names."""
        if self.types.is_floating_point():
            return self.types.shape[1]
        return None if self.channels is None else len(self.channels)

    @property
    def device(self) -> torch.device:
        """torch.device: Where the tensors are."""
        return self.coords.device

    @property
    def dtype(self) -> torch.dtype:
        """torch.dtype: That of the coordinates."""
        return self.coords.dtype

    def rows(self, names: Sequence[str]) -> np.ndarray:
        """Return the examples that have some names.

        Parameters
        ----------
        names : sequence of str
            Names, each as often as you like.

        Returns
        -------
        ndarray of int64
            Their numbers.

        Raises
        ------
        KeyError
            If no example, or more than one, has a name.
        """
        numbers: dict[str, list[int]] = {name: [] for name in names}
        for number, name in enumerate(self.names or ()):
            if name in numbers:
                numbers[name].append(number)
        for name, found in numbers.items():
            if len(found) != 1:
                raise KeyError(f"names: {len(found)} examples are named {name!r}; expected one")
        return np.array([numbers[name][0] for name in names], dtype=np.int64)

    def mask(self, *parts: str) -> Tensor:
        """Tell which atoms belong to some parts.

        Parameters
        ----------
        *parts : str
            Names out of `parts`.

        Returns
        -------
        Tensor
            (N,) bool.

        Raises
        ------
        ValueError
            If the batch has no such part.
        """
        for name in parts:
            if name not in self.parts:
                raise ValueError(f"parts: {name!r}; expected one of {self.parts}")
        indices = [self.parts.index(name) for name in parts]
        if not indices or self.part is None:
            return torch.zeros(self.coords.shape[:1], dtype=torch.bool, device=self.device)
        return torch.stack([self.part == index for index in indices]).any(0)

    def requires_grad_(self, *parts: str) -> AtomBatch:
        """Ask for gradients of the coordinates, if parts are named of those only.

        `Coords2Grid` spends nothing on the other atoms in the backward passes; the rows of their gradients are zero.
        The density is the same, bit for bit.

        Parameters
        ----------
        *parts : str
            Names out of `parts`; by default all atoms.

        Returns
        -------
        AtomBatch
            This batch.

        Raises
        ------
        ValueError
            If the batch has no such part.
        """
        self.fixed = ~self.mask(*parts) if parts else None
        self.coords.requires_grad_()
        return self

    # --- the same in other places and shapes --------------------------------------------------------------------------

    def changed(self, **values) -> AtomBatch:
        """Return the batch with other values in some fields, which are not checked, unlike by `dataclasses.replace`.

        Parameters
        ----------
        **values
            Fields of the right kind.

        Returns
        -------
        AtomBatch
            The batch.
        """
        batch = object.__new__(AtomBatch)
        batch.__dict__.update({**self.__dict__, "_batch": None, **values})
        return batch

    def _map(self, change) -> AtomBatch:
        """Return the batch with `change` applied to each tensor."""
        values = {name: change(value) for name, value in self.__dict__.items() if isinstance(value, Tensor)}
        return self.changed(**values, labels={name: change(value) for name, value in self.labels.items()})

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> AtomBatch:
        """Return the batch on another device or in another precision.

        Parameters
        ----------
        device : torch.device or str, optional
            Where to; by default it stays.
        dtype : torch.dtype, optional
            ``torch.float32`` or ``torch.float64``, for what has the dtype of the coordinates: weights, radii, centres.
            Centres in float64 keep it, as labels do theirs.
        non_blocking : bool, default False
            Do not wait for copies from pinned memory.

        Returns
        -------
        AtomBatch
            The batch.
        """
        moved = self if device is None else self._map(lambda value: value.to(device, non_blocking=non_blocking))
        if dtype is None:
            return moved
        names = ("coords", "types", "radii", *(("center",) if dtype is torch.float64 else ()))
        values = {name: getattr(moved, name) for name in names}
        if dtype not in FLOATS:
            raise TypeError(f"dtype: {dtype}; expected torch.float32 or torch.float64")
        return moved.changed(
            **{
                name: value.to(dtype)
                for name, value in values.items()
                if value is not None and value.dtype is moved.dtype
            },
        )

    def pin_memory(self) -> AtomBatch:
        """Return the batch in page-locked memory, from which copies to a GPU need not be waited for.

        Returns
        -------
        AtomBatch
            The batch.
        """
        return self._map(Tensor.pin_memory)

    def padded(self) -> PaddedAtoms:
        """Return the atoms with all examples padded to the same number.

        Returns
        -------
        PaddedAtoms
            ``coords``, ``types``, ``radii`` and ``mask``; the first three are what `coords2grid` takes.
        """
        return padded_atoms(self.coords, self.types, self.radii, self.offsets, self.batch, self.radius_type_indexed)

    def __getstate__(self) -> dict[str, Any]:
        """Let all tensors travel as one buffer where they can."""
        state = {name: value for name, value in self.__dict__.items() if name != "_batch"}
        tensors: dict[Any, Tensor] = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        tensors |= {("labels", name): value for name, value in self.labels.items()}
        if not can_pack(tensors):
            return state
        return {name: state[name] for name in state.keys() - tensors.keys() - {"labels"}} | {"": pack(tensors)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "" in state:
            tensors = unpack(state.pop(""))
            labels = {name[1]: value for name, value in tensors.items() if isinstance(name, tuple)}
            state |= {name: value for name, value in tensors.items() if not isinstance(name, tuple)} | {
                "labels": labels
            }
        self.__dict__.update(state, _batch=None)

    def __len__(self) -> int:
        return self.batch_size

    def __iter__(self) -> Iterator[AtomBatch]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index) -> AtomBatch:
        chosen = chosen_examples(index, self.batch_size)
        found = (chosen, *rows_of(chosen, self.offsets.cpu().numpy()))
        examples, offsets, rows = (torch.from_numpy(array).to(self.device) for array in found)

        def take(values: Tensor | None, where: Tensor = rows) -> Tensor | None:
            return None if values is None else values.index_select(0, where)

        return self.changed(
            coords=take(self.coords),
            types=take(self.types),
            radii=self.radii if self.radius_type_indexed else take(self.radii),
            offsets=offsets,
            center=take(self.center, examples),
            labels={name: take(value, examples) for name, value in self.labels.items()},
            names=None if self.names is None else tuple(map(self.names.__getitem__, chosen.tolist())),
            part=take(self.part),
            fixed=take(self.fixed),
        )

    def __repr__(self) -> str:
        channels = "" if self.n_types is None else f", {self.n_types} channels"
        parts = f" ({', '.join(self.parts)})" if self.parts else ""
        examples = "1 example" if self.batch_size == 1 else f"{self.batch_size} examples"
        return (
            f"AtomBatch({examples}, {self.coords.shape[0]} atoms{parts}{channels}, "
            f"{str(self.dtype).removeprefix('torch.')}, {self.device})"
        )
