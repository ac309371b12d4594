"""Workloads, the passes over them, and the yardsticks of the benchmarks.

A *workload* says how many atoms lie on what grid; a *pass* is one of the orders of differentiation on it. ``prepare``
turns a pair of them into a function without arguments that does the work once and, on a GPU, waits for it.
"""

import dataclasses
import functools
import os
import statistics
import time

import torch

import gridgrad as gg

DEVICES = ("cpu", "cuda")
DTYPES = ("float32", "float64")
PASSES = ("density", "density_fresh", "backward_coords", "backward_coords_types", "double_backward")
SEED = 20


@dataclasses.dataclass(frozen=True)
class Workload:
    """Atoms drawn uniformly in the box, with radii of 1.5 to 2 Å and one random channel each.

    Parameters
    ----------
    atoms : tuple of int
        Atoms of each example.
    channels : int
    resolution, dimension : float
        In Å.
    layout : {"single", "padded", "ragged"}
    """

    atoms: tuple
    channels: int
    resolution: float = 0.5
    dimension: float = 23.5
    layout: str = "single"

    def gridmaker(self):
        return gg.GridMaker(resolution=self.resolution, dimension=self.dimension)

    def grid_shape(self):
        grid = self.gridmaker().grid_dimensions(self.channels)
        return tuple(grid) if self.layout == "single" else (len(self.atoms), *grid)


BATCH_ATOMS = tuple(range(160, 401, 16))
WORKLOADS = {
    "ligand": Workload((40,), 14),
    "complex": Workload((400,), 28),
    "fine": Workload((2000,), 14, 1.0 / 3.0, 32.0),
    "padded": Workload(BATCH_ATOMS, 28, layout="padded"),
    "ragged": Workload(BATCH_ATOMS, 28, layout="ragged"),
}


@dataclasses.dataclass
class Inputs:
    """Tensors of one workload; ``batch`` is None unless it is ragged."""

    coords: torch.Tensor
    index: torch.Tensor
    weights: torch.Tensor
    radii: torch.Tensor
    batch: torch.Tensor | None

    def grouping(self, workload):
        if self.batch is None:
            return {"n_types": workload.channels}
        return {"n_types": workload.channels, "batch": self.batch, "batch_size": len(workload.atoms)}


def make_inputs(workload, dtype, device):
    """Draw the atoms of a workload; the same ones for every dtype, device and layout."""
    generator = torch.Generator().manual_seed(SEED)
    n_atoms = sum(workload.atoms)
    coords = (torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64) - 0.5) * workload.dimension
    index = torch.randint(workload.channels, (n_atoms,), generator=generator)
    radii = 1.5 + 0.5 * torch.rand(n_atoms, generator=generator, dtype=torch.float64)
    weights = torch.nn.functional.one_hot(index, workload.channels)
    batch = None
    if workload.layout == "ragged":
        batch = torch.repeat_interleave(torch.arange(len(workload.atoms)), torch.tensor(workload.atoms))
    elif workload.layout == "padded":
        pad = functools.partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        coords, weights = pad(coords.split(workload.atoms)), pad(weights.split(workload.atoms))
        index, radii = (
            pad(index.split(workload.atoms), padding_value=-1),
            pad(radii.split(workload.atoms), padding_value=1),
        )
    coords, weights, radii = (tensor.to(device, dtype) for tensor in (coords, weights, radii))
    return Inputs(coords, index.to(device), weights, radii, None if batch is None else batch.to(device))


def random_like(tensor, seed=1):
    """Draw a cotangent; on the CPU first, so that every device gets the same one."""
    generator = torch.Generator().manual_seed(SEED + seed)
    return torch.randn(tensor.shape, generator=generator).to(tensor)


def require_device(device):
    """Skip the benchmark where the device is not usable; asv takes NotImplementedError in ``setup`` as a skip."""
    if device == "cuda":
        from gridgrad import gpu

        usable, reason = gpu.availability()
        if not usable:
            raise NotImplementedError(f"no CUDA: {reason}")


def require_threads(count):
    """Skip the benchmark on a machine with fewer usable cores than ``count``."""
    if usable_cores() < count:
        raise NotImplementedError(f"fewer than {count} cores")


