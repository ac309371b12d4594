"""Sums of a grid along a direction, and their image in the colours of the channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from gridgrad.io.density import DensityGrid
from gridgrad.plot.scene import channel_color

__all__ = ["Projection", "project", "project_axis"]

_STEP = 0.15  # angstrom between pixels
_ABSORPTION = 0.55  # opacity is 1 - exp(-absorption * sum of density along the ray), per angstrom
_RECEPTOR_TINT = np.array([0.80, 0.775, 0.73])
_RECEPTOR_WEIGHT = 0.22


@dataclass(frozen=True, eq=False)
class Projection:
    """Density integrated through a slab, seen along the third row of `axes`.

    Attributes
    ----------
    axes : ndarray, shape (3, 3)
        Rows: right, up and towards the viewer.
    low, high : ndarray, shape (3,)
        The slab, in the frame of `axes`, in angstrom.
    columns : ndarray, shape (T, H, W)
        Integral of each channel along the ray, in angstrom.
    channels : tuple of str
        Names of the T channels.
    """

    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    columns: np.ndarray
    channels: tuple[str, ...]

    def rotate(self, vectors: np.ndarray) -> np.ndarray:
        """Turn vectors or positions (N, 3) into the frame of the view."""
        return vectors @ self.axes.T

    def image(self) -> np.ndarray:
        """Return the image (H, W, 3) on white."""
        return blend(self.columns, self.channels)


def blend(columns: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """Mix the colours of the channels (T, H, W) by their share of each pixel; more density is more opaque."""
    receptor = np.array([name.startswith("receptor ") for name in channels])
    tints = np.array([_tint(name, index) for index, name in enumerate(channels)]).reshape(-1, 3)
    weights = columns * np.where(receptor, _RECEPTOR_WEIGHT, 1.0)[:, None, None]
    depth = weights.sum(axis=0)
    mixed = np.einsum("thw,tc->hwc", weights, tints) / np.maximum(depth, 1e-12)[..., None]
    opacity = 1 - np.exp(-_ABSORPTION * depth)[..., None]
    return np.clip(1 - opacity * (1 - mixed), 0, 1)


def _tint(name: str, index: int) -> np.ndarray:
    if name.startswith("receptor "):
        return _RECEPTOR_TINT
    color = channel_color(name, index)
    rgb = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return rgb + 0.25 * (1 - rgb)


def project(grid: DensityGrid, axes: np.ndarray, low: np.ndarray, high: np.ndarray) -> Projection:
    """Integrate a grid along the third row of `axes` through the slab from `low` to `high`.

    The grid is interpolated linearly; outside it the density is zero.
    """
    used = [index for index in range(len(grid.channels)) if grid.density[index].any()]
    density = torch.from_numpy(np.ascontiguousarray(grid.density[used], dtype=np.float32))[None]
    across, up, depth = (
        torch.arange(first, last, _STEP, dtype=torch.float64) for first, last in zip(low, high, strict=True)
    )
    step = max(1, round(grid.resolution / 2 / _STEP))
    depth = depth[::step]
    rotation = torch.from_numpy(np.ascontiguousarray(axes))
    length = torch.from_numpy(grid.extent[:, 1] - grid.extent[:, 0])
    columns = torch.zeros((len(used), len(up), len(across)))
    plane = torch.stack(torch.meshgrid(up, across, indexing="ij"), dim=-1)
    for level in depth:
        view = torch.stack([plane[..., 1], plane[..., 0], level.expand_as(plane[..., 0])], dim=-1)
        place = 2 * (view @ rotation - torch.from_numpy(np.asarray(grid.origin))) / length - 1
        samples = torch.nn.functional.grid_sample(
            density, place.flip(-1)[None, None].float(), align_corners=True, padding_mode="zeros"
        )  # grid_sample wants (z, y, x)
        columns += samples[0, :, 0] * (step * _STEP)
    return Projection(axes, low, high, columns.numpy(), tuple(grid.channels[index] for index in used))


def project_axis(grid: DensityGrid, axis: str) -> tuple[np.ndarray, tuple[float, ...], tuple[str, str]]:
    """Integrate the whole grid along "x", "y" or "z".

    Returns
    -------
    image : ndarray, shape (H, W, 3)
        The image, first row at the bottom.
    box : tuple of float
        Left, right, bottom and top edge in angstrom.
    names : tuple of str
        Axis across and axis up.
    """
    across, up = (name for name in "xyz" if name != axis)
    columns = grid.density.sum(axis="xyz".index(axis) + 1) * grid.resolution
    half = grid.resolution / 2
    edges = grid.extent + np.array([-half, half])
    box = (*edges["xyz".index(across)], *edges["xyz".index(up)])
    return blend(columns.transpose(0, 2, 1), grid.channels), box, (across, up)
