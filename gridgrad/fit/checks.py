"""The arguments of `fit_atoms`, checked: an error names the argument, what was seen and what is expected."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gridgrad.data import AtomBatch
from gridgrad.fit.passes import Atoms, Limits, integrals
from gridgrad.gridmaker import GridMaker

REFINABLE = ("coords", "weights", "radii")


def grid(gm: object, density: object) -> Tensor:
    """Return the density as (B, T, X, Y, Z)."""
    if not isinstance(gm, GridMaker):
        raise TypeError(f"gm: {type(gm).__name__}; expected a GridMaker")
    if gm.binary:
        raise ValueError("gm: binary; expected a profile with a derivative")
    if not isinstance(density, Tensor):
        raise TypeError(f"density: {type(density).__name__}; expected a torch.Tensor")
    if density.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"density: dtype {density.dtype}; expected torch.float32 or torch.float64")
    points = gm.spatial_grid_dimensions()
    if density.dim() not in (4, 5) or density.shape[-3:] != points or 0 in density.shape[:-3]:
        x, y, z = points
        raise ValueError(f"density: shape {tuple(density.shape)}; expected ([B,] T, {x}, {y}, {z}), B and T > 0")
    density = density.detach()
    if not bool(density.isfinite().all()):
        raise ValueError("density: NaN or infinity; expected finite numbers")
    return density if density.dim() == 5 else density[None]


def centers(center: object, density: Tensor) -> Tensor:
    """Return centres (B, 3), float64."""
    try:
        found = torch.as_tensor(center, dtype=torch.float64, device=density.device).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"center: {center!r}; expected (x, y, z)") from None
    n_examples = len(density)
    if found.shape not in ((3,), (n_examples, 3)) or not bool(found.isfinite().all()):
        raise ValueError(f"center: {_shown(found)}; expected finite numbers of shape (3,) or ({n_examples}, 3)")
    return found.expand(n_examples, 3)


def channel_radii(radii: object, density: Tensor) -> Tensor:
    """Return radii (T,) of the dtype of the density."""
    n_types = density.shape[1]
    try:
        found = torch.as_tensor(radii, dtype=density.dtype, device=density.device).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"radii: {radii!r}; expected a number or ({n_types},) of them") from None
    if found.shape not in ((), (n_types,)) or not bool((found.isfinite() & (found > 0)).all()):
        raise ValueError(f"radii: {_shown(found)}; expected positive numbers, one or ({n_types},)")
    return found.expand(n_types).clone()


def refinement(refine: str | Sequence[str]) -> tuple[str, ...]:
    """Return what is refined, in order."""
    names = (refine,) if isinstance(refine, str) else tuple(refine)
    if not names or set(names) - set(REFINABLE):
        raise ValueError(f"refine: {refine!r}; expected at least one of {', '.join(map(repr, REFINABLE))}")
    return tuple(name for name in REFINABLE if name in names)


def one_of(name: str, value: object, choices: Collection[str]) -> None:
    """Check a choice."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: {value!r}; expected one of {', '.join(map(repr, choices))}")


def count(name: str, value: object, least: int) -> int:
    """Return an integer, checked."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}: {value!r}; expected an integer >= {least}")
    return int(value)


def length(name: str, value: object) -> None:
    """Check a number that is finite and not negative."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: {value!r}; expected a finite number >= 0")


def limits(n_atoms, max_atoms, channels, min_distance, density: Tensor, radii: Tensor, gm: GridMaker) -> Limits:
    """Return the limits that the arguments of these names set."""
    length("min_distance", min_distance)
    allowed = torch.ones(density.shape[1], dtype=torch.bool, device=density.device)
    if channels is not None:
        allowed = ~allowed
        for channel in channels:
            count("channels", channel, 0)
            if channel >= len(allowed):
                raise ValueError(f"channels: {channel}; expected channels below {len(allowed)}")
            allowed[channel] = True
    if max_atoms is not None:
        if n_atoms is not None:
            raise ValueError(f"max_atoms: {max_atoms} with n_atoms; expected one of the two")
        count("max_atoms", max_atoms, 0)
        return Limits(torch.full((len(density),), max_atoms), allowed, min_distance)
    return Limits(_number(n_atoms, density, radii, gm), allowed, min_distance)


def _number(n_atoms: object, density: Tensor, radii: Tensor, gm: GridMaker) -> Tensor | None:
    n_examples, n_types = density.shape[:2]
    if n_atoms is None:
        return None
    if isinstance(n_atoms, str):
        one_of("n_atoms", n_atoms, ("density",))
        return (density.double().sum((2, 3, 4)) / integrals(gm, radii).double()).round().long().cpu().clamp_min(0)
    if not isinstance(n_atoms, Tensor):
        return torch.full((n_examples,), count("n_atoms", n_atoms, 0))
    shapes = (n_examples,), (n_examples, n_types)
    if n_atoms.is_floating_point() or n_atoms.shape not in shapes or bool((n_atoms < 0).any()):
        raise ValueError(f"n_atoms: {_shown(n_atoms)}; expected integers >= 0 of shape {shapes[0]} or {shapes[1]}")
    return n_atoms.long().cpu()


def start(initial: object, density: Tensor, center: Tensor) -> Atoms:
    """Return given atoms relative to their centres."""
    if not isinstance(initial, AtomBatch):
        raise TypeError(f"initial: {type(initial).__name__}; expected an AtomBatch")
    n_examples, n_types = density.shape[:2]
    if initial.batch_size != n_examples:
        raise ValueError(f"initial: {initial.batch_size} examples; expected {n_examples}, those of density")
    if initial.types.is_floating_point() or initial.radius_type_indexed:
        raise ValueError("initial: weights or radii by type; expected type indices and radii of atoms")
    if initial.coords.device != density.device:
        raise ValueError(f"initial: on {initial.coords.device}; expected {density.device}, that of density")
    if bool(((initial.types < 0) | (initial.types >= n_types)).any()):
        raise ValueError(f"initial: type indices outside of 0 to {n_types - 1}")
    coords = (initial.coords.detach().double() - center[initial.batch]).to(density.dtype)
    radii = initial.radii.detach().to(density.dtype)
    return Atoms(initial.batch, initial.types, coords, torch.ones_like(radii), radii)


def _shown(tensor: Tensor) -> str:
    return str(tensor.tolist()) if tensor.numel() <= 6 else f"shape {tuple(tensor.shape)}"
