"""What a call finds once, before its tiles, instead of every tile: where it pays, which the sizes alone decide.

Nobody waits for the GPU to look at a number, and the bits of the output are the same either way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """

    weights: int = 2**24
    part: int = 64
    most_parts: int = 1024


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


_NOTHING = Prepared((), (0,) * len(abi.PREPARED), None)


def preparation(kernel: abi.Kernel, limits: Limits | None = None) -> Callable[[Sequence, int, Scratch], Prepared]:
    """Return the function that prepares the calls of a kernel.

    Parameters
    ----------
    kernel : abi.Kernel
        One of abi.KERNELS.
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
    at = {name: nth for nth, name in enumerate(kernel.formats)}
    weights, offsets = at["weights"], at["offsets"]
    directions = [at.get(u) for u in ("u_weights", "v_weights" if "v_weights" in at else "grad_grad_weights")]
    first_size = at[abi.SIZES[0]]

    def prepare(arguments: Sequence, blocks: int, scratch: Scratch) -> Prepared:
        n_examples, n_atoms, n_types = arguments[first_size : first_size + 3]
        tests = blocks * n_atoms // n_examples  # of all tiles
        if not arguments[weights] or tests * n_types < limits.weights:
            return _NOTHING
        words = -(-n_types // 32)
        n_parts = min(max(n_atoms // (n_examples * limits.part), 1), limits.most_parts)
        bits, kept = scratch(4 * words * (n_atoms + 2 * n_examples * n_parts))
        if not bits:
            return _NOTHING
        channels = bits + 4 * words * n_atoms
        u_weights, v_weights = (0 if nth is None else arguments[nth] for nth in directions)
        found = arguments[weights], u_weights, v_weights, arguments[offsets]
        step = Step("weight_bits", (*found, n_examples, n_atoms, n_types, n_parts, bits, channels))
        return Prepared((step,), (bits, channels, n_parts), kept)

    return prepare
