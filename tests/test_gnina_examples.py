"""examples/score_gnina.py and refine_gnina.py: gnina's networks on our grids, and the derivatives that poses follow."""

import importlib.util
from pathlib import Path

import pytest
import torch
from support.scenes import assert_close

import gridgrad as gg

for package in ("rdkit", "gemmi", "posebusters"):
    pytest.importorskip(package)

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
HAS_WEIGHTS = importlib.util.find_spec("gninatorch") is not None
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason="gninatorch, which has the weights, is not installed")


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import refine_gnina
    import score_gnina

    return score_gnina, refine_gnina


@pytest.fixture
def batch(examples):
    """Two of the complexes, in float64."""
    score_gnina, _ = examples
    data, names = score_gnina.complexes(score_gnina.posebusters())
    assert names == ["TQ3", "DTY", "TQD", "CMU"]
    return data.__getitems__([0, 1]).to(dtype=torch.float64)


def smooth(density):
    """Stand in for a network: as (B, 28, 48, 48, 48) to (log score, affinity), with derivatives of every order."""
    weights = torch.linspace(-1, 1, density[0].numel(), dtype=density.dtype).reshape(density.shape[1:]).sin()
    score = (density * weights * 0.05).flatten(1).sum(1)
    return torch.nn.functional.logsigmoid(score), score


def test_architecture(examples):
    """The parameters of gnina's default2018, 389 059 of them; the pooled box has 6 points an edge."""
    network = examples[0].Default2018()
    assert sum(parameter.numel() for parameter in network.parameters()) == 389_059
    score, affinity = network(torch.rand(2, 28, 48, 48, 48))
    assert score.shape == affinity.shape == (2,) and (score < 0).all()


def test_derivatives(examples, batch, monkeypatch):
    """Gradient and Hessian-vector products in the six unknowns, against differences, of a profile that allows them."""
    layer = gg.Coords2Grid(gg.GridMaker(resolution=0.5, dimension=23.5, tail="quintic"))
    monkeypatch.setattr(examples[1], "density", layer)
    energy = examples[1].PoseEnergy(smooth, batch)
    generator = torch.Generator().manual_seed(0)
    u, v = (0.3 * torch.randn(2, 6, dtype=torch.float64, generator=generator) for _ in range(2))
    values, gradient, at = energy.gradient(u, differentiable=True)
    product, step = energy.product(at, v), 1e-4
    assert_close(energy.values(u), values, 1e-12)
    slope = (energy.values(u + step * v) - energy.values(u - step * v)) / (2 * step)
    assert_close(energy.dot(gradient, v), slope, 1e-5)
    difference = (energy.gradient(u + step * v)[1] - energy.gradient(u - step * v)[1]) / (2 * step)
    assert_close(product, difference, 1e-4)


def test_rigid_unknowns(examples, batch):
    """Three are a rotation vector times the radius, three a translation; receptors stay."""
    refine = examples[1]
    energy = refine.PoseEnergy(smooth, batch)
    u = torch.zeros(2, 6, dtype=torch.float64)
    u[0, 3:], u[1, 2] = torch.tensor([1.0, -2.0, 0.5]), 0.3
    moved = refine.moved(batch, energy.rigid(u))
    off = moved.coords - batch.coords
    ligand = batch.mask("ligand")
    assert not off[~ligand].any() and torch.equal(moved.fixed, ~ligand)
    first = ligand & (batch.batch == 0)
    assert_close(off[first], u[0, 3:].expand(int(first.sum()), 3), 1e-12)
    second = ligand & (batch.batch == 1)
    angle = 0.3 / energy.radius[1]
    arm = (batch.coords - batch.center[1])[second]
    x, y = arm[:, 0] * angle.cos() - arm[:, 1] * angle.sin(), arm[:, 0] * angle.sin() + arm[:, 1] * angle.cos()
    assert_close(off[second], torch.stack([x, y, arm[:, 2]], dim=1) - arm, 1e-9)


def test_both_methods_descend(examples, batch, capsys):
    curves = examples[1].refine(smooth, batch.to(dtype=torch.float32), n_steps=3)
    for energies in curves.values():
        assert (energies[-1] < energies[0]).all()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["as they are", "displaced", "gradient descent", "Newton-CG"]


@needs_weights
@pytest.mark.parametrize("openbabel", [False, True])
def test_crystal_poses_score_high(examples, openbabel):
    """As on libmolgrid's grids, with which tools/compare_gnina.py compares."""
    score_gnina, _ = examples
    data, _ = score_gnina.complexes(score_gnina.posebusters(), openbabel)
    with torch.no_grad():
        score, affinity = score_gnina.Ensemble("crossdock_default2018")(
            score_gnina.density(data.__getitems__(range(4)))
        )
    theirs = torch.tensor([0.9909, 0.9797, 0.9888, 0.9636]), torch.tensor([7.5575, 5.8650, 7.4187, 6.7315])
    bounds = (1e-3, 0.01) if openbabel else (0.02, 0.2)
    for found, expected, bound in zip((score.exp(), affinity), theirs, bounds):
        assert (found - expected).abs().max() < bound


@needs_weights
def test_command_line(examples, monkeypatch, capsys):
    score_gnina, _ = examples
    receptor, ligand = score_gnina.posebusters()[0]
    monkeypatch.setattr("sys.argv", ["score_gnina.py", str(receptor), str(ligand)])
    score_gnina.main()
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["TQ3", "0.9910"]
