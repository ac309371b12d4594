"""Memory of each order of differentiation."""

import ctypes

import torch

from .workloads import DEVICES, PASSES, WORKLOADS, make_inputs, make_pass, prepare, require_device


class PeakMemory:
    """Peak memory of the process, in which torch itself takes the first 200 MB or so."""

    params = (PASSES, tuple(WORKLOADS))
    param_names = ("pass", "workload")

    def setup(self, name, workload):
        self.run = prepare(name, workload)

    def peakmem_order(self, name, workload):
        self.run()


class ExtraMemory:
    """Memory that a pass takes beyond its inputs and outputs the first time it meets a workload."""

    params = (PASSES, ("complex", "fine", "ragged"), DEVICES)
    param_names = ("pass", "workload", "device")
    unit = "bytes"

    def setup(self, name, workload, device):
        require_device(device)
        prepare(name, "ligand", device=device)
        workload = WORKLOADS[workload]
        self.run = make_pass(name, workload, make_inputs(workload, torch.float32, device))

    def track_extra_memory(self, name, workload, device):
        outputs, peak = (_on_cuda if device == "cuda" else _on_cpu)(self.run)
        reused = name == "density"
        return max(0, peak - (0 if reused else _bytes(outputs)))


def _bytes(outputs):
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum(output.untyped_storage().nbytes() for output in outputs)


def _on_cuda(run):
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return run(), torch.cuda.max_memory_allocated() - before


def _resident(field):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))


def _on_cpu(run):
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that stays resident would hide what is taken
    before = _resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # the high-water mark starts again from the current value
    return run(), _resident("VmHWM") - before
