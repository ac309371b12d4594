"""Predict the times of the CUDA kernels without a GPU: bytes, dynamic warp instructions, the two floors.

    python tools/gpu_prediction.py [--json FILE]

The workload is that of tools/gpu_workload.py. How often the loops run is counted while one of its examples runs on the
kernels compiled for the CPU (gcov counts lines); how many instructions a turn takes is counted in the machine code
(tools/sass.py), without those that came from lines, or from calls inlined there, that the run never reached. Both are
facts; that a turn takes all others, that what is outside of the loops runs once a warp, and the share of the peaks that
is reached, are assumptions: a prediction can be wrong.
"""

import argparse
import functools
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import sass
from gpu_workload import BATCH, CASES, READ

from gridgrad.kernels.gpu.preparation import Limits

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).with_suffix(".json")
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


RUN = """
import sys
sys.path[:0] = {path!r}
from cuda_on_cpu.shim_kernels import ShimKernels
from gridgrad.kernels import cpu
import gpu_prediction, gpu_workload
cpu.KERNELS["float32"] = ShimKernels("float32", limits=gpu_prediction.LIMITS)
gpu_workload.CASES[{case!r}].call(**gpu_workload.workload(1, "cpu"))
"""


# of one example, which is counted, as if it were among the others of the batch
LIMITS = Limits(weights=Limits().weights // BATCH, tests=Limits().tests // BATCH)


class Line(NamedTuple):
    """A line of the text that every turn of a loop executes once a thread, or `per_turn` times, found by a pattern."""

    file: str
    pattern: str
    per_turn: int = 1
    function: str = ""


class Region(NamedTuple):
    """Lines of a function, from one that matches to one that matches, and that which all threads execute once a turn.

    ragged: only the first threads of a block execute it, up to a warp that does so in part.
    """

    file: str
    function: str
    first: str
    last: str
    turn: str
    ragged: bool = False
    copies: int = 1  # that the compiler made of the line


# what is inside comes first; what lies in none is executed once a warp
TO_GRID = {
    "channels": Region("to_grid.cuh", "add_atom", "real weight = w", r"\+= weight", "real weight = w", False, 4),
    "pairs": Region("to_grid.cuh", "fill_item", r"while \(todo", "todo &=", "todo &="),
    "around": Region("to_grid.cuh", "fill_item", r"for \(int base", "todo = ", "todo = "),
    "tests": Region("tile.cuh", "list_atoms", "int place", r"is_near\(", r"is_near\(", True),
    "listing": Region("tile.cuh", "list_atoms", r"for \(; begin", "begin . threads;", "votes = "),
    "near": Region("channels.cuh", "find_near", r"for \(int base", r"counting \|= tile", "votes = "),
    "lists": Region("to_grid.cuh", "fill_item", r"list_atoms\(", "found = -1", "listed = begin"),
    "bits": Region("to_grid.cuh", "fill_item", r"if \(found != word \|", "found = word", "found = word"),
    "NaN": Region("to_grid.cuh", "fill_item", r"find_nan_bits\(", r"find_nan_bits\(", r"find_nan_bits\("),
    "groups": Region(
        "to_grid.cuh", "fill_item", r"for \(int k_begin", r"first_weight \+=", r"k_begin % NAN_CHANNELS =="
    ),
    "warps": Region("to_grid.cuh", "to_grid", "shared", r"fill_item<", r"open_tile\("),
}
CELLS = {
    "list_cells: atoms listed": Region("prepare.cuh", "list_in_cells", r"for \(; bits", r"listed\[1 ", r"for \(; bits"),
    "list_cells: tests": Region("prepare.cuh", "list_in_cells", "int ordinal", "bits = votes", "votes = "),
    "list_cells: warps": Region("prepare.cuh", "list_in_cells", "item", "int lane", "int lane"),
}
BEFORE = {  # the tiles
    "weight_bits: turns": Line("prepare.cuh", r"any \|= counting", 2),
    "weight_bits: warps": Line("density.cu", r"find_weight_bits\("),
}
TO_ATOMS = {
    "rows": Line("support.cuh", r"next_row\(walk, a"),  # 32 of them
    "pieces, put": Line("support.cuh", r"walk\.n \+= "),
    "warps": Line("density.cu", r"atom_gradients\("),
}
PASSES = ("backward_theta", "backward_weights", "backward_backward_theta", "backward_backward_weights")


def _family(kernel):
    return TO_ATOMS if kernel.startswith("density_backward") else BEFORE


@functools.cache
def _text(name):
    return ("", *(ROOT / "cuda" / name).read_text(encoding="utf-8").splitlines())


@functools.cache
def _body(name, function):
    # the lines of a function
    text = _text(name)
    first = next(n for n, line in enumerate(text) if re.search(rf"\b{function}\(", line))
    return range(first, next(n for n in range(first, len(text)) if text[n] == "}") + 1)


def _span(name, function, first, last):
    # the lines of a function from one that matches to the next that matches another
    lines, text = _body(name, function), _text(name)
    begin = next(n for n in lines if re.search(first, text[n]))
    return range(begin, next(n for n in lines if n >= begin and re.search(last, text[n])) + 1)


@functools.cache
def executed():
    """Return by case how often each line was executed, by any thread, for one example: {(file, line): count}."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = [str(ROOT / "tests"), str(ROOT / "tools")]
        environment = {
            **os.environ, "CUDA_ON_CPU": name, "CUDA_ON_CPU_FLAGS": "--coverage -O0", "SHIM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        for case in CASES:
            code = RUN.format(path=path, case=case)
            subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=name)
            (data,) = folder.rglob("libdensity_float*.gcda")
            text = subprocess.run(
                ["gcov", "--json-format", "--stdout", data], capture_output=True, text=True, check=True, cwd=name
            ).stdout
            data.unlink()
            lines = found[case] = {}
            for file in json.loads(text)["files"]:
                for line in file["lines"]:  # once for each instance of a template
                    at = Path(file["file"]).name, line["line_number"]
                    lines[at] = lines.get(at, 0) + line["count"]
    return found


def _count(case, line):
    # how often a loop turns, in warps
    body = _body(line.file, line.function) if line.function else range(len(_text(line.file)))
    matching = [n for n in body if re.search(line.pattern, _text(line.file)[n])]
    return max((executed()[case].get((line.file, n), 0) for n in matching), default=0) / 32 / line.per_turn


@functools.cache
def counts():
    """Return by case how often each loop turns for one example, in warps, and at how many voxels phi was evaluated."""
    found = {}
    for case, (kernel, _, _) in CASES.items():
        found[case] = {name: _count(case, line) for name, line in _family(kernel).items()}
        for name in PASSES if _family(kernel) is TO_ATOMS else ():
            found[case][name] = _count(case, Line("to_atoms.cuh", r"if \(!any\)", 1, name))
            found[case][f"passes: {name}"] = _count(case, Line("to_atoms.cuh", r"void \w+_theta|walk = ", 1, name))
    return found


def live(code, case):
    """Return for each instruction whether the case reaches all the lines that it came from."""
    lines = executed()[case]
    end = sass.end_of(code)
    return [at < end and all(lines.get(line, 1) for line in chain) for at, chain in enumerate(code.origins)]


def parts(kernels, case):
    """Return what a case executes, in warps: by name (turns, instructions of a turn), the loops inside not included."""
    in_warps, code = counts()[case], kernels[CASES[case].kernel]
    alive = live(code, case)
    if _family(CASES[case].kernel) is TO_ATOMS:
        return _parts_of_atoms(code, alive, in_warps)
    cells = _parts_by_lines(kernels["list_cells"], CELLS, case)
    return _parts_by_lines(code, TO_GRID, case) | _parts_before(kernels, in_warps) | cells


def _parts_before(kernels, in_warps):
    # weight_bits has a variant for each pair of directions that is there or not; no case has their weights
    bits = kernels["weight_bits"]
    votes = [sum("VOTE" in text for text in bits.instructions[b : e + 1]) for b, e in sass.loops(bits)]
    turns = [e - b + 1 for (b, e), found in zip(sass.loops(bits), votes, strict=True) if found == 2]
    sizes = {"weight_bits: turns": min(turns), "weight_bits: warps": (sass.end_of(bits) - sum(turns)) / len(turns)}
    return {name: (in_warps[name], size) for name, size in sizes.items()}


def _turns(region, lines):
    # how often a warp executes a region
    (at, *_) = (n for n in _body(region.file, region.function) if re.search(region.turn, _text(region.file)[n]))
    turns = lines.get((region.file, at), 0) / 32 / region.copies
    (tiles,) = {lines.get(("tile.cuh", n), 0) for n in _span("tile.cuh", "open_tile", "n_candidates =", "tile.n;")}
    return turns + tiles if region.ragged else turns


def _parts_by_lines(code, regions, case):
    # An instruction is executed as often as its region, but not by more warps than threads execute one of its lines; a
    # basic block as often as most of its instructions, some of which come from elsewhere. So a count is rather too high
    lines = executed()[case]
    spans = {name: {(one.file, n) for n in _span(one.file, *one[1:4])} for name, one in regions.items()}
    turns = {name: _turns(one, lines) for name, one in regions.items()}
    last, found = list(regions)[-1], dict.fromkeys(regions, 0)
    for begin, end in sass.blocks(code):
        names, often = [], []
        for chain in code.origins[begin:end]:
            names.append(next((name for name, span in spans.items() if span & set(chain)), last))
            often.append(min(turns[names[-1]], *(lines.get(line, math.inf) for line in chain), math.inf))
        sure = [n for n, text in zip(often, code.instructions[begin:end], strict=True) if not text.startswith("@")]
        if often.count(0) <= (end - begin) / 2:
            found[statistics.mode(names)] += statistics.median_high(sure or often) * (end - begin)
    return {name: (turns[name], total / (turns[name] or 1)) for name, total in found.items()}


def _parts_of_atoms(code, alive, in_warps):
    # the passes over the support by the lines that the instructions came from
    voxels = sass.voxel_loops(code)
    row = {("support.cuh", n) for n in _body("support.cuh", "next_row")}
    row |= {("support.cuh", n) for n in _span("support.cuh", "next_piece", r"votes == 0", "continue;")}
    put = {("support.cuh", n) for n in _span("support.cuh", "next_piece", r"if \(puts\)", r"walk\.top \+=")}
    both = {("support.cuh", n) for n in _span("support.cuh", "next_piece", r"while \(", r"votes = ")}
    bodies = {name: {("to_atoms.cuh", n) for n in _body("to_atoms.cuh", name)} for name in PASSES}
    total = sum(in_warps[name] for name in PASSES) or 1
    found = {}
    for at, chain in enumerate(code.origins):
        if not alive[at]:
            continue
        lines = set(chain)
        of = next((name for name, body in bodies.items() if lines & body), None)
        share = in_warps[of] / total if of else 0
        if of is None:
            part, turns = "warps", in_warps["warps"]
        elif not any(begin <= at <= end for begin, end in voxels):
            part, turns = f"passes: {of}", in_warps[f"passes: {of}"]
        elif lines & row:
            part, turns = f"rows: {of}", share * in_warps["rows"]
        elif lines & put:
            part, turns = f"pieces, put: {of}", share * in_warps["pieces, put"]
        elif lines & both:
            part, turns = f"rows or pieces: {of}", share * (in_warps["rows"] + in_warps["pieces, put"])
        else:
            part, turns = f"pieces: {of}", in_warps[of]
        found[part] = turns, found.get(part, (0, 0))[1] + 1
    return found


def _voxels_read(case):
    # by all threads, of G, 16 bytes at a time
    return 4 * 32 * _count(case, Line("support.cuh", r"const Packed packed = ", 1))


class Prediction(NamedTuple):
    """Of one case on one device, times in ms."""

    n_bytes: float
    instructions: float
    memory: float
    issue: float
    expected: float


def predict(case, device, kernels):
    """Return the prediction; `kernels` are those of `sass.compiled` for the device's architecture."""
    n_bytes = CASES[case].n_bytes
    if n_bytes is None:
        n_bytes = READ + 4 * BATCH * _voxels_read(case)
    instructions = BATCH * sum(turns * size for turns, size in parts(kernels, case).values())
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
    for case in CASES:
        found = parts(sass.compiled(90), case)
        turns = ", ".join(f"{name} {BATCH * turns:.0f} x {size:.0f}" for name, (turns, size) in found.items())
        print(f"{case}: turns x instructions on sm_90: {turns}")


if __name__ == "__main__":
    main()
