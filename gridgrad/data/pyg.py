"""Batches of PyTorch Geometric, in and out (extra ``pyg``; reading one needs only its fields)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gridgrad.data.batch import AtomBatch
from gridgrad.extras import require

if TYPE_CHECKING:
    from torch_geometric.data import Batch

__all__ = ["from_pyg", "to_pyg"]


def from_pyg(
    data: Any,
    types: str | Tensor,
    radii: str | Tensor,
    *,
    center: str | Tensor | None = None,
    labels: Sequence[str] = (),
    names: str | None = None,
    channels: Sequence[str] | None = None,
) -> AtomBatch:
    """Make a batch of the nodes of a PyTorch Geometric ``Data`` or ``Batch``; their tensors are shared.

    Parameters
    ----------
    data : torch_geometric.data.Data or Batch
        With positions ``pos`` in angstrom. The examples are told apart by ``ptr`` or ``batch``; without them there is
        one.
    types, radii : str or Tensor
        As for `AtomBatch`, or the field that holds them: from atomic numbers, ``channel_of[data.z]``.
    center : str or Tensor, optional
        (B, 3) centres of the boxes, or the field that holds them.
    labels : sequence of str, optional
        Fields that become labels, with one row per example.
    names : str, optional
        Field that holds the names of the examples.
    channels : sequence of str, optional
        Names of the channels.

    Returns
    -------
    AtomBatch
        The batch.

    Raises
    ------
    TypeError, ValueError
        Naming the field, what was seen and what is expected.
    """

    def field(name: str) -> Any:
        value = getattr(data, name, None)
        if value is None:
            raise ValueError(f"data: no field {name!r}; expected a PyTorch Geometric Data or Batch that has it")
        return value

    def tensor(value: str | Tensor) -> Tensor:
        return field(value) if isinstance(value, str) else value

    coords, ptr, batch = field("pos"), getattr(data, "ptr", None), getattr(data, "batch", None)
    others: dict[str, Any] = {
        "center": None if center is None else tensor(center),
        "labels": {name: field(name) for name in labels},
        "names": None if names is None else field(names),
        "channels": channels,
    }
    if isinstance(others["names"], str):
        others["names"] = [others["names"]]
    if ptr is None and batch is not None:
        n_examples = int(data.num_graphs)
        return AtomBatch.from_batch_index(coords, tensor(types), tensor(radii), batch, n_examples, **others)
    offsets = torch.tensor([0, len(coords)], device=coords.device) if ptr is None else ptr
    return AtomBatch(coords, tensor(types), tensor(radii), offsets, **others)


def to_pyg(batch: AtomBatch) -> Batch:
    """Make a PyTorch Geometric ``Batch`` of a batch, one ``Data`` per example.

    Parameters
    ----------
    batch : AtomBatch
        The batch.

    Returns
    -------
    torch_geometric.data.Batch
        With ``pos`` for the coordinates, and the fields ``types``, ``radii``, ``center`` (1, 3), ``name``, ``part`` and
        the labels under their names, where the batch has them. Radii by type become one radius per atom.

    Raises
    ------
    ImportError
        If PyTorch Geometric is not installed.
    ValueError
        If a label has the name of a field, or if radii are by type and types are vectors.
    """
    data = require("torch_geometric.data", "pyg")
    fields = ("pos", "types", "radii", "center", "name", "part")
    for name in batch.labels:
        if name in (*fields, "batch", "ptr"):
            raise ValueError(f"labels: {name!r}; expected another name than those of the fields of a Batch")
    radii = batch.radii
    if batch.radius_type_indexed:
        if batch.types.is_floating_point():
            raise ValueError("radii: by type, with type vectors; expected one per atom")
        radii = torch.where(batch.types < 0, 1, radii[batch.types.clamp(min=0)])
    bounds = batch.offsets.tolist()
    examples = []
    for i, (start, end) in enumerate(pairwise(bounds)):
        values: dict[str, Any] = {"pos": batch.coords[start:end], "types": batch.types[start:end]}
        values["radii"] = radii[start:end]
        if batch.part is not None:
            values["part"] = batch.part[start:end]
        if batch.center is not None:
            values["center"] = batch.center[i : i + 1]
        if batch.names is not None:
            values["name"] = batch.names[i]
        examples.append(data.Data(**values, **{name: value[i : i + 1] for name, value in batch.labels.items()}))
    return data.Batch.from_data_list(examples)
