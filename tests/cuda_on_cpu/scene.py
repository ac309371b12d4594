"""What the tests of the stand-in driver launch: a small grid with atoms, and the kernels of a device."""

import pytest
import torch
from cuda_on_cpu import standin
from support.reference import Reference

from gridgrad import GridMaker
from gridgrad.kernels import abi
from gridgrad.kernels.gpu import device

if not standin.is_loaded():
    pytest.skip("libcuda.so.1 is not the stand-in of tests/cuda_on_cpu", allow_module_level=True)

PRECISIONS = {torch.float32: "float32", torch.float64: "float64"}


class Scene:
    """A small grid with atoms, and the arguments of its kernels."""

    def __init__(self, dtype=torch.float64, n_types=3, **settings):
        generator = torch.Generator().manual_seed(3)
        self.settings = {"resolution": 0.5, "dimension": (3.0, 2.0, 2.5), **settings}
        self.gm = GridMaker(**self.settings)
        self.coords = (3 * torch.rand((6, 3), generator=generator, dtype=torch.float64) - 1.5).to(dtype)
        self.types = torch.tensor([0, 2, 1, -1, 0, 2])
        self.radii = (0.7 + torch.rand(6, generator=generator, dtype=torch.float64)).to(dtype)
        self.n_types = n_types
        self.density = torch.full((n_types, *self.gm.spatial_grid_dimensions()), -7.0, dtype=dtype)

    def arguments(self, index=None, offsets=None):
        """Addresses: the scene, and what it keeps of the arguments, have to outlive the launch."""
        self.index = index = self.types if index is None else index
        self.offsets = offsets
        return (
            self.coords.data_ptr(), index.data_ptr(), 0, self.radii.data_ptr(),
            0 if offsets is None else offsets.data_ptr(), 0,
            self.gm.geometry(PRECISIONS[self.coords.dtype]), 1, len(self.coords), self.n_types, 0,
            self.density.data_ptr(),
        )  # fmt: skip

    def vector_arguments(self):
        """The same with vectors of types."""
        self.weights = torch.nn.functional.one_hot(self.types.clamp_min(0), self.n_types) * (self.types >= 0)[:, None]
        self.weights = self.weights.to(self.coords.dtype)
        coords, _, _, *others = self.arguments()
        return coords, 0, self.weights.data_ptr(), *others

    def expected(self):
        return Reference(**self.settings).forward(torch.zeros(3), self.coords, self.types, self.radii, self.n_types)

    def check(self):
        bar = 1e-12 if self.density.dtype == torch.float64 else 2e-6
        torch.testing.assert_close(self.density.double(), self.expected(), rtol=bar, atol=bar)


def kernels(which, dtype=torch.float64, streams=None, limits=None):
    return device.Kernels(which, abi.PRECISIONS[PRECISIONS[dtype]], streams or device.DefaultStream(), limits)
