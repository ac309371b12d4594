"""The driver through cuda.bindings, which torch's CUDA wheels install and which launches on any stream."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from gridgrad.kernels.gpu.driver import NoDriverError

__all__ = ["BindingsContext", "BindingsDriver", "DriverError", "load"]

_Extra = ctypes.c_void_p * 5
# of cuda.h: how arguments are handed over in one piece, and the default stream, whatever is compiled to be the default
_BUFFER_POINTER, _BUFFER_SIZE, _END = 1, 2, 0
_STREAM_LEGACY = 1


class DriverError(RuntimeError):
    """A call of the driver that failed."""


class _Function(NamedTuple):
    handle: object
    buffer: type[ctypes.Array]
    n_bytes: ctypes.c_size_t
    n_bytes_address: int


class BindingsContext:
    """See `gridgrad.kernels.gpu.driver.Context`.

    Parameters
    ----------
    drv : module
        ``cuda.bindings.driver``.
    ordinal : int
        Number of the device.
    """

    any_stream = True

    def __init__(self, drv: ModuleType, ordinal: int):
        self._drv = drv
        self._device = _call(drv, "cuDeviceGet", ordinal)
        self.name, self.architecture = _described(drv, self._device)
        self._context = _call(drv, "cuDevicePrimaryCtxRetain", self._device)
        self._modules: list[Any] = []
        self._words: list[Any] = []
        self._streams: list[Any] = []

    @contextmanager
    def current(self) -> Iterator[None]:
        """Push the context on this thread, and pop it at the end."""
        _call(self._drv, "cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            _call(self._drv, "cuCtxPopCurrent")

    def load(self, image: bytes) -> object:
        """Return the module of a cubin; MemoryError if the device has no room for it."""
        with self.current():
            module = _call(self._drv, "cuModuleLoadData", image)
        self._modules.append(module)
        return module

    def function(self, module: object, name: str, n_bytes: int) -> object:
        """Return a kernel whose packed arguments have that many bytes."""
        with self.current():
            handle = _call(self._drv, "cuModuleGetFunction", module, name.encode())
        size = ctypes.c_size_t(n_bytes)
        return _Function(handle, ctypes.c_char * n_bytes, size, ctypes.addressof(size))

    def constant(self, module: object, name: str) -> bytes:
        """Return the value of a global variable."""
        with self.current():
            address, n_bytes = _call(self._drv, "cuModuleGetGlobal", module, name.encode())
            value = ctypes.create_string_buffer(n_bytes)
            _call(self._drv, "cuMemcpyDtoH", ctypes.addressof(value), address, n_bytes)
        return value.raw

    def mapped_words(self, count: int) -> tuple[memoryview, int]:
        """Return int32 zeros in host memory and the address by which kernels write there."""
        with self.current():
            host = _call(self._drv, "cuMemHostAlloc", 4 * count, self._drv.CU_MEMHOSTALLOC_DEVICEMAP)
            address = int(_call(self._drv, "cuMemHostGetDevicePointer", host, 0))
        self._words.append(host)
        words = memoryview((ctypes.c_char * (4 * count)).from_address(host)).cast("B").cast("i")
        words[:] = memoryview(bytes(4 * count)).cast("i")
        return words, address

    def side_stream(self) -> tuple[object, int]:
        """Return a new stream that does not wait for the default one, for `launch`, and its address."""
        with self.current():
            flags = self._drv.CUstream_flags.CU_STREAM_NON_BLOCKING
            self._streams.append(_call(self._drv, "cuStreamCreate", flags))
        handle = int(self._streams[-1])
        return handle, handle

    def launch(self, function: Any, blocks: int, threads: int, stream: object, arguments: bytes) -> None:
        """Launch on a one-dimensional grid."""
        drv = self._drv
        handle, kind, _, n_bytes_address = function
        buffer = kind.from_buffer_copy(arguments)
        extra = _Extra(_BUFFER_POINTER, ctypes.addressof(buffer), _BUFFER_SIZE, n_bytes_address, _END)
        _check(drv, "cuCtxPushCurrent", drv.cuCtxPushCurrent(self._context)[0])
        try:
            (error,) = drv.cuLaunchKernel(
                handle, blocks, 1, 1, threads, 1, 1, 0, stream or _STREAM_LEGACY, 0, ctypes.addressof(extra)
            )
        finally:
            drv.cuCtxPopCurrent()
        _check(drv, "cuLaunchKernel", error)

    def synchronize(self) -> None:
        """Wait for the device."""
        with self.current():
            _call(self._drv, "cuCtxSynchronize")

    def close(self) -> None:
        """Give back modules, memory and the context, at exit: what the driver answers then is of no use."""
        drv = self._drv
        drv.cuCtxPushCurrent(self._context)
        drv.cuCtxSynchronize()
        for give_back, things in (
            (drv.cuModuleUnload, self._modules),
            (drv.cuStreamDestroy, self._streams),
            (drv.cuMemFreeHost, self._words),
        ):
            for thing in things:
                give_back(thing)
        drv.cuCtxPopCurrent()
        drv.cuDevicePrimaryCtxRelease(self._device)


def _check(drv: ModuleType, name: str, error: object) -> None:
    if error:
        text = drv.cuGetErrorString(error)[1]
        kind = MemoryError if error == drv.CUresult.CUDA_ERROR_OUT_OF_MEMORY else DriverError
        raise kind(f"{name}: {error!r} ({text.decode() if text else 'unknown'})")


def _call(drv: ModuleType, name: str, *arguments: object) -> Any:
    error, *values = getattr(drv, name)(*arguments)
    _check(drv, name, error)
    return values[0] if len(values) == 1 else tuple(values)


def _described(drv: ModuleType, device: object) -> tuple[str, int]:
    attribute = drv.CUdevice_attribute
    major, minor = (
        _call(drv, "cuDeviceGetAttribute", number, device)
        for number in (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    return _call(drv, "cuDeviceGetName", 256, device).split(b"\0")[0].decode().strip(), 10 * major + minor


class BindingsDriver:
    """See `gridgrad.kernels.gpu.driver.Driver`.

    Parameters
    ----------
    drv : module
        ``cuda.bindings.driver``, initialised.
    version : str
        Of cuda.bindings.
    """

    def __init__(self, drv: ModuleType, version: str):
        self.name = f"cuda.bindings {version}"
        self._drv = drv

    def devices(self) -> list[tuple[str, int]]:
        """Return names and compute capabilities, without making a context."""
        count = _call(self._drv, "cuDeviceGetCount")
        return [_described(self._drv, _call(self._drv, "cuDeviceGet", ordinal)) for ordinal in range(count)]

    def context(self, ordinal: int) -> BindingsContext:
        """Retain the primary context of a device."""
        return BindingsContext(self._drv, ordinal)


def load() -> BindingsDriver:
    """Import cuda.bindings and initialise the driver.

    Returns
    -------
    BindingsDriver
        Ready.

    Raises
    ------
    NoDriverError
        If cuda.bindings is not installed, or the NVIDIA driver's library is not.
    RuntimeError
        If the driver finds no device.
    """
    try:
        bindings = importlib.import_module("cuda.bindings")
        drv = importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name in ("cuda", "cuda.bindings"):
            raise NoDriverError("not installed", installed=False) from error
        raise NoDriverError(f"installed, but does not load ({error})") from error
    version = bindings.__version__
    try:
        (code,) = drv.cuInit(0)
    except RuntimeError as missing:  # raised instead of returned where there is no libcuda
        raise NoDriverError(f"{version}, usable but for the NVIDIA driver: there is no libcuda.so.1") from missing
    try:
        _check(drv, "cuInit", code)
    except DriverError as refused:
        raise RuntimeError(f"the NVIDIA driver finds no usable device: {refused}") from refused
    return BindingsDriver(drv, version)
