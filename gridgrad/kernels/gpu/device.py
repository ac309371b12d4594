"""CUDA devices through PyCUDA: primary contexts, loaded kernels, launches by address. Knows nothing of torch.

Nothing here touches PyCUDA or a driver before the first `Device`. A context is pushed around each call and popped
after it, so that any thread may launch, and none ends with a context pushed.
"""

from __future__ import annotations

import atexit
import importlib
import os
import struct
from collections.abc import Callable, Sequence
from functools import cache, partial
from threading import Lock
from types import ModuleType
from typing import NamedTuple, Protocol

from gridgrad.kernels.gpu import cubins

__all__ = ["DefaultStream", "Device", "Kernels", "Layout", "driver", "eager"]

GEOMETRY = struct.Struct("<14d4q")  # cuda/support.cuh
POINTS = struct.Struct("<3q")
POINTS_OFFSET = 14 * 8
FAULT_INDEX, FAULT_RADIUS = 0, 1  # cuda/atoms.cuh
MAX_BLOCKS = 2**31 - 1


class Signature(NamedTuple):
    """Inputs after the five of the atoms, and outputs, of a kernel; whether its blocks are tiles of voxels."""

    n_inputs: int
    n_outputs: int
    tiles: bool

    @property
    def format(self) -> str:
        """str: Arguments, packed natively; the last is the address of the fault words."""
        return f"{5 + self.n_inputs}P{GEOMETRY.size}s4q{self.n_outputs}PP"


SIGNATURES = {
    "density": Signature(0, 1, True),
    "density_tangent": Signature(3, 1, True),
    "density_backward": Signature(1, 3, False),
    "density_backward_backward": Signature(4, 3, False),
    "density_relevance": Signature(2, 1, False),
}
RADII_SUM = "3P3qiP"


class Layout(NamedTuple):
    """How the kernels of a module are laid out on blocks; read from the module."""

    density_x: int
    tangent_x: int
    tile_y: int
    tile_z: int
    density_threads: int
    tangent_threads: int
    atom_threads: int

    def launch(self, name: str, arguments: Sequence) -> tuple[int, int]:
        """Return the blocks and the threads of a launch.

        Parameters
        ----------
        name : str
            The kernel.
        arguments : sequence
            Its arguments.

        Returns
        -------
        tuple of int
            Blocks (0: there is nothing to do) and threads a block.

        Raises
        ------
        ValueError
            If CUDA cannot launch that many blocks.
        """
        if name == "radii_sum":
            n_examples, _, n_types, per_example = arguments[3:7]
            blocks, threads = n_types * (n_examples if per_example else 1), self.atom_threads
        else:
            first = 5 + SIGNATURES[name].n_inputs
            geometry, n_examples, n_atoms = arguments[first : first + 3]
            if SIGNATURES[name].tiles:
                x, y, z = POINTS.unpack_from(geometry, POINTS_OFFSET)
                tile_x, threads = self.density_x, self.density_threads
                if name == "density_tangent":
                    tile_x, threads = self.tangent_x, self.tangent_threads
                blocks = -(-x // tile_x) * -(-y // self.tile_y) * -(-z // self.tile_z) * n_examples
            else:
                blocks, threads = n_atoms, self.atom_threads
        if blocks > MAX_BLOCKS:
            raise ValueError(f"{name}: {blocks} blocks; expected at most {MAX_BLOCKS}: split the batch")
        return blocks, threads


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
    layout: Layout


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
            self.fault = drv.pagelocked_zeros(2, "int32", mem_flags=drv.host_alloc_flags.DEVICEMAP)
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
            Functions by name, and their layout.

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
            address, n_bytes = module.get_global("layout")
            layout = bytearray(n_bytes)
            drv.memcpy_dtoh(layout, address)
            formats = {name: signature.format for name, signature in SIGNATURES.items()}
            formats["radii_sum"] = RADII_SUM
            functions = {}
            for name, arguments in formats.items():
                functions[name] = module.get_function(name)
                functions[name].prepare(arguments)
            return Module(functions, Layout(*struct.unpack(f"={len(Layout._fields)}i", layout)))
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
        index, radius = self.fault.tolist()
        self.fault[:] = 0
        if index:
            raise ValueError(
                f"types: {seen} had an index >= n_types on cuda:{self.ordinal}; expected indices below n_types "
                "(negative: the atom is ignored). GRIDGRAD_CHECK=1 finds the call"
            )
        if radius and eager():
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
        for name in (*SIGNATURES, "radii_sum"):
            setattr(self, name, partial(self.launch, name))

    def launch(self, name: str, *arguments: object) -> None:
        """Launch a kernel.

        Parameters
        ----------
        name : str
            The kernel.
        *arguments
            Addresses, the geometry as bytes, and sizes, in the order of cuda/density.cu, without the last.

        Raises
        ------
        ValueError
            If an earlier call was given a type index >= n_types; with ``GRIDGRAD_CHECK=1``, if this one was, or a
            radius <= 0.
        """
        device = self._device
        functions, layout = device.module(self._real)
        if eager():  # what earlier calls left, also those before it was asked for
            device.synchronize()
            device.raise_fault("an earlier call")
        elif device.fault[FAULT_INDEX]:
            device.raise_fault("an earlier call")
        blocks, threads = layout.launch(name, arguments)
        if blocks == 0:
            return
        if name != "radii_sum":
            arguments = (*arguments, device.fault_address)
        stream, join = self._streams.fork()
        try:
            device.context.push()
            try:
                functions[name].prepared_async_call((blocks, 1, 1), (threads, 1, 1), stream, *arguments)
            finally:
                driver().Context.pop()
        finally:  # a capture with a side stream that nobody waits for is lost, whatever was launched
            if join is not None:
                join()
        if eager():
            device.synchronize()
            device.raise_fault("this call")
