"""Ratios of times that were measured in turns in one process. Lower is better in all of them."""

import functools

import torch

import gridgrad as gg

from .workloads import (
    DEVICES,
    DTYPES,
    PASSES,
    WORKLOADS,
    Workload,
    make_inputs,
    make_memset,
    make_pass,
    prepare,
    ratio_of_times,
    require_device,
    require_threads,
)


def _make(name, workload, dtype="float32", device="cpu"):
    workload = WORKLOADS[workload]
    return make_pass(name, workload, make_inputs(workload, getattr(torch, dtype), device))


class GpuOverCpu:
    """Time on the GPU over time on the CPU with all its cores."""

    params = (PASSES, tuple(WORKLOADS), DTYPES)
    param_names = ("pass", "workload", "dtype")
    unit = "GPU time / CPU time"

    def setup(self, name, workload, dtype):
        require_device("cuda")
        self.on_gpu, self.on_cpu = (_make(name, workload, dtype, device) for device in ("cuda", "cpu"))

    def track_gpu_over_cpu(self, name, workload, dtype):
        return ratio_of_times(self.on_gpu, self.on_cpu)


class OverMemset:
    """Time over that of setting one density grid to zero: a fresh one where the pass returns a fresh one."""

    params = (PASSES, tuple(WORKLOADS), DEVICES)
    param_names = ("pass", "workload", "device")
    unit = "time / memset time"

    def setup(self, name, workload, device):
        self.run = prepare(name, workload, device=device)
        self.memset = make_memset(WORKLOADS[workload], device, fresh=name in ("density_fresh", "double_backward"))

    def track_over_memset(self, name, workload, device):
        return ratio_of_times(self.run, self.memset)


class Float64OverFloat32:
    """Time in float64 over time in float32."""

    params = (PASSES, tuple(WORKLOADS), DEVICES)
    param_names = ("pass", "workload", "device")
    unit = "float64 time / float32 time"

    def setup(self, name, workload, device):
        require_device(device)
        self.runs = [_make(name, workload, dtype, device) for dtype in ("float64", "float32")]

    def track_float64_over_float32(self, name, workload, device):
        return ratio_of_times(*self.runs)


class TwoThreadsOverOne:
    """Time with two threads over time with one."""

    params = (PASSES, tuple(WORKLOADS))
    param_names = ("pass", "workload")
    unit = "2-thread time / 1-thread time"

    def setup(self, name, workload):
        require_threads(2)
        self.run = _make(name, workload)

    def _with_threads(self, threads):
        def run():
            torch.set_num_threads(threads)
            self.run()

        return run

    def track_two_threads_over_one(self, name, workload):
        return ratio_of_times(self._with_threads(2), self._with_threads(1))


class FixedOverAll:
    """Time of a density and its gradients where 40 of 1000 atoms are not fixed, over the time where none is fixed."""

    params = (("first order", "second order"),)
    param_names = ("pass",)
    unit = "time / time without fixed atoms"

    def setup(self, order):
        workload = Workload((1000,), 28)
        inputs, gridmaker = make_inputs(workload, torch.float32, "cpu"), workload.gridmaker()
        grad_density = torch.randn(workload.grid_shape(), generator=torch.Generator().manual_seed(0))

        def run(fixed):
            coords = inputs.coords.clone().requires_grad_()
            density = gg.coords2grid(gridmaker, (0, 0, 0), coords, inputs.index, inputs.radii, 28, fixed=fixed)
            second = order == "second order"
            (first,) = torch.autograd.grad(density, coords, grad_density, create_graph=second)
            return torch.autograd.grad(first.square().sum(), coords) if second else first

        self.runs = functools.partial(run, torch.arange(1000) < 960), functools.partial(run, None)

    def track_fixed_over_all(self, order):
        return ratio_of_times(*self.runs)
