"""The grid: its points and its profile, checked and packed for the kernels."""

from __future__ import annotations

import json
import math
import numbers
import struct
from dataclasses import dataclass, field, fields
from functools import lru_cache

import numpy as np
import torch

from gridgrad.grid.profile import TAILS, profile_coefficients

GEOMETRY = struct.Struct("<14d4q")
"""Layout of ``Geometry`` in pyx/support.pxd and cuda/support.cuh."""


def _positive(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: {value!r} of type {type(value).__name__}; expected a number")
    value = float(value)
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name}: {value}; expected a finite number > 0")
    return value


def _box(dimension: object) -> tuple[float, float, float]:
    if isinstance(dimension, numbers.Real):
        return (_positive("dimension", dimension),) * 3
    try:
        box = tuple(_positive("dimension", side) for side in dimension)
    except TypeError:
        raise TypeError(f"dimension: {dimension!r}; expected a number or (x, y, z)") from None
    if len(box) != 3:
        raise ValueError(f"dimension: {len(box)} numbers; expected one or three (x, y, z)")
    return box


@dataclass(frozen=True)
class Grid:
    """A box of regularly spaced points on which atoms leave their density.

    Immutable, hashable and picklable. Point ``i`` of an axis lies at ``center - dimension / 2 + i * resolution``;
    an axis has ``round(dimension / resolution) + 1`` points.

    Parameters
    ----------
    resolution : float, default 0.5
        Distance between neighbouring points, in angstrom.
    dimension : float or (float, float, float), default 23.5
        Edge of the cube, or the three edges of the box, in angstrom.
    binary : bool, default False
        1 within the radius of an atom and 0 outside, instead of a Gaussian.
    radius_type_indexed : bool, default False
        ``radii`` holds one radius per type instead of one per atom.
    radius_scale : float, default 1.0
        Factor on every radius.
    gaussian_radius_multiple : float, default 1.0
        Multiple m of the radius at which the Gaussian gives way to the tail. A negative value truncates at ``-m``,
        whatever `tail` says.
    tail : {"quadratic", "quintic", "truncated"}, default "quadratic"
        How the Gaussian ends: with a continuous first derivative (libmolgrid's default), with a continuous second
        derivative, or abruptly.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a length is not finite and positive, or `tail` is unknown.
    """

    resolution: float = 0.5
    dimension: tuple[float, float, float] = 23.5
    binary: bool = field(default=False, kw_only=True)
    radius_type_indexed: bool = field(default=False, kw_only=True)
    radius_scale: float = field(default=1.0, kw_only=True)
    gaussian_radius_multiple: float = field(default=1.0, kw_only=True)
    tail: str = field(default="quadratic", kw_only=True)

    def __post_init__(self):
        put = object.__setattr__
        put(self, "resolution", _positive("resolution", self.resolution))
        put(self, "dimension", _box(self.dimension))
        put(self, "radius_scale", _positive("radius_scale", self.radius_scale))
        multiple = self.gaussian_radius_multiple
        put(
            self,
            "gaussian_radius_multiple",
            math.copysign(_positive("abs(gaussian_radius_multiple)", abs(multiple)), multiple)
            if isinstance(multiple, numbers.Real)
            else _positive("gaussian_radius_multiple", multiple),
        )
        for name in ("binary", "radius_type_indexed"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(f"{name}: {getattr(self, name)!r}; expected True or False")
            put(self, name, bool(getattr(self, name)))
        if self.tail not in TAILS:
            raise ValueError(f"tail: {self.tail!r}; expected one of {', '.join(map(repr, TAILS))}")
        points = tuple(round(side / self.resolution) + 1 for side in self.dimension)
        if math.prod(points) >= 2**62:
            raise ValueError(f"dimension: {self.dimension} at resolution {self.resolution} is {points} points")
        put(self, "_points", points)
        put(self, "_spec", json.dumps({f.name: getattr(self, f.name) for f in fields(self)}))
        put(self, "_geometry", {dtype: self._pack(dtype) for dtype in (torch.float32, torch.float64)})

    def __reduce__(self):
        return type(self).from_spec, (self._spec,)

    @property
    def spec(self) -> str:
        """str: The grid as text, from which `from_spec` makes an equal one."""
        return self._spec

    @classmethod
    @lru_cache(maxsize=1024)
    def from_spec(cls, spec: str) -> Grid:
        """Make the grid that `spec` describes.

        Parameters
        ----------
        spec : str
            The ``spec`` of a grid.

        Returns
        -------
        Grid
            An equal grid of this class; the same object for the same text.
        """
        return cls(**json.loads(spec))

    def _pack(self, dtype: torch.dtype) -> bytes:
        profile = profile_coefficients(
            self.tail,
            self.gaussian_radius_multiple,
            self.binary,
            np.dtype(np.float32 if dtype == torch.float32 else np.float64),
        )
        return GEOMETRY.pack(
            self.resolution,
            *(-side / 2 for side in self.dimension),
            self.radius_scale,
            profile.core_rate,
            profile.core_end,
            profile.cutoff,
            profile.cutoff_s,
            *profile.tail,
            0.0,
            *self._points,
            self.radius_type_indexed,
        )

    def geometry(self, dtype: torch.dtype) -> bytes:
        """Return what a kernel needs to know of the grid, packed.

        Parameters
        ----------
        dtype : torch.dtype
            ``torch.float32`` or ``torch.float64``.

        Returns
        -------
        bytes
            The fields of ``Geometry`` in pyx/support.pxd.
        """
        return self._geometry[dtype]

    @property
    def final_radius_multiple(self) -> float:
        """float: Multiple of an atom's radius at which its density ends."""
        if self.binary:
            return 1.0
        m = abs(self.gaussian_radius_multiple)
        if self.gaussian_radius_multiple < 0 or self.tail == "truncated":
            return m
        return (1 + 2 * m * m) / (2 * m)

    def spatial_grid_dimensions(self) -> tuple[int, int, int]:
        """Return the points per axis.

        Returns
        -------
        tuple of int
            (X, Y, Z).
        """
        return self._points

    def grid_dimensions(self, n_types: int) -> tuple[int, int, int, int]:
        """Return the shape of one density grid.

        Parameters
        ----------
        n_types : int
            Channels.

        Returns
        -------
        tuple of int
            (T, X, Y, Z).
        """
        return (n_types, *self._points)
