"""What a call finds once, before its tiles, instead of every tile: where it pays, which the sizes alone decide.

Nobody waits for the GPU to look at a number, and the bits of the output are the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from gridgrad.kernels import abi

__all__ = ["Limits", "Prepared", "Scratch", "Step", "preparation"]


class Limits(NamedTuple):
    """From which sizes on what is found once.

    Attributes
    ----------
    weights : int
        Weights that the tiles of a call would read in search of NaN: from so many on, one kernel reads them for all.
    part, most_parts : int
        Atoms of an example that a block of that kernel reads, or more, so that an example has at most so many parts.
    tests : int
        Tests of atoms that are saved, in units of those of `list_cells`: from so many on, it lists the atoms of cells.
    room, spread : int
        Atoms for which the list of a cell has room, at least, and in those that are expected.
    scales : tuple of int
        Of cells, among which the cheapest is taken.
    """

    weights: int = 2**24
    part: int = 64
    most_parts: int = 1024
    tests: int = 2**21
    room: int = 1024
    spread: int = 8
    scales: tuple[int, ...] = (1, 2, 4, 8)


Scratch = Callable[[int], tuple[int, object]]
"""From a number of bytes to an address and what keeps it; 0: there is no such memory."""


class Step(NamedTuple):
    """A launch before that of the tiles.

    Attributes
    ----------
    name : str
        One of abi.GPU_KERNELS.
    arguments : tuple
        Those that it names.
    """

    name: str
    arguments: tuple


class Prepared(NamedTuple):
    """What the kernel of the tiles is launched with.

    Attributes
    ----------
    steps : tuple of Step
        To be launched before it, on the same stream.
    arguments : tuple
        Those of abi.PREPARED.
    kept : object
        The memory, until all is launched.
    """

    steps: tuple[Step, ...]
    arguments: tuple
    kept: object


class _Cells(NamedTuple):
    """How the tiles of an example are gathered in cells."""

    scale: int
    number: int
    capacity: int


_NOTHING = Prepared((), (0,) * len(abi.PREPARED), None)
_TILE_TEST = 3  # of an atom by a tile, whose threads wait for each other, in tests by list_cells
_REACH = 12  # voxels that a cell grows by until it has all centres of atoms that reach it, as a rule


@lru_cache(maxsize=256)
def _cells(
    points: tuple[int, int, int], n_examples: int, n_atoms: int, tiles: int, threads: int, smallest: abi.Launch,
    limits: Limits, ragged: bool,
) -> _Cells | None:  # fmt: skip
    # the scale that costs the fewest tests; None: all tiles test all atoms of their example
    atoms = n_atoms // n_examples
    most = n_atoms if ragged else atoms

    def steps(n: float) -> float:  # a tile tests as many atoms at a time as it has threads
        return _TILE_TEST * n_examples * tiles * -(-n // threads) * threads

    best, least = None, steps(atoms) - limits.tests
    for scale in limits.scales:
        number, share = smallest.regions(points, scale), 1.0
        for length, edge in zip(points, smallest[1:4], strict=True):
            share *= min(1.0, (scale * edge + _REACH) / length)
        cost = n_atoms * number + steps(share * atoms)
        if cost < least:
            best, least = _Cells(scale, number, min(most, max(limits.room, int(limits.spread * share * atoms)))), cost
    return best


def preparation(
    kernel: abi.Kernel, launches: Mapping[str, abi.Launch], limits: Limits | None = None
) -> Callable[[Sequence, int, Scratch], Prepared]:
    """Return the function that prepares the calls of a kernel.

    Parameters
    ----------
    kernel : abi.Kernel
        One of abi.GPU_KERNELS.
    launches : mapping of abi.Launch
        The row of each.
    limits : Limits, optional
        Others than those that pay.

    Returns
    -------
    callable
        From the kernel's arguments, its blocks and memory to what is launched.
    """
    if kernel.block != abi.TILE:
        without = Prepared((), (), None)
        return lambda arguments, blocks, scratch: without
    limits = limits or Limits()
    threads, smallest = launches[kernel.name].threads, launches["list_cells"]
    at = {name: nth for nth, name in enumerate(kernel.formats)}
    weights, offsets, geometry, sizes = (at[name] for name in ("weights", "offsets", "geometry", abi.SIZES[0]))
    directions = [at.get(u) for u in ("u_weights", "v_weights" if "v_weights" in at else "grad_grad_weights")]

    def prepare(arguments: Sequence, blocks: int, scratch: Scratch) -> Prepared:
        n_examples, n_atoms, n_types = arguments[sizes : sizes + 3]
        tests = blocks * n_atoms // n_examples  # of all tiles
        wants_bits = arguments[weights] and tests * n_types >= limits.weights
        cells = None
        if tests >= limits.tests // _TILE_TEST:
            points, tiles, ragged = abi.points_of(arguments[geometry]), blocks // n_examples, bool(arguments[offsets])
            cells = _cells(points, n_examples, n_atoms, tiles, threads, smallest, limits, ragged)
        if not wants_bits and cells is None:
            return _NOTHING
        words = -(-n_types // 32) if wants_bits else 0
        n_parts = min(max(n_atoms // (n_examples * limits.part), 1), limits.most_parts)
        n_cells, room = (n_examples * cells.number, 1 + cells.capacity) if cells is not None else (0, 0)
        bits, kept = scratch(4 * (words * (n_atoms + 2 * n_examples * n_parts) + n_cells * room))
        if not bits:
            return _NOTHING
        channels = bits + 4 * words * n_atoms
        lists = channels + 4 * words * 2 * n_examples * n_parts
        u_v = tuple(0 if nth is None else arguments[nth] for nth in directions)
        steps, found = [], dict.fromkeys(abi.PREPARED, 0)
        if wants_bits:
            read = arguments[weights], *u_v, arguments[offsets], n_examples, n_atoms, n_types
            steps.append(Step("weight_bits", (*read, n_parts, bits, channels)))
            found |= {"bits": bits, "channels": channels, "n_parts": n_parts}
        if cells is not None:
            how = cells.scale, cells.capacity
            read = *arguments[: len(abi.ATOMS)], *u_v, arguments[geometry], *arguments[sizes : sizes + len(abi.SIZES)]
            steps.append(Step("list_cells", (*read, *how, lists)))
            found |= {"cells": lists, "cell_scale": cells.scale, "capacity": cells.capacity}
        return Prepared(tuple(steps), tuple(found.values()), kept)

    return prepare
