"""Build the CPU kernels: pyx/density.pyx becomes C once and is compiled per precision and SIMD level.

The modules use Python's limited API of 3.11, so one wheel serves every later Python. They are not linked with OpenMP:
gridgrad.kernels.cpu puts at their disposal the one that torch has loaded, whatever its file is called.
"""

import os
import platform
import runpy
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

ROOT = Path(__file__).parent
GENERATED = Path("build") / "cython"
DEPENDS = ["setup.py", "gridgrad/kernels/abi.py", *(path.as_posix() for path in sorted(Path("pyx").glob("*.p*")))]
ABI = runpy.run_path(str(ROOT / "gridgrad" / "kernels" / "abi.py"))
X86 = sysconfig.get_platform().endswith(("x86_64", "amd64"))
LEVELS = {"baseline": []}
if X86:
    LEVELS["avx2"] = ["-mavx2", "-mfma"]
    LEVELS["avx512"] = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"]
# NaN and infinity keep their meaning; only errno and floating-point traps are given up, which vectorised selects need.
# A part of a kernel that is called once stays a function: its caller would want more registers than there are.
FLAGS = [
    *([] if "-O" in os.environ.get("CFLAGS", "") else ["-O3"]),
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-semantic-interposition",
    "-fno-inline-functions-called-once",
    "--param=max-completely-peel-times=8",
]
OPENMP = ["-Xpreprocessor", "-fopenmp"] if sys.platform == "darwin" else ["-fopenmp"]
ASKED = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED")  # written into the source, which they change
LIMITED_API = "0x030B0000"


class BuildKernels(build_ext):
    """Translate the kernels once, then compile the variants side by side."""

    def initialize_options(self):
        super().initialize_options()
        self.parallel = os.cpu_count()

    def finalize_options(self):
        super().finalize_options()
        if self.editable_mode:  # a folder that stays, so that what is up to date is not compiled again
            self.build_lib = self.build_temp = str(Path("build") / "editable")

    def run(self):
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            raise PlatformError(
                f"python: {platform.python_version()}, free-threaded; expected one with the GIL: "
                "the kernels use the limited API, which a free-threaded Python does not have"
            )
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
            asked = " ".join(os.environ.get(variable, "") for variable in ASKED)
            text = f'/* {asked} */\n#define PyInit_density PyInit_{name}\n{ABI["c_text"]()}#include "pyx/density.c"\n'
            if not source.exists() or source.read_text() != text:
                source.write_text(text)
        super().run()
        if self.inplace:
            for extension in self.extensions:  # Python prefers what an earlier build named after its version
                module = Path(self.get_ext_fullpath(extension.name))
                for stale in set(module.parent.glob(f"{module.name.partition('.')[0]}.*")) - {module}:
                    stale.unlink()


def kernels():
    """Return one extension per precision and SIMD level, named gridgrad.kernels.cpu.density_{precision}_{level}."""
    variants = []
    for precision, real in ABI["PRECISIONS"].items():
        for level, flags in LEVELS.items():
            name = f"density_{precision}_{level}"
            variants.append(
                Extension(
                    f"gridgrad.kernels.cpu.{name}",
                    [(GENERATED / f"{name}.c").as_posix()],
                    include_dirs=[GENERATED.as_posix()],
                    depends=DEPENDS,
                    define_macros=[("REAL", real), ("Py_LIMITED_API", LIMITED_API)],
                    py_limited_api=True,
                    extra_compile_args=[*FLAGS, *flags, *OPENMP],
                )
            )
    return variants


setup(ext_modules=kernels(), cmdclass={"build_ext": BuildKernels}, options={"bdist_wheel": {"py_limited_api": "cp311"}})
