"""Adapters of the packages that ``compare_peers.py`` compares, and the process that times one of them.

    python tools/peers.py NAME THREADS        reads questions as lines of JSON, answers in the same way

This file imports nothing of gridgrad but in the adapter of gridgrad itself, so it runs in every peer's environment.
"""

import contextlib
import dataclasses
import gc
import json
import math
import os
import statistics
import sys
import time

SEED = 7
SLOW = 1.0  # seconds; a call that takes longer is not repeated
MOST_DISTANCES = 1.2e8  # atoms times voxels that the dense calculation is asked for


@dataclasses.dataclass(frozen=True)
class Workload:
    """Atoms, channels and the cubic grid they lie on; lengths in Å."""

    atoms: int
    channels: int
    points: int = 48
    resolution: float = 0.5

    @property
    def dimension(self):
        return self.resolution * (self.points - 1)


class NotOfferedError(Exception):
    """The package cannot do this pass, or not at this size; the message says why."""


def draw_atoms(workload):
    """Return coordinates in the box, one channel each, radii of 1.5 to 2 Å and the channels as one-hot weights."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    coords = ((rng.random((workload.atoms, 3)) - 0.5) * workload.dimension).astype(np.float32)
    index = rng.integers(0, workload.channels, workload.atoms)
    radii = (1.5 + 0.5 * rng.random(workload.atoms)).astype(np.float32)
    return coords, index, radii, np.eye(workload.channels, dtype=np.float32)[index]


class Peer:
    """One package. A method named after a pass returns the function that is timed."""

    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.open()

    def open(self):
        """Import the package."""

    def load(self, workload):
        self.workload = workload
        self.shape = (workload.channels,) + (workload.points,) * 3
        self.coords, self.index, self.radii, self.weights = map(self.torch.from_numpy, draw_atoms(workload))
        self.prepare()

    def prepare(self):
        """Build what the package needs before its passes."""

    def density(self):
        raise NotOfferedError("not offered")

    backward_coords = backward_coords_types = double_backward = density

    def random(self, shape, seed=1):
        return self.torch.randn(*shape, generator=self.torch.Generator().manual_seed(SEED + seed))


class Differentiated(Peer):
    """A package whose derivatives come from autograd; ``voxelize(coords, types)`` is its density."""

    vector_types = True

    def density(self):
        def run():
            with self.torch.no_grad():
                return self.voxelize(self.coords, self.index)

        return run

    def _graph(self, vector_types):
        leaves = [self.coords.clone().requires_grad_()]
        if vector_types:
            leaves.append(self.weights.clone().requires_grad_())
        return leaves, self.voxelize(leaves[0], leaves[1] if vector_types else self.index)

    def _backward(self, vector_types):
        leaves, density = self._graph(vector_types)
        grad_density = self.random(density.shape)
        return lambda: self.torch.autograd.grad(density, leaves, grad_density, retain_graph=True)

    def backward_coords(self):
        return self._backward(False)

    def backward_coords_types(self):
        if not self.vector_types:
            raise NotOfferedError("not offered")
        return self._backward(True)

    def double_backward(self):
        leaves, density = self._graph(self.vector_types)
        grad_density = self.random(density.shape).requires_grad_()
        first = self.torch.autograd.grad(density, leaves, grad_density, create_graph=True)
        cotangents = [self.random(gradient.shape, seed) for seed, gradient in enumerate(first, 2)]
        return lambda: self.torch.autograd.grad(first, [grad_density, *leaves], cotangents, retain_graph=True)


class Gridgrad(Differentiated):
    def open(self):
        import gridgrad

        self.package = gridgrad

    def prepare(self):
        grid = {"resolution": self.workload.resolution, "dimension": self.workload.dimension}
        self.gridmaker = self.package.GridMaker(**grid)

    def voxelize(self, coords, types):
        return self.package.coords2grid(
            self.gridmaker, (0.0, 0.0, 0.0), coords, types, self.radii, n_types=self.workload.channels
        )

    def density(self):
        out = self.torch.zeros(self.shape)
        return lambda: self.gridmaker.forward(
            (0.0, 0.0, 0.0), self.coords, self.index, self.radii, n_types=self.workload.channels, out=out
        )


class Libmolgrid(Peer):
    center = (0.0, 0.0, 0.0)

    def open(self):
        import molgrid

        molgrid.set_gpu_enabled(False)
        self.package = molgrid

    def prepare(self):
        self.gridmaker = self.package.GridMaker(resolution=self.workload.resolution, dimension=self.workload.dimension)
        arrays = self.coords.numpy().copy(), self.index.float().numpy(), self.radii.numpy().copy()
        self.atoms = self.package.CoordinateSet(*arrays, self.workload.channels)
        self.grads = self.torch.zeros_like(self.coords), self.torch.zeros_like(self.weights)

    def density(self):
        out = self.torch.zeros(self.shape)
        return lambda: self.gridmaker.forward(self.center, self.atoms, out)

    def backward_coords(self):
        grad_density = self.random(self.shape)
        return lambda: self.gridmaker.backward(self.center, self.atoms, grad_density, self.grads[0])

    def backward_coords_types(self):
        grad_density = self.random(self.shape)
        return lambda: self.gridmaker.backward(
            self.center, self.coords, self.weights, self.radii, grad_density, *self.grads
        )

    def double_backward(self):
        # with a grad_density of zero it computes the same but does not print each voxel, which takes 40 times as long
        zero, grad_grad_density = self.torch.zeros(self.shape), self.torch.zeros(self.shape)
        cotangents = self.random(self.coords.shape, 2), self.random(self.weights.shape, 3)
        inputs = self.coords, self.weights, self.radii, zero, *cotangents
        return lambda: self.gridmaker.backward_gradients(self.center, *inputs, grad_grad_density, *self.grads)


class Molvoxel(Peer):
    def open(self):
        import molvoxel

        self.package = molvoxel
        self.load(Workload(8, 2))
        self.density()()  # numba compiles here, not in a slot

    def prepare(self):
        self.voxelizer = self.package.create_voxelizer(
            self.workload.resolution, self.workload.points, "atom-wise", "gaussian", library="numba"
        )
        arrays = zip((self.coords, self.index, self.radii), ("coords", "types", "radii"))
        self.arrays = [self.voxelizer.asarray(array.numpy(), name) for array, name in arrays]

    def density(self):
        import numpy as np

        center = self.voxelizer.asarray(np.zeros(3), "center")
        out = self.voxelizer.get_empty_grid(self.workload.channels, init_zero=True)
        coords, index, radii = self.arrays
        return lambda: self.voxelizer.forward_types(coords, center, index, radii, out_grid=out)


class Pyuul(Differentiated):
    vector_types = False

    def open(self):
        import warnings

        warnings.filterwarnings("ignore")
        from pyuul import VolumeMaker

        self.voxels = VolumeMaker.Voxels(sparse=False)

    def voxelize(self, coords, index):
        reach = math.ceil(1.5 * 1.75 / self.workload.resolution)
        return self.voxels(
            coords[None],
            self.radii[None],
            index[None],
            numberchannels=self.workload.channels,
            resolution=self.workload.resolution,
            cubes_around_atoms_dim=reach,
            function="gaussian",
        )


class DenseTorch(Differentiated):
    """Plain torch, every atom against every voxel, in chunks where no graph is kept."""

    chunk = 16

    def prepare(self):
        distances = self.workload.atoms * self.workload.points**3
        if distances > MOST_DISTANCES:
            raise NotOfferedError(f"{distances:.1e} distances; more than {MOST_DISTANCES:.1e} are not asked for")
        half = self.workload.dimension / 2
        self.axis = self.torch.linspace(-half, half, self.workload.points)

    def _profile(self, coords, radii):
        torch = self.torch
        x, y, z = (((self.axis - coords[:, i : i + 1]) / radii[:, None]) ** 2 for i in range(3))
        s = x[:, :, None, None] + y[:, None, :, None] + z[:, None, None, :]
        tail = math.exp(-2.0) * (3.0 - 2.0 * torch.sqrt(s.clamp(min=0.25))) ** 2
        return torch.where(s <= 1.0, torch.exp(-2.0 * s), torch.where(s <= 2.25, tail, 0.0))

    def voxelize(self, coords, types):
        profile = self._profile(coords, self.radii)
        if types.is_floating_point():
            return self.torch.einsum("nt,nxyz->txyz", types, profile)
        return self.torch.zeros(self.shape).index_add(0, types, profile)

    def density(self):
        def run():
            out = self.torch.zeros(self.shape)
            with self.torch.no_grad():
                for chunk in zip(*(array.split(self.chunk) for array in (self.coords, self.radii, self.index))):
                    out.index_add_(0, chunk[2], self._profile(*chunk[:2]))
            return out

        return run


class Memset(Peer):
    """The floor under a density: setting the grid to zero."""

    def density(self):
        out = self.torch.zeros(self.shape)
        return out.zero_


PEERS = {
    "gridgrad": Gridgrad,
    "libmolgrid": Libmolgrid,
    "molvoxel": Molvoxel,
    "PyUUL": Pyuul,
    "dense torch": DenseTorch,
    "memset": Memset,
}


def measure(run, budget, clock=time.perf_counter):
    """Return the median time of a call over ``budget`` seconds after one that warms up; a slow one is not repeated."""
    samples, start = [], time.perf_counter()
    while True:
        before = clock()
        result = run()
        samples.append(clock() - before)
        del result
        if samples[0] > SLOW:
            return samples[0]
        if (time.perf_counter() - start > budget and len(samples) > 1) or len(samples) > 300:
            return statistics.median(samples[1:])


class Answers:
    """The answers of one package: loads the workload of a question if it is another one, and times one pass."""

    def __init__(self, peer):
        self.peer, self.loaded = peer, None

    def __call__(self, question):
        workload = Workload(**question["workload"])
        if self.loaded != workload:
            self.loaded = None
            self.peer.load(workload)
            self.loaded = workload
        run = getattr(self.peer, question["pass"])()
        return {"seconds": measure(run, question["budget"])}


def serve(make):
    """Answer questions, lines of JSON; ``make()`` imports a package and returns what answers a question."""
    # packages that print must not get into the answers
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        answer = make()
    except Exception as error:
        replies.write(json.dumps({"reason": f"{type(error).__name__}: {error}"[:200]}) + "\n")
        return
    replies.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except NotOfferedError as reason:
            reply = {"reason": str(reason)}
        except Exception as error:  # whatever a package raises becomes its reason in the table
            reply = {"reason": f"{type(error).__name__}: {error}"[:200]}
        gc.collect()
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        serve(lambda: Answers(PEERS[sys.argv[1]](int(sys.argv[2]))))
