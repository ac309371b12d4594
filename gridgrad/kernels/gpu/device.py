"""CUDA devices: primary contexts, loaded kernels, launches by address. Knows nothing of torch.

Nothing here touches a driver before the first `Device`. A context is pushed around each call and popped after it, so
that any thread may launch, and none ends with a context pushed.
"""

from __future__ import annotations

import atexit
import os
import struct
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, Protocol

from gridgrad.kernels import abi
from gridgrad.kernels.gpu import cubins
from gridgrad.kernels.gpu.driver import Driver, driver
from gridgrad.kernels.gpu.preparation import Limits, Prepared, preparation

__all__ = ["DefaultStream", "Device", "Kernels", "eager"]

_INDEX, _EXAMPLE = abi.FAULTS.index("index"), abi.FAULTS.index("example")


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
    through : Driver, optional
        What to reach it through; default `driver.driver`.
    """

    def __init__(self, ordinal: int, through: Driver | None = None):
        self.ordinal = ordinal
        self.context = (through or driver()).context(ordinal)
        self.name, self.architecture = self.context.name, self.context.architecture
        self._lock = Lock()
        self._modules: dict[str, Any] = {}
        self.fault, self.fault_address = self.context.mapped_words(len(abi.FAULTS))
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
        context = self.context
        try:
            module = context.load(image)
        except MemoryError as error:
            raise MemoryError(f"cuda:{self.ordinal} ({self.name}) has no memory left to load the kernels") from error
        functions, launches = {}, {}
        for name, kernel in abi.GPU_KERNELS.items():
            functions[name] = context.function(module, name, struct.calcsize(kernel.gpu_format))
            launches[name] = abi.Launch.unpack(context.constant(module, f"launch_{name}"))
        return Module(functions, launches)

    def raise_fault(self, seen: str) -> None:
        """Raise for what the kernels reported, if anything, and forget it.

        Parameters
        ----------
        seen : str
            Where it was seen, for the message.

        Raises
        ------
        ValueError
            For a type index >= n_types, an atom in no example or, with ``GRIDGRAD_CHECK=1``, a radius <= 0.
        """
        seen_faults = dict(zip(abi.FAULTS, self.fault.tolist(), strict=True))
        for word in range(len(abi.FAULTS)):
            self.fault[word] = 0
        if seen_faults["index"]:
            raise ValueError(
                f"types: {seen} had an index >= n_types on cuda:{self.ordinal}; expected indices below n_types "
                "(negative: the atom is ignored). GRIDGRAD_CHECK=1 finds the call"
            )
        if seen_faults["example"]:
            raise ValueError(
                f"batch: {seen} had atoms in no example on cuda:{self.ordinal}; expected sorted values from 0 to "
                "batch_size - 1. GRIDGRAD_CHECK=1 finds the call"
            )
        if seen_faults["radius"] and eager():
            raise ValueError(f"radii: {seen} had a radius <= 0 on cuda:{self.ordinal}; expected radii > 0")

    def close(self) -> None:
        """Give back modules and the primary context, at exit."""
        self._modules.clear()
        self.fault.release()
        self.context.close()

    def synchronize(self) -> None:
        """Wait for the device."""
        self.context.synchronize()


def eager() -> bool:
    """Return whether ``GRIDGRAD_CHECK=1`` asks to wait for the device and look after every call.

    Returns
    -------
    bool
        False by default.
    """
    return os.environ.get("GRIDGRAD_CHECK") == "1"


class Streams(Protocol):
    """Where to launch, and whose memory a launch may use."""

    def fork(self) -> tuple[object | None, Callable[[], None] | None]:
        """Return the stream to launch on, as `Context.launch` takes it, and what to call after the launch."""

    def scratch(self, n_bytes: int) -> tuple[int, object]:
        """Return the address of memory that is the launch's on that stream, and what to keep until after it; or 0."""


class DefaultStream:
    """See `Streams`: the default stream of the context, and nobody to ask for memory, so that kernels do without."""

    def fork(self) -> tuple[object | None, Callable[[], None] | None]:
        """Return the default stream, and nothing to call."""
        return None, None

    def scratch(self, n_bytes: int) -> tuple[int, object]:
        """Return no memory."""
        return 0, None


class _Ready(NamedTuple):
    """What a launch of a kernel needs."""

    functions: dict
    choose: Callable[[tuple], str]
    count: Callable[[tuple], int]
    threads: int
    pack: Callable[..., bytes]
    prepare: Callable[..., Prepared]
    faults: tuple[int, ...]  # the last argument, if any


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
    limits : Limits, optional
        From which sizes on something is found before the tiles; default those that pay.
    """

    def __init__(self, device: Device, real: str, streams: Streams, limits: Limits | None = None):
        self._device = device
        self._real = real
        self._streams = streams
        self._limits = limits
        for name in abi.KERNELS:
            setattr(self, name, partial(self._first_call, name))

    def _first_call(self, name: str, *arguments: object) -> None:
        # loads the module; later calls find what a launch needs in its place
        module = self._device.module(self._real)
        ready = {}
        for each, kernel in abi.GPU_KERNELS.items():
            row, pack = module.launches[each], struct.Struct(kernel.gpu_format).pack
            faults = (self._device.fault_address,) * kernel.visits_atoms
            prepare = preparation(kernel, module.launches, self._limits)
            choose = kernel.choice(module.launches)
            ready[each] = _Ready(module.functions, choose, kernel.blocks(row), row.threads, pack, prepare, faults)
        self._ready = ready
        for each in abi.KERNELS:
            setattr(self, each, partial(self._launch, ready[each]))
        getattr(self, name)(*arguments)

    def _launch(self, ready: _Ready, *arguments: object) -> None:
        # arguments: those that abi names, without the fault words. ValueError: CUDA cannot launch that many blocks; an
        # earlier call was given a type index >= n_types or an atom in no example; with GRIDGRAD_CHECK=1 this one was,
        # or a radius <= 0
        device = self._device
        checked = eager()
        if checked:  # what earlier calls left, also those before it was asked for
            device.synchronize()
            device.raise_fault("an earlier call")
        elif device.fault[_INDEX] or device.fault[_EXAMPLE]:
            device.raise_fault("an earlier call")
        functions, choose, count, threads, pack, prepare, faults = ready
        blocks = count(arguments)
        if blocks == 0:
            return
        steps, found, kept = prepare(arguments, blocks, self._streams.scratch)
        packed, function = pack(*arguments, *found, *faults), functions[choose(arguments)]
        stream, join = self._streams.fork()
        try:
            for step in steps:
                self._launch_step(self._ready[step.name], stream, step.arguments)
            device.context.launch(function, blocks, threads, stream, packed)
        finally:  # a capture with a side stream that nobody waits for is lost, whatever was launched
            if join is not None:
                join()
        del kept  # what is made of this memory next comes after the launch
        if checked:
            device.synchronize()
            device.raise_fault("this call")

    def _launch_step(self, ready: _Ready, stream: object, arguments: tuple) -> None:
        packed, function = ready.pack(*arguments, *ready.faults), ready.functions[ready.choose(arguments)]
        self._device.context.launch(function, ready.count(arguments), ready.threads, stream, packed)
