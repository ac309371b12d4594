"""Error of float32 against the dense float64 oracle of the tests, and the instruction set behind the numbers."""

import pathlib
import sys

import torch

from gridgrad.kernels import cpu

from .workloads import DEVICES, PASSES, Workload, make_inputs, make_pass, random_like, require_device

sys.path.append(str(pathlib.Path(__file__).parents[2] / "tests"))

from support.reference import Reference
from support.scenes import relative_error

SMALL = Workload((40,), 4, 0.5, 11.5)
CENTER = (0.0, 0.0, 0.0)


def _expected(name, inputs):
    """Return the outputs of a pass as the oracle computes them, from the same float32 inputs and cotangents."""
    reference = Reference(SMALL.resolution, SMALL.dimension)
    if name in ("density", "density_fresh"):
        return (reference.forward(CENTER, inputs.coords, inputs.index, inputs.radii, SMALL.channels),)
    types = inputs.index if name == "backward_coords" else inputs.weights
    grad_density = random_like(torch.empty(SMALL.grid_shape()))
    atoms = (CENTER, inputs.coords, types, inputs.radii, grad_density)
    if name != "double_backward":
        return tuple(gradient for gradient in reference.backward(*atoms)[:2] if gradient is not None)
    return reference.backward_gradients(*atoms, random_like(inputs.coords, 2), random_like(inputs.weights, 3))[:3]


class Float32Error:
    """Relative L2 error of the worst output of a pass: 40 atoms, 4 channels, 24 points along each axis."""

    params = (PASSES, DEVICES)
    param_names = ("pass", "device")
    unit = "relative L2 error"

    def setup(self, name, device):
        require_device(device)

    def track_float32_error(self, name, device):
        found = make_pass(name, SMALL, make_inputs(SMALL, torch.float32, device))()
        found = found if isinstance(found, tuple) else (found,)
        expected = _expected(name, make_inputs(SMALL, torch.float32, "cpu"))
        return max(relative_error(one.cpu(), other) for one, other in zip(found, expected, strict=True))


def track_simd_level():
    return len(cpu.LEVELS) - 1 - cpu.LEVELS.index(cpu.LEVEL)


track_simd_level.unit = "levels below AVX-512"
