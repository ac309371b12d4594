"""The OpenMP of the process, for the kernels, which are linked with none."""

import ctypes
import sys

# a function that compiled kernels call, and the library that has it
FUNCTION, LIBRARY = "GOMP_parallel", "libgomp.so.1"
if sys.platform == "darwin":
    FUNCTION, LIBRARY = "__kmpc_fork_call", "libomp.dylib"


def share() -> None:
    """Let the kernels find the OpenMP that is loaded, or else the system's.

    torch's wheels bring one, under names that differ; a second would start threads beside those of the first.

    Raises
    ------
    ImportError
        If there is none.
    """
    if hasattr(ctypes.CDLL(None), FUNCTION):
        return
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise ImportError(f"OpenMP: {error}; expected torch or the system to bring {LIBRARY}") from error
