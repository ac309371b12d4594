"""The calls that tools/gpu_benchmark.py times and tools/gpu_prediction.py predicts: 64 complexes in float32."""

from collections.abc import Callable
from typing import NamedTuple

import torch

import gridgrad as gg

BATCH, ATOMS, CHANNELS, POINTS = 64, 400, 28, 48
GRID = 4 * BATCH * CHANNELS * POINTS**3
READ = 4 * BATCH * ATOMS * (3 + CHANNELS + 1)  # coordinates, one-hot types, radii


class Case(NamedTuple):
    """What is asked for: the kernel; how to call it; bytes to or from memory, None: the voxels that the run counts."""

    kernel: str
    call: Callable
    n_bytes: int | None


def _operator(name, *more):
    # more: what follows the atoms, by name
    def call(**given):
        arguments = [given.get(one, one) if isinstance(one, str) else one for one in more]
        return getattr(torch.ops.gridgrad, name)(*given["atoms"], *arguments)

    return call


_END, _COORDS = ("spec", (0.0, 0.0, 0.0), "n_types"), [True, False, False]
CASES = {
    "density": Case("density_aligned", _operator("density", *_END), GRID + READ),
    "density_tangent, coords": Case(
        "density_tangent_aligned",
        _operator("density_tangent", "v", None, None, *_END),
        GRID + READ + 12 * BATCH * ATOMS,
    ),
    "density_backward, coords": Case("density_backward", _operator("density_backward", "grid", *_END, _COORDS), None),
    "density_backward, coords and types": Case(
        "density_backward", _operator("density_backward", "grid", *_END, [True, True, False]), GRID + 2 * READ
    ),
    "density_backward_backward, coords": Case(
        "density_backward_backward",
        _operator("density_backward_backward", "grid", "v", None, None, *_END, _COORDS),
        None,
    ),
}


def atoms(batch, n_atoms, n_channels, dtype=torch.float32, device="cuda"):
    """Draw padded atoms in a box of 23.5 A: coords, one-hot types, radii, index types."""
    generator = torch.Generator().manual_seed(0)
    coords = (torch.rand((batch, n_atoms, 3), generator=generator) - 0.5) * 23.5
    index = torch.randint(0, n_channels, (batch, n_atoms), generator=generator)
    radii = 1.2 + 0.8 * torch.rand((batch, n_atoms), generator=generator)
    types = torch.nn.functional.one_hot(index, n_channels)
    return coords.to(device, dtype), types.to(device, dtype), radii.to(device, dtype), index.to(device)


def workload(batch, device):
    """Return the arguments of the calls of `CASES`."""
    coords, types, radii, _ = atoms(batch, ATOMS, CHANNELS, device=device)
    maker = gg.GridMaker()
    return {
        "atoms": (coords, types, radii, None, None),
        "v": torch.ones_like(coords),
        "grid": torch.ones((batch, *maker.grid_dimensions(CHANNELS)), device=device),
        "spec": maker.spec,
        "n_types": CHANNELS,
    }
