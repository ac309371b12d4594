"""What the compiler made of the CUDA kernels, and times predicted from it: no GPU is needed, nothing is measured."""

import pathlib
import shutil
import statistics
import sys

sys.path.append(str(pathlib.Path(__file__).parents[2] / "tools"))

import gpu_prediction
import ptxas_table
import sass

from gridgrad.kernels.abi import ATOM, GPU_KERNELS, TILE
from gridgrad.kernels.gpu import nvrtc

KERNEL_NAMES = tuple(name for name, kernel in GPU_KERNELS.items() if kernel.block in (TILE, ATOM))
ARCHITECTURES = ptxas_table.ARCHITECTURES


def has_compiler():
    """Return whether NVRTC is installed."""
    try:
        nvrtc.load()
    except ImportError:
        return False
    return True


def setup_cache():
    """Return by kernel and architecture what ptxas says, the instructions of the inner loop, and predicted times."""
    found = {"resources": {}, "loops": {}, "times": {}}
    if not has_compiler():
        return found
    for architecture in ARCHITECTURES:
        for row in ptxas_table.resources("float", architecture):
            found["resources"][row.kernel, architecture] = row
        if sass.nvdisasm() is not None:
            for kernel in KERNEL_NAMES:
                sizes = [end - begin + 1 for begin, end in sass.voxel_loops(sass.compiled(architecture)[kernel])]
                found["loops"][kernel, architecture] = statistics.median_high(sizes)
    if found["loops"] and shutil.which("g++") and shutil.which("gcov"):
        for case in gpu_prediction.CASES:
            for name, device in gpu_prediction.DEVICES.items():
                predicted = gpu_prediction.predict(case, device, sass.compiled(device.architecture))
                found["times"][case, name] = 1e-3 * predicted.expected
    return found


setup_cache.timeout = 900


class Registers:
    """Registers of a thread and bytes of spill stores, single precision."""

    params = (KERNEL_NAMES, ARCHITECTURES)
    param_names = ("kernel", "architecture")

    def setup(self, found, kernel, architecture):
        if not found["resources"]:
            raise NotImplementedError("NVRTC is not installed: pip install nvidia-cuda-nvrtc")

    def track_registers(self, found, kernel, architecture):
        return found["resources"][kernel, architecture].registers

    def track_spills(self, found, kernel, architecture):
        return found["resources"][kernel, architecture].spill_stores


Registers.track_registers.unit = "registers"
Registers.track_spills.unit = "bytes"


class Instructions:
    """Instructions of a turn of the loop over voxels, single precision."""

    params = (KERNEL_NAMES, ARCHITECTURES)
    param_names = ("kernel", "architecture")
    unit = "instructions"

    def setup(self, found, kernel, architecture):
        if not found["loops"]:
            raise NotImplementedError("needs NVRTC and nvdisasm: pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm")

    def track_inner_loop(self, found, kernel, architecture):
        return found["loops"][kernel, architecture]


class Predicted:
    """Times that tools/gpu_prediction.py predicts for the benchmark of docs/gpu.md; nobody measured them."""

    params = (tuple(gpu_prediction.CASES), tuple(gpu_prediction.DEVICES))
    param_names = ("case", "device")
    unit = "seconds"

    def setup(self, found, case, device):
        if not found["times"]:
            raise NotImplementedError("needs NVRTC, nvdisasm, g++ and gcov")

    def track_predicted_time(self, found, case, device):
        return found["times"][case, device]
