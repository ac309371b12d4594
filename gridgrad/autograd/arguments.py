"""One argument at a time, or an error that names it, says what was seen and what is expected."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gridgrad.autograd import ops


def tensor(name: str, value: object) -> Tensor:
    """Return `value` if it is a tensor that holds its elements one by one.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : object
        What was given.

    Returns
    -------
    Tensor
        `value`.

    Raises
    ------
    TypeError
        If it is something else, or sparse, nested, or of a layout of its own.
    """
    if not isinstance(value, Tensor):
        hint = ", or GridMaker's methods, which take NumPy arrays" if isinstance(value, np.ndarray) else ""
        raise TypeError(f"{name}: {type(value).__name__}; expected a torch.Tensor{hint}")
    if value.layout is not torch.strided or value.is_nested:
        layout = f"{value.layout}, nested" if value.is_nested else value.layout
        raise TypeError(f"{name}: layout {layout}; expected a dense tensor, torch.strided")
    return value


def shaped_like(name: str, value: object, shape: tuple[int, ...], coords: Tensor) -> Tensor:
    """Return `value` if it has this shape and the dtype and device of `coords`.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : Tensor
        What was given.
    shape : tuple of int
        What is expected.
    coords : Tensor
        Whose dtype and device are expected.

    Returns
    -------
    Tensor
        `value`.

    Raises
    ------
    TypeError
        If it is no tensor or has another dtype.
    ValueError
        If it has another shape or device.
    """
    value = tensor(name, value)
    ops.expect(name, value, shape, coords.dtype, coords)
    return value


def mask_of_atoms(name: str, mask: object, coords: Tensor) -> None:
    """Check that a mask has one bool per atom.

    Parameters
    ----------
    name : str
        Name of the argument.
    mask : Tensor
        What was given.
    coords : Tensor
        (N, 3) or (B, N, 3).

    Raises
    ------
    TypeError
        If it is no tensor or has another dtype.
    ValueError
        If it has another shape or device.
    """
    mask, coords = tensor(name, mask), tensor("coords", coords)
    if mask.dtype != torch.bool:
        raise TypeError(f"{name}: dtype {mask.dtype}; expected torch.bool")
    if mask.shape != coords.shape[:-1]:
        raise ValueError(f"{name}: shape {tuple(mask.shape)}; expected {tuple(coords.shape[:-1])}, one per atom")
    if mask.device != coords.device:
        raise ValueError(f"{name}: on {mask.device}; expected {coords.device}, that of coords")


def examples(name: str, value: object, what: str, shape: tuple[int, ...], coords: Tensor) -> Tensor:
    """Return the example that each of some things belongs to.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : Tensor
        What was given.
    what : str
        The thing.
    shape : tuple of int
        What is expected.
    coords : Tensor
        Whose device is expected.

    Returns
    -------
    Tensor
        `value` as int64.

    Raises
    ------
    TypeError
        If it is no tensor of integers.
    ValueError
        If it has another shape or device.
    """
    value = tensor(name, value)
    if value.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name}: dtype {value.dtype}; expected torch.int64")
    if value.shape != shape:
        raise ValueError(f"{name}: shape {tuple(value.shape)}; expected {tuple(shape)}, one example per {what}")
    if value.device != coords.device:
        raise ValueError(f"{name}: on {value.device}; expected {coords.device}, that of coords")
    return value.long()
