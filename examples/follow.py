"""Let displaced ligands follow the gradients of trained networks, in receptors that were held out.

Best poses are displaced by up to 2 A and 30 degrees. The negative gradient of the score with respect to the ligand's
atoms is a force on each; of the motions of a rigid body the one is taken that is nearest to what free atoms would do.
Steps have given lengths, the same for all networks, so that only the direction counts.

    python examples/follow.py runs/gradient runs/value runs/shuffled [--picture FILE]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from pose_gradients import Losses, Score, complexes, displaced, total
from torch.utils.data import BatchSampler, SequentialSampler

from gridgrad.data import Rigid

COLORS = ("#0072b2", "#d55e00", "#999999", "#009e73")
LENGTHS = np.linspace(0.2, 0.0, 40, endpoint=False)  # angstrom: of the steps, root of the mean square over the atoms


def cross_matrix(vectors):
    """Return the matrices (B, 3, 3) whose product with x is the cross product of the vectors (B, 3) with x."""
    return torch.linalg.cross(vectors[:, :, None], torch.eye(3).to(vectors).expand(len(vectors), 3, 3), dim=1)


def rigid_step(batch, force, length):
    """Move ligands, as rigid bodies, in the directions of forces on their atoms (N, 3), by a length; return the batch.

    The velocities push + spin x arm that differ least from the forces have the mean of the forces as push, and as spin
    the torque divided by the inertia, both with unit masses.
    """
    ligand = batch.mask("ligand")[:, None]
    n_atoms = total(ligand.to(batch.dtype), batch)
    center = total(batch.coords * ligand, batch) / n_atoms
    arm = (batch.coords - center[batch.batch]) * ligand
    push = total(force * ligand, batch) / n_atoms
    inertia = total(arm.square().sum(1)[:, None, None] * torch.eye(3).to(arm) - arm[:, :, None] * arm[:, None], batch)
    spin = torch.linalg.solve(inertia, total(torch.linalg.cross(arm, force), batch))
    velocity = (push[batch.batch] + torch.linalg.cross(spin[batch.batch], arm)) * ligand
    speed = (total(velocity.square().sum(1), batch) / n_atoms[:, 0]).sqrt()[:, None]
    scale = length / speed.clamp(min=1e-12)
    moved = Rigid(torch.linalg.matrix_exp(cross_matrix(scale * spin)), scale * push, center)(batch)
    # the box goes with the ligand
    return batch.changed(coords=torch.where(ligand, moved.coords, batch.coords), center=center + scale * push)


def rmsds(batch, target):
    """Return the root-mean-square distances (B,) of the ligands from where they should be, (N, 3)."""
    n_atoms = total(batch.mask("ligand").to(batch.dtype), batch)
    return (total((batch.coords - target).square().sum(1), batch) / n_atoms).sqrt()


def evaluate(score, data, repeats):
    """Return the losses of distance and gradient, that of predicting no gradient, and RMSDs, (steps + 1, examples)."""
    losses, ways, n = np.zeros(3), [], 0
    for repeat in range(repeats):
        for rows in BatchSampler(SequentialSampler(data), 16, drop_last=False):
            seed = 2**40 + repeat * len(data) + rows[0]  # none that was trained with
            batch, distance, gradient = displaced(data.__getitems__(rows), seed)
            module = Losses(score)
            value, slope = (loss.item() for loss in module(batch, distance, gradient))
            n_atoms = total(batch.mask("ligand").to(batch.dtype), batch)
            zero = (n_atoms * total(gradient.square().sum(1), batch)).mean().item()
            losses += len(rows) * np.array([value, slope, zero])
            n += len(rows)
            target = batch.coords - gradient * (n_atoms * (distance + 1))[batch.batch, None]
            way = [rmsds(batch, target)]
            for length in LENGTHS:
                batch = rigid_step(batch, -score.with_gradient(batch)[1], length)
                way.append(rmsds(batch, target))
            ways.append(torch.stack(way))
    return losses / n, torch.cat(ways, dim=1).numpy()


def draw(curves, ways, path):
    """Draw the loss of the gradient while the networks were trained, and the mean RMSD along the way."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, color in zip(ways, COLORS, strict=False):
        every = max(len(curves[name]) // 40, 1)
        means = curves[name][: len(curves[name]) // every * every].reshape(-1, every, 3).mean(1)
        panels[0].plot(means[:, 0], means[:, 2], color=color, label=f"trained on {name}")
        panels[1].plot(ways[name].mean(1), color=color)
    panels[0].set(xlabel="step of the training", ylabel="loss of the gradient", ylim=(0, 1))
    panels[1].set(xlabel="step of the ligands, held out", ylabel="RMSD (Å), mean", ylim=(0, None))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.savefig(path)


def main():
    """Evaluate networks, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders that train.py wrote")
    parser.add_argument("--poses", type=Path, default="poses", help="folder of tools/make_poses.py")
    parser.add_argument("--repeats", type=int, default=10, help="displacements of each best pose")
    parser.add_argument("--picture", metavar="FILE", help="draw what was learnt and the way (.png, .svg)")
    options = parser.parse_args()
    data, curves, ways = complexes(options.poses, held_out=True), {}, {}
    print(f"{len(data)} best poses in receptors that were held out, {options.repeats} displacements of each")
    print(f"{'trained on':<12}{'distance':>10}{'gradient':>10}{'of zero':>10}{'RMSD':>8}{'after':>8}{'closer':>8}")
    for run in options.runs:
        state = torch.load(run / "checkpoint.pt", weights_only=True)
        score = Score()
        score.load_state_dict(state["score"])
        (value, slope, zero), way = evaluate(score, data, options.repeats)
        name = state["settings"]["train_on"]
        closer = (way[-1] < way[0]).mean()
        print(
            f"{name:<12}{value:>10.3f}{slope:>10.3f}{zero:>10.3f}{way[0].mean():>8.2f}{way[-1].mean():>8.2f}{closer:>8.0%}"
        )
        curves[name], ways[name] = np.array(state["curve"]), way
    if options.picture:
        draw(curves, ways, options.picture)


if __name__ == "__main__":
    main()