def usable_cores():
    return len(os.sched_getaffinity(0))


def _density(workload, inputs):
    gridmaker, grouping = workload.gridmaker(), inputs.grouping(workload)
    out = torch.zeros(workload.grid_shape(), dtype=inputs.coords.dtype, device=inputs.coords.device)
    return lambda: gridmaker.forward((0.0, 0.0, 0.0), inputs.coords, inputs.index, inputs.radii, out=out, **grouping)


def _density_fresh(workload, inputs):
    gridmaker, grouping = workload.gridmaker(), inputs.grouping(workload)
    return lambda: gridmaker.forward((0.0, 0.0, 0.0), inputs.coords, inputs.index, inputs.radii, **grouping)


def _differentiable(workload, inputs, vector_types):
    """Return the leaves (coords[, types]) and the density that autograd can differentiate twice."""
    coords = inputs.coords.clone().requires_grad_()
    types = inputs.weights.clone().requires_grad_() if vector_types else inputs.index
    density = gg.coords2grid(
        workload.gridmaker(), (0.0, 0.0, 0.0), coords, types, inputs.radii, **inputs.grouping(workload)
    )
    return [coords, types] if vector_types else [coords], density


def _backward(workload, inputs, vector_types):
    leaves, density = _differentiable(workload, inputs, vector_types)
    grad_density = random_like(density)
    return lambda: torch.autograd.grad(density, leaves, grad_density, retain_graph=True)


def _double_backward(workload, inputs):
    leaves, density = _differentiable(workload, inputs, True)
    grad_density = random_like(density).requires_grad_()
    first = torch.autograd.grad(density, leaves, grad_density, create_graph=True)
    cotangents = [random_like(gradient, seed) for seed, gradient in enumerate(first, 2)]
    return lambda: torch.autograd.grad(first, [grad_density, *leaves], cotangents, retain_graph=True)


_MAKERS = {
    "density": _density,
    "density_fresh": _density_fresh,
    "backward_coords": functools.partial(_backward, vector_types=False),
    "backward_coords_types": functools.partial(_backward, vector_types=True),
    "double_backward": _double_backward,
}


def make_pass(name, workload, inputs):
    """Return a function that does one pass and returns its outputs when they are there."""
    work = _MAKERS[name](workload, inputs)
    if inputs.coords.device.type == "cpu":
        return work

    def synchronised():
        outputs = work()
        torch.cuda.synchronize()
        return outputs

    return synchronised


@functools.lru_cache(maxsize=1)
def _prepare(name, workload, dtype, device):
    run = make_pass(name, workload, make_inputs(workload, getattr(torch, dtype), device))
    run()
    return run


def prepare(name, workload, dtype="float32", device="cpu", threads=None):
    """Return a warmed-up pass. asv repeats ``setup`` before each sample, so the last one is kept.

    Parameters
    ----------
    name : str
        One of ``PASSES``.
    workload : Workload or str
        A workload or its name.
    threads : int, optional
        Threads of torch, and so of gridgrad's CPU kernels; all usable cores if not given.
    """
    require_device(device)
    threads = threads or usable_cores()
    require_threads(threads)
    torch.set_num_threads(threads)
    return _prepare(name, WORKLOADS.get(workload, workload), dtype, device)


def make_memset(workload, device, fresh):
    """Return a function that sets one float32 density grid of the workload to zero, in a fresh tensor if asked."""
    make = functools.partial(torch.empty, workload.grid_shape(), device=device)
    out = make()

    def memset():
        (make() if fresh else out).zero_()
        if device == "cuda":
            torch.cuda.synchronize()

    return memset


def seconds(run, budget=0.05, most=200):
    """Return the median time of one call over ``budget`` seconds, at least one call, after one that warms up."""
    run()
    samples, start = [], time.perf_counter()
    while not samples or (len(samples) < most and time.perf_counter() - start < budget):
        before = time.perf_counter()
        run()
        samples.append(time.perf_counter() - before)
    return statistics.median(samples)


def ratio_of_times(run, base, rounds=7):
    """Return the median over rounds of the time of ``run`` over the time of ``base``, the two in turns."""
    return statistics.median(seconds(run) / seconds(base) for _ in range(rounds))
