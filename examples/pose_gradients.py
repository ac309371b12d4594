"""The problem of `examples/train.py`: from the grid of a displaced ligand to how far it is off, and whereto.

Best poses that docking found are turned by up to 30 degrees and moved by up to 2 A. The network sees the grid of the
complex, 28 channels, and predicts how far off the ligand is. The gradient of what it predicts with respect to the atoms
of the ligand is to be that of the distance, which points away from the best pose. That loss holds first derivatives of
the grid, so its own gradient holds second ones. On other poses that docking found only the distance counts.
"""

import os

import numpy as np
import torch
from torch import nn

import gridgrad as gg
from gridgrad.data import AtomStore, ComplexDataset, RandomRigid, Rigid, read_types

GRID = gg.GridMaker(resolution=1.0, dimension=15.0, tail="quintic")  # 16 x 16 x 16 points
DISPLACEMENT = {"translation": 2.0, "angle": 30.0}  # of the ligand
AUGMENTATION = {"translation": 1.0}  # of the whole complex
REACH = RandomRigid(translation=8.0)  # no atom comes into the box from farther away
FAR = 4.0  # angstrom; beyond that it does not matter how far
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def complexes(folder, held_out):
    """Return the poses in the receptors to train on, or the best poses in those that are held out."""
    table = read_types(folder / "poses.types")
    stores = {part: AtomStore(folder / f"{part}s.store") for part in ("receptor", "ligand")}
    receptors = np.array(table.names["receptor"])
    is_held_out = np.isin(receptors, np.sort(receptors)[::7])[table.index["receptor"]]
    rmsd = table.labels[:, 2]
    mine = is_held_out & (rmsd == 0) if held_out else ~is_held_out
    rows = {part: row[mine] for part, row in table.rows(stores).items()}
    labels = {"rmsd": rmsd[mine].astype(np.float32), "receptor": rows["receptor"]}
    return ComplexDataset(stores, rows, labels, grid=GRID, transform=REACH, apply_transform=False)


def total(values, batch):
    """Sum (N, ...) over the atoms of each example, to (B, ...)."""
    return values.new_zeros(len(batch), *values.shape[1:]).index_add(0, batch.batch, values)


def displaced(batch, seed, shuffled=False):
    """Displace best poses, turn all complexes; return the batch, the distances (B,) and their gradients (N, 3)."""
    generator = torch.Generator().manual_seed(seed)
    motions = []
    for largest in (DISPLACEMENT, AUGMENTATION):  # drawn for the examples of all processes
        drawn = RandomRigid(**largest, generator=generator).draw(WORLD * len(batch))
        motions.append([values[RANK::WORLD].to(batch.coords) for values in drawn])
    ligand, best = batch.mask("ligand")[:, None], batch.labels["rmsd"] == 0
    moves, n_atoms = ligand & best[batch.batch, None], total(ligand.to(batch.dtype), batch)

    shift = Rigid(*motions[0], batch.center)
    away = (shift(batch).coords - batch.coords) * moves
    moved = batch.changed(coords=batch.coords + away)
    moved.center = total(moved.coords * ligand, moved) / n_atoms  # where the ligand is, not where it should be
    if shuffled:
        other = Rigid(shift.rotation.roll(1, 0), shift.translation.roll(1, 0), batch.center)
        away = (other(batch).coords - batch.coords) * moves
    turn = Rigid(*motions[1], moved.center)
    back = turn(moved.changed(coords=moved.coords - away))
    moved = turn(moved)

    away = moved.coords - back.coords
    square = total(away.square(), batch).sum(1) / n_atoms[:, 0]
    square = torch.where(best, square, batch.labels["rmsd"].clamp(max=FAR).square())
    distance = (square + 1).sqrt() - 1  # quadratic near 0, where the gradient of the RMSD itself would jump
    return moved, distance, away / (n_atoms * (distance[:, None] + 1))[batch.batch]


class Score(nn.Module):
    """Density, two convolutions, their mean where the ligand is; smooth, so that its gradient can be trained."""

    def __init__(self, width=24):
        super().__init__()
        self.grid = gg.Coords2Grid(GRID)
        self.features = nn.Sequential(
            nn.Conv3d(28, width, 3, padding=1), nn.SiLU(), nn.AvgPool3d(2), nn.Conv3d(width, 2 * width, 3, padding=1),
            nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 1))
        for layer in self.modules():
            if isinstance(layer, (nn.Conv3d, nn.Linear)):
                nn.init.xavier_uniform_(layer.weight, gain=1.5)
                nn.init.zeros_(layer.bias)

    def forward(self, batch):
        """Return the scores (B,)."""
        density = self.grid(batch)
        weight = nn.functional.avg_pool3d(density[:, 14:].sum(1, keepdim=True), 2)  # channels 14 to 27: the ligand
        mean = (weight * self.features(density)).sum((2, 3, 4)) / weight.sum((2, 3, 4))
        return self.head(mean)[:, 0]

    def with_gradient(self, batch, create_graph=False):
        """Return the scores (B,) and their gradient in the atoms of the ligand, (N, 3)."""
        batch = batch.changed(coords=batch.coords.detach()).requires_grad_("ligand")
        score = self(batch)
        gradient = torch.autograd.grad(score.sum(), batch.coords, create_graph=create_graph, retain_graph=True)
        return score, gradient[0]


class Losses(nn.Module):
    """What DistributedDataParallel wraps: the derivatives of the grid stay within its forward pass."""

    def __init__(self, score):
        super().__init__()
        self.score = score

    def forward(self, batch, distance, gradient, create_graph=False):
        """Return the mean squared errors of the score and, on best poses, of its gradient, in units of 1 / n_atoms."""
        found, slope = self.score.with_gradient(batch, create_graph)
        n_atoms = total(batch.mask("ligand").to(batch.dtype), batch)
        error = n_atoms * total((slope - gradient).square().sum(1), batch) * (batch.labels["rmsd"] == 0)
        return (found - distance).square().mean(), error.mean()
