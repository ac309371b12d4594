"""examples/train_hessian.py: its gradients against the oracle, and that it learns."""

import importlib.util
from pathlib import Path

import pytest
import torch
from support.reference import Reference
from support.scenes import assert_close

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "train_hessian.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("train_hessian", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Dense(torch.nn.Module):
    """The oracle in the place of Coords2Grid."""

    def __init__(self, gm):
        super().__init__()
        self.reference = Reference(gm.resolution, gm.dimension, tail=gm.tail)

    def forward(self, coords, types, radii):
        return self.reference.forward((0.0, 0.0, 0.0), coords, types, radii, n_types=2)


def test_parameter_gradients(example):
    """Of both errors, in float64, against the same network on the dense oracle's grid."""
    torch.manual_seed(0)
    energy = example.Energy(width=8).double()
    batch = [part.double() for part in example.draw(2, torch.Generator().manual_seed(3))]
    parameters = list(energy.parameters())

    def gradients():
        return [torch.autograd.grad(error, parameters, retain_graph=True) for error in example.errors(energy, *batch)]

    found = gradients()
    energy.grid = Dense(example.GRID)
    expected = gradients()
    for values, targets in zip(found, expected):
        for value, target in zip(values, targets):
            assert_close(value, target, 1e-10)


def test_it_learns(example):
    """In a tenth of the steps both errors fall; products help their own error."""
    held_out = example.draw(32, torch.Generator().manual_seed(2))
    without, products = (example.train(choice, 40, held_out, every=40) for choice in (False, True))
    assert products[-1][2] < 0.7 * products[0][2]
    assert without[-1][1] < 0.7 * without[0][1]
