"""The density at points: one grid of one point each, whose centre the point is, and the atoms that reach it."""

from __future__ import annotations

import dataclasses
import sys
from functools import lru_cache

import torch
from torch import Tensor

from gridgrad.autograd import arguments, validate
from gridgrad.autograd._torch import is_transforming
from gridgrad.autograd.derivatives import density
from gridgrad.autograd.pairs import pairs_in_reach
from gridgrad.grid import Grid

_SMALLEST = (5e-324, sys.float_info.min)
"""Half of it is 0: the point of a grid of this edge is its centre. The second where subnormal numbers count as 0."""


@lru_cache(maxsize=64)
def _spot(gm: Grid) -> Grid:
    edge = next(edge for edge in _SMALLEST if edge > 0)
    return dataclasses.replace(gm, resolution=1.0, dimension=(edge,) * 3)


def _check_points(points: object, atoms: validate.Atoms, points_batch: object, n_examples: int | None) -> None:
    coords = atoms.coords
    points = arguments.tensor("points", points)
    if points.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"points: dtype {points.dtype}; expected torch.float32 or torch.float64")
    expected = "(P, 3)" if coords.dim() == 2 else f"({coords.shape[0]}, P, 3)"
    if points.dim() != coords.dim() or points.shape[-1] != 3 or points.shape[:-2] != coords.shape[:-2]:
        raise ValueError(f"points: shape {tuple(points.shape)}; expected {expected}")
    if points.device != coords.device:
        raise ValueError(f"points: on {points.device}; expected {coords.device}, that of coords")
    if n_examples is None:
        if points_batch is not None:
            raise ValueError("points_batch: given without batch; expected None")
        return
    if points_batch is None:
        raise ValueError(f"points_batch: None with batch; expected the example of each point, ({len(points)},)")
    points_batch = arguments.examples("points_batch", points_batch, "point", points.shape[:1], coords)
    if len(points_batch):
        low, high = int(points_batch.min()), int(points_batch.max())
        if low < 0 or high >= n_examples:
            raise ValueError(
                f"points_batch: values from {low} to {high}; expected values from 0 to batch_size - 1 = "
                f"{n_examples - 1}"
            )


def _radii_of_terms(atoms: validate.Atoms, by_type: bool) -> tuple[Tensor, Tensor]:
    """Return the radius of every term and whether it counts: (N, 1) for indices, else (N, T)."""
    types, radii = atoms.types.detach(), atoms.radii.detach().double()
    if not types.is_floating_point():
        wrong = (types >= atoms.n_types).nonzero()
        if len(wrong):
            i = int(wrong[0])
            raise ValueError(
                f"types: atom {i} has index {int(types[i])}; expected an index below n_types = {atoms.n_types} "
                "(negative: the atom is ignored)"
            )
        radii = radii[types.clamp(min=0)] if by_type else radii
        radii, counts = radii[:, None], (types >= 0)[:, None]
    else:
        counts = types != 0
        radii = (radii if by_type else radii[:, None]).expand_as(types)
    wrong = (counts & (radii <= 0)).nonzero()
    if len(wrong):
        i, k = wrong[0].tolist()
        at = i if not by_type else k if types.is_floating_point() else int(types[i])
        raise ValueError(f"radii: element {at} is {float(radii[i, k])}; expected a radius > 0")
    return radii, counts


def _nowhere_known(atoms, radii, counts, example, n_examples) -> tuple[Tensor, Tensor]:
    """Return atoms of which one does not know where they are, and (B, T): NaN for their channels, 0 for others."""
    lost = counts & (atoms.coords.detach().isnan().any(1, keepdim=True) | radii.isnan())
    types = atoms.types.detach()
    if types.is_floating_point():
        lost = lost | ~types.isfinite()
    which = lost.any(1).nonzero()[:, 0]
    unknown = radii.new_zeros((n_examples, atoms.n_types))
    atom, k = lost.nonzero().unbind(1)
    unknown[example[atom], k if types.is_floating_point() else types[atom]] = torch.nan
    return which, unknown


