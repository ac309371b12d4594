"""CUDA devices through PyCUDA: primary contexts, loaded kernels, launches by address. Knows nothing of torch.

Nothing here touches PyCUDA or a driver before the first `Device`. A context is pushed around each call and popped
after it, so that any thread may launch, and none ends with a context pushed.
"""

from __future__ import annotations

import atexit
import importlib
import os
from collections.abc import Callable
from functools import cache, partial
from threading import Lock
from types import ModuleType
from typing import NamedTuple, Protocol

from gridgrad.kernels import abi
from gridgrad.kernels.gpu import cubins

__all__ = ["DefaultStream", "Device", "Kernels", "driver", "eager"]

_INDEX = abi.FAULTS.index("index")


@cache
def driver() -> ModuleType:
    """Import and initialise PyCUDA's driver module.

    Returns
    -------
    module
        ``pycuda.driver``.

    Raises
    ------
    ImportError
        If PyCUDA is not installed or finds no driver library; the message says what to install.
    RuntimeError
        If the driver finds no device.
    """
    try:
        module = importlib.import_module("pycuda.driver")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "pycuda":
            raise ImportError(
                "CUDA tensors need PyCUDA, which is not installed: pip install 'gridgrad[cuda]' "
                "(how to get it built, also without a CUDA toolkit: docs/gpu.md)"
            ) from error
        raise ImportError(
            f"PyCUDA is installed but does not load ({error}). It needs the NVIDIA driver's libcuda.so.1 and has to be "
            "built for this Python and numpy: pip install --force-reinstall --no-cache-dir pycuda (docs/gpu.md)"
        ) from error
    try:
        module.init()
    except module.Error as error:
        raise RuntimeError(f"the NVIDIA driver finds no usable device: {error}") from error
    return module


class Module(NamedTuple):
    """The loaded kernels of a precision."""

    functions: dict
    launches: dict[str, abi.Launch]


class Device:
    """A device, its primary context and the kernels loaded into it.

    Parameters
    ----------
    ordinal : int
        Number of the device, the same as torch's.
    """

    def __init__(self, ordinal: int):
        drv = driver()
        device = drv.Device(ordinal)
        major, minor = device.compute_capability()
        self.ordinal = ordinal
        self.name = device.name()
        self.architecture = 10 * major + minor
        self.context = device.retain_primary_context()
        self._lock = Lock()
        self._modules = {}
        self.context.push()
        try:
            self.fault = drv.pagelocked_zeros(len(abi.FAULTS), "int32", mem_flags=drv.host_alloc_flags.DEVICEMAP)
            self.fault_address = int(self.fault.base.get_device_pointer())
        finally:
            drv.Context.pop()
        atexit.register(self.close)

    def module(self, real: str) -> Module:
        """Return the kernels of a precision, compiled and loaded at the first call.

        Parameters
        ----------
        real : {"float", "double"}
            Type of a real number.

        Returns
        -------
        Module
            Functions and their launch rows, by name.

        Raises
        ------
        CompileError
            If no compiler here can make them.
        MemoryError
            If the device has no memory left for them.
        """
        with self._lock:
            if real not in self._modules:
                self._modules[real] = self._load(cubins.cubin(real, self.architecture))
            return self._modules[real]

    def _load(self, image: bytes) -> Module:
        drv = driver()
        self.context.push()
        try:
            module = drv.module_from_buffer(image)
            functions, launches = {}, {}
            for name, kernel in abi.KERNELS.items():
                functions[name] = module.get_function(name)
                functions[name].prepare(kernel.gpu_format)
                address, n_bytes = module.get_global(f"launch_{name}")
                row = bytearray(n_bytes)
                drv.memcpy_dtoh(row, address)
                launches[name] = abi.Launch.unpack(row)
            return Module(functions, launches)
        except drv.MemoryError as error:
            raise MemoryError(f"cuda:{self.ordinal} ({self.name}) has no memory left to load the kernels") from error
        finally:
            drv.Context.pop()

    def raise_fault(self, seen: str) -> None:
        """Raise for what the kernels reported, if anything, and forget it.

        Parameters
        ----------
        seen : str
            Where it was seen, for the message.

        Raises
        ------
        ValueError
            For a type index >= n_types or, with ``GRIDGRAD_CHECK=1``, a radius <= 0.
        """
        seen_faults = dict(zip(abi.FAULTS, self.fault.tolist(), strict=True))
        self.fault[:] = 0
        if seen_faults["index"]:
            raise ValueError(
                f"types: {seen} had an index >= n_types on cuda:{self.ordinal}; expected indices below n_types "
                "(negative: the atom is ignored). GRIDGRAD_CHECK=1 finds the call"
            )
        if seen_faults["radius"] and eager():
            raise ValueError(f"radii: {seen} had a radius <= 0 on cuda:{self.ordinal}; expected radii > 0")

    def close(self) -> None:
        """Give back modules and the primary context, at exit: PyCUDA's destructor mistakes it for its own."""
        self._modules.clear()
        self.fault = None
        self.context.detach()

    def synchronize(self) -> None:
        """Wait for the device."""
        drv = driver()
        self.context.push()
        try:
            drv.Context.synchronize()
        finally:
            drv.Context.pop()


