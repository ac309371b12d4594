"""Build what runs the CUDA kernels and their drivers without a GPU.

    python tests/cuda_on_cpu/build.py kernels driver bindings pycuda

Everything lands in ``build/cuda_on_cpu`` (or ``CUDA_ON_CPU``): the kernels compiled by g++ through cuda_shim.h, one
library a precision; a stand-in ``libcuda.so.1``; in ``site`` cuda.bindings, and PyCUDA, built against NVIDIA's headers
from PyPI and the stand-in. What is up to date is left alone. ``kernels-float`` builds one precision. To use the last
three: ``LD_LIBRARY_PATH=build/cuda_on_cpu PYTHONPATH=build/cuda_on_cpu/site``. ``CUDA_ON_CPU_FLAGS``: flags for g++.
"""

import functools
import hashlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
TARGET = Path(os.environ.get("CUDA_ON_CPU", REPOSITORY / "build" / "cuda_on_cpu"))
SITE = TARGET / "site"
ABI = runpy.run_path(str(REPOSITORY / "gridgrad" / "kernels" / "abi.py"))
REALS = tuple(ABI["PRECISIONS"].values())
PYCUDA = "pycuda==2026.1"
BINDINGS = ("cuda-bindings==13.5.0", "cuda-pathfinder==1.9.0")  # those of torch 2.14.1
# one minor version of the headers: PyCUDA is compiled against them
HEADERS = ("nvidia-cuda-runtime==13.0.96", "nvidia-cuda-profiler-api==13.0.85")


def run(*command, **options):
    """Run a command; on failure show what it said."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def stamp(name, paths, *more):
    """Return the file that records the inputs of a product, and whether they have changed."""
    digest = hashlib.sha256(repr(more).encode())
    for path in sorted(paths):
        digest.update(path.read_bytes())
    record = TARGET / f"{name}.sha256"
    return record, digest.hexdigest()


def current(record, digest, product):
    return product.exists() and record.exists() and record.read_text() == digest


def kernel_library(real):
    """Return the path of the kernels of a precision."""
    return TARGET / f"libdensity_{real}.so"


def build_kernels(reals=REALS):
    """Compile the unmodified kernels with g++, once a precision."""
    TARGET.mkdir(parents=True, exist_ok=True)
    contract = TARGET / "abi.h"
    contract.write_text(ABI["c_text"]())
    inputs = [*HERE.glob("*.h"), HERE / "kernels.cpp", *(REPOSITORY / "cuda").glob("*.cu*"), contract]
    language = ["-std=c++20", "-O2", "-g", "-Wall", "-Wno-unknown-pragmas", "-U_FORTIFY_SOURCE"]
    language += os.environ.get("CUDA_ON_CPU_FLAGS", "").split()
    flags = [*language, "-fvisibility=hidden", "-shared", "-fPIC", "-pthread", "-include", contract]
    for real in reals:
        product = kernel_library(real)
        record, digest = stamp(product.name, inputs, flags)
        if not current(record, digest, product):
            unfinished = product.with_suffix(f".{os.getpid()}")
            run("g++", *flags, f"-DREAL={real}", HERE / "kernels.cpp", "-o", unfinished)
            unfinished.replace(product)
            record.write_text(digest)


def cuda_include():
    """Return the folder of cuda.h, from PyPI's wheels."""
    return SITE / "nvidia" / "cu13" / "include"


def install(*packages):
    run(sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--no-deps", "--target", SITE, *packages)


def build_driver():
    """Compile driver.c plus a refusing stub for every other function that cuda.h declares."""
    TARGET.mkdir(parents=True, exist_ok=True)
    product = TARGET / "libcuda.so.1"
    record, digest = stamp(product.name, [HERE / "driver.c"], HEADERS)
    if current(record, digest, product):
        return
    if not (cuda_include() / "cuda.h").exists():
        install(*HEADERS)
    headers = ["-include", "cuda.h", "-include", "cudaProfiler.h", "-x", "c"]
    declarations = run("gcc", "-E", "-P", f"-I{cuda_include()}", *headers, os.devnull)
    declared = set(re.findall(r"\bCUresult\s+(cu\w+)\s*\(", declarations))
    written = set(re.findall(r"^CUresult (cu\w+)\(", (HERE / "driver.c").read_text(), re.M))
    stubs = "".join(f'CUresult {name}(void) {{ return refuse("{name}"); }}\n' for name in sorted(declared - written))
    source = TARGET / "driver_stubs.h"
    source.write_text(stubs)
    flags = f"-shared -fPIC -O2 -Wall -Wl,-soname,libcuda.so.1 -I{TARGET}".split()
    run("gcc", *flags, HERE / "driver.c", "-o", product, "-ldl", "-pthread")
    link = TARGET / "libcuda.so"
    link.unlink(missing_ok=True)
    link.symlink_to(product.name)
    record.write_text(digest)


def build_bindings():
    """Install cuda.bindings into ``site``."""
    build_driver()
    record, digest = stamp("bindings", [], BINDINGS, sys.version)
    if not current(record, digest, SITE / "cuda" / "bindings"):
        install(*BINDINGS)
        record.write_text(digest)


def build_pycuda():
    """Build PyCUDA from source into ``site``, with no toolkit: its settings file says where things are."""
    build_driver()
    record, digest = stamp("pycuda", [], PYCUDA, sys.version)
    if current(record, digest, SITE / "pycuda"):
        return
    home = TARGET / "home"
    home.mkdir(exist_ok=True)
    settings = {
        "CUDA_ROOT": str(SITE / "nvidia" / "cu13"),
        "CUDA_INC_DIR": [str(cuda_include())],
        "CUDADRV_LIB_DIR": [str(TARGET)],
        "CUDA_ENABLE_CURAND": False,
        "CXXFLAGS": ["-O0", "-w"],
    }
    (home / ".aksetup-defaults.py").write_text("".join(f"{name} = {value!r}\n" for name, value in settings.items()))
    wheels = TARGET / f"wheels-{sys.implementation.cache_tag}"
    if not list(wheels.glob("pycuda-*.whl")):
        environment = {**os.environ, "HOME": str(home), "PIP_NO_CACHE_DIR": "1"}
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, PYCUDA, env=environment)
    needs = ["pytools", "mako", "markupsafe", "platformdirs", "siphash24", "typing-extensions"]
    install(*wheels.glob("pycuda-*.whl"), *needs)
    record.write_text(digest)


BUILDERS = {"kernels": build_kernels, "driver": build_driver, "bindings": build_bindings, "pycuda": build_pycuda}
ONE_PRECISION = {f"kernels-{real}": functools.partial(build_kernels, (real,)) for real in REALS}

if __name__ == "__main__":
    for product in sys.argv[1:] or BUILDERS:
        (BUILDERS | ONE_PRECISION)[product]()
