"""Train a network on the gradient of its score: a 3D CNN that says how far a ligand is from its best pose, and whereto.

`tools/make_poses.py` makes the complexes: ligands docked into 58 receptors, one in seven of which is held out. What is
trained on, and the network, is in `examples/pose_gradients.py`; `examples/follow.py` lets ligands in the receptors that
are held out follow the gradient.

    python tools/make_poses.py && python examples/train.py
    torchrun --nproc-per-node 2 examples/train.py     on two processes the same, on GPUs where there are some
    python examples/train.py --train-on value         without gradients; or `shuffled`: with those of other examples

The folder of the run keeps a checkpoint: a run that was ended goes on when the same command is given again.
"""

import argparse
import csv
import os
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from pose_gradients import RANK, WORLD, Losses, Score, complexes, displaced
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from gridgrad.data import DataLoader, StratifiedSampler
from gridgrad.io.writers import atomic_files

WEIGHT = 4.0  # of the loss of the gradient


class Share(torch.utils.data.BatchSampler):
    """Of each batch the rows of this process: together they are the batch that one process alone would have."""

    def __iter__(self):
        """Yield lists of rows."""
        for rows in super().__iter__():
            yield rows[RANK::WORLD]


class Run:
    """Network, optimizer and rows of a run, and what its folder keeps of them."""

    def __init__(self, options, data, device):
        self.folder = options.output
        self.settings = {name: str(value) for name, value in vars(options).items() if name != "output"}
        best = data.labels["rmsd"].numpy() == 0
        kind = np.where(best, np.arange(len(best)) % 3, 3)  # three quarters of a batch are best poses
        sampler = StratifiedSampler(kind, data.labels["receptor"], seed=options.seed, rank=0, world_size=1)
        torch.manual_seed(options.seed)
        self.losses = Losses(Score()).to(device)
        self.curve = []
        optimizer = torch.optim.Adam(self.losses.parameters())
        self.parts = {
            "score": self.losses.score,
            "optimizer": optimizer,
            "schedule": torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=options.steps),
            "rows": DataLoader(data, batch_sampler=Share(sampler, options.batch, drop_last=True)),
        }

    def save(self):
        """Write checkpoint and curve, each whole."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        with atomic_files([self.folder / "checkpoint.pt", self.folder / "curve.csv"]) as (checkpoint, table):
            torch.save(state | {"curve": self.curve, "settings": self.settings}, checkpoint)
            with table.open("w", newline="") as file:
                csv.writer(file).writerows([("step", "distance", "gradient"), *self.curve])

    def go_on(self):
        """Go where the checkpoint is, if there is one."""
        if not (self.folder / "checkpoint.pt").exists():
            return
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        if state["settings"] != self.settings:
            raise SystemExit(f"{self.folder}: {state['settings']}; expected {self.settings}, or another --output")
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.curve = state["curve"]


def train(options, every=50):
    """Train, or go on; return rows (step, loss of distances, of gradients) and the share that loading took."""
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else "cpu"
    run = Run(options, complexes(options.poses, held_out=False), device)
    run.go_on()
    module = DistributedDataParallel(run.losses) if WORLD > 1 else run.losses
    optimizer, rows, with_gradient = run.parts["optimizer"], run.parts["rows"], options.train_on != "value"
    batches = (batch for _ in count() for batch in rows)
    loading, start, done = 0.0, perf_counter(), len(run.curve)
    for step in tqdm(range(done, options.steps), initial=done, total=options.steps, disable=RANK > 0 or None):
        before = perf_counter()
        batch = next(batches).to(device)
        loading += perf_counter() - before
        seed = options.seed + 1_000_003 * step
        distance, gradient = module(*displaced(batch, seed, options.train_on == "shuffled"), with_gradient)
        optimizer.zero_grad()
        (distance + WEIGHT * gradient if with_gradient else distance).backward(inputs=list(run.losses.parameters()))
        optimizer.step()
        run.parts["schedule"].step()
        both = torch.stack([distance, gradient]).detach()
        if WORLD > 1:
            distributed.all_reduce(both)
        run.curve.append((step, *(both / WORLD).tolist()))
        if RANK == 0 and (step + 1) in (*range(every, options.steps, every), options.steps):
            run.save()
    return run.curve, loading / (perf_counter() - start)


def main():
    """Train on one process or on many, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("poses", type=Path, nargs="?", default="poses", help="folder of tools/make_poses.py")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8, help="examples of a step, on all processes together")
    parser.add_argument("--train-on", choices=("gradient", "value", "shuffled"), default="gradient")
    parser.add_argument("--output", type=Path, help="folder of the run; by default runs/ and what is trained on")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.batch % WORLD:
        parser.error(f"--batch: {options.batch}; expected a multiple of {WORLD}, the processes")
    options.output = options.output or Path("runs", options.train_on)
    options.output.mkdir(parents=True, exist_ok=True)
    if WORLD > 1:
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    curve, loading = train(options)
    if RANK == 0:
        distance, gradient = np.array(curve[-50:])[:, 1:].mean(0)
        print(f"last steps: loss of distances {distance:.4f}, of gradients {gradient:.4f}; loading took {loading:.1%}")
    if WORLD > 1:
        distributed.barrier()  # none leaves while another still talks
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
