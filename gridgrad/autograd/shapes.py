"""What the operators of `ops` return of tensors without elements, meta and fake ones: outputs of the right shape."""

from __future__ import annotations

import functools
import inspect

from torch import Tensor

from gridgrad.autograd.grids import grid_shape
from gridgrad.grid import Grid


def density(coords, types, radii, offsets, centers, spec, center, n_types):
    """Order 0."""
    return coords.new_empty(grid_shape(coords, offsets, Grid.from_spec(spec), n_types))


def density_tangent(
    coords, types, radii, offsets, centers, grad_grad_coords, grad_grad_types, grad_grad_radii, spec, center, n_types
):
    """Order 2, the grid."""
    return density(coords, types, radii, offsets, centers, spec, center, n_types)


def density_tangent_tangent(
    coords, types, radii, offsets, centers, u_coords, u_types, u_radii, v_coords, v_types, v_radii, spec, center,
    n_types,
):  # fmt: skip
    """Order 2, the grid along two directions."""
    return density(coords, types, radii, offsets, centers, spec, center, n_types)


def density_backward(coords, types, radii, offsets, centers, grad_density, spec, center, n_types, needs):
    """Order 1; (0,) where `needs` is False."""
    outputs = (coords, types if types.is_floating_point() else None, radii)
    return tuple(
        coords.new_empty(like.shape if need and like is not None else 0)
        for like, need in zip(outputs, needs, strict=True)
    )


def density_backward_backward(
    coords, types, radii, offsets, centers, grad_density, grad_grad_coords, grad_grad_types, grad_grad_radii, spec,
    center, n_types, needs,
):  # fmt: skip
    """Order 2, the atoms."""
    return density_backward(coords, types, radii, offsets, centers, grad_density, spec, center, n_types, needs)


def density_relevance(coords, types, radii, offsets, centers, density, relevance, spec, center, n_types):
    """One number per atom."""
    return coords.new_empty(coords.shape[:-1])


def batch_offsets(batch, batch_size):
    """(..., B + 1) of (..., N)."""
    return batch.new_empty((*batch.shape[:-1], batch_size + 1))


def on_one_device(fake):
    """Return `fake`, which refuses arguments on several devices: only some of them would be without elements."""
    names = tuple(inspect.signature(fake).parameters)

    @functools.wraps(fake)
    def checked(first, *others):
        for name, value in zip(names[1:], others, strict=True):
            if isinstance(value, Tensor) and value.device != first.device:
                raise ValueError(f"{name}: on {value.device}; expected {first.device}, that of {names[0]}")
        return fake(first, *others)

    return checked
