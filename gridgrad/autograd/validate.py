"""The arguments of a call as the operators want them, or an error, as for one of `arguments`."""

from __future__ import annotations

import numbers
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gridgrad.autograd import grids, ops
from gridgrad.autograd._torch import has_storage, is_transforming
from gridgrad.autograd.arguments import examples, shaped_like, tensor
from gridgrad.grid import Grid
from gridgrad.grid.shown import shown

_FLOATS = (torch.float32, torch.float64)
_SIGNED = (torch.int64, torch.int32, torch.int16, torch.int8)
_INTEGERS = (*_SIGNED, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
_STRIDED = torch.strided
_LARGEST = torch.iinfo(torch.int64).max


class Atoms(NamedTuple):
    """Checked arguments of one call, as the operators take them.

    The centre of the grids is `centers` (B, 3), or `center` where that is None.
    """

    coords: Tensor
    types: Tensor
    radii: Tensor
    offsets: Tensor | None
    centers: Tensor | None
    center: tuple[float, float, float]
    n_types: int


def _count(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt, np.integer)):
        raise TypeError(f"{name}: {shown(value)} of type {type(value).__name__}; expected an integer")
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]  # stands for an int while a graph is traced
    if not least <= value < 2**63:
        raise ValueError(f"{name}: {shown(value)}; expected an integer from {least} to 2^63 - 1")
    return int(value)


def _check_types(types: Tensor, coords: Tensor, n_types: int | None) -> int:
    atoms = coords.shape[:-1]
    if n_types is not None:
        n_types = _count("n_types", n_types, 1)
    if types.device != coords.device:
        raise ValueError(f"types: on {types.device}; expected {coords.device}, that of coords")
    vectors = f"type vectors of {coords.dtype}, {(*atoms, 'T')}"
    if types.is_floating_point():
        if types.dim() != coords.dim() or types.shape[:-1] != atoms:
            raise ValueError(
                f"types: float of shape {tuple(types.shape)}; expected {vectors}, or type indices (integers), "
                f"{tuple(atoms)}"
            )
        ops.expect("types", types, types.shape, coords.dtype, coords)
        if n_types is not None and n_types != types.shape[-1]:
            raise ValueError(f"n_types: {n_types}; expected {types.shape[-1]}, the last size of types")
        return _count("n_types", types.shape[-1], 1)
    one_hot = "; types.to(coords.dtype) makes them" if types.shape[:-1] == atoms else ""
    if types.dtype not in _INTEGERS:
        raise TypeError(f"types: dtype {types.dtype}; expected integers (type indices) or {vectors}{one_hot}")
    if types.shape != atoms:
        raise ValueError(
            f"types: integers of shape {tuple(types.shape)}; expected {tuple(atoms)}, one index per atom, or {vectors}"
            f"{one_hot}"
        )
    if n_types is None:
        raise ValueError("n_types: None; expected the number of channels, which type indices do not tell")
    return n_types


def _indices(types: Tensor) -> Tensor:
    indices = types.long()
    if types.dtype is torch.uint64:  # from 2^63 on they would be negative, which is ignored
        indices = indices.where(indices >= 0, _LARGEST)
    return indices


def _channels(gm: Grid, coords: Tensor, types: Tensor, radii: Tensor, n_types: object) -> int:
    """Return T if the atoms of a call are right at a glance, 0 if they want a closer look."""
    if not coords.layout is types.layout is radii.layout is _STRIDED:
        return 0
    dtype, shape = coords.dtype, coords.shape
    if dtype not in _FLOATS or radii.dtype is not dtype or not 2 <= len(shape) <= 3 or shape[-1] != 3:
        return 0
    if not (coords.is_cpu and types.is_cpu and radii.is_cpu):
        device = coords.get_device()
        if device < 0 or types.get_device() != device or radii.get_device() != device:
            return 0
    lead = (shape[0],) if len(shape) == 2 else (shape[0], shape[1])
    if types.dtype is dtype:
        types_shape = types.shape
        if types_shape[:-1] != lead or (
            n_types is not None and (type(n_types) is not int or n_types != types_shape[-1])
        ):
            return 0
        n_types = types_shape[-1]
    elif types.dtype is not torch.int64 or type(n_types) is not int or types.shape != lead:
        return 0
    return n_types if radii.shape == ((n_types,) if gm.radius_type_indexed else lead) and 0 < n_types < 2**63 else 0


def tensors_of(center: object) -> list[Tensor]:
    """Return the tensors of a centre: itself, or those in a sequence, or in a sequence of sequences.

    Parameters
    ----------
    center : Tensor or sequence
        As for `gridgrad.coords2grid`.

    Returns
    -------
    list of Tensor
        Empty for numbers.
    """
    if isinstance(center, Tensor):
        return [center]
    rows = center if isinstance(center, (list, tuple)) else ()
    entries = [x for row in rows for x in (row if isinstance(row, (list, tuple)) else (row,))]
    return [x for x in entries if isinstance(x, Tensor)]


