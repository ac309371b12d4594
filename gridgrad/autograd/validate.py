"""Arguments as the operators want them, or an error that names the argument, what was seen and what is expected."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gridgrad.grid import Grid

_FLOATS = (torch.float32, torch.float64)


class Atoms(NamedTuple):
    """Checked arguments of one call, coordinates relative to the centre of the grid."""

    coords: Tensor
    types: Tensor
    radii: Tensor
    offsets: Tensor | None
    n_types: int


def _tensor(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {type(value).__name__}; expected a torch.Tensor")
    return value


def _same(name: str, value: Tensor, coords: Tensor) -> None:
    if value.dtype != coords.dtype:
        raise TypeError(f"{name}: dtype {value.dtype}; expected {coords.dtype}, that of coords")
    if value.device != coords.device:
        raise ValueError(f"{name}: on {value.device}; expected {coords.device}, that of coords")


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
    value = _tensor(name, value)
    if value.shape != shape:
        raise ValueError(f"{name}: shape {tuple(value.shape)}; expected {tuple(shape)}")
    _same(name, value, coords)
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
    mask, coords = _tensor(name, mask), _tensor("coords", coords)
    if mask.dtype != torch.bool:
        raise TypeError(f"{name}: dtype {mask.dtype}; expected torch.bool")
    if mask.shape != coords.shape[:-1]:
        raise ValueError(f"{name}: shape {tuple(mask.shape)}; expected {tuple(coords.shape[:-1])}, one per atom")
    if mask.device != coords.device:
        raise ValueError(f"{name}: on {mask.device}; expected {coords.device}, that of coords")


def _check_types(types: Tensor, coords: Tensor, n_types: int | None) -> int:
    atoms = coords.shape[:-1]
    if types.device != coords.device:
        raise ValueError(f"types: on {types.device}; expected {coords.device}, that of coords")
    if types.is_floating_point():
        if types.dim() != coords.dim() or types.shape[:-1] != atoms:
            raise ValueError(
                f"types: float of shape {tuple(types.shape)}; expected {(*atoms, 'T')} (type vectors), "
                f"or integers of shape {tuple(atoms)} (type indices)"
            )
        _same("types", types, coords)
        if n_types is not None and n_types != types.shape[-1]:
            raise ValueError(f"n_types: {n_types}; expected {types.shape[-1]}, the last size of types")
        n_types = types.shape[-1]
    else:
        if types.dtype == torch.bool or types.dtype.is_complex:
            raise TypeError(
                f"types: dtype {types.dtype}; expected integers (type indices) or {coords.dtype} (type vectors)"
            )
        if types.shape != atoms:
            raise ValueError(
                f"types: integers of shape {tuple(types.shape)}; expected {tuple(atoms)}, one index per atom"
            )
        if n_types is None:
            raise ValueError("n_types: None; expected the number of channels, which type indices do not tell")
    if isinstance(n_types, bool) or not isinstance(n_types, (int, torch.SymInt, np.integer)):
        raise TypeError(f"n_types: {n_types!r}; expected an integer")
    if n_types < 1:
        raise ValueError(f"n_types: {n_types}; expected at least 1")
    return n_types if isinstance(n_types, torch.SymInt) else int(n_types)


def _channels(gm: Grid, coords: Tensor, types: Tensor, radii: Tensor, n_types: object) -> int:
    """Return T if the atoms of a call are right at a glance, 0 if they want a closer look."""
    dtype, shape, n_dims = coords.dtype, coords.shape, coords.dim()
    if dtype not in _FLOATS or radii.dtype is not dtype or not 2 <= n_dims <= 3 or shape[-1] != 3:
        return 0
    if not (coords.is_cpu and types.is_cpu and radii.is_cpu):
        device = coords.get_device()
        if device < 0 or types.get_device() != device or radii.get_device() != device:
            return 0
    lead = shape[:-1]
    if types.dtype is dtype:
        types_shape = types.shape
        if types_shape[:-1] != lead or (n_types is not None and n_types != types_shape[-1]):
            return 0
        n_types = types_shape[-1]
    elif types.dtype is not torch.int64 or type(n_types) is not int or types.shape != lead:
        return 0
    return n_types if radii.shape == ((n_types,) if gm.radius_type_indexed else lead) and n_types > 0 else 0


def _centered(center: object, coords: Tensor, batch: Tensor | None, n_examples: int) -> Tensor:
    if type(center) is tuple and center == (0, 0, 0):
        return coords
    if isinstance(center, Tensor):
        if not center.is_floating_point():
            raise TypeError(f"center: dtype {center.dtype}; expected {coords.dtype}, that of coords")
        _same("center", center, coords)
    else:
        try:
            center = coords.new_tensor(center)
        except (TypeError, ValueError):
            raise TypeError(f"center: {center!r}; expected (x, y, z)") from None
    if center.shape == (3,):
        return coords - center
    batched = coords.dim() == 3 or batch is not None
    if not batched or center.shape != (n_examples, 3):
        expected = f"(3,) or {(n_examples, 3)}" if batched else "(3,)"
        raise ValueError(f"center: shape {tuple(center.shape)}; expected {expected}")
    return coords - (center.unsqueeze(1) if batch is None else center.index_select(0, batch))


def _ragged(batch: object, batch_size: int | None, coords: Tensor) -> tuple[Tensor, Tensor, int]:
    batch = _tensor("batch", batch)
    if coords.dim() != 2:
        raise ValueError(f"coords: shape {tuple(coords.shape)} with batch; expected (N, 3)")
    if batch.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"batch: dtype {batch.dtype}; expected torch.int64")
    if batch.shape != coords.shape[:1]:
        raise ValueError(f"batch: shape {tuple(batch.shape)}; expected {tuple(coords.shape[:1])}, one example per atom")
    if batch.device != coords.device:
        raise ValueError(f"batch: on {batch.device}; expected {coords.device}, that of coords")
    batch = batch.long()
    if batch_size is None:
        batch_size = int(batch[-1]) + 1 if batch.numel() else 0
    elif isinstance(batch_size, bool) or not isinstance(batch_size, (int, torch.SymInt, np.integer)) or batch_size < 0:
        raise ValueError(f"batch_size: {batch_size!r}; expected an integer >= 0")
    return batch, torch.ops.gridgrad.batch_offsets(batch, max(batch_size, 0)), batch_size


def atoms(
    gm: Grid,
    center: object,
    coords: Tensor,
    types: Tensor,
    radii: Tensor,
    n_types: int | None = None,
    batch: Tensor | None = None,
    batch_size: int | None = None,
) -> Atoms:
    """Check the arguments of a call.

    Parameters
    ----------
    gm, center, coords, types, radii, n_types, batch, batch_size
        As for `gridgrad.coords2grid`.

    Returns
    -------
    Atoms
        What the operators want.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    """
    if not isinstance(gm, Grid):
        raise TypeError(f"gm: {type(gm).__name__}; expected a GridMaker")
    if type(coords) is type(types) is type(radii) is Tensor and batch is None and batch_size is None:
        channels = _channels(gm, coords, types, radii, n_types)
        if channels:
            return Atoms(_centered(center, coords, None, coords.shape[0]), types, radii, None, channels)
    coords, types, radii = _tensor("coords", coords), _tensor("types", types), _tensor("radii", radii)
    if coords.dtype not in _FLOATS:
        raise TypeError(f"coords: dtype {coords.dtype}; expected torch.float32 or torch.float64")
    if coords.dim() not in (2, 3) or coords.shape[-1] != 3:
        raise ValueError(f"coords: shape {tuple(coords.shape)}; expected (N, 3) or (B, N, 3)")
    n_types = _check_types(types, coords, n_types)
    expected = (n_types,) if gm.radius_type_indexed else coords.shape[:-1]
    shaped_like("radii", radii, expected, coords)
    if batch is None:
        if batch_size is not None:
            raise ValueError(f"batch_size: {batch_size} without batch; expected None")
        offsets, n_examples = None, coords.shape[0] if coords.dim() == 3 else 1
    else:
        batch, offsets, n_examples = _ragged(batch, batch_size, coords)
    if not types.is_floating_point() and types.dtype != torch.int64:
        types = types.long()
    return Atoms(_centered(center, coords, batch, n_examples), types, radii, offsets, n_types)
