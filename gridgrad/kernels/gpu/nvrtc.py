"""NVRTC through ctypes: CUDA C++ to a cubin, with no toolkit, no driver and no GPU.

The library comes from the wheel ``nvidia-cuda-nvrtc``, which torch's CUDA builds depend on, or from a toolkit.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import os
from collections.abc import Mapping, Sequence
from functools import cache

__all__ = ["CompileError", "Nvrtc", "load", "open_library"]

PACKAGES = ("nvidia.cu13", "nvidia.cuda_nvrtc")  # the layout of the wheels for CUDA 13, and of those before
SONAMES = ("libnvrtc.so.13", "libnvrtc.so.12")


class CompileError(RuntimeError):
    """A kernel does not compile."""


def _wheel_libraries() -> list[str]:
    paths = []
    for package in PACKAGES:
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in spec.submodule_search_locations or () if spec is not None else ():
            paths += sorted(
                path for path in glob.glob(os.path.join(folder, "lib", "libnvrtc.so.*")) if "alt" not in path
            )
    return paths


def open_library(path: str) -> Nvrtc:
    """Load the library from a path or by its name.

    Parameters
    ----------
    path : str
        Where it is.

    Returns
    -------
    Nvrtc
        The library.

    Raises
    ------
    OSError
        If there is none.
    """
    # libnvrtc opens libnvrtc-builtins by its bare name and does not search its own folder
    for builtins in sorted(glob.glob(os.path.join(os.path.dirname(path) or ".", "libnvrtc-builtins.so.*"))):
        ctypes.CDLL(builtins)
    return Nvrtc(ctypes.CDLL(path), path)


class Nvrtc:
    """A loaded NVRTC library.

    Parameters
    ----------
    library : ctypes.CDLL
        The library.
    path : str
        Where it comes from.
    """

    def __init__(self, library: ctypes.CDLL, path: str):
        self._library = library
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        self.path = path

    def _check(self, result: int, log: str = "") -> None:
        if result:
            raise CompileError(f"NVRTC: {self._library.nvrtcGetErrorString(result).decode()}\n{log}".rstrip())

    def version(self) -> tuple[int, int]:
        """Return (major, minor).

        Returns
        -------
        tuple of int
            Version of the library.
        """
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        return major.value, minor.value

    def architectures(self) -> list[int]:
        """Return the compute capabilities that it can compile for.

        Returns
        -------
        list of int
            ``[75, 80, ...]``.
        """
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(found))
        return list(found)

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def compile(
        self, source: str, name: str, options: Sequence[str] = (), headers: Mapping[str, str] | None = None
    ) -> tuple[bytes, str]:
        """Compile one source to a cubin.

        Parameters
        ----------
        source : str
            CUDA C++.
        name : str
            Its name in messages.
        options : sequence of str
            Compiler options, with ``--gpu-architecture=sm_XX`` among them.
        headers : mapping of str to str, optional
            Texts of the files that `source` includes, by name.

        Returns
        -------
        tuple of bytes and str
            The cubin and the compiler's log.

        Raises
        ------
        CompileError
            With the log.
        """
        headers = dict(headers or {})
        program = ctypes.c_void_p()
        texts = (ctypes.c_char_p * len(headers))(*(text.encode() for text in headers.values()))
        names = (ctypes.c_char_p * len(headers))(*(header.encode() for header in headers))
        self._check(
            self._library.nvrtcCreateProgram(
                ctypes.byref(program), source.encode(), name.encode(), len(headers), texts, names
            )
        )
        try:
            values = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            result = self._library.nvrtcCompileProgram(program, len(options), values)
            log = self._bytes(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            self._check(result, log)
            return self._bytes(program, "CUBIN"), log
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))


@cache
def load() -> Nvrtc:
    """Load the library, once per process.

    Returns
    -------
    Nvrtc
        The library.

    Raises
    ------
    ImportError
        If there is none; the message says what to install.
    """
    reasons = []
    for path in [*_wheel_libraries(), *SONAMES]:
        try:
            return open_library(path)
        except OSError as error:
            reasons.append(str(error))
    raise ImportError(f"NVRTC is not installed: pip install 'nvidia-cuda-nvrtc' ({'; '.join(reasons)})")