def center_tensor(center: object, coords: Tensor) -> Tensor:
    """Return a centre as a tensor, with the gradients of whatever tensors are in it.

    Parameters
    ----------
    center : Tensor or sequence
        As for `gridgrad.coords2grid`.
    coords : Tensor
        Whose device it shall have.

    Returns
    -------
    Tensor
        Of any shape, float32 if it was, else float64.

    Raises
    ------
    TypeError
        If it does not consist of numbers.
    ValueError
        If it lies on another device.
    """
    if isinstance(center, Tensor):
        center = tensor("center", center)
        if center.dtype not in _FLOATS:
            raise TypeError(f"center: dtype {center.dtype}; expected torch.float32 or torch.float64")
        if center.device != coords.device:
            raise ValueError(f"center: on {center.device}; expected {coords.device}, that of coords")
        return center
    if isinstance(center, np.ma.MaskedArray):
        raise TypeError("center: a masked array; expected (x, y, z)")
    try:
        if isinstance(center, (list, tuple)) and tensors_of(center):
            return torch.stack([center_tensor(x, coords).double() for x in center])
        return coords.new_tensor(center, dtype=torch.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise TypeError(f"center: {shown(center)}; expected (x, y, z)") from None


def _three_numbers(center: object) -> tuple[float, float, float] | None:
    """Return a centre that consists of three numbers, None if it is something else."""
    if type(center) is tuple and len(center) == 3 and type(center[0]) is type(center[1]) is type(center[2]) is float:
        return center
    if isinstance(center, np.ndarray) and not isinstance(center, np.ma.MaskedArray):
        center = center.tolist()
    if (
        not isinstance(center, (list, tuple))
        or len(center) != 3
        or not all(isinstance(x, numbers.Real) for x in center)
    ):
        return None
    try:
        x, y, z = map(float, center)
        return x, y, z
    except OverflowError:
        return None


def _centered(
    center: object, coords: Tensor, batch: Tensor | None, n_examples: int
) -> tuple[Tensor, Tensor | None, tuple[float, float, float]]:
    """Return coordinates, and the centres of their grids as in `Atoms`.

    Constants are left to the kernels, which subtract in double precision. Whatever torch may want a derivative of is
    subtracted here, in the higher of both precisions, and the difference has the derivatives.
    """
    xyz = _three_numbers(center)
    if xyz is not None:
        return coords, None, xyz
    center = center_tensor(center, coords)
    batched = coords.dim() == 3 or batch is not None
    if center.shape != (3,) and not (batched and center.shape == (n_examples, 3)):
        expected = f"(3,) or {(n_examples, 3)}" if batched else "(3,)"
        raise ValueError(f"center: shape {tuple(center.shape)}; expected {expected}")
    if torch.compiler.is_compiling() or center.requires_grad or is_transforming():
        if center.dim() == 2:
            center = center.unsqueeze(1) if batch is None else center.index_select(0, batch)
        return (coords - center).to(coords.dtype), None, (0.0, 0.0, 0.0)  # not a global: torch.compile would trace it
    if center.dim() == 1 and center.is_cpu and ops.is_plain(center):
        return coords, None, tuple(center.clone().tolist())  # zeros without memory have no numbers before
    return coords, center.double().expand(n_examples, 3), (0.0, 0.0, 0.0)


def _ragged(
    gm: Grid, batch: object, batch_size: int | None, coords: Tensor, n_types: int
) -> tuple[Tensor, Tensor, int]:
    if coords.dim() != 2:
        raise ValueError(f"coords: shape {tuple(coords.shape)} with batch; expected (N, 3)")
    batch = examples("batch", batch, "atom", coords.shape[:1], coords)
    if batch_size is not None:
        batch_size = _count("batch_size", batch_size, 0)
    elif has_storage(batch) and not grids.has_memory(batch):
        raise ValueError("batch_size: None; expected an integer, which a batch without values does not tell")
    else:
        batch_size = max(int(batch[-1]) + 1, 0) if batch.numel() else 0
    if type(batch_size) is int and not torch.compiler.is_compiling():
        grids.check_memory((batch_size, n_types, *gm.spatial_grid_dimensions()), coords)
    return batch, torch.ops.gridgrad.batch_offsets(batch, batch_size), batch_size


def _radii(radii: object, shape: tuple[int, ...], coords: Tensor) -> Tensor:
    if isinstance(radii, numbers.Real) and not isinstance(radii, bool):
        try:
            return coords.new_full(shape, float(radii))
        except (OverflowError, RuntimeError):
            raise ValueError(f"radii: {shown(radii)}; expected a number > 0 that {coords.dtype} has") from None
    if not isinstance(radii, Tensor):
        raise TypeError(f"radii: {type(radii).__name__}; expected a torch.Tensor or one number for all")
    return shaped_like("radii", radii, shape, coords)


def atoms(
    gm: Grid,
    center: object,
    coords: Tensor,
    types: Tensor,
    radii: Tensor | float,
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
        try:
            channels = _channels(gm, coords, types, radii, n_types)
        except RuntimeError:  # nested tensors have no shape
            channels = 0
        if channels:
            n_examples = coords.shape[0] if coords.dim() == 3 else 1
            coords, centers, center = _centered(center, coords, None, n_examples)
            return Atoms(coords, types, radii, None, centers, center, channels)
    coords, types = tensor("coords", coords), tensor("types", types)
    if coords.dtype not in _FLOATS:
        raise TypeError(f"coords: dtype {coords.dtype}; expected torch.float32 or torch.float64")
    if coords.dim() not in (2, 3) or coords.shape[-1] != 3:
        raise ValueError(f"coords: shape {tuple(coords.shape)}; expected (N, 3) or (B, N, 3)")
    n_types = _check_types(types, coords, n_types)
    radii = _radii(radii, (n_types,) if gm.radius_type_indexed else coords.shape[:-1], coords)
    if batch is None:
        if batch_size is not None:
            raise ValueError(f"batch_size: {shown(batch_size)} without batch; expected None")
        offsets, n_examples = None, coords.shape[0] if coords.dim() == 3 else 1
    else:
        batch, offsets, n_examples = _ragged(gm, batch, batch_size, coords, n_types)
    if not types.is_floating_point() and types.dtype is not torch.int64:
        types = _indices(types)
    coords, centers, center = _centered(center, coords, batch, n_examples)
    return Atoms(coords, types, radii, offsets, centers, center, n_types)
