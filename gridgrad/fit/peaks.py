"""Where atoms are: peaks of a density that is sharpened, channel by channel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gridgrad.functional import coords2grid
from gridgrad.gridmaker import GridMaker

FLOOR = 1e-5
"""What of the largest Fourier coefficient of a profile counts as zero: float32 holds no more."""


class Filters:
    """Filters of volumes whose output at an atom is the atom's weight.

    A density is a convolution of its atoms with their profile. To **sharpen** it, Wiener's filter divides by the
    profile's Fourier coefficients where they stand above the noise and above what the place of an atom between the
    points changes, and multiplies by those of a Gaussian that the grid can just hold: it tells close atoms from one
    another (Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series, MIT Press 1949, chapter 3).
    The **matched** filter correlates with the profile: the least noise that a linear filter can leave, and no sharpness
    (Turin, An introduction to matched filters, IRE Transactions on Information Theory 6, 311, 1960).

    Parameters
    ----------
    alone : GridMaker
        A cube of the same resolution and profile that holds an atom whole.
    gm : GridMaker
        The grid.
    radii : Tensor
        (R,) radii in angstrom, float64.
    """

    def __init__(self, alone: GridMaker, gm: GridMaker, radii: Tensor):
        n = alone.spatial_grid_dimensions()[0] // 2
        self.resolution, self.points = gm.resolution, gm.spatial_grid_dimensions()
        self.shape = [_fast_length(points + 2 * n) for points in self.points]  # no atom reaches around the edge
        self.width = max(0.7 * gm.resolution, 0.25)
        padding = [k for size in reversed(self.shape) for k in (0, size - 2 * n - 1)]
        channels = torch.arange(len(radii), device=radii.device)

        def spectrum(shift: float) -> Tensor:
            """Fourier coefficients of an atom of each radius at (shift, shift, shift) from the first point."""
            place = radii.new_full((len(radii), 3), shift)
            kernel = coords2grid(alone, (0.0, 0.0, 0.0), place, channels, radii, len(radii))
            padded = torch.nn.functional.pad(kernel, padding)
            return torch.fft.rfftn(padded.roll((-n, -n, -n), (1, 2, 3)), dim=(1, 2, 3))

        self.on_a_point, self.between_points = spectrum(0.0), spectrum(gm.resolution / 2)
        x, y, z = self._frequencies()
        self.gaussian = torch.exp(-0.5 * self.width**2 * (x.square() + y.square() + z.square()))
        shifted = self.on_a_point * torch.polar(torch.ones_like(self.gaussian), -(x + y + z) * gm.resolution / 2)
        self.aliasing = (self.between_points - shifted).abs().square()
        # the half of a spectrum that torch keeps stands for two, but for its first and last plane along z
        self.fold = torch.full_like(self.gaussian[0, 0], 2.0)
        self.fold[[0, -1]] = 1.0

    def _frequencies(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return k along each axis, in 1/angstrom, to be broadcast over the coefficients."""
        like = self.on_a_point.real
        axes = [torch.fft.fftfreq(size, self.resolution, dtype=like.dtype) for size in self.shape[:2]]
        axes.append(torch.fft.rfftfreq(self.shape[2], self.resolution, dtype=like.dtype))
        x, y, z = (2 * math.pi * axis.to(like.device) for axis in axes)
        return x[:, None, None], y[:, None], z

    def sharpened(self, volumes: Tensor, kind: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sharpen volumes.

        Parameters
        ----------
        volumes : Tensor
            (K, X, Y, Z).
        kind : Tensor
            (K,) int64, which of the radii the atoms of each volume have.
        noise : Tensor
            (K,) standard deviation of the noise of its voxels.

        Returns
        -------
        filtered : Tensor
            (K, X, Y, Z) float64; an atom of weight 1 on a point has height 1.
        lowest : Tensor
            (K,) height of an atom of weight 1 that lies in the middle between points.
        noise : Tensor
            (K,) standard deviation of the noise of `filtered`.
        """
        transfer = self.on_a_point[kind]
        integral = transfer[:, 0, 0, 0].real
        n_atoms = (volumes.double().sum((1, 2, 3)) / integral).clamp_min(1.0)
        floor = (FLOOR * integral).square() + noise.double().square() * math.prod(self.shape) / n_atoms
        power = transfer.abs().square() + self.aliasing[kind] + floor[:, None, None, None]
        return self._filtered(volumes, self.gaussian * transfer.conj() / power, kind, noise)

    def matched(self, volumes: Tensor, kind: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Correlate volumes with the profile: what weight an atom at each point would best have, were it alone.

        Parameters
        ----------
        volumes, kind, noise : Tensor
            As for `sharpened`.

        Returns
        -------
        filtered, lowest, noise : Tensor
            As for `sharpened`.
        """
        return self._filtered(volumes, self.on_a_point[kind].conj(), kind, noise)

    def _filtered(self, volumes: Tensor, filter: Tensor, kind: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dims = (1, 2, 3)

        def at_origin(spectrum: Tensor) -> Tensor:
            """First point of the inverse transform."""
            return (spectrum * self.fold).sum(dims) / math.prod(self.shape)

        height = at_origin((filter * self.on_a_point[kind]).real)
        lowest = at_origin((filter * self.between_points[kind]).real)
        white = at_origin(filter.abs().square()).sqrt()  # Parseval
        spectrum = torch.fft.rfftn(volumes.double(), self.shape, dim=dims)
        filtered = torch.fft.irfftn(filter * spectrum, self.shape, dim=dims)
        x, y, z = self.points
        return filtered[:, :x, :y, :z] / height[:, None, None, None], lowest / height, noise.double() * white / height


def _fast_length(n: int) -> int:
    """Return the smallest even number from n on with no prime factor above 5."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1 and n % 2 == 0:
            return n
        n += 1


def find_peaks(volumes: Tensor, threshold: Tensor, gm: GridMaker) -> tuple[Tensor, Tensor, Tensor]:
    """Find the local maxima of volumes, between the points of the grid.

    Parameters
    ----------
    volumes : Tensor
        (K, X, Y, Z).
    threshold : Tensor
        (K,) least height.
    gm : GridMaker
        The grid.

    Returns
    -------
    volume : Tensor
        (P,) int64, which of the volumes.
    position : Tensor
        (P, 3) in angstrom, relative to the centre of the grid: the vertices of parabolas through neighbours.
    height : Tensor
        (P,) heights of the highest points.
    """
    highest = torch.nn.functional.max_pool3d(volumes[:, None], 3, 1, 1)[:, 0]
    at = ((volumes == highest) & (volumes > threshold[:, None, None, None])).nonzero()
    padded = torch.nn.functional.pad(volumes, (1, 1, 1, 1, 1, 1), value=-math.inf)
    volume, point = at[:, 0], at[:, 1:] + 1
    height = padded[volume, *point.T]
    shift = torch.zeros_like(point, dtype=volumes.dtype)
    for axis, step in enumerate(torch.eye(3, dtype=torch.int64, device=point.device)):
        below, above = padded[volume, *(point - step).T], padded[volume, *(point + step).T]
        curvature = below - 2 * height + above
        vertex = (0.5 * (below - above) / curvature).clamp(-0.5, 0.5)
        shift[:, axis] = torch.where(curvature.isfinite() & (curvature < 0), vertex, 0.0)
    middle = torch.tensor(gm.dimension, dtype=volumes.dtype, device=volumes.device) / 2
    return volume, (point - 1 + shift) * gm.resolution - middle, height
