"""A density grid with what is needed to place it in space and to name its channels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["DensityGrid"]


@dataclass(frozen=True, eq=False)
class DensityGrid:
    """A density grid on the CPU.

    Attributes
    ----------
    density : ndarray, shape (T, X, Y, Z)
        The density of each channel, z fastest.
    channels : tuple of str
        Names of the T channels.
    origin : ndarray of float64, shape (3,)
        Position of point (0, 0, 0) in angstrom: centre - dimension/2.
    resolution : float
        Distance between neighbouring points in angstrom.
    name : str
        Name of the molecule.
    extra : dict of str to ndarray or str
        What else a ``.npz`` or ``.pt`` file shall hold, as the coordinates, types and radii of the atoms.
    """

    density: np.ndarray
    channels: tuple[str, ...]
    origin: np.ndarray
    resolution: float
    name: str = ""
    extra: dict[str, np.ndarray | str] = field(default_factory=dict)

    def __post_init__(self):
        if self.density.ndim != 4 or len(self.channels) != self.density.shape[0]:
            raise ValueError(
                f"density: got shape {self.density.shape} and {len(self.channels)} channels, "
                "expected (T, X, Y, Z) and T channels"
            )
        if np.shape(self.origin) != (3,):
            raise ValueError(f"origin: got shape {np.shape(self.origin)}, expected (3,)")

    @property
    def extent(self) -> np.ndarray:
        """First and last point of each axis in angstrom, shape (3, 2)."""
        length = self.resolution * (np.array(self.density.shape[1:]) - 1)
        return np.stack([self.origin, self.origin + length], axis=1)

    def total(self) -> np.ndarray:
        """Return the sum over the channels, shape (X, Y, Z)."""
        return self.density.sum(axis=0)

    def volumes(self, channel: str) -> dict[str, np.ndarray]:
        """Return the volumes that `channel` asks for.

        Parameters
        ----------
        channel : str
            "total" for the sum of all channels, "each" for every channel that is not zero everywhere, or a name.

        Returns
        -------
        dict of str to ndarray
            Volumes (X, Y, Z) by name.
        """
        if channel == "total":
            return {"total": self.total()}
        if channel == "each":
            return {name: volume for name, volume in zip(self.channels, self.density, strict=True) if volume.any()}
        if channel not in self.channels:
            raise ValueError(f"channel: got {channel!r}, expected total, each or one of {', '.join(self.channels)}")
        return {channel: self.density[self.channels.index(channel)]}
