"""From examples to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gridgrad.data.batch import AtomBatch

__all__ = ["collate"]


def collate(examples: Sequence[Any] | AtomBatch, dtype: torch.dtype | None = None) -> AtomBatch:
    """Put examples behind one another into one batch: ``DataLoader(..., collate_fn=collate)``.

    Parameters
    ----------
    examples : sequence of (AtomBatch or TypedAtoms), or AtomBatch
        What a dataset returned: batches, mostly of one example each, or atoms as `gridgrad.mol.type_atoms` returns
        them. All have the same fields, labels, channels and parts. A batch is returned as it is.
    dtype : torch.dtype, optional
        Precision of the batch, by default that of the examples, float32 for `TypedAtoms`.

    Returns
    -------
    AtomBatch
        The batch.

    Raises
    ------
    TypeError, ValueError
        Naming the example, what was seen and what is expected.
    """
    if isinstance(examples, AtomBatch):
        return examples.to(dtype=dtype)
    if not len(examples):
        raise ValueError("examples: 0; expected at least one, whose channels the batch has")
    batches = [_as_batch(i, example, dtype) for i, example in enumerate(examples)]
    first = batches[0]
    for i, batch in enumerate(batches):
        for name, value in _layout(first).items():
            if _layout(batch)[name] != value:
                raise ValueError(f"example {i}: {name} {_layout(batch)[name]}; expected {value}, as in example 0")
    if len(batches) == 1:
        return first
    radii = [batch.radii for batch in batches]
    if first.radius_type_indexed:
        for i, other in enumerate(radii):
            if not torch.equal(other, radii[0]):
                raise ValueError(f"example {i}: radii {other.tolist()}; expected {radii[0].tolist()}, as in example 0")
        radii = radii[:1]
    n_atoms = torch.cat([batch.n_atoms for batch in batches])
    return AtomBatch(
        coords=torch.cat([batch.coords for batch in batches]),
        types=torch.cat([batch.types for batch in batches]),
        radii=torch.cat(radii),
        offsets=torch.cat([n_atoms.new_zeros(1), n_atoms.cumsum(0)]),
        center=_join(batches, "center"),
        labels={name: torch.cat([batch.labels[name] for batch in batches]) for name in first.labels},
        names=None if first.names is None else [name for batch in batches for name in batch.names or ()],
        channels=first.channels,
        part=_join(batches, "part"),
        parts=first.parts,
        fixed=_join(batches, "fixed"),
        radius_type_indexed=first.radius_type_indexed,
    )


def _layout(batch: AtomBatch) -> dict[str, object]:
    """Return what must be the same in all batches that are put together."""
    optional = ("center", "names", "part", "fixed")
    return {
        "channels": batch.channels or batch.n_types,
        "parts": batch.parts,
        "labels": tuple(batch.labels),
        "dtype": batch.dtype,
        "types of dtype": batch.types.dtype,
        "radii by type": batch.radius_type_indexed,
        "fields": tuple(name for name in optional if getattr(batch, name) is not None),
    }


def _join(batches: list[AtomBatch], name: str) -> Tensor | None:
    values = [getattr(batch, name) for batch in batches]
    return None if values[0] is None else torch.cat(values)


def _as_batch(i: int, example: Any, dtype: torch.dtype | None) -> AtomBatch:
    if isinstance(example, AtomBatch):
        return example.to(dtype=dtype)
    if not all(hasattr(example, name) for name in ("coords", "types", "radii", "channels")):
        raise TypeError(f"example {i}: {type(example).__name__}; expected an AtomBatch or TypedAtoms")
    dtype = dtype or torch.float32
    types = torch.as_tensor(example.types)
    return AtomBatch(
        coords=torch.as_tensor(example.coords, dtype=dtype),
        types=types.to(dtype) if types.is_floating_point() else types.long(),
        radii=torch.as_tensor(example.radii, dtype=dtype),
        offsets=torch.tensor([0, len(example.coords)]),
        channels=example.channels,
    )
