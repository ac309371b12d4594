"""DistributedDataParallel in its own process.

``python -m support.data_parallel`` prints a line after each part that is right.
``torch`` says that torch alone can do it on this machine, ``gridgrad`` that a network with Coords2Grid can.
"""

import copy
import datetime

import torch
from support.scenes import assert_close, assert_same_bits, make_scene

import gridgrad as gg


class Network(torch.nn.Module):
    """Densities of a scene, then a convolution."""

    def __init__(self, scene, center=(0.1, 0.2, 0.3)):
        super().__init__()
        self.grid = gg.Coords2Grid(gg.GridMaker(**scene.settings), center)
        self.conv = torch.nn.Conv3d(scene.n_types, 2, 3)

    def forward(self, coords, types, radii):
        return self.conv(self.grid(coords, types, radii)).mean((2, 3, 4))


def torch_alone():
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 1))
    model(torch.ones(2, 3)).sum().backward()
    assert next(model.parameters()).grad is not None


def with_gridgrad():
    """The module inside the wrapper and the wrapper give the gradients of the plain network."""
    scene = make_scene("quintic", "per_atom", "vector", "padded").to(torch.float32)
    network = Network(scene)
    parallel = torch.nn.parallel.DistributedDataParallel(copy.deepcopy(network))
    gradients = []
    for model in (network, parallel.module, parallel):
        model.zero_grad()
        coords = scene.coords.clone().requires_grad_()
        model(coords, *scene.inputs[2:]).square().sum().backward()
        gradients.append((coords.grad, next(model.parameters()).grad.clone()))
    for found in gradients[1:]:
        assert_same_bits(found[0], gradients[0][0])
        assert_close(found[1], gradients[0][1], 1e-6)


if __name__ == "__main__":
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1, timeout=datetime.timedelta(seconds=60)
    )
    for name, part in (("torch", torch_alone), ("gridgrad", with_gridgrad)):
        part()
        print(name, flush=True)
    torch.distributed.destroy_process_group()
