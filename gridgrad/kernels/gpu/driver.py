"""The CUDA driver behind one small interface: PyCUDA where it is installed, else NVIDIA's cuda.bindings.

Torch's CUDA wheels bring cuda.bindings from 2.10 on. ``GRIDGRAD_CUDA_DRIVER`` (``pycuda`` or ``cuda.bindings``) forces
one. Nothing here imports either before `driver` or `choices` is called.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from importlib import import_module
from typing import NamedTuple, Protocol

__all__ = ["NAMES", "Choice", "Context", "Driver", "NoDriverError", "choices", "driver"]

_IMPLEMENTATIONS = {
    "pycuda": "gridgrad.kernels.gpu.driver_pycuda",
    "cuda.bindings": "gridgrad.kernels.gpu.driver_bindings",
}
NAMES = tuple(_IMPLEMENTATIONS)
"""What ``GRIDGRAD_CUDA_DRIVER`` may be, in order of preference."""


class NoDriverError(ImportError):
    """A package that cannot drive a GPU here.

    Parameters
    ----------
    reason : str
        Why not.
    installed : bool
        Whether the package is there.
    """

    def __init__(self, reason: str, installed: bool = True):
        super().__init__(reason)
        self.installed = installed


class Context(Protocol):
    """The primary context of a device, which torch uses too. No thread has it pushed after a call.

    Attributes
    ----------
    name : str
        Of the device.
    architecture : int
        Compute capability, ``90`` for 9.0.
    any_stream : bool
        Whether `launch` takes the address of any stream, torch's among them; otherwise None, which is the default
        stream, or what `side_stream` returned.
    """

    name: str
    architecture: int
    any_stream: bool

    def current(self) -> AbstractContextManager[None]:
        """Push the context on this thread, and pop it at the end."""

    def load(self, image: bytes) -> object:
        """Return the module of a cubin; MemoryError if the device has no room for it."""

    def function(self, module: object, name: str, n_bytes: int) -> object:
        """Return a kernel whose packed arguments have that many bytes."""

    def constant(self, module: object, name: str) -> bytes:
        """Return the value of a global variable."""

    def mapped_words(self, count: int) -> tuple[memoryview, int]:
        """Return int32 zeros in host memory and the address by which kernels write there."""

    def side_stream(self) -> tuple[object, int]:
        """Return a new stream that does not wait for the default one, for `launch`, and its address."""

    def launch(self, function: object, blocks: int, threads: int, stream: object, arguments: bytes) -> None:
        """Launch on a one-dimensional grid."""

    def synchronize(self) -> None:
        """Wait for the device."""

    def close(self) -> None:
        """Give back modules, memory and the context, at exit."""


class Driver(Protocol):
    """A package that speaks to libcuda.

    Attributes
    ----------
    name : str
        With its version.
    """

    name: str

    def devices(self) -> list[tuple[str, int]]:
        """Return names and compute capabilities, without making a context."""

    def context(self, ordinal: int) -> Context:
        """Retain the primary context of a device."""


class Choice(NamedTuple):
    """What one package can do here.

    Attributes
    ----------
    driver : Driver or None
        None: it cannot be used.
    installed : bool
        Whether the package is there.
    says : str
        Its name with its version, or why it cannot be used.
    """

    driver: Driver | None
    installed: bool
    says: str


def _asked() -> tuple[str, ...]:
    asked = os.environ.get("GRIDGRAD_CUDA_DRIVER", "")
    if asked not in ("", *NAMES):
        raise ValueError(f"GRIDGRAD_CUDA_DRIVER: {asked!r}; expected {' or '.join(map(repr, NAMES))}")
    return (asked,) if asked else NAMES


@cache
def _load(name: str) -> Choice:
    try:
        found = import_module(_IMPLEMENTATIONS[name]).load()
    except NoDriverError as error:
        return Choice(None, error.installed, str(error))
    return Choice(found, True, found.name)


def _tried() -> Iterator[tuple[str, Choice]]:
    # those that come into question up to the first that can be used
    for name in _asked():
        choice = _load(name)
        yield name, choice
        if choice.driver is not None:
            return


def choices() -> dict[str, str]:
    """Return what each package says: which one is in use, and why not the other.

    Returns
    -------
    dict of str
        By name, those of `NAMES`.

    Raises
    ------
    ValueError
        If ``GRIDGRAD_CUDA_DRIVER`` is unknown.
    """
    asked, used = _asked(), None
    found = {}
    for name in NAMES:
        choice = _load(name)
        if name not in asked:
            found[name] = f"GRIDGRAD_CUDA_DRIVER asks for {asked[0]}"
        elif choice.driver is not None and used is None:
            found[name], used = f"in use: {choice.says}", name
        elif choice.driver is not None:
            found[name] = f"{choice.says}; {used} comes first"
        else:
            found[name] = choice.says
    return found


def driver() -> Driver:
    """Return the driver in use, loaded and initialised at the first call.

    Returns
    -------
    Driver
        PyCUDA, or cuda.bindings where PyCUDA is not installed or does not load.

    Raises
    ------
    ImportError
        If neither can be used; the message says what to install.
    RuntimeError
        If the driver finds no device.
    ValueError
        If ``GRIDGRAD_CUDA_DRIVER`` is unknown.
    """
    tried = dict(_tried())
    for choice in tried.values():
        if choice.driver is not None:
            return choice.driver
    if any(choice.installed for choice in tried.values()):
        reasons = "; ".join(f"{name}: {choice.says}" for name, choice in tried.items())
        raise ImportError(f"CUDA tensors need a driver that loads ({reasons}; docs/gpu.md)")
    raise ImportError(
        f"CUDA tensors need {' or '.join(tried)}, which is not installed: pip install 'cuda-bindings' "
        "or pip install 'gridgrad[cuda]' (docs/gpu.md)"
    )
