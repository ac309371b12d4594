"""What the compiler made of the CUDA kernels: machine instructions and loops, by nvdisasm, without a GPU.

    python tools/sass.py [75 80 ...]        instructions of the inner loop of each kernel, single precision

The compiler is the wheel nvidia-cuda-nvrtc, the disassembler the wheel nvidia-cuda-nvdisasm or a toolkit's.
"""

import argparse
import functools
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from typing import NamedTuple

from ptxas_table import ARCHITECTURES

from gridgrad.kernels.abi import GPU_KERNELS
from gridgrad.kernels.gpu import cubins, nvrtc

EXPONENTIAL = "MUFU.EX2"  # of the core of the profile: what marks the loop over voxels


@functools.cache
def nvdisasm():
    """Return the path of the disassembler, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec is not None else ():
        for part in ("cu13", "cuda_nvdisasm"):
            path = os.path.join(folder, part, "bin", "nvdisasm")
            if os.path.exists(path):
                return path
    return shutil.which("nvdisasm")


class Code(NamedTuple):
    """The machine code of a kernel.

    Attributes
    ----------
    instructions : list of str
        In order.
    labels : dict of int
        The instruction that follows each label.
    origins : list of tuple
        Of each instruction, (file, line) of the text that it came from, and of the calls that were inlined around it.
    """

    instructions: list
    labels: dict
    origins: list


def disassemble(image):
    """Return the `Code` of each kernel of a cubin; origins are there if it was compiled with -lineinfo."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(image)
        file.flush()
        text = subprocess.run([nvdisasm(), "-c", "-gi", file.name], capture_output=True, text=True, check=True).stdout
    found = {}
    for part in re.split(r"^\s*\.section\s+\.text\.", text, flags=re.M)[1:]:
        name = re.match(r"\w+", part).group()
        code, chain, fresh = Code([], {}, []), (), False
        for line in part.splitlines():
            if label := re.match(r"(\.L_x_\d+):", line):
                code.labels[label.group(1)] = len(code.instructions)
            elif origin := re.match(r'\s*//## File "(.*?)", line (\d+)', line):
                here = os.path.basename(origin.group(1)), int(origin.group(2))
                chain, fresh = (*chain, here) if fresh else (here,), True
            elif instruction := re.search(r"/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", line):
                code.instructions.append(instruction.group(2))
                code.origins.append(chain)
                fresh = False
        found[name] = code
    return found


def end_of(code):
    """Return the number of instructions up to the last exit; what follows is for warps that have come apart."""
    return 1 + max(at for at, text in enumerate(code.instructions) if re.search(r"\bEXIT\b", text))


def blocks(code):
    """Return the basic blocks, (first, end): instructions that are executed equally often."""
    end = end_of(code)
    starts = {0, *(at for at in code.labels.values() if at < end)}
    ends = re.compile(r"\b(BRA|BRX|JMP|CALL|RET|EXIT|BREAK|BSYNC)\b")
    starts |= {at + 1 for at, text in enumerate(code.instructions[: end - 1]) if ends.search(text)}
    return list(itertools.pairwise([*sorted(starts), end]))


def loops(code):
    """Return the loops, (first, last) instruction, found by branches that lead back."""
    found = {}
    for at, text in enumerate(code.instructions[: end_of(code)]):
        target = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", text)
        if target and code.labels[target.group(1)] < at:
            begin = code.labels[target.group(1)]
            found[begin] = max(at, found.get(begin, at))
    return list(found.items())


def voxel_loops(code):
    """Return the loops over voxels: those with an exponential and no such loop inside."""
    exponentials = [at for at, text in enumerate(code.instructions) if EXPONENTIAL in text]
    around = [loop for loop in loops(code) if any(loop[0] <= at <= loop[1] for at in exponentials)]
    return [
        (begin, end)
        for begin, end in around
        if not any(begin <= first and last <= end and (first, last) != (begin, end) for first, last in around)
    ]


@functools.cache
def compiled(architecture, real="float"):
    """Return the `Code` of each kernel for an architecture."""
    sources = cubins.sources()
    options = [*cubins.options(real), f"--gpu-architecture=sm_{architecture}", "-lineinfo"]
    image = nvrtc.load().compile(sources[cubins.MAIN], cubins.MAIN, options, sources)[0]
    return {name: code for name, code in disassemble(image).items() if name in GPU_KERNELS}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("architectures", nargs="*", type=int, default=ARCHITECTURES)
    arguments = parser.parse_args()
    columns = {architecture: compiled(architecture) for architecture in arguments.architectures}
    print(
        f"NVRTC {'.'.join(map(str, nvrtc.load().version()))}: instructions of the loops over voxels (of the kernel)\n"
    )
    print("| kernel | " + " | ".join(f"sm_{architecture}" for architecture in columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name in GPU_KERNELS:
        cells = []
        for kernels in columns.values():
            sizes = ", ".join(str(end - begin + 1) for begin, end in voxel_loops(kernels[name]))
            cells.append(f"{sizes or '-'} ({len(kernels[name].instructions)})")
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
