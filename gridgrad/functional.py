"""The density of atoms, on a grid or at points, as functions of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gridgrad.autograd import arguments, validate
from gridgrad.autograd._torch import is_autocasting
from gridgrad.autograd.derivatives import density
from gridgrad.autograd.fixed import can_skip, density_with_fixed, held
from gridgrad.autograd.points import density_at_points
from gridgrad.grid import Grid


def _widened(value: Any) -> Any:
    """Return float16 and bfloat16 tensors as float32, anything else as it is."""
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value


def _autocasts(coords: Any) -> bool:
    return isinstance(coords, Tensor) and torch.is_autocast_enabled(coords.device.type)


def _of_context(density: Tensor) -> Tensor:
    """Return a float32 density in the dtype of the autocast context, a float64 one as it is."""
    return density.to(torch.get_autocast_dtype(density.device.type)) if density.dtype is torch.float32 else density


def coords2grid(
    gm: Grid,
    center: Tensor | Sequence[Any],
    coords: Tensor,
    types: Tensor,
    radii: Tensor | float,
    n_types: int | None = None,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    fixed: Tensor | None = None,
) -> Tensor:
    r"""Density grid of atoms, differentiable twice in coords, types, radii and center.

    :math:`\rho_k(x_p) = \sum_i w_{ik}\, \varphi(s_{ip})` with
    :math:`s_{ip} = |x_p - r_i|^2 / (R_i \cdot \mathrm{radius\_scale})^2`.

    Parameters
    ----------
    gm : GridMaker
        The grid.
    center : Tensor or sequence of float
        (3,) centre of the grid in angstrom, or (B, 3), one per example; float32 or float64, whatever `coords` is. The
        tensors of a sequence keep their gradients.
    coords : Tensor
        (N, 3) positions in angstrom, or (B, N, 3), padded; float32 or float64.
    types : Tensor
        Integers (N,) or (B, N): the channel of each atom, negative: the atom is ignored. Or, of the dtype of `coords`,
        (N, T) or (B, N, T): the weight of each atom in each channel.
    radii : Tensor or float
        (N,) or (B, N) radii in angstrom; (T,) if ``gm.radius_type_indexed``; or one number for all.
    n_types : int, optional
        Channels T; required for integer `types`.
    batch : Tensor, optional
        (N,) integers, sorted: the example of each atom of a ragged batch.
    batch_size : int, optional
        Examples of a ragged batch; by default ``batch[-1] + 1``.
    fixed : Tensor, optional
        (N,) or (B, N) bool: atoms whose positions, weights and radii are constants. They are in the density as all
        others, get gradients of zero and cost nothing in the backward passes. `center` and radii by type keep theirs.

    Returns
    -------
    Tensor
        (T, X, Y, Z), or (B, T, X, Y, Z) for batches. Under `torch.autocast` it is computed in float32 from whatever
        float16, bfloat16 and float32 tensors come in and handed on in the dtype of the context; float64 stays float64.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    MemoryError
        If the grid does not fit.
    """
    autocast = is_autocasting() and _autocasts(coords)
    if autocast:
        center, coords, types, radii = map(_widened, (center, coords, types, radii))
    atoms = validate.atoms(gm, center, coords, types, radii, n_types, batch, batch_size)
    if fixed is not None:
        arguments.mask_of_atoms("fixed", fixed, coords)
        if not can_skip(center, radii, gm.radius_type_indexed):
            coords, types = held(fixed, coords), held(fixed, types)
            radii = radii if gm.radius_type_indexed else held(fixed, radii)
            atoms = validate.atoms(gm, center, coords, types, radii, n_types, batch, batch_size)
            fixed = None
    coords, types, radii, offsets, centers, center, n_types = atoms
    if fixed is None:
        grid = density(coords, types, radii, offsets, centers, gm.spec, center, n_types)
    else:
        grid = density_with_fixed(coords, types, radii, offsets, centers, fixed, gm.spec, center, n_types)
    return _of_context(grid) if autocast else grid


def coords2points(
    gm: Grid,
    points: Tensor,
    coords: Tensor,
    types: Tensor,
    radii: Tensor | float,
    n_types: int | None = None,
    batch: Tensor | None = None,
    batch_size: int | None = None,
    points_batch: Tensor | None = None,
) -> Tensor:
    r"""Density of atoms at arbitrary points, differentiable twice in points, coords, types and radii.

    :math:`\rho_k(x_p) = \sum_i w_{ik}\, \varphi(s_{ip})`, the function that `coords2grid` samples on a grid, by the
    same kernels: a grid of one point each, and the atoms that reach it.

    Parameters
    ----------
    gm : GridMaker
        The profile and what else is not the box: `resolution` and `dimension` do not matter.
    points : Tensor
        (P, 3) in angstrom, or (B, P, 3) for padded atoms; float32 or float64, whatever `coords` is.
    coords, types, radii, n_types, batch, batch_size
        As for `coords2grid`.
    points_batch : Tensor, optional
        (P,) integers, in any order: the example of each point, for a ragged batch of atoms.

    Returns
    -------
    Tensor
        (P, T), or (B, P, T) for padded atoms, of the dtype of `coords`; under `torch.autocast` as for `coords2grid`.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.

    Notes
    -----
    Memory is that of the points, the atoms and the pairs that meet; there is no table of all pairs. Which atoms reach
    which points decides on shapes: the function breaks the graph of `torch.compile`, and `torch.func.vmap` refuses it.
    At a grid point that is a number exactly, the CPU gives the bits of the grid.
    """
    autocast = is_autocasting() and _autocasts(coords)
    if autocast:
        points, coords, types, radii = map(_widened, (points, coords, types, radii))
    found = density_at_points(gm, points, coords, types, radii, n_types, batch, batch_size, points_batch)
    return _of_context(found) if autocast else found


class Coords2GridFunction:
    """`coords2grid` under the name and in the calling convention of libmolgrid."""

    @staticmethod
    def apply(gm: Grid, center: Tensor | Sequence[Any], coords: Tensor, types: Tensor, radii: Tensor | float) -> Tensor:
        """Return ``coords2grid(gm, center, coords, types, radii)``.

        Parameters
        ----------
        gm, center, coords, types, radii
            As for `coords2grid`; types are vectors.

        Returns
        -------
        Tensor
            (T, X, Y, Z), or (B, T, X, Y, Z) for batches.
        """
        return coords2grid(gm, center, coords, types, radii)
