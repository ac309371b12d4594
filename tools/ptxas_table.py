"""Compile the CUDA kernels by NVRTC for every architecture and print what ptxas says they need.

    python tools/ptxas_table.py [--markdown] [--nvrtc LIBRARY] [75 80 ...]

Exit status 1 if a single-precision kernel spills registers. Needs no GPU; the compiler is the wheel nvidia-cuda-nvrtc.
"""

import argparse
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from typing import NamedTuple

from gridgrad.kernels.gpu import cubins, nvrtc

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
REALS = ("float", "double")


class Resources(NamedTuple):
    """What one kernel needs on one architecture."""

    kernel: str
    real: str
    architecture: int
    registers: int
    spill_stores: int
    spill_loads: int
    shared: int


def resources(real, architecture, library=None):
    """Compile the kernels, by the NVRTC that is installed or another, and return the resources of each."""
    arch = f"--gpu-architecture=sm_{architecture}"
    options = [*cubins.options(real), arch, "--ptxas-options=-v"]
    sources = cubins.sources()
    image, log = (library or nvrtc.load()).compile(sources[cubins.MAIN], cubins.MAIN, options, sources)
    if not image.startswith(b"\x7fELF"):
        raise SystemExit(f"sm_{architecture}, {real}: no cubin")
    found = []
    for part in log.split("Compiling entry function")[1:]:
        number = {
            name: int(match.group(1)) if (match := re.search(pattern, part)) else 0
            for name, pattern in {
                "registers": r"Used (\d+) registers",
                "spill_stores": r"(\d+) bytes spill stores",
                "spill_loads": r"(\d+) bytes spill loads",
                "shared": r"(\d+) bytes smem",
            }.items()
        }
        found.append(Resources(re.search(r"'(\w+)'", part).group(1), real, architecture, **number))
    return sorted(found)


def resources_by(path, real, architecture):
    """Return the same by the NVRTC at this path, if there is one."""
    return resources(real, architecture, nvrtc.open_library(path) if path else None)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="print a table for docs/gpu.md")
    parser.add_argument("--nvrtc", metavar="LIBRARY", help="path of another libnvrtc than the one that is installed")
    parser.add_argument("architectures", nargs="*", type=int, default=ARCHITECTURES)
    arguments = parser.parse_args()
    with ProcessPoolExecutor() as processes:  # threads would wait for each other in NVRTC
        found = processes.map(partial(resources_by, arguments.nvrtc), *zip(*product(REALS, arguments.architectures)))
        rows = [row for part in found for row in part]
    if arguments.markdown:
        library = nvrtc.open_library(arguments.nvrtc) if arguments.nvrtc else nvrtc.load()
        print(f"NVRTC {'.'.join(map(str, library.version()))}: registers (bytes of spill stores), shared memory\n")
        print("| kernel | precision | " + " | ".join(f"sm_{arch}" for arch in arguments.architectures) + " | shared |")
        print("|---|---|" + "---|" * (len(arguments.architectures) + 1))
        for kernel, real in dict.fromkeys((row.kernel, row.real) for row in rows):
            line = [row for row in rows if (row.kernel, row.real) == (kernel, real)]
            cells = [f"{row.registers}" + f" ({row.spill_stores})" * bool(row.spill_stores) for row in line]
            print(f"| `{kernel}` | {real} | {' | '.join(cells)} | {max(row.shared for row in line)} B |")
    else:
        for row in rows:
            spills = f"spills {row.spill_stores}/{row.spill_loads} B"
            where = f"{row.kernel:26} {row.real:6} sm_{row.architecture:<4}"
            print(f"{where} {row.registers:3} registers  {spills:16} {row.shared:6} B shared")
    return any(row.real == "float" and (row.spill_stores or row.spill_loads) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
