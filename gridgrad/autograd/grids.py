"""Grids as tensors: their shapes, and whether there is memory for them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gridgrad.autograd._torch import has_storage
from gridgrad.autograd.memory import memory_limit
from gridgrad.grid import Grid

SMALL = 2**28
"""Bytes of a grid for which nobody looks whether they are there."""


def grid_shape(coords: Tensor, offsets: Tensor | None, gm: Grid, n_types: int) -> tuple[int, ...]:
    """Return the shape of the density of a call.

    Parameters
    ----------
    coords : Tensor
        (N, 3) or (B, N, 3).
    offsets : Tensor or None
        (B + 1,) for ragged batches.
    gm : Grid
        The grid.
    n_types : int
        Channels T.

    Returns
    -------
    tuple of int
        (T, X, Y, Z), with B in front for batches.
    """
    if offsets is not None:
        return offsets.shape[0] - 1, n_types, *gm._points
    return (n_types, *gm._points) if coords.dim() == 2 else (coords.shape[0], n_types, *gm._points)


def _too_large(shape: tuple[int, ...], n_bytes: int, available: str) -> str:
    return (
        f"density: shape {tuple(shape)} would take {n_bytes / 2**30:,.1f} GiB; expected a grid that fits, {available}"
    )


def has_memory(tensor: Tensor) -> bool:
    """Tell whether a tensor has elements: meta and fake tensors have a shape only, others wrap a tensor."""
    return has_storage(tensor) and tensor.untyped_storage().device.type != "meta"


def check_memory(shape: tuple[int, ...], coords: Tensor) -> None:
    """Refuse a grid for which there cannot be memory, before any is asked for.

    Parameters
    ----------
    shape : tuple of int
        Its shape.
    coords : Tensor
        Whose dtype and device it would have.

    Raises
    ------
    MemoryError
        If it is larger than the memory that the process may have, or has more bytes than there are addresses.
    """
    n_bytes = math.prod(shape) * coords.itemsize
    if n_bytes <= SMALL:
        return
    if coords.is_cuda:
        where, available = str(coords.device), torch.cuda.get_device_properties(coords.device).total_memory
    elif coords.is_cpu and has_memory(coords):
        where, available = "this process", memory_limit()
    else:
        where, available = "an address space", 2**63
    if n_bytes > available:
        raise MemoryError(_too_large(shape, n_bytes, f"{where} has {available / 2**30:,.1f} GiB"))


def new_grid(coords: Tensor, offsets: Tensor | None, gm: Grid, n_types: int) -> Tensor:
    """Allocate the density of a call, uninitialised.

    Parameters
    ----------
    coords, offsets, gm, n_types
        As for `grid_shape`.

    Returns
    -------
    Tensor
        Of the dtype and device of `coords`.

    Raises
    ------
    MemoryError
        If the grid is larger than the memory that the process may have or that the GPU has.
    """
    shape = grid_shape(coords, offsets, gm, n_types)
    n_bytes = math.prod(shape) * coords.itemsize
    if n_bytes > SMALL:
        check_memory(shape, coords)
    try:
        return coords.new_empty(shape)
    except RuntimeError as error:
        raise MemoryError(_too_large(shape, n_bytes, str(error).partition("\n")[0])) from error
