"""The driver through PyCUDA, which launches on the default stream and on streams of its own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from gridgrad.kernels.gpu.driver import NoDriverError

__all__ = ["PycudaContext", "PycudaDriver", "load"]


class PycudaContext:
    """See `gridgrad.kernels.gpu.driver.Context`.

    Parameters
    ----------
    drv : module
        ``pycuda.driver``.
    ordinal : int
        Number of the device.
    """

    any_stream = False

    def __init__(self, drv: ModuleType, ordinal: int):
        device = drv.Device(ordinal)
        self.name, self.architecture = _described(device)
        self._drv = drv
        self._context = device.retain_primary_context()
        self._push, self._pop = self._context.push, drv.Context.pop
        self._kept: list[Any] = []

    @contextmanager
    def current(self) -> Iterator[None]:
        """Push the context on this thread, and pop it at the end."""
        self._push()
        try:
            yield
        finally:
            self._pop()

    def load(self, image: bytes) -> object:
        """Return the module of a cubin; MemoryError if the device has no room for it."""
        with self.current():
            try:
                module = self._drv.module_from_buffer(image)
            except self._drv.MemoryError as error:
                raise MemoryError(str(error)) from error
        self._kept.append(module)
        return module

    def function(self, module: Any, name: str, n_bytes: int) -> object:
        """Return the launch of a kernel: PyCUDA's, without the deprecated calls that its public ones make."""
        with self.current():
            return module.get_function(name)._launch_kernel

    def constant(self, module: Any, name: str) -> bytes:
        """Return the value of a global variable."""
        with self.current():
            address, n_bytes = module.get_global(name)
            value = bytearray(n_bytes)
            self._drv.memcpy_dtoh(value, address)
        return bytes(value)

    def mapped_words(self, count: int) -> tuple[memoryview, int]:
        """Return int32 zeros in host memory and the address by which kernels write there."""
        with self.current():
            words = self._drv.pagelocked_zeros(count, "int32", mem_flags=self._drv.host_alloc_flags.DEVICEMAP)
            address = int(words.base.get_device_pointer())
        self._kept.append(words)
        return memoryview(words), address

    def side_stream(self) -> tuple[object, int]:
        """Return a new stream that does not wait for the default one, for `launch`, and its address."""
        with self.current():
            stream = self._drv.Stream(1)  # CU_STREAM_NON_BLOCKING, as torch's own
        return stream, stream.handle

    def launch(self, function: Any, blocks: int, threads: int, stream: object, arguments: bytes) -> None:
        """Launch on a one-dimensional grid."""
        self._push()
        try:
            function((blocks, 1, 1), (threads, 1, 1), arguments, 0, stream)
        finally:
            self._pop()

    def synchronize(self) -> None:
        """Wait for the device."""
        with self.current():
            self._drv.Context.synchronize()

    def close(self) -> None:
        """Give back modules, memory and the context: PyCUDA's destructor mistakes it for its own."""
        self._kept.clear()
        self._context.detach()


def _described(device: Any) -> tuple[str, int]:
    major, minor = device.compute_capability()
    return device.name(), 10 * major + minor


class PycudaDriver:
    """See `gridgrad.kernels.gpu.driver.Driver`.

    Parameters
    ----------
    drv : module
        ``pycuda.driver``, initialised.
    """

    def __init__(self, drv: ModuleType):
        try:
            number = version("pycuda")
        except PackageNotFoundError:
            number = "of unknown version"
        self.name = f"PyCUDA {number}"
        self._drv = drv

    def devices(self) -> list[tuple[str, int]]:
        """Return names and compute capabilities, without making a context."""
        return [_described(self._drv.Device(ordinal)) for ordinal in range(self._drv.Device.count())]

    def context(self, ordinal: int) -> PycudaContext:
        """Retain the primary context of a device."""
        return PycudaContext(self._drv, ordinal)


def load() -> PycudaDriver:
    """Import and initialise PyCUDA's driver module.

    Returns
    -------
    PycudaDriver
        Ready.

    Raises
    ------
    NoDriverError
        If PyCUDA is not installed or does not load.
    RuntimeError
        If the driver finds no device.
    """
    try:
        drv = importlib.import_module("pycuda.driver")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "pycuda":
            raise NoDriverError("not installed", installed=False) from error
        raise NoDriverError(
            f"installed, but does not load ({error}): it needs the NVIDIA driver's libcuda.so.1 and has to be built "
            "for this Python and numpy, pip install --force-reinstall --no-cache-dir pycuda"
        ) from error
    try:
        drv.init()
    except drv.Error as error:
        raise RuntimeError(f"the NVIDIA driver finds no usable device: {error}") from error
    return PycudaDriver(drv)
