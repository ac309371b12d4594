"""Build the CPU kernels: pyx/density.pyx becomes C once and is compiled per precision and SIMD level."""

import os
import platform
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
GENERATED = Path("build") / "cython"
PRECISIONS = {"float32": "float", "float64": "double"}
X86 = platform.machine() in ("x86_64", "AMD64")
LEVELS = {"baseline": []}
if X86:
    LEVELS["avx2"] = ["-mavx2", "-mfma"]
    LEVELS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]
# NaN and infinity keep their meaning; only errno and floating-point traps are given up, which vectorised selects need
FLAGS = [
    "-O3",
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-semantic-interposition",
    "--param=max-completely-peel-times=8",
]
OPENMP_COMPILE, OPENMP_LINK = ["-fopenmp"], ["-fopenmp"]
if sys.platform == "darwin":
    OPENMP_COMPILE, OPENMP_LINK = ["-Xpreprocessor", "-fopenmp"], ["-lomp"]


class BuildKernels(build_ext):
    """Translate the kernels once, then compile the variants side by side."""

    def initialize_options(self):
        super().initialize_options()
        self.parallel = os.cpu_count()

    def run(self):
        directives = {
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
        }
        cythonize(
            Extension("density", ["pyx/density.pyx"]),
            include_path=["pyx"],
            build_dir=str(GENERATED),
            compiler_directives=directives,
        )
        for extension in self.extensions:
            source = ROOT / extension.sources[0]
            name = extension.name.rpartition(".")[2]
            text = f'#define PyInit_density PyInit_{name}\n#include "pyx/density.c"\n'
            source.write_text(text)
        super().run()


def kernels():
    """Return one extension per precision and SIMD level, named gridgrad.kernels.cpu.density_{precision}_{level}."""
    variants = []
    for precision, real in PRECISIONS.items():
        for level, flags in LEVELS.items():
            name = f"density_{precision}_{level}"
            variants.append(
                Extension(
                    f"gridgrad.kernels.cpu.{name}",
                    [(GENERATED / f"{name}.c").as_posix()],
                    include_dirs=[GENERATED.as_posix()],
                    depends=[path.as_posix() for path in sorted(Path("pyx").glob("*.p*"))],
                    define_macros=[("REAL", real)],
                    extra_compile_args=[*FLAGS, *flags, *OPENMP_COMPILE],
                    extra_link_args=OPENMP_LINK,
                )
            )
    return variants


setup(ext_modules=kernels(), cmdclass={"build_ext": BuildKernels})
