"""The part of a grid that holds something."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from gridgrad.gridmaker import GridMaker

SIGMAS = 6.0
"""Voxels above so many standard deviations of the noise hold something."""
SAMPLE = 17
"""Every so many voxels serve to estimate the noise; prime, so that no axis is favoured."""


class Box(NamedTuple):
    """Boxes of one size out of the grids of B examples.

    Attributes
    ----------
    gm : GridMaker
        A grid of that size.
    density : Tensor
        (B, T, x, y, z).
    center : Tensor
        (B, 3) centres of the boxes relative to those of the grids, in angstrom, float64.
    noise : Tensor
        (B,) standard deviation of the noise of a voxel.
    """

    gm: GridMaker
    density: Tensor
    center: Tensor
    noise: Tensor

    @classmethod
    def whole(cls, gm: GridMaker, density: Tensor) -> Box:
        """Return the grids as they are."""
        return cls(
            gm, density, torch.zeros(len(density), 3, dtype=torch.float64, device=density.device), noise_of(density)
        )


def noise_of(density: Tensor) -> Tensor:
    """Estimate the noise of voxels, where more than half of all voxels of all channels hold nothing else.

    Parameters
    ----------
    density : Tensor
        (B, T, X, Y, Z).

    Returns
    -------
    Tensor
        (B,) standard deviations: 1.4826 times the median of the magnitudes, as for a normal distribution.
    """
    sample = density.flatten(1)[:, ::SAMPLE]
    return 1.4826 * sample.abs().median(1).values


def cropped(gm: GridMaker, density: Tensor, reach: float) -> Box:
    """Cut boxes of one size, one per example, that hold all voxels above the noise and what may lie under it.

    Parameters
    ----------
    gm : GridMaker
        The grid.
    density : Tensor
        (B, T, X, Y, Z), B > 0.
    reach : float
        Distance in angstrom from the centre of an atom to its end.

    Returns
    -------
    Box
        The boxes.
    """
    noise = noise_of(density)
    signal = (density > SIGMAS * noise[:, None, None, None, None]).any(1)
    corner: list[Tensor] = []
    size: list[int] = []
    for axis, points in enumerate(gm.spatial_grid_dimensions()):
        used = _used(signal, axis)
        place = torch.arange(points, device=density.device)
        margin = math.ceil(reach / gm.resolution) * (noise > 0)
        low = (torch.where(used, place, points).amin(1) - margin).clamp_min(0)
        high = (torch.where(used, place, -1).amax(1) + margin).clamp_max(points - 1)
        size.append(max(int((high - low).amax()) + 1, 1))
        corner.append(low.clamp(max=points - size[-1]))
    first = torch.stack(corner, 1)
    x, y, z = size
    pieces = [density[b, :, i : i + x, j : j + y, k : k + z] for b, (i, j, k) in enumerate(first.tolist())]
    length_x, length_y, length_z = (gm.resolution * max(n - 1, 0.25) for n in size)
    box = replace(gm, dimension=(length_x, length_y, length_z))
    last = first.new_tensor(size) - 1
    center = gm.resolution * (first + last / 2).double() - torch.tensor(gm.dimension, device=first.device).double() / 2
    return Box(box, torch.stack(pieces), center, noise)


def _used(signal: Tensor, axis: int) -> Tensor:
    """Return (B, X): whether a plane across an axis holds something."""
    others = [a for a in (1, 2, 3) if a != axis + 1]
    return signal.any(others[1]).any(others[0])