def _pairs(spot, atoms, points, point_example, example, n_examples) -> tuple[Tensor, Tensor, Tensor]:
    """Return pairs of points and atoms, and what is to be added for atoms and points that are NaN, (P, T)."""
    radii, counts = _radii_of_terms(atoms, spot.radius_type_indexed)
    # the derivative with respect to a weight asks for atoms whose weight is zero
    asked = counts | (atoms.types.is_floating_point() and (atoms.types.requires_grad or is_transforming()))
    reach = torch.where(asked, radii.nan_to_num(nan=0.0, posinf=torch.inf), 0.0).amax(1)
    reach = reach * (spot.radius_scale * spot.final_radius_multiple)
    point, atom = pairs_in_reach(points, atoms.coords.detach().double(), reach, point_example, example, n_examples)
    lost, unknown = _nowhere_known(atoms, radii, counts, example, n_examples)
    unknown = unknown[point_example] + torch.where(points.isnan(), points, 0.0).sum(1, keepdim=True)
    if len(lost) and len(points):  # one pair each is enough for their gradients
        last = torch.full((n_examples,), -1, device=points.device)
        last[point_example] = torch.arange(len(points), device=points.device)
        lost = lost[last[example[lost]] >= 0]
        both = torch.stack([torch.cat([point, last[example[lost]]]), torch.cat([atom, lost])], 1).unique(dim=0)
        point, atom = both.T.contiguous()
    return point, atom, unknown


def density_at_points(gm, points, coords, types, radii, n_types, batch, batch_size, points_batch) -> Tensor:
    """Return the density at points; the arguments are those of `gridgrad.coords2points`."""
    if not isinstance(gm, Grid):
        raise TypeError(f"gm: {type(gm).__name__}; expected a GridMaker")
    spot = _spot(gm)
    atoms = validate.atoms(spot, (0.0, 0.0, 0.0), coords, types, radii, n_types, batch, batch_size)
    n_examples = None if atoms.offsets is None else len(atoms.offsets) - 1
    _check_points(points, atoms, points_batch, n_examples)
    shape, device = points.shape, coords.device
    if n_examples is None:
        n_examples = len(coords) if coords.dim() == 3 else 1
        lead = coords.shape[:-1].numel()
        example = torch.arange(n_examples, device=device).repeat_interleave(coords.shape[-2])
        point_example = torch.arange(n_examples, device=device).repeat_interleave(shape[-2])
        coords, types = atoms.coords.reshape(lead, 3), atoms.types.reshape(lead, *atoms.types.shape[coords.dim() - 1 :])
        radii = atoms.radii if spot.radius_type_indexed else atoms.radii.reshape(lead)
        atoms = atoms._replace(coords=coords, types=types, radii=radii)
    else:
        example, point_example = batch.long(), points_batch.long()
    points = points.reshape(-1, 3)
    constant = points.detach().double()
    point, atom, unknown = _pairs(spot, atoms, constant, point_example, example, n_examples)
    offsets = torch.searchsorted(point, torch.arange(len(points) + 1, device=device))
    positions, centers = atoms.coords[atom], constant
    if is_transforming():
        positions, centers = (positions - points[point]).to(coords.dtype), torch.zeros_like(constant)
    elif points.requires_grad:  # minus zero, whose derivative is that of the points
        positions = positions - (points - points.detach())[point].to(coords.dtype)
    radii = atoms.radii if spot.radius_type_indexed else atoms.radii[atom]
    settings = spot.spec, (0.0, 0.0, 0.0), atoms.n_types
    found = density(positions, atoms.types[atom], radii, offsets, centers, *settings)
    return (found.reshape(len(points), atoms.n_types) + unknown.to(found.dtype)).reshape(*shape[:-1], atoms.n_types)
