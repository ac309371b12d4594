"""Calls of the kernels by address, on numbers that break arithmetic.

A `Case` holds the arrays of one call of every kernel; `run` passes their addresses to the functions of a text, with no
torch in between. `cases` draws them.
"""

import dataclasses
from functools import cached_property
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from gridgrad.grid import Grid

GUARD = 16  # elements on either side of an output
SENTINEL = -7.25
TAILS = ("quadratic", "quintic", "truncated", "binary", "negative")
ZEROS_AND_WILD = (0.0, -0.0, np.nan, np.inf, -np.inf, 1e20, -1e20, 1e-20, -1e-20)
HOSTILE = {
    "float32": (*ZEROS_AND_WILD, 1e-45, -1e-40, 1.1754944e-38),
    "float64": (*ZEROS_AND_WILD, 5e-324, -1e-310, 2.3e-308, 1e160, -1e160, 1e-160, 1e-150),
}
"""By dtype: zeros, what is not finite, subnormals, the smallest normal number, what overflows when squared."""


class Direction(NamedTuple):
    """Cotangents of the first-order gradients, or a change of the atoms: arrays as those of the atoms, or None."""

    coords: np.ndarray | None = None
    weights: np.ndarray | None = None
    radii: np.ndarray | None = None


@dataclasses.dataclass
class Case:
    """The arrays of a call. Index or weights; absent ones are None."""

    settings: dict
    dtype: np.dtype
    n_examples: int
    n_types: int
    coords: np.ndarray
    index: np.ndarray | None
    weights: np.ndarray | None
    radii: np.ndarray
    offsets: np.ndarray | None
    center: np.ndarray  # (3,) of all grids, or
    centers: np.ndarray | None  # (B, 3)
    grad_density: np.ndarray
    density: np.ndarray
    u: Direction
    v: Direction
    needs: tuple = (True, True, True)

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)

    @cached_property
    def grid(self):
        return Grid(**self.settings)

    @property
    def by_type(self):
        return self.settings["radius_type_indexed"]

    @property
    def n_atoms(self):
        return len(self.coords)

    @cached_property
    def example(self):
        """(N,) example of each atom."""
        if self.offsets is None:
            return np.arange(self.n_atoms) // max(self.n_atoms // self.n_examples, 1)
        return np.repeat(np.arange(self.n_examples), np.diff(self.offsets))

    @property
    def floats(self):
        """Every array of floating point numbers, by name."""
        names = "coords", "weights", "radii", "center", "centers", "grad_density", "density"
        found = {name: getattr(self, name) for name in names}
        for letter, direction in (("u", self.u), ("v", self.v)):
            found |= {f"{letter}_{name}": array for name, array in direction._asdict().items()}
        return {name: array for name, array in found.items() if array is not None}

    @property
    def positions(self):
        """(N, 3) in float64, relative to the centres of the grids."""
        center = self.center if self.centers is None else self.centers[self.example]
        with np.errstate(invalid="ignore"):
            return self.coords.astype(np.float64) - center

    def by_atom(self, radii):
        """(N, T) of radii or of their cotangents."""
        if self.by_type:
            return radii[self.example] if radii.ndim == 2 else np.broadcast_to(radii, (self.n_atoms, self.n_types))
        return np.broadcast_to(radii[:, None], (self.n_atoms, self.n_types))


def address(array):
    return 0 if array is None else array.ctypes.data


