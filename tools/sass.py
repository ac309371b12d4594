"""What the compiler made of the CUDA kernels: machine instructions and loops, by nvdisasm, without a GPU.

    python tools/sass.py [75 80 ...]        instructions of the inner loop of each kernel, single precision

The compiler is the wheel nvidia-cuda-nvrtc, the disassembler the wheel nvidia-cuda-nvdisasm or a toolkit's.
"""

import argparse
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile

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


def disassemble(image):
    """Return the instructions of each kernel of a cubin: (address, text) in order."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(image)
        file.flush()
        text = subprocess.run([nvdisasm(), "-c", file.name], capture_output=True, text=True, check=True).stdout
    found = {}
    for part in re.split(r"^\s*\.section\s+\.text\.", text, flags=re.M)[1:]:
        name = re.match(r"\w+", part).group()
        labels, instructions = {}, []
        for line in part.splitlines():
            if label := re.match(r"(\.L_x_\d+):", line):
                labels[label.group(1)] = len(instructions)
            elif instruction := re.search(r"/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", line):
                instructions.append(instruction.group(2))
        found[name] = instructions, labels
    return found


def loops(instructions, labels):
    """Return the loops, (first, last) instruction, found by branches that lead back."""
    found = {}
    for at, text in enumerate(instructions):
        target = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", text)
        if target and labels[target.group(1)] < at:
            begin = labels[target.group(1)]
            found[begin] = max(at, found.get(begin, at))
    return list(found.items())


def voxel_loops(instructions, labels):
    """Return the loops over voxels: those with an exponential and no such loop inside."""
    exponentials = [at for at, text in enumerate(instructions) if EXPONENTIAL in text]
    around = [loop for loop in loops(instructions, labels) if any(loop[0] <= at <= loop[1] for at in exponentials)]
    return [
        (begin, end)
        for begin, end in around
        if not any(begin <= first and last <= end and (first, last) != (begin, end) for first, last in around)
    ]


@functools.cache
def compiled(architecture, real="float"):
    """Return the instructions and labels of each kernel for an architecture."""
    sources = cubins.sources()
    options = [*cubins.options(real), f"--gpu-architecture=sm_{architecture}"]
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
            sizes = ", ".join(str(end - begin + 1) for begin, end in voxel_loops(*kernels[name]))
            cells.append(f"{sizes or '-'} ({len(kernels[name][0])})")
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
