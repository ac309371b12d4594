"""Many arrays in one buffer: memory that comes and goes, and what a worker process sends, cost by the piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Packed", "can_pack", "empty_together", "pack", "unpack"]

_INLINE = 1 << 18  # bytes that cost less inside of a message than as a shared memory of their own
_ALIGNMENT = 16
Place = tuple[torch.dtype, torch.Size, int]
"""dtype, shape, first byte."""


def empty_together(shapes: Mapping[str, tuple[torch.dtype, Sequence[int]]]) -> dict[str, Tensor]:
    """Allocate tensors that lie in one buffer, uninitialised.

    The C library gives large blocks back to the system and gets them again, with a page fault every 4 KiB, unless all
    that is freed at once fits into twice the largest block.

    Parameters
    ----------
    shapes : mapping of str to (dtype, shape)
        By name.

    Returns
    -------
    dict of Tensor
        By name.
    """
    layout, size = _layout({name: (dtype, torch.Size(shape)) for name, (dtype, shape) in shapes.items()})
    return unpack(Packed(torch.empty(size, dtype=torch.uint8), layout))


def _layout(shapes: Mapping[Any, tuple[torch.dtype, torch.Size]]) -> tuple[dict[Any, Place], int]:
    """Return where tensors go that lie one after the other, and their size in bytes."""
    layout: dict[Any, Place] = {}
    size = 0
    for name, (dtype, shape) in shapes.items():
        layout[name] = dtype, shape, size
        size += -(-shape.numel() * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
    return layout, size


class Packed(NamedTuple):
    """Tensors in one buffer.

    Attributes
    ----------
    buffer : bytearray or Tensor
        Their bytes; many as a tensor, which `torch.multiprocessing` sends as shared memory.
    layout : dict
        By name: dtype, shape and first byte.
    """

    buffer: bytearray | Tensor
    layout: dict[Any, Place]


def can_pack(tensors: Mapping[Any, Tensor]) -> bool:
    """Tell whether nothing but the numbers of the tensors would have to travel: no device, no graph, no subclass."""
    return all(type(value) is Tensor and value.is_cpu and not value.requires_grad for value in tensors.values())


def pack(tensors: Mapping[Any, Tensor]) -> Packed:
    """Copy tensors into one buffer.

    Parameters
    ----------
    tensors : mapping of Tensor
        By name.

    Returns
    -------
    Packed
        The buffer, and where they are in it.
    """
    layout, size = _layout({name: (value.dtype, value.shape) for name, value in tensors.items()})
    buffer: bytearray | Tensor
    if size <= _INLINE:
        buffer = bytearray(size)
        target = np.frombuffer(buffer, np.uint8)
    else:
        buffer = torch.empty(size, dtype=torch.uint8)
        target = buffer.numpy()
    for name, value in tensors.items():
        start = layout[name][2]
        target[start : start + value.nbytes] = value.contiguous().view(-1).numpy().view(np.uint8)
    return Packed(buffer, layout)


def unpack(packed: Packed) -> dict[Any, Tensor]:
    """Return the tensors, which share the memory of the buffer.

    Parameters
    ----------
    packed : Packed
        What `pack` returned.

    Returns
    -------
    dict of Tensor
        By name.
    """
    buffer, layout = packed
    if not len(buffer):
        return {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape, _) in layout.items()}
    whole = buffer if isinstance(buffer, Tensor) else torch.frombuffer(buffer, dtype=torch.uint8)
    return {
        name: whole[start : start + shape.numel() * dtype.itemsize].view(dtype).view(shape)
        for name, (dtype, shape, start) in layout.items()
    }
