"""What a call costs when there is almost nothing to compute, and what an import costs."""

import torch

import gridgrad as gg

from .workloads import DEVICES, require_device, seconds

CALLS = 200
MODES = ("no_grad", "forward", "forward_backward")


class Nothing(torch.autograd.Function):
    """A differentiable function that computes nothing: what PyTorch itself charges for one."""

    @staticmethod
    def forward(ctx, coords, types, radii, shape):
        ctx.save_for_backward(coords, types, radii)
        return coords.new_empty(shape)

    @staticmethod
    def backward(ctx, grad_density):
        coords, _, _ = ctx.saved_tensors
        return torch.empty_like(coords), None, None, None


class Call:
    """Time of one call: one atom, one channel, 8 points along each axis."""

    params = (MODES, DEVICES)
    param_names = ("mode", "device")
    unit = "seconds"

    def setup(self, mode, device):
        require_device(device)
        torch.set_num_threads(1)
        gridmaker = gg.GridMaker(resolution=0.5, dimension=3.5)
        shape = tuple(gridmaker.grid_dimensions(1))
        coords = torch.zeros(1, 3, device=device, requires_grad=mode != "no_grad")
        types, radii = torch.zeros(1, dtype=torch.int64, device=device), torch.ones(1, device=device)
        grad_density = torch.ones(shape, device=device)

        def ours():
            return gg.coords2grid(gridmaker, (0.0, 0.0, 0.0), coords, types, radii, n_types=1)

        def nothing():
            return Nothing.apply(coords, types, radii, shape)

        def repeated(call):
            def run():
                for _ in range(CALLS):
                    density = call()
                    if mode == "forward_backward":
                        torch.autograd.grad(density, coords, grad_density)
                if device == "cuda":
                    torch.cuda.synchronize()

            return run

        self.ours, self.nothing = repeated(ours), repeated(nothing)

    def track_call(self, mode, device):
        return seconds(self.ours, budget=0.3) / CALLS

    def track_call_beyond_empty_function(self, mode, device):
        return (seconds(self.ours, budget=0.3) - seconds(self.nothing, budget=0.3)) / CALLS


class Import:
    """Time of the first import, in a fresh interpreter."""

    def timeraw_import(self):
        return "import gridgrad"

    def timeraw_import_after_torch(self):
        return "import gridgrad", "import numpy, torch"
