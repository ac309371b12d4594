"""Predict the times of the CUDA kernels without a GPU: bytes, dynamic warp instructions, the two floors.

    python tools/gpu_prediction.py [--json FILE]

The workload is that of tools/gpu_benchmark.py. How often the loops run is counted while one of its examples runs on the
kernels compiled for the CPU (gcov counts lines); how many instructions a turn takes is counted in the machine code
(tools/sass.py), branches not taken included. Both are facts; that what is outside of the loops runs once a warp, and
share of the peaks that is reached, are assumptions: a prediction can be wrong.
"""

import argparse
import functools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gpu_benchmark
import sass
import torch

import gridgrad as gg
from gridgrad.kernels.gpu.preparation import Limits

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).with_suffix(".json")
BATCH, ATOMS, CHANNELS, POINTS = gpu_benchmark.BATCH, gpu_benchmark.ATOMS, gpu_benchmark.CHANNELS, 48
REACHED_BYTES, REACHED_SLOTS = 0.85, 0.6  # of the peaks, assumed


class Device(NamedTuple):
    """Data sheet: compute capability, multiprocessors, boost clock in GHz, memory in TB/s."""

    architecture: int
    multiprocessors: int
    clock: float
    bandwidth: float

    def slots(self):
        """Return warp instructions that can be issued in a second: four schedulers, one each a cycle."""
        return 4 * self.multiprocessors * self.clock * 1e9


DEVICES = {
    "T4": Device(75, 40, 1.59, 0.32),
    "A100 40 GB": Device(80, 108, 1.41, 1.555),
    "RTX 3090": Device(86, 82, 1.695, 0.936),
    "RTX 4090": Device(89, 128, 2.52, 1.008),
    "H100 SXM": Device(90, 132, 1.98, 3.35),
    "H200": Device(90, 132, 1.98, 4.8),
    "B200": Device(100, 148, 1.965, 8.0),
    "RTX 5090": Device(120, 170, 2.407, 1.792),
}

GRID = 4 * BATCH * CHANNELS * POINTS**3
READ = 4 * BATCH * ATOMS * (3 + CHANNELS + 1)  # coordinates, one-hot types, radii


class Case(NamedTuple):
    """What is asked for: the kernel; how to call it; bytes to or from memory, None: the voxels that the run counts."""

    kernel: str
    call: Callable
    n_bytes: int | None


def _operator(name, *more):
    # more: what follows the atoms, by name
    def call(**given):
        arguments = [given.get(one, one) if isinstance(one, str) else one for one in more]
        return getattr(torch.ops.gridgrad, name)(*given["atoms"], *arguments)

    return call


_END, _COORDS = ("spec", (0.0, 0.0, 0.0), "n_types"), [True, False, False]
CASES = {
    "density": Case("density", _operator("density", *_END), GRID + READ),
    "density_tangent, coords": Case(
        "density_tangent", _operator("density_tangent", "v", None, None, *_END), GRID + READ + 12 * BATCH * ATOMS
    ),
    "density_backward, coords": Case("density_backward", _operator("density_backward", "grid", *_END, _COORDS), None),
    "density_backward, coords and types": Case(
        "density_backward", _operator("density_backward", "grid", *_END, [True, True, False]), GRID + 2 * READ
    ),
    "density_backward_backward, coords": Case(
        "density_backward_backward",
        _operator("density_backward_backward", "grid", "v", None, None, *_END, _COORDS),
        None,
    ),
}

RUN = """
import sys
sys.path[:0] = {path!r}
from cuda_on_cpu.shim_kernels import ShimKernels
from gridgrad.kernels import cpu
import gpu_prediction
cpu.KERNELS["float32"] = ShimKernels("float32", limits=gpu_prediction.LIMITS)
gpu_prediction.CASES[{case!r}].call(**gpu_prediction.workload(1, "cpu"))
"""


