"""Atoms that are constants: in the density as all others, without gradients or cost in the backward passes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from gridgrad.autograd import derivatives
from gridgrad.autograd._torch import is_transforming
from gridgrad.autograd.validate import tensors_of


class _DensityOfFixed(Function):
    """The density of all atoms, whose derivative is that of the atoms that are not fixed.

    The backward passes see fixed atoms at infinity, where no voxel is within reach: the kernels leave them at once, and
    every other atom gets what it gets without `fixed`, bit for bit, since a gradient of one atom knows no other.
    """

    @staticmethod
    def forward(ctx, coords, types, radii, offsets, centers, fixed, spec, center, n_types):
        ctx.save_for_backward(coords, types, radii, offsets, centers, fixed)
        ctx.grid = spec, center, n_types
        return derivatives.density(coords, types, radii, offsets, centers, spec, center, n_types)

    @staticmethod
    def backward(ctx, grad_density):
        coords, types, radii, offsets, centers, fixed = ctx.saved_tensors
        moving = coords.masked_fill(fixed.unsqueeze(-1), math.inf)
        gradients = derivatives.density_backward(
            moving, types, radii, offsets, centers, grad_density, *ctx.grid, ctx.needs_input_grad[:3]
        )
        return *gradients, *(None,) * 6


def density_with_fixed(coords, types, radii, offsets, centers, fixed, spec, center, n_types) -> Tensor:
    """Return the density of all atoms, differentiable in those that are not fixed."""
    return _DensityOfFixed.apply(coords, types, radii, offsets, centers, fixed, spec, center, n_types)


def can_skip(center: object, radii: object, radius_type_indexed: bool) -> bool:
    """Tell whether the backward passes may pass over fixed atoms.

    Parameters
    ----------
    center, radii
        As for `gridgrad.coords2grid`: where they are shared by all atoms and want a gradient, fixed atoms add to it.
    radius_type_indexed : bool
        Whether radii are by type.

    Returns
    -------
    bool
        False also where torch looks into the graph: under torch.func, forward mode and torch.compile.
    """
    shared = tensors_of(center)
    if radius_type_indexed and isinstance(radii, Tensor):
        shared.append(radii)
    return not (any(value.requires_grad for value in shared) or is_transforming() or torch.compiler.is_compiling())


def held(fixed: Tensor, value: Any) -> Any:
    """Return the same numbers, those of fixed atoms cut off the graph.

    Parameters
    ----------
    fixed : Tensor
        (N,) or (B, N) bool.
    value : Tensor or float
        With one row per atom.

    Returns
    -------
    Tensor or float
        `value` itself if it is a number or of integers.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return torch.where(fixed.reshape(fixed.shape + (1,) * (value.dim() - fixed.dim())), value.detach(), value)
