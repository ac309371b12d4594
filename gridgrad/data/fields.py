"""What the fields of an AtomBatch have to be: `check_fields` refuses a batch that contradicts itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float64)


def check_fields(batch: Any) -> None:
    """Raise an error that names the first field that is wrong, says what was seen and what is expected."""
    coords = batch.coords
    if not isinstance(coords, Tensor):
        raise TypeError(f"coords: {type(coords).__name__}; expected a torch.Tensor")
    if coords.dtype not in FLOATS:
        raise TypeError(f"coords: dtype {coords.dtype}; expected torch.float32 or torch.float64")
    if coords.dim() != 2 or coords.shape[1] != 3:
        raise ValueError(f"coords: shape {tuple(coords.shape)}; expected (N, 3)")
    n_atoms = coords.shape[0]
    types = _checked(batch, "types", (torch.int64, coords.dtype))
    if types.dim() != 1 + types.is_floating_point() or types.shape[0] != n_atoms:
        expected = (n_atoms, "T") if types.is_floating_point() else (n_atoms,)
        raise ValueError(f"types: {types.dtype} of shape {tuple(types.shape)}; expected {expected}")
    n_types = batch.n_types
    if batch.channels is not None and len(batch.channels) != n_types:
        raise ValueError(f"channels: {len(batch.channels)} names; expected {n_types}, the last size of types")
    _check_offsets(batch, n_atoms)
    n_examples = batch.batch_size
    by_type = batch.radius_type_indexed
    n_radii = n_atoms if not by_type else batch.radii.shape[0] if n_types is None else n_types
    _checked(batch, "radii", (coords.dtype,), (n_radii,))
    for name, dtypes, shape in (
        ("center", tuple(dict.fromkeys((coords.dtype, torch.float64))), (n_examples, 3)),
        ("part", (torch.uint8,), (n_atoms,)),
        ("fixed", (torch.bool,), (n_atoms,)),
    ):
        if getattr(batch, name) is not None:
            _checked(batch, name, dtypes, shape)
    if batch.names is not None and len(batch.names) != n_examples:
        raise ValueError(f"names: {len(batch.names)}; expected {n_examples}, one per example")
    if (batch.part is None) != (not batch.parts):
        seen = "without" if batch.part is None else "no names for"
        raise ValueError(f"parts: {batch.parts or seen} part; expected both or neither")
    for name, value in batch.labels.items():
        if not isinstance(value, Tensor) or value.dim() == 0 or value.shape[0] != n_examples:
            seen = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"labels[{name!r}]: {seen}; expected a tensor of shape ({n_examples}, ...)")


def _checked(batch: Any, name: str, dtypes: tuple[torch.dtype, ...], shape: tuple[int, ...] | None = None) -> Tensor:
    value = getattr(batch, name)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: {type(value).__name__}; expected a torch.Tensor")
    if value.dtype not in dtypes:
        raise TypeError(f"{name}: dtype {value.dtype}; expected {' or '.join(map(str, dtypes))}")
    if value.device != batch.coords.device:
        raise ValueError(f"{name}: on {value.device}; expected {batch.coords.device}, that of coords")
    if shape is not None and value.shape != shape:
        raise ValueError(f"{name}: shape {tuple(value.shape)}; expected {shape}")
    return value


def _check_offsets(batch: Any, n_atoms: int) -> None:
    offsets = _checked(batch, "offsets", (torch.int64,))
    if offsets.dim() != 1 or offsets.shape[0] == 0:
        raise ValueError(f"offsets: shape {tuple(offsets.shape)}; expected (B + 1,)")
    if offsets.is_cpu:  # elsewhere a look would wait for the device
        values = offsets.numpy()
        if values[0] != 0 or values[-1] != n_atoms or (values[1:] < values[:-1]).any():
            seen = np.array2string(values, threshold=6, separator=", ")
            raise ValueError(f"offsets: {seen}; expected to rise from 0 to {n_atoms}, the atoms")
