"""The grid: its points and its profile, checked and packed for the kernels."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gridgrad.grid.profile import TAILS, multiple_range, profile_coefficients
from gridgrad.grid.shown import shown
from gridgrad.kernels import abi


def _positive(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: {shown(value)} of type {type(value).__name__}; expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{name}: {shown(value)}; expected a finite number > 0")
    return number


def _box(dimension: object) -> tuple[float, float, float]:
    if isinstance(dimension, np.ndarray):
        dimension = dimension.tolist()
    if isinstance(dimension, numbers.Real):
        return (_positive("dimension", dimension),) * 3
    if isinstance(dimension, str) or not isinstance(dimension, Sequence):
        raise TypeError(f"dimension: {shown(dimension)}; expected a number or (x, y, z)")
    if len(dimension) != 3:
        raise ValueError(f"dimension: {len(dimension)} numbers; expected one or three (x, y, z)")
    x, y, z = (_positive("dimension", side) for side in dimension)
    return x, y, z


def _multiple(multiple: Any, tail: str, binary: bool) -> float:
    number = -multiple if isinstance(multiple, numbers.Real) and multiple < 0 else multiple
    number = _positive("gaussian_radius_multiple", number)
    lowest, highest = multiple_range("truncated" if multiple < 0 else tail)
    if not binary and not lowest <= number <= highest:
        name = "a negative one" if multiple < 0 else f"tail {tail!r}"
        raise ValueError(
            f"gaussian_radius_multiple: {shown(multiple)}; expected a magnitude from {lowest:.6g} to {highest:.6g} "
            f"for {name}"
        )
    return -number if multiple < 0 else number


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: {shown(value)}; expected True or False")
    return bool(value)


def _points(resolution: float, dimension: tuple[float, float, float]) -> tuple[int, int, int]:
    sides = [side / resolution for side in dimension]
    if max(sides) < 2**62:
        x, y, z = (round(side) + 1 for side in sides)
        if x * y * z < 2**62:
            return x, y, z
    raise ValueError(f"resolution: {resolution} in a box of {dimension}; expected fewer than 2^62 points")


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
        Multiple m of the radius at which the Gaussian gives way to the tail, from 0.001 (quintic: from 1/√8 = 0.354,
        below which the tail turns negative) to 10⁶. A negative value truncates at ``-m``, whatever `tail` says.
    tail : {"quadratic", "quintic", "truncated"}, default "quadratic"
        How the Gaussian ends: with a continuous first derivative (libmolgrid's default), with a continuous second
        derivative, or abruptly.

    Raises
    ------
    TypeError
        If an argument has the wrong type.
    ValueError
        If a length is not finite and positive, `tail` is unknown, or the multiple is out of its range.
    """

    resolution: float = 0.5
    dimension: tuple[float, float, float] = 23.5  # type: ignore[assignment]  # for a cube
    binary: bool = field(default=False, kw_only=True)
    radius_type_indexed: bool = field(default=False, kw_only=True)
    radius_scale: float = field(default=1.0, kw_only=True)
    gaussian_radius_multiple: float = field(default=1.0, kw_only=True)
    tail: str = field(default="quadratic", kw_only=True)
    if TYPE_CHECKING:  # one number stands for three
        _points: tuple[int, int, int] = field(init=False)
        _spec: str = field(init=False)
        _geometry: dict[str, bytes] = field(init=False)

        def __init__(
            self,
            resolution: float = 0.5,
            dimension: float | Sequence[float] | np.ndarray = 23.5,
            *,
            binary: bool = False,
            radius_type_indexed: bool = False,
            radius_scale: float = 1.0,
            gaussian_radius_multiple: float = 1.0,
            tail: str = "quadratic",
        ) -> None: ...

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "resolution", _positive("resolution", self.resolution))
        put(self, "dimension", _box(self.dimension))
        put(self, "radius_scale", _positive("radius_scale", self.radius_scale))
        for name in ("binary", "radius_type_indexed"):
            put(self, name, _flag(name, getattr(self, name)))
        if not isinstance(self.tail, str) or self.tail not in TAILS:
            raise ValueError(f"tail: {shown(self.tail)}; expected one of {', '.join(map(repr, TAILS))}")
        put(self, "gaussian_radius_multiple", _multiple(self.gaussian_radius_multiple, self.tail, self.binary))
        put(self, "_points", _points(self.resolution, self.dimension))
        put(self, "_spec", json.dumps({f.name: getattr(self, f.name) for f in fields(self)}))
        put(self, "_geometry", {dtype: self._pack(dtype) for dtype in abi.PRECISIONS})

    def __reduce__(self):
        return _from_spec, (type(self), self._spec)

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

        Raises
        ------
        ValueError
            If it is no such text.
        """
        try:
            settings = json.loads(spec)
            known = settings.keys() == {f.name for f in fields(cls)}
        except (ValueError, AttributeError, RecursionError):
            known = False
        if not known:
            raise ValueError(f"spec: {shown(spec)}; expected the spec of a GridMaker")
        return cls(**settings)

    def _pack(self, dtype: str) -> bytes:
        profile = profile_coefficients(self.tail, self.gaussian_radius_multiple, self.binary, np.dtype(dtype))
        return abi.pack_geometry(
            center=(0.0, 0.0, 0.0),
            resolution=self.resolution,
            origin=(-side / 2 for side in self.dimension),
            radius_scale=self.radius_scale,
            **profile._asdict(),
            points=self._points,
            radius_by_type=self.radius_type_indexed,
        )

    def geometry(self, dtype: str, center: Sequence[float] = (0.0, 0.0, 0.0)) -> bytes:
        """Return what a kernel needs to know of the grid, packed.

        Parameters
        ----------
        dtype : {"float32", "float64"}
            Precision of the kernel.
        center : sequence of float, default (0, 0, 0)
            Where the grid is, in angstrom.

        Returns
        -------
        bytes
            The fields of ``Geometry``, as `gridgrad.kernels.abi` lays them out.
        """
        geometry = self._geometry[dtype]
        return abi.moved_to(center, geometry) if any(center) else geometry

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


def _from_spec(cls: type[Grid], spec: str) -> Grid:
    """Make a pickled grid again; a function, since cloudpickle does not know a cached method by its name."""
    return cls.from_spec(spec)
