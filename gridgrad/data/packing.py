"""Many tensors as one buffer: what a worker process sends costs by the piece."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Packed", "can_pack", "pack", "unpack"]

_INLINE = 1 << 18  # bytes that cost less inside of the message than a shared memory of their own
_ALIGNMENT = 16


class Packed(NamedTuple):
    """Tensors in one buffer.

    Attributes
    ----------
    buffer : bytearray or Tensor
        Their bytes; large ones as a tensor, which `torch.multiprocessing` sends as shared memory.
    layout : dict
        By name: dtype, shape and first byte.
    """

    buffer: bytearray | Tensor
    layout: dict[Any, tuple[torch.dtype, torch.Size, int]]


def can_pack(tensors: dict[Any, Tensor]) -> bool:
    """Tell whether nothing but the numbers of the tensors would have to travel: no device, no graph, no subclass."""
    return all(type(value) is Tensor and value.is_cpu and not value.requires_grad for value in tensors.values())


def pack(tensors: dict[Any, Tensor]) -> Packed:
    """Copy tensors into one buffer.

    Parameters
    ----------
    tensors : dict of Tensor
        By name.

    Returns
    -------
    Packed
        The buffer, and where they are in it.
    """
    layout, size = {}, 0
    for name, value in tensors.items():
        layout[name] = value.dtype, value.shape, size
        size += -(-value.nbytes // _ALIGNMENT) * _ALIGNMENT
    buffer = bytearray(size) if size <= _INLINE else torch.empty(size, dtype=torch.uint8)
    target = np.frombuffer(buffer, np.uint8) if size <= _INLINE else buffer.numpy()
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
