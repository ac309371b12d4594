"""examples/train.py: its gradients, two processes against one, killed and resumed, what loading takes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.random_poses import write_poses
from support.reference import Reference
from support.scenes import assert_close

pytest.importorskip("pyarrow")
pytest.importorskip("tqdm")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TRAIN = EXAMPLES / "train.py"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def poses(tmp_path_factory):
    """Eight receptors, 2 ligands each, 3 poses of each."""
    return write_poses(tmp_path_factory.mktemp("poses") / "poses")


@pytest.fixture
def problem(monkeypatch):
    """The module pose_gradients, as a single process has it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import pose_gradients

    return pose_gradients


def command(poses, output, steps, *options, ranks=1):
    start = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    words = [sys.executable, *start, TRAIN, poses, "--output", output, "--steps", steps, "--batch", "4", *options]
    return [str(word) for word in words]


def run(*arguments, **options):
    done = subprocess.run(
        command(*arguments, **options), check=False, capture_output=True, text=True, timeout=300,
        env=os.environ | ONE_THREAD,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr  # torchrun's own words come last
    return done.stdout


def curve(folder):
    return np.loadtxt(folder / "curve.csv", delimiter=",", skiprows=1)


def parameters(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)["score"]


def test_targets(problem, poses):
    """The gradients are those of the distances, which are computed here by torch; only best poses are displaced."""
    data = problem.complexes(poses, held_out=False)
    before = data.__getitems__(range(12))
    batch, distance, gradient = problem.displaced(before, seed=3)
    ligand, best = batch.mask("ligand"), batch.labels["rmsd"] == 0
    assert best.sum() == 4 and not gradient[~ligand].any()
    for i in range(len(batch)):
        rows = (batch.batch == i) & ligand
        coords = batch.coords[rows].double().requires_grad_()
        n = len(coords)
        if not best[i]:
            assert not gradient[rows].any()
            assert_close(distance[i], (batch.labels["rmsd"][i].clamp(max=4) ** 2 + 1).sqrt() - 1, 1e-6)
            inner = (before.coords[rows] - before.coords[rows].mean(0)).norm(dim=1)
            assert_close((batch.coords[rows] - batch.coords[rows].mean(0)).norm(dim=1), inner, 1e-5)
            continue
        target = coords.detach() - gradient[rows].double() * n * (distance[i].double() + 1)
        off = (coords - target).square().sum() / n
        value = (off + 1).sqrt() - 1
        (expected,) = torch.autograd.grad(value, coords)
        assert_close(distance[i], value.detach().float(), 1e-5)
        assert_close(gradient[rows], expected.float(), 1e-4)
        assert 0 < off.item() ** 0.5 < 2 + 2 * 12 * 0.53  # 2 A, and 30 degrees on an arm of less than 12 A
        # the target is the best pose, turned with its receptor: distances between their atoms are what they were
        receptor = (batch.batch == i) & ~ligand
        seen = torch.cdist(target.float(), batch.coords[receptor])
        assert_close(seen, torch.cdist(before.coords[rows], before.coords[receptor]), 1e-4)
        assert torch.allclose(batch.center[i], batch.coords[rows].mean(0), atol=1.0001)


def test_shuffled_targets(problem, poses):
    """Shuffled, the ligands are where they were, and the gradients belong to the motions of their neighbours."""
    data = problem.complexes(poses, held_out=True)
    before = data.__getitems__(range(4))
    one, distance, gradient = problem.displaced(before, seed=5)
    other, others_distance, others_gradient = problem.displaced(before, seed=5, shuffled=True)
    assert torch.equal(one.coords, other.coords) and torch.equal(one.center, other.center)
    assert (distance - others_distance).abs().min() > 1e-4
    assert (gradient - others_gradient)[one.mask("ligand")].abs().max() > 1e-2


class Dense(torch.nn.Module):
    """The oracle in the place of Coords2Grid."""

    def __init__(self, gm):
        super().__init__()
        self.gm, self.reference = gm, Reference(gm.resolution, gm.dimension, tail=gm.tail)

    def forward(self, batch):
        coords = torch.where(batch.fixed[:, None], batch.coords.detach(), batch.coords)
        examples = batch.changed(coords=coords)
        return torch.stack([self.reference.forward(e.center[0], e.coords, e.types, e.radii, 28) for e in examples])


def test_parameter_gradients(problem, poses):
    """Of both losses, in float64, against the same network on the dense oracle's grid."""
    data = problem.complexes(poses, held_out=False)
    inputs = problem.displaced(data.__getitems__([0, 3, 7]).to(dtype=torch.float64), seed=1)
    torch.manual_seed(0)
    losses = problem.Losses(problem.Score(width=4)).double()

    def gradients():
        found = losses(*inputs, True)
        return [
            torch.autograd.grad(loss, list(losses.parameters()), retain_graph=True, allow_unused=True) for loss in found
        ]

    found = gradients()
    losses.score.grid = Dense(problem.GRID)
    for values, targets in zip(found, gradients()):
        for value, target in zip(values, targets):
            if target is not None:
                assert_close(value, target, 1e-9)


def test_receptors_are_held_out(problem, poses):
    """One in seven, with none of its ligands among those that are trained on."""
    mine, theirs = (problem.complexes(poses, held_out) for held_out in (False, True))
    assert set(theirs.labels["receptor"].tolist()) == {0, 7} and not theirs.labels["rmsd"].any()
    assert set(mine.labels["receptor"].tolist()) == set(range(1, 7))
    assert len(mine) == 36 and len(theirs) == 4


def test_two_ranks(poses, tmp_path):
    """The same batches on one process and on two: the first step to 1e-5, the losses of 20 steps to 1e-3."""
    for steps in (1, 20):
        for ranks in (1, 2):
            run(poses, tmp_path / f"{steps}x{ranks}", steps, ranks=ranks)
    one, two = curve(tmp_path / "20x1"), curve(tmp_path / "20x2")
    assert np.array_equal(one[:, 0], np.arange(20))
    assert np.abs(two - one)[:, 1:].max() < 1e-3 * one[:, 1:].max()
    # Adam divides the first gradients by their size; its first moments are a tenth of them
    states = [torch.load(tmp_path / f"1x{ranks}" / "checkpoint.pt", weights_only=True) for ranks in (1, 2)]
    first, second = (state["optimizer"]["state"] for state in states)
    for i in first:
        assert_close(second[i]["exp_avg"], first[i]["exp_avg"], 1e-5)
        assert first[i]["exp_avg"].abs().max() > 0


@pytest.fixture(scope="module")
def whole(poses, tmp_path_factory):
    """The folder of a run that nothing disturbed, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(poses, folder, 80)


def test_killed_and_resumed(poses, whole, tmp_path):
    """A run that was killed goes on to the same curve and the same network, bit for bit, over the end of an epoch."""
    killed = subprocess.Popen(command(poses, tmp_path, 80), stderr=subprocess.DEVNULL, env=os.environ | ONE_THREAD)
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 50 <= len(curve(tmp_path)) < 80
    run(poses, tmp_path, 80)
    assert (tmp_path / "curve.csv").read_bytes() == (whole[0] / "curve.csv").read_bytes()
    ours, theirs = parameters(tmp_path), parameters(whole[0])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_other_settings_are_refused(poses, whole):
    other = subprocess.run(command(poses, whole[0], 81), check=False, capture_output=True, text=True, timeout=120)
    assert other.returncode == 1
    assert "'steps': '81'" in other.stderr and "or another --output" in other.stderr
    assert len(curve(whole[0])) == 80


def test_loading_takes_little(whole):
    """Less than a twentieth of a step, though the batches are small."""
    assert float(whole[1].rpartition("loading took ")[2].strip().rstrip("%")) < 5


def test_follow_the_right_gradient(monkeypatch, problem, poses):
    """Ligands that follow the gradient of the distance itself go home; the table and the picture are made."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import follow

    data = problem.complexes(poses, held_out=True)
    batch, distance, gradient = problem.displaced(data.__getitems__(range(4)), seed=2)
    n_atoms = problem.total(batch.mask("ligand").to(batch.dtype), batch)
    target = batch.coords - gradient * (n_atoms * (distance + 1))[batch.batch, None]
    before, receptor = follow.rmsds(batch, target), batch.coords[~batch.mask("ligand")].clone()
    for length in follow.LENGTHS:
        inner = torch.cdist(batch.coords[:9], batch.coords[:9])
        batch = follow.rigid_step(batch, target - batch.coords, length)
        assert_close(torch.cdist(batch.coords[:9], batch.coords[:9]), inner, 1e-4)
    assert (before > 0.3).all() and (follow.rmsds(batch, target) < 0.1).all()
    assert torch.equal(batch.coords[~batch.mask("ligand")], receptor)


def test_follow(poses, whole, tmp_path):
    pytest.importorskip("matplotlib")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "follow.py", whole[0], "--poses", poses, "--repeats", "1", "--picture",
         tmp_path / "way.png"], check=True, capture_output=True, text=True, timeout=120, env=os.environ | ONE_THREAD,
    )  # fmt: skip
    assert "4 best poses in receptors that were held out" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("gradient ")
    assert (tmp_path / "way.png").stat().st_size > 1000
