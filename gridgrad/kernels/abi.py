"""The binary contract: what crosses from Python to a kernel, in which order and of which size. Written once, here.

pyx/ and cuda/ declare their side of it and have the compiler check it: `c_text` is put before either text.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

PRECISIONS = {"float32": "float", "float64": "double"}
"""Type of a real number in the kernels, by dtype."""

# ---- Geometry -------------------------------------------------------------------------------------------------------

CENTER = {"center": 3}
"""The first float64 field of ``Geometry``, and how many numbers it has: where the grid is."""
NUMBERS = {"resolution": 1, "origin": 3, "radius_scale": 1}
"""The float64 fields that follow, voxel 0 relative to the centre."""
PROFILE = {"core_rate": 1, "core_end": 1, "cutoff": 1, "cutoff_s": 1, "tail": 4}
"""The float64 fields that follow, in the order of ``Profile``, which holds them as reals."""
INTEGERS = {"points": 3, "radius_by_type": 1}
"""The int64 fields that follow."""

FIELDS = CENTER | NUMBERS | PROFILE | INTEGERS
SINGLES = sum((NUMBERS | PROFILE).values())
"""The float32 numbers that follow, all of `NUMBERS` and `PROFILE` again: a GPU would convert them once a thread."""
_WORD = 8
_SINGLES_OFFSET = _WORD * sum(FIELDS.values())
_GEOMETRY = struct.Struct(
    f"={sum((CENTER | NUMBERS | PROFILE).values())}d{sum(INTEGERS.values())}q{4 * SINGLES}s{4 * (SINGLES % 2)}x"
)


def _firsts(fields: dict[str, int]) -> dict[str, int]:
    # of each field, how many numbers stand before it
    firsts, n = {}, 0
    for name, length in fields.items():
        firsts[name] = n
        n += length
    return firsts


_POINTS = struct.Struct(f"={INTEGERS['points']}q")
_POINTS_OFFSET = _WORD * _firsts(FIELDS)["points"]
_CENTER = struct.Struct(f"={CENTER['center']}d")


def pack_geometry(**fields: Any) -> bytes:
    """Pack a ``Geometry``.

    Parameters
    ----------
    **fields
        All of `FIELDS`, a sequence where a field has several numbers.

    Returns
    -------
    bytes
        What the kernels read.

    Raises
    ------
    TypeError
        If a field is missing, unknown or of the wrong length.
    """
    if fields.keys() != FIELDS.keys():
        raise TypeError(f"fields: {', '.join(fields)}; expected {', '.join(FIELDS)}")
    values: list[float] = []
    for name, length in FIELDS.items():
        value = (fields[name],) if length == 1 else tuple(fields[name])
        if len(value) != length:
            raise TypeError(f"{name}: {len(value)} numbers; expected {length}")
        values += value
    first = CENTER["center"]
    singles = (ctypes.c_float * SINGLES)(*values[first : first + SINGLES])  # infinite beyond float32
    return _GEOMETRY.pack(*values, bytes(singles))


def points_of(geometry: bytes) -> tuple[int, int, int]:
    """Return the points of a grid along its axes.

    Parameters
    ----------
    geometry : bytes
        What `pack_geometry` returned.

    Returns
    -------
    tuple of int
        Three numbers.
    """
    x, y, z = _POINTS.unpack_from(geometry, _POINTS_OFFSET)
    return x, y, z


def moved_to(center: Sequence[float], geometry: bytes) -> bytes:
    """Return a packed ``Geometry`` with another centre, its first field.

    Parameters
    ----------
    center : sequence of float
        Three numbers, in angstrom.
    geometry : bytes
        What `pack_geometry` returned.

    Returns
    -------
    bytes
        As long as `geometry`.
    """
    return _CENTER.pack(*center) + geometry[_CENTER.size :]


# ---- kernels --------------------------------------------------------------------------------------------------------

ATOMS = ("coords", "index", "weights", "radii", "offsets", "centers")
SIZES = ("n_examples", "n_atoms", "n_types", "radius_example_stride")
TANGENTS = ("grad_grad_coords", "grad_grad_weights", "grad_grad_radii")
U, V = (tuple(f"{name}_{part}" for part in ("coords", "weights", "radii")) for name in ("u", "v"))
GRADIENTS = ("grad_coords", "grad_weights", "grad_radii")

FAULTS = ("index", "radius", "example")
"""The words to which the argument ``fault`` points: an index >= T was seen; a radius <= 0; an atom in no example."""

TILE, ATOM, SUM, PART, CELL = "tile", "atom", "sum", "part", "cell"
"""What a block of threads makes on the GPU: a tile of voxels, an atom, an element of the output; beforehand a part of
the atoms of an example, a cell of tiles."""
PREPARED = dict.fromkeys(("bits", "channels", "cells"), "P") | dict.fromkeys(("n_parts", "cell_scale", "capacity"), "i")
"""Arguments of the kernels of tiles on the GPU, after those of both texts: what was found before, or 0."""
MAX_BLOCKS = 2**31 - 1
MAX_COUNT = 2**31 - 2**16
"""Of atoms, of types, of points along an axis: the GPU counts them in 32 bits, in steps that may pass the end."""
MAX_ROWS = 2**32 - 1
"""Along z, of a channel: the GPU counts them in 32 bits."""
MAX_CENTERS = MAX_BLOCKS // 3
"""Of grids that have one each: the GPU counts their numbers in 32 bits."""


class Launch(NamedTuple):
    """How a kernel is laid out on blocks: a row that cuda/density.cu exports under ``launch_`` and its name.

    Attributes
    ----------
    threads : int
        Of a block.
    x, y, z : int
        Voxels of a tile, or of the smallest cell; 0 for kernels whose blocks are neither.
    aligned : int
        Voxels of the 16 bytes that a thread stores at once, for the kernels that need rows of such; otherwise 0.
    """

    threads: int
    x: int
    y: int
    z: int
    aligned: int

    @classmethod
    def unpack(cls, row: bytes) -> Launch:
        """Read a row of cuda/density.cu.

        Parameters
        ----------
        row : bytes
            Five int32.

        Returns
        -------
        Launch
            The row.
        """
        return cls(*struct.unpack("=5i", row))

    def regions(self, points: tuple[int, int, int], scale: int) -> int:
        """Return how many tiles, or cells of another scale, a grid has.

        Parameters
        ----------
        points : tuple of int
            Of the grid.
        scale : int
            Times the voxels along each axis.

        Returns
        -------
        int
            Their number.
        """
        x, y, z = points
        return -(-x // (scale * self.x)) * -(-y // (scale * self.y)) * -(-z // (scale * self.z))


class Kernel(NamedTuple):
    """A kernel: its arguments, in order, and what a block of threads makes.

    Attributes
    ----------
    name : str
        Its name.
    formats : dict of str
        Names of the arguments and their formats for `struct`.
    block : {"tile", "atom", "sum", "part", "cell"}
        See `TILE`.
    """

    name: str
    formats: dict[str, str]
    block: str

    @property
    def visits_atoms(self) -> bool:
        """bool: One argument more follows: ``n_threads`` on the CPU, ``fault`` on the GPU."""
        return "geometry" in self.formats

    @property
    def gpu_format(self) -> str:
        """str: The arguments of cuda/density.cu for `struct`, natively aligned."""
        prepared = PREPARED.values() if self.block == TILE else ()
        return "".join((*self.formats.values(), *prepared)) + "P" * self.visits_atoms

    def blocks(self, launch: Launch) -> Callable[[Sequence], int]:
        """Return the function that counts the blocks of a launch.

        Parameters
        ----------
        launch : Launch
            The kernel's row.

        Returns
        -------
        callable
            From the kernel's arguments to the number of blocks, 0 if there is nothing to do. It raises ValueError if
            CUDA cannot launch that many, or the kernel cannot count what it is given.
        """
        at = {name: nth for nth, name in enumerate(self.formats)}

        def check_counts(arguments: Sequence) -> None:
            points, n_examples = points_of(arguments[at["geometry"]]), arguments[at["n_examples"]]
            n_atoms, n_types = arguments[at["n_atoms"]], arguments[at["n_types"]]
            if max(n_atoms, n_types, *points) > MAX_COUNT:
                seen = f"{n_atoms} atoms, {n_types} types and {' x '.join(map(str, points))} points"
                raise ValueError(f"{self.name}: {seen}; expected at most {MAX_COUNT} of each and along each axis")
            if self.block == ATOM and points[0] * points[1] > MAX_ROWS:
                seen = f"{points[0]} x {points[1]} rows along z"
                raise ValueError(f"{self.name}: {seen}; expected at most {MAX_ROWS}")
            if arguments[at["centers"]] and n_examples > MAX_CENTERS:
                seen = f"{n_examples} examples with a centre each"
                raise ValueError(f"{self.name}: {seen}; expected at most {MAX_CENTERS}: split the batch")

        def of_atoms(arguments: Sequence) -> int:
            return arguments[at["n_atoms"]]

        def of_sums(arguments: Sequence) -> int:
            return arguments[at["n_types"]] * (arguments[at["n_examples"]] if arguments[at["per_example"]] else 1)

        def of_tiles(arguments: Sequence) -> int:
            return launch.regions(points_of(arguments[at["geometry"]]), 1) * arguments[at["n_examples"]]

        def of_parts(arguments: Sequence) -> int:
            return arguments[at["n_examples"]] * arguments[at["n_parts"]]

        def of_cells(arguments: Sequence) -> int:
            cells = launch.regions(points_of(arguments[at["geometry"]]), arguments[at["cell_scale"]])
            return cells * arguments[at["n_examples"]]

        of = {ATOM: of_atoms, SUM: of_sums, TILE: of_tiles, PART: of_parts, CELL: of_cells}[self.block]

        def count(arguments: Sequence) -> int:
            if self.visits_atoms:
                check_counts(arguments)
            blocks = of(arguments)
            if blocks > MAX_BLOCKS:
                raise ValueError(f"{self.name}: {blocks} blocks; expected at most {MAX_BLOCKS}: split the batch")
            return blocks

        return count

    def choice(self, launches: Mapping[str, Launch]) -> Callable[[Sequence], str]:
        """Return the function that chooses what the GPU launches for a call.

        Parameters
        ----------
        launches : mapping of Launch
            The row of each of `GPU_KERNELS`.

        Returns
        -------
        callable
            From the kernel's arguments to the name of one of `GPU_KERNELS`: where the rows of the grid that is written
            are whole 16-byte stores, the one that makes these; otherwise the kernel itself.
        """
        name, aligned = self.name, f"{self.name}{ALIGNED}"
        if aligned not in GPU_KERNELS:
            return lambda arguments: name
        voxels, last = launches[aligned].aligned, len(self.formats) - 1
        geometry = list(self.formats).index("geometry")

        def chosen(arguments: Sequence) -> str:
            whole = points_of(arguments[geometry])[2] % voxels == 0 and arguments[last] % 16 == 0
            return aligned if whole else name

        return chosen


def _visiting_atoms(name: str, block: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Kernel:
    formats = dict.fromkeys((*ATOMS, *inputs), "P")
    formats |= {"geometry": f"{_GEOMETRY.size}s"} | dict.fromkeys(SIZES, "q") | dict.fromkeys(outputs, "P")
    return Kernel(name, formats, block)


_RADII_SUM = {"partials": "P", "index": "P", "offsets": "P", "n_examples": "q", "n_atoms": "q", "n_types": "q"}
_RADII_SUM |= {"per_example": "i", "grad_radii": "P"}

KERNELS = {
    kernel.name: kernel
    for kernel in (
        _visiting_atoms("density", TILE, (), ("density",)),
        _visiting_atoms("density_tangent", TILE, TANGENTS, ("grad_grad_density",)),
        _visiting_atoms("density_tangent_tangent", TILE, (*U, *V), ("density_uv",)),
        _visiting_atoms("density_backward", ATOM, ("grad_density",), GRADIENTS),
        _visiting_atoms("density_backward_backward", ATOM, ("grad_density", *TANGENTS), GRADIENTS),
        _visiting_atoms("density_relevance", ATOM, ("density", "relevance"), ("atom_relevance",)),
        Kernel("radii_sum", _RADII_SUM, SUM),
    )
}
"""Every kernel, by name. The names of the arguments are those in pyx/density.pyx and cuda/density.cu."""

_WEIGHT_BITS = dict.fromkeys(("weights", "u_weights", "v_weights", "offsets"), "P") | dict.fromkeys(SIZES[:3], "q")
_WEIGHT_BITS |= {"n_parts": "i", "bits": "P", "channels": "P"}
_LIST_CELLS = dict.fromkeys((*ATOMS, "u_weights", "v_weights"), "P") | {"geometry": f"{_GEOMETRY.size}s"}
_LIST_CELLS |= dict.fromkeys(SIZES, "q") | {"cell_scale": "i", "capacity": "i", "cells": "P"}

ALIGNED = "_aligned"
"""Follows the name of a kernel of tiles on the GPU that writes 16 bytes at once: `Kernel.choice`."""
GPU_KERNELS = KERNELS | {
    "weight_bits": Kernel("weight_bits", _WEIGHT_BITS, PART),
    "list_cells": Kernel("list_cells", _LIST_CELLS, CELL),
}
GPU_KERNELS |= {
    f"{k.name}{ALIGNED}": k._replace(name=f"{k.name}{ALIGNED}") for k in KERNELS.values() if k.block == TILE
}
"""Those of cuda/density.cu, with what finds something before the tiles: gridgrad/kernels/gpu/preparation.py."""


# ---- the same for the compilers -------------------------------------------------------------------------------------


def c_text() -> str:
    """Return the macros with which both texts check their side.

    Returns
    -------
    str
        ``GEOMETRY_FIELDS`` is a row of ``GEOMETRY_FIELD(name, offset)`` in bytes, ``GEOMETRY_BYTES`` the size.
        ``NUMBER_FIELDS`` and ``PROFILE_FIELDS`` are rows of ``NUMBER_FIELD(name, nth)`` and
        ``PROFILE_FIELD(name, nth)``, counted from 0 among the numbers, which begin with number ``NUMBERS_BEGIN`` of
        all, and among those of the profile, which are ``PROFILE_REALS``, from ``PROFILE_BEGIN`` on. ``SINGLES``: how
        many of both.
        ``FAULT_INDEX`` and so on: the words of `FAULTS`.
    """

    def row(macro: str, fields: dict[str, int], size: int) -> str:
        return " ".join(f"{macro}({name}, {size * nth})" for name, nth in _firsts(fields).items())

    macros = {
        "GEOMETRY_FIELDS": row("GEOMETRY_FIELD", FIELDS, _WORD) + f" GEOMETRY_FIELD(singles, {_SINGLES_OFFSET})",
        "GEOMETRY_BYTES": _GEOMETRY.size,
        "NUMBER_FIELDS": row("NUMBER_FIELD", NUMBERS, 1),
        "PROFILE_FIELDS": row("PROFILE_FIELD", PROFILE, 1),
        "NUMBERS_BEGIN": sum(CENTER.values()),
        "SINGLES": SINGLES,
        "PROFILE_BEGIN": sum((CENTER | NUMBERS).values()),
        "PROFILE_REALS": sum(PROFILE.values()),
        **{f"FAULT_{name.upper()}": word for word, name in enumerate(FAULTS)},
    }
    return "".join(f"#define {name} {value}\n" for name, value in macros.items())