def eager() -> bool:
    """Return whether ``GRIDGRAD_CHECK=1`` asks to wait for the device and look after every call.

    Returns
    -------
    bool
        False by default.
    """
    return os.environ.get("GRIDGRAD_CHECK") == "1"


class Streams(Protocol):
    """Where to launch."""

    def fork(self) -> tuple[object | None, Callable[[], None] | None]:
        """Return PyCUDA's stream to launch on, None for the default one, and what to call after the launch."""


class DefaultStream:
    """The default stream of the context."""

    def fork(self) -> tuple[object | None, Callable[[], None] | None]:
        """Return PyCUDA's stream to launch on, and what to call after the launch.

        Returns
        -------
        tuple
            (None, None): the default stream, nothing.
        """
        return None, None


class Kernels:
    """The kernels of a device and a precision, as functions of the names of gridgrad.kernels.cpu's.

    Parameters
    ----------
    device : Device
        Where to launch.
    real : {"float", "double"}
        Type of a real number.
    streams : Streams
        On which stream.
    """

    def __init__(self, device: Device, real: str, streams: Streams):
        self._device = device
        self._real = real
        self._streams = streams
        for name in abi.KERNELS:
            setattr(self, name, partial(self.launch, name))

    def launch(self, name: str, *arguments: object) -> None:
        """Launch a kernel.

        Parameters
        ----------
        name : str
            The kernel.
        *arguments
            The arguments that `abi` names, without the fault words.

        Raises
        ------
        ValueError
            If CUDA cannot launch that many blocks; if an earlier call was given a type index >= n_types; with
            ``GRIDGRAD_CHECK=1``, if this one was, or a radius <= 0.
        """
        device = self._device
        functions, launches = device.module(self._real)
        if eager():  # what earlier calls left, also those before it was asked for
            device.synchronize()
            device.raise_fault("an earlier call")
        elif device.fault[_INDEX]:
            device.raise_fault("an earlier call")
        kernel, row = abi.KERNELS[name], launches[name]
        blocks = kernel.blocks(row, arguments)
        if blocks == 0:
            return
        if kernel.visits_atoms:
            arguments = (*arguments, device.fault_address)
        stream, join = self._streams.fork()
        try:
            device.context.push()
            try:
                functions[name].prepared_async_call((blocks, 1, 1), (row.threads, 1, 1), stream, *arguments)
            finally:
                driver().Context.pop()
        finally:  # a capture with a side stream that nobody waits for is lost, whatever was launched
            if join is not None:
                join()
        if eager():
            device.synchronize()
            device.raise_fault("this call")