# of one example, which is counted, as if it were among the others of the batch
LIMITS = Limits(weights=Limits().weights // BATCH, tests=Limits().tests // BATCH)


def workload(batch, device):
    """Return the arguments of the calls of `CASES`."""
    coords, types, radii, _ = gpu_benchmark.atoms(batch, ATOMS, CHANNELS, device=device)
    maker = gg.GridMaker()
    return {
        "atoms": (coords, types, radii, None, None),
        "v": torch.ones_like(coords),
        "grid": torch.ones((batch, *maker.grid_dimensions(CHANNELS)), device=device),
        "spec": maker.spec,
        "n_types": CHANNELS,
    }


class Loop(NamedTuple):
    """A loop of the text: a line that every turn executes once a thread, and how to know it in the machine code.

    Attributes
    ----------
    file, line : str
        Where, and a pattern.
    per_turn : int
        How often a turn executes the line.
    """

    file: str
    line: str
    per_turn: int = 1


TO_GRID = {
    "voxels": Loop("to_grid.cuh", r"core = real_exp", 4),
    "around": Loop("to_grid.cuh", r"todo = __ballot_sync"),
    "listing": Loop("tile.cuh", r"__ballot_sync\(0xffffffffu, keep\)"),
    "bits": Loop("tile.cuh", r"unsigned bits = bits_of\("),
    "NaN": Loop("tile.cuh", r"zero \+= weights", 4),
    "warps": Loop("density.cu", r"to_grid<"),
}
BEFORE = {  # the tiles
    "weights": Loop("prepare.cuh", r"any \|= counting", 2),
    "weights' warps": Loop("density.cu", r"find_weight_bits\("),
    "cells": Loop("prepare.cuh", r"votes = __ballot_sync"),
    "cells' warps": Loop("density.cu", r"list_in_cells\("),
}
TO_ATOMS = {
    "voxels": Loop("support.cuh", r"v\.s = square"),
    "around": Loop("to_atoms.cuh", r"= read_group\("),
    "warps": Loop("density.cu", r"atom_gradients\("),
}


def _family(kernel):
    return TO_ATOMS if kernel.startswith("density_backward") else TO_GRID | BEFORE


def _lines(folder, name, pattern):
    # how often the lines of a source that match were executed, by any thread
    total = 0
    for file in json.loads(folder.joinpath("counts.json").read_text())["files"]:
        if Path(file["file"]).name != name:
            continue
        text = (ROOT / "cuda" / name).read_text(encoding="utf-8").splitlines()
        total += max(
            (line["count"] for line in file["lines"] if re.search(pattern, text[line["line_number"] - 1])), default=0
        )
    return total


@functools.cache
def counts():
    """Return by case how often each loop turns for one example, in warps, and at how many voxels phi was evaluated."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = [str(ROOT / "tests"), str(ROOT / "tools")]
        environment = {
            **os.environ, "CUDA_ON_CPU": name, "CUDA_ON_CPU_FLAGS": "--coverage -O0", "SHIM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        for case, (kernel, _, _) in CASES.items():
            code = RUN.format(path=path, case=case)
            subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=name)
            (data,) = folder.rglob("libdensity_float*.gcda")
            text = subprocess.run(
                ["gcov", "--json-format", "--stdout", data], capture_output=True, text=True, check=True, cwd=name
            ).stdout
            (folder / "counts.json").write_text(text)
            data.unlink()
            found[case] = {
                name: _lines(folder, loop.file, loop.line) / 32 / loop.per_turn
                for name, loop in _family(kernel).items()
            }
            inside = _lines(folder, "to_atoms.cuh", r"core = real_exp")
            found[case]["voxels inside"] = inside or 128 * found[case]["voxels"]
    return found


def loop_sizes(kernels, kernel, one_channel=False):
    """Return the instructions of a turn of each loop, without those of the loops inside, and of the rest of the kernel.

    Where the compiler made several of one, since it made two store patterns, or took a condition out, the median. The
    kernels of the atoms have a loop over voxels for each thing asked for: the longest counts, or with `one_channel`
    that of one channel and no gradients of types, the shortest.
    """
    code, labels = kernels[kernel]
    loops = sass.loops(code, labels)

    def with_(name, begin, end):
        return any(name in text for text in code[begin : end + 1])

    voxels = sass.voxel_loops(code, labels)
    around = {}  # a loop may hold several of those over voxels
    for begin, end in voxels:
        outside = [(b, e) for b, e in loops if b <= begin and end <= e and (b, e) != (begin, end)]
        if outside:
            b, e = min(outside, key=lambda loop: loop[1] - loop[0])
            nested = sum(last - first + 1 for first, last in voxels if b <= first and last <= e)
            around[b, e] = e - b + 1 - nested
    inmost = [(b, e) for b, e in loops if not any(b <= x and y <= e and (x, y) != (b, e) for x, y in loops)]
    sums = [loop for loop in inmost if loop not in voxels and with_("FADD", *loop) and not with_("FMNMX", *loop)]
    plain = [
        (b, e) for b, e in loops
        if with_("VOTE", b, e) and not with_(sass.EXPONENTIAL, b, e) and not any(b < x and y < e for x, y in voxels)
    ]  # fmt: skip
    sizes = {
        "voxels": [end - begin + 1 for begin, end in voxels],
        "around": list(around.values()),
        "listing": [e - b + 1 for b, e in plain if with_("BAR", b, e)],
        "bits": [e - b + 1 for b, e in plain if not with_("BAR", b, e)],
        "NaN": [e - b + 1 for b, e in sums],
    }
    found = {name: statistics.median_high(size) if size else 0 for name, size in sizes.items()}
    if _family(kernel) is TO_ATOMS:
        found["voxels"] = min(sizes["voxels"]) if one_channel else max(sizes["voxels"])
    rest = len(code) - sum(map(sum, sizes.values()))
    if _family(kernel) is TO_ATOMS:
        return found | {"warps": rest}
    return found | {"warps": rest / 2} | _sizes_before(kernels)  # two store patterns


def _sizes_before(kernels):
    # weight_bits has a variant for each pair of directions that is there or not; no case has their weights
    code, labels = kernels["weight_bits"]
    turns = [end - begin + 1 for begin, end in sass.loops(code, labels) if _votes(code[begin : end + 1]) == 2]
    found = {"weights": min(turns), "weights' warps": (len(code) - sum(turns)) / len(turns)}
    code, labels = kernels["list_cells"]
    turns = [end - begin + 1 for begin, end in sass.loops(code, labels) if _votes(code[begin : end + 1])]
    return found | {"cells": min(turns), "cells' warps": len(code) - min(turns)}


def _votes(code):
    return sum("VOTE" in text for text in code)


def _one_channel(case):
    # the types are one-hot: without gradients of types, an atom reads G in one channel
    return case.endswith(", coords")


class Prediction(NamedTuple):
    """Of one case on one device, times in ms."""

    n_bytes: float
    instructions: float
    memory: float
    issue: float
    expected: float


def predict(case, device, kernels):
    """Return the prediction; `kernels` are those of `sass.compiled` for the device's architecture."""
    kernel, _, n_bytes = CASES[case]
    found = counts()[case]
    sizes = loop_sizes(kernels, kernel, _one_channel(case))
    if n_bytes is None:
        n_bytes = READ + 4 * BATCH * found["voxels inside"]
    instructions = BATCH * sum(found[name] * sizes[name] for name in _family(kernel))
    memory, issue = 1e3 * n_bytes / (device.bandwidth * 1e12), 1e3 * instructions / device.slots()
    return Prediction(n_bytes, instructions, memory, issue, max(memory / REACHED_BYTES, issue / REACHED_SLOTS))


def kept(device_name):
    """Return what tools/gpu_prediction.json predicts for a device, by case, None for one it does not know."""
    known = json.loads(KEPT.read_text(encoding="utf-8"))
    for name in next(iter(known.values())):
        if all(word in device_name for word in name.removesuffix(" SXM").removesuffix(" 40 GB").split()):
            return {case: Prediction(**found[name]) for case, found in known.items()}
    return None


def table(names=("H100 SXM", "H200")):
    """Return the table of docs/gpu.md, as Markdown."""
    devices = {name: DEVICES[name] for name in names}
    kernels = {device.architecture: sass.compiled(device.architecture) for device in devices.values()}
    lines = [
        "| kernel | MB | warp instructions | "
        + " | ".join(f"{name}: bytes, slots, expected (ms)" for name in devices)
        + " |",
        "|---|---|---|" + "---|" * len(devices),
    ]
    for case in CASES:
        found = {name: predict(case, device, kernels[device.architecture]) for name, device in devices.items()}
        first = next(iter(found.values()))
        cells = [f"{one.memory:.3f}, {one.issue:.3f}, **{one.expected:.2f}**" for one in found.values()]
        lines.append(
            f"| `{case.split(',')[0]}`{case[len(case.split(',')[0]) :]} | {first.n_bytes / 1e6:.0f} "
            f"| {first.instructions / 1e6:.0f} M | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main():
    """Print the table and what was counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the predictions for all devices to this file")
    options = parser.parse_args()
    if options.json:
        predicted = {
            case: {name: predict(case, one, sass.compiled(one.architecture))._asdict() for name, one in DEVICES.items()}
            for case in CASES
        }
        Path(options.json).write_text(json.dumps(predicted, indent=1) + "\n", encoding="utf-8")
    print(table())
    print()
    for case, found in counts().items():
        kernel = CASES[case].kernel
        sizes = loop_sizes(sass.compiled(90), kernel, _one_channel(case))
        turns = ", ".join(f"{name} {BATCH * found[name]:.0f} x {sizes[name]:.0f}" for name in _family(kernel))
        print(f"{case}: turns x instructions on sm_90: {turns}")


if __name__ == "__main__":
    main()
