"""The CUDA kernels on torch's devices, in torch's primary contexts, on torch's current streams.

`kernels` returns the functions of gridgrad.kernels.cpu's kernels, without the number of threads. Nothing here touches
a driver or a compiler before the first call; `device` has the part that does not need torch.

A type index >= n_types is reported by a later call, without waiting for the GPU, or by `check`; a radius <= 0 gives
NaN. ``GRIDGRAD_CHECK=1`` waits after each call and raises at once for both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import NamedTuple

import torch

from gridgrad.kernels.abi import PRECISIONS
from gridgrad.kernels.gpu import cubins
from gridgrad.kernels.gpu.device import Device, Kernels
from gridgrad.kernels.gpu.driver import choices, driver

__all__ = ["TorchStreams", "availability", "check", "kernels", "parts"]


class _Side(NamedTuple):
    """A stream of the driver's beside one of torch's, and the events between them, recorded anew by each launch."""

    stream: object
    beside: torch.cuda.Stream
    begin: torch.cuda.Event
    end: torch.cuda.Event

    def join(self, current: torch.cuda.Stream) -> None:
        self.end.record(self.beside)
        current.wait_event(self.end)


class TorchStreams:
    """See `gridgrad.kernels.gpu.device.Streams`: torch's current stream on a device.

    cuda.bindings launches on it. PyCUDA cannot launch on a stream that it did not create, except on the default one.
    So each of torch's other streams gets a stream of PyCUDA's to its side, which waits for it before a launch and which
    it waits for after: two events, in the order that CUDA graph capture records as well. No two of torch's streams
    share one: a launch on one stream must not be captured into the graph of another.

    Temporaries of a call need no ``record_stream``, though a stream that torch does not know reads them: whatever torch
    makes of their memory next is ordered after the launch, since the stream on which they were allocated, the current
    one, waits for the side. ``record_stream`` would only keep them longer, and an event more in each call.

    Parameters
    ----------
    device : Device
        The device.
    """

    def __init__(self, device: Device):
        self._context = device.context
        self._any_stream = device.context.any_stream
        self._torch_device = torch.device("cuda", device.ordinal)
        self._lock = Lock()
        self._sides: dict[int, _Side] = {}

    def _new_side(self, handle: int) -> _Side:
        with self._lock:
            if handle not in self._sides:
                stream, address = self._context.side_stream()
                beside = torch.cuda.ExternalStream(address, self._torch_device)
                self._sides[handle] = _Side(stream, beside, torch.cuda.Event(), torch.cuda.Event())
            return self._sides[handle]

    def fork(self) -> tuple[object | None, Callable[[], None] | None]:
        """Return torch's stream where the driver takes it, else the one to its side, and what to call after."""
        current = torch.cuda.current_stream(self._torch_device)
        handle = current.cuda_stream
        if handle == 0:
            return None, None
        if self._any_stream:
            return handle, None
        side = self._sides.get(handle) or self._new_side(handle)
        side.begin.record(current)
        side.beside.wait_event(side.begin)
        return side.stream, partial(side.join, current)

    def scratch(self, n_bytes: int) -> tuple[int, object]:
        """Return an address in a tensor on torch's current stream, and the tensor: a temporary as the caller's."""
        memory = torch.empty(n_bytes, dtype=torch.uint8, device=self._torch_device)
        return memory.data_ptr(), memory


_kernels: dict[tuple[str, int], Kernels] = {}
_devices: dict[int, tuple[Device, TorchStreams]] = {}
_lock = Lock()


def kernels(precision: str, device: torch.device) -> Kernels:
    """Return the kernels for tensors of a precision on a device.

    Parameters
    ----------
    precision : {"float32", "float64"}
        Their dtype.
    device : torch.device
        A CUDA device.

    Returns
    -------
    Kernels
        To be called with the addresses of tensors on that device, on any thread.

    Raises
    ------
    ImportError, RuntimeError
        If a package that drives it, the NVIDIA driver or a device is missing; the message says what to install.
    """
    ordinal = device.index if device.index is not None else torch.cuda.current_device()
    found = _kernels.get((precision, ordinal))
    if found is not None:
        return found
    driver()
    with _lock:
        if ordinal not in _devices:
            new = Device(ordinal)
            _devices[ordinal] = new, TorchStreams(new)
        made = Kernels(_devices[ordinal][0], PRECISIONS[precision], _devices[ordinal][1])
        return _kernels.setdefault((precision, ordinal), made)


def check(device: torch.device | None = None) -> None:
    """Wait for the devices in use and raise for what the kernels reported.

    Parameters
    ----------
    device : torch.device, optional
        Only this one.

    Raises
    ------
    ValueError
        If a call since the last report was given a type index >= n_types.
    """
    for ordinal, (used, _) in list(_devices.items()):
        if device is None or device.index in (None, ordinal):
            used.synchronize()
            used.raise_fault("an earlier call")


def availability() -> tuple[bool, str]:
    """Return whether CUDA tensors can be used here, without creating a context.

    Returns
    -------
    tuple of bool and str
        Whether, and what is there or why not.
    """
    if torch.version.cuda is None:
        return False, f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return False, "torch finds no NVIDIA driver or no device"
    try:
        used = driver()
        names = [f"{name} ({number // 10}.{number % 10})" for name, number in used.devices()]
        compilers = [f"{name} {number}" for name, (number, _) in cubins.compilers().items()]
    except (ImportError, RuntimeError, ValueError) as error:
        return False, str(error)
    if not compilers:
        return False, "no compiler for the kernels: pip install 'nvidia-cuda-nvrtc'"
    return True, f"{', '.join(names)}; {used.name}; {', '.join(compilers)}"


def parts() -> dict[str, str]:
    """Return what could drive and compile for a GPU here, whether or not there is one.

    Returns
    -------
    dict of str
        ``CUDA driver``: which package is in use and why not the other; ``CUDA compiler``: those that are there.
    """
    try:
        found = "; ".join(f"{name}: {says}" for name, says in choices().items())
    except (RuntimeError, ValueError) as error:
        found = str(error)
    try:
        compilers = ", ".join(f"{name} {number}" for name, (number, _) in cubins.compilers().items())
    except (RuntimeError, ValueError) as error:
        compilers = str(error)
    return {"CUDA driver": found, "CUDA compiler": compilers or "none"}