class Outputs(dict):
    """Arrays by name, each with a guard on both sides."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype, self.memory = dtype, {}

    def new(self, name, shape):
        """Allocate an output and return its address."""
        size = int(np.prod(shape, dtype=np.int64))
        memory = self.memory[name] = np.full(size + 2 * GUARD, SENTINEL, self.dtype)
        self[name] = memory[GUARD : GUARD + size].reshape(shape)
        return self[name].ctypes.data

    def assert_guarded(self):
        """Nothing was written beside the outputs."""
        for name, memory in self.memory.items():
            assert (memory[:GUARD] == SENTINEL).all() and (memory[-GUARD:] == SENTINEL).all(), name


def run(kernels, case, refused=None):
    """Return all outputs of a text for a case.

    Parameters
    ----------
    kernels : module or object
        One of gridgrad.kernels.cpu's modules, or what has the same functions.
    case : Case
        The arrays.
    refused : dict, optional
        Takes the message of every call that raises a ValueError, by kernel; without it the error passes.

    Returns
    -------
    Outputs
        By name.
    """
    out = Outputs(case.dtype)
    n_atoms, n_types = case.n_atoms, case.n_types
    stride = n_types if case.by_type and case.radii.ndim == 2 else 0
    atoms = [address(a) for a in (case.coords, case.index, case.weights, case.radii, case.offsets, case.centers)]
    scalars = case.grid.geometry(case.dtype.name, case.center), case.n_examples, n_atoms, n_types, stride
    u, v = ([address(array) for array in direction] for direction in (case.u, case.v))
    grad_density, density = address(case.grad_density), address(case.density)
    grid = case.n_examples, n_types, *case.grid.spatial_grid_dimensions()
    per_channel = case.by_type and case.weights is not None

    def call(name, *arguments):
        try:
            getattr(kernels, name)(*arguments)
        except ValueError as error:
            if refused is None:
                raise
            refused[name] = str(error)

    def gradients(order):
        radii = (n_atoms, n_types) if per_channel else (n_atoms,)
        wanted = case.needs[0], case.needs[1] and case.weights is not None, case.needs[2]
        names = "grad_coords", "grad_weights", "partials" if case.by_type else "grad_radii"
        shapes = (n_atoms, 3), (n_atoms, n_types), radii
        return [out.new(f"order {order} {n}", s) if w else 0 for n, s, w in zip(names, shapes, wanted, strict=True)]

    call("density", *atoms, *scalars, out.new("density", grid), 1)
    call("density_tangent", *atoms, *v, *scalars, out.new("tangent", grid), 1)
    call("density_tangent_tangent", *atoms, *u, *v, *scalars, out.new("tangent_tangent", grid), 1)
    call("density_backward", *atoms, grad_density, *scalars, *gradients(1), 1)
    call("density_backward_backward", *atoms, grad_density, *v, *scalars, *gradients(2), 1)
    call("density_relevance", *atoms, density, grad_density, *scalars, out.new("relevance", (n_atoms,)), 1)
    for order in (1, 2) if case.by_type and case.needs[2] else ():
        total = out.new(f"order {order} grad_radii", case.radii.shape)
        partials, index, offsets = address(out[f"order {order} partials"]), atoms[1], atoms[4]
        call("radii_sum", partials, index, offsets, case.n_examples, n_atoms, n_types, case.radii.ndim == 2, total)
    out.assert_guarded()
    return out


@st.composite
def settings(draw):
    """Settings of a grid of up to 7 x 7 x 19 points."""
    h = draw(st.sampled_from([0.5, 0.3, 1.0]))
    points = draw(st.tuples(st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 3, 7, 16, 19])))
    found = {
        "resolution": h,
        "dimension": tuple(max(h * (n - 1), 1e-3) for n in points),
        "radius_type_indexed": draw(st.booleans()),
        "radius_scale": draw(st.sampled_from([1.0, 0.9])),
    }
    tail, multiple = draw(st.sampled_from(TAILS)), draw(st.sampled_from([1.0, 0.8, 1.5]))
    if tail == "binary":
        return found | {"binary": True}
    if tail == "negative":
        return found | {"gaussian_radius_multiple": -multiple}
    return found | {"tail": tail, "gaussian_radius_multiple": multiple}


@st.composite
def cases(draw, hostile=True, precisions=tuple(HOSTILE)):
    """A call in any mode; ``hostile``: with up to four of `HOSTILE` somewhere, else with usual numbers."""
    found, dtype = draw(settings()), np.dtype(draw(st.sampled_from(precisions)))
    n_examples, n_types = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 5]))
    sizes = draw(st.lists(st.integers(0, 3), min_size=n_examples, max_size=n_examples))
    ragged, vectors, per_example = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    where = draw(st.sampled_from(["zero", "center", "centers"]))
    given = draw(st.tuples(*[st.integers(0, 4).map(bool)] * 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_atoms = sum(sizes) if ragged else n_examples * sizes[0]
    grid = Grid(**found)
    points, h = grid.spatial_grid_dimensions(), grid.resolution
    box = np.array(grid.dimension)
    coords = rng.uniform(-0.7, 0.7, (n_atoms, 3)) * np.maximum(box, 1)
    on_a_point = rng.random(n_atoms) < 0.3
    coords[on_a_point] = (-box / 2 + np.stack([rng.integers(0, n, n_atoms) for n in points], 1) * h)[on_a_point]
    centers = rng.integers(-120, 120, (n_examples, 3)) * (0.25 if where != "zero" else 0)
    if where != "centers":
        centers[:] = centers[0]
    example = np.repeat(np.arange(n_examples), sizes if ragged else sizes[:1] * n_examples)
    coords += centers[example]
    radii_shape = (n_atoms,)
    if found["radius_type_indexed"]:
        radii_shape = (n_examples, n_types) if per_example else (n_types,)
    weights = rng.uniform(0.2, 1.5, (n_atoms, n_types)) * rng.choice(
        [-1, 0, 1], (n_atoms, n_types), p=[0.35, 0.3, 0.35]
    )
    values = (n_examples, n_types, *points)

    def direction(coords, weights, radii):
        shapes = (n_atoms, 3), (n_atoms, n_types), radii_shape
        wanted = coords, weights and vectors, radii
        return Direction(
            *[rng.normal(size=s).astype(dtype) if w else None for s, w in zip(shapes, wanted, strict=True)]
        )

    case = Case(
        found, dtype, n_examples, n_types, coords.astype(dtype),
        None if vectors else rng.integers(-1, n_types, n_atoms), weights.astype(dtype) if vectors else None,
        rng.uniform(0.7, 1.3, radii_shape).astype(dtype),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) if ragged else None,
        centers[0] if where == "center" else np.zeros(3), centers if where == "centers" else None,
        rng.normal(size=values).astype(dtype), rng.uniform(0.1, 1, values).astype(dtype),
        direction(*given[:3]), direction(*given[3:]),
        draw(st.tuples(*[st.integers(0, 4).map(bool)] * 3)),
    )  # fmt: skip
    arrays = {name: array for name, array in case.floats.items() if array.size}
    if where != "center":
        del arrays["center"]
    numbers = st.sampled_from(HOSTILE[dtype.name])
    spoils = st.tuples(st.sampled_from(sorted(arrays)), st.integers(0, 10**4), numbers)
    changes = draw(st.lists(spoils, max_size=4)) if hostile else []
    if hostile and n_atoms and not draw(st.integers(0, 3)):  # position and radius of one atom
        i, axes = draw(st.integers(0, n_atoms - 1)), draw(st.sets(st.integers(0, 2), min_size=1))
        far = st.sampled_from([np.inf, -np.inf, np.nan, 1e20])
        changes += [("coords", 3 * i + axis, draw(far)) for axis in sorted(axes)]
        changes.append(("radii", i, draw(st.sampled_from([np.inf, np.nan, 1e20, 1e-20]))))
    for name, place, value in changes:
        if name == "radii" and value <= 0:
            value = abs(value) or 1e-20  # what each text does with a radius <= 0 is told by a test of its own
        arrays[name].reshape(-1)[place % arrays[name].size] = value
    return case
