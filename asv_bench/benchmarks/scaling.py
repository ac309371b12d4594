"""Time against the number of atoms, channels, points and threads."""

import functools

import numpy as np
import torch

from .workloads import (
    DEVICES,
    PASSES,
    WORKLOADS,
    Workload,
    make_inputs,
    make_memset,
    make_pass,
    prepare,
    require_device,
    seconds,
)

BOXES = (24, 48, 96, 192)


def crowded(box):
    """Return a box, in Å, with as many atoms per volume as a hydrated protein has."""
    return Workload((round(0.03 * box**3),), 4, 0.5, float(box))


class Atoms:
    """Time against the number of atoms in a box of fixed size, 14 channels, 48 points along each axis."""

    params = (PASSES, (100, 1000, 10_000, 100_000, 1_000_000), DEVICES)
    param_names = ("pass", "atoms", "device")
    repeat = (2, 30, 2.0)

    def setup(self, name, atoms, device):
        self.run = prepare(name, Workload((atoms,), 14), device=device)

    def time_atoms(self, name, atoms, device):
        self.run()


class AtomsSlope:
    """Slope of log time against log atoms in the box of `Atoms`, from 100 to 1,000,000 atoms: 1 is linear cost.

    `decade` is the steepest from one number of atoms to the next, which tells a bend that the line through all of them,
    held up on its left by what a call costs without atoms, does not.
    """

    params = (PASSES, DEVICES)
    param_names = ("pass", "device")
    unit = "slope"
    counts = (100, 1000, 10_000, 100_000, 1_000_000)

    def setup(self, name, device):
        require_device(device)

    def _times(self, name, device):
        for count in self.counts:
            workload = Workload((count,), 14)
            yield seconds(make_pass(name, workload, make_inputs(workload, torch.float32, device)), budget=0.5)

    def track_atoms_slope(self, name, device):
        return float(np.polyfit(np.log(self.counts), np.log(list(self._times(name, device))), 1)[0])

    def track_atoms_steepest_decade(self, name, device):
        return float(np.max(np.diff(np.log(list(self._times(name, device)))) / np.diff(np.log(self.counts))))


class Boxes:
    """Time in boxes of 24 to 192 Å with 0.03 atoms per Å³, 4 channels, 0.5 Å, one thread, over the number of atoms."""

    params = (PASSES[:-1], BOXES)
    param_names = ("pass", "box")
    unit = "ns per atom"

    def setup(self, name, box):
        self.run = prepare(name, crowded(box), threads=1)

    def track_time_per_atom(self, name, box):
        return 1e9 * seconds(self.run, budget=1.0) / crowded(box).atoms[0]


class BoxesOneHot:
    """Time of the density in the boxes of `Boxes` from weights instead of indices, over the number of atoms."""

    params = (BOXES,)
    param_names = ("box",)
    unit = "ns per atom"

    def setup(self, box):
        torch.set_num_threads(1)
        workload = crowded(box)
        inputs, out = make_inputs(workload, torch.float32, "cpu"), torch.zeros(workload.grid_shape())
        atoms = inputs.coords, inputs.weights, inputs.radii
        self.run = functools.partial(workload.gridmaker().forward, (0.0, 0.0, 0.0), *atoms, out=out)

    def track_one_hot_per_atom(self, box):
        return 1e9 * seconds(self.run, budget=1.0) / crowded(box).atoms[0]


class BoxesFloor:
    """Time of setting the grid of `Boxes` to zero, over the number of its atoms: what no density can be below."""

    params = (BOXES,)
    param_names = ("box",)
    unit = "ns per atom"

    def setup(self, box):
        torch.set_num_threads(1)
        self.memset = make_memset(crowded(box), "cpu", fresh=False)

    def track_zero_per_atom(self, box):
        return 1e9 * seconds(self.memset, budget=1.0) / crowded(box).atoms[0]


class ManyLigands:
    """Time of a batch of 1024 ligands of 40 atoms, 4 channels, points 1 Å apart."""

    params = (PASSES, DEVICES)
    param_names = ("pass", "device")
    repeat = (3, 20, 2.0)

    def setup(self, name, device):
        self.run = prepare(name, Workload((40,) * 1024, 4, 1.0, 23.0, "ragged"), device=device)

    def time_many_ligands(self, name, device):
        self.run()


class Channels:
    """Time against the number of channels, 400 atoms."""

    params = (PASSES, (1, 4, 16, 64, 256), DEVICES)
    param_names = ("pass", "channels", "device")
    repeat = (3, 50, 1.0)

    def setup(self, name, channels, device):
        self.run = prepare(name, Workload((400,), channels), device=device)

    def time_channels(self, name, channels, device):
        self.run()


class Resolution:
    """Time against the points per axis, 400 atoms and 14 channels in a box of 24 Å."""

    params = (PASSES, (25, 49, 97, 145), DEVICES)
    param_names = ("pass", "points", "device")
    repeat = (3, 50, 1.0)

    def setup(self, name, points, device):
        self.run = prepare(name, Workload((400,), 14, 24.0 / (points - 1), 24.0), device=device)

    def time_resolution(self, name, points, device):
        self.run()


class Threads:
    """Time against the number of threads."""

    params = (PASSES, tuple(WORKLOADS), (1, 2, 4, 8, 16, 32))
    param_names = ("pass", "workload", "threads")
    repeat = (3, 50, 1.0)

    def setup(self, name, workload, threads):
        self.run = prepare(name, workload, threads=threads)

    def time_threads(self, name, workload, threads):
        self.run()
