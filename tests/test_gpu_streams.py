"""gridgrad.kernels.gpu.streams on the stand-in driver: torch's streams, bridged or launched on, and captures."""

import ctypes
import weakref

import pytest
import torch
from cuda_on_cpu import standin
from cuda_on_cpu.scene import Scene, kernels
from cuda_on_cpu.shim_kernels import ALWAYS

from gridgrad.kernels.gpu import streams as gpu


class FakeTorchEvent:
    """torch.cuda.Event, as far as TorchStreams uses it; made as torch makes it, when it is first recorded."""

    def __init__(self):
        self.handle = None

    def record(self, stream):
        library = stream.library
        with stream.context.current():
            if self.handle is None:
                self.handle = ctypes.c_void_p()
                assert library.cuEventCreate(ctypes.byref(self.handle), 2) == 0
            assert library.cuEventRecord(self.handle, ctypes.c_void_p(stream.cuda_stream)) == 0


class FakeTorchStream:
    """torch.cuda.Stream and ExternalStream, as far as TorchStreams uses them."""

    def __init__(self, context, handle):
        self.context, self.cuda_stream, self.library = context, handle, standin.Journal().library

    def wait_event(self, event):
        with self.context.current():
            assert self.library.cuStreamWaitEvent(ctypes.c_void_p(self.cuda_stream), event.handle, 0) == 0


@pytest.fixture
def torch_streams(devices, monkeypatch):
    """TorchStreams of device 0, and a function that sets torch's current stream."""
    context = devices[0].context
    current = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda where: current[-1])
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda handle, where: FakeTorchStream(context, handle))
    monkeypatch.setattr(torch.cuda, "Event", FakeTorchEvent)

    def enter(handle):
        current.append(FakeTorchStream(context, handle))

    return gpu.TorchStreams(devices[0]), enter


@pytest.fixture
def handles(devices, journal):
    """Two streams that stand for torch's: TorchStreams sees their handles only."""
    made = [ctypes.c_void_p(), ctypes.c_void_p()]
    with devices[0].context.current():
        for stream in made:
            assert journal.library.cuStreamCreate(ctypes.byref(stream), 1) == 0
    return [stream.value for stream in made]


def test_default_stream_is_launched_on_directly(devices, journal, torch_streams):
    streams, enter = torch_streams
    enter(0)
    scene = Scene()
    kernels(devices[0], streams=streams).density(*scene.arguments())
    scene.check()
    assert [(entry.what, entry.stream) for entry in journal.read("record", "wait", "launch")] == [(b"launch", None)]


def test_other_stream(devices, journal, torch_streams, handles):
    """cuda.bindings launches on it; PyCUDA's side stream is bridged by two events, made once."""
    streams, enter = torch_streams
    for handle in handles:
        enter(handle)
        scene = Scene()
        for _ in range(2):
            kernels(devices[0], streams=streams).density(*scene.arguments())
        scene.check()
    made = [entry for entry in journal.read("stream") if entry.stream not in handles]
    if devices[0].context.any_stream:
        assert made == []
        launches = [(handle, None) for handle in handles for _ in range(2)]
        assert [(entry.stream, entry.other) for entry in journal.read("record", "wait", "launch")] == launches
        return
    assert [entry.other for entry in made] == [1, 1]  # non-blocking: does not wait for the default stream
    sides = [entry.stream for entry in made]
    expected = []
    for handle, side in zip(handles, sides, strict=True):
        once = [(b"record", handle, None), (b"wait", side, handle), (b"launch", side, None)]
        once += [(b"record", side, None), (b"wait", handle, side)]
        expected += 2 * once
    found = [
        (entry.what, entry.stream, None if entry.what == b"record" else entry.other)
        for entry in journal.read("record", "wait", "launch")
    ]
    assert found == expected
    assert len({entry.other for entry in journal.read("record")}) == 4  # events: two a stream


def test_capture_records_the_launch(devices, journal, torch_streams, handles):
    streams, enter = torch_streams
    enter(handles[0])
    scene = Scene()
    run = kernels(devices[0], streams=streams)
    run.density(*scene.arguments())
    library = journal.library
    assert library.cuStreamBeginCapture_v2(ctypes.c_void_p(handles[0]), 0) == 0
    run.density(*scene.arguments())
    enter(handles[1])
    run.density(*scene.arguments())
    captured = [entry.capture > 0 for entry in journal.read("launch")]
    graph = ctypes.c_void_p()
    assert library.cuStreamEndCapture(ctypes.c_void_p(handles[0]), ctypes.byref(graph)) == 0
    assert captured == [False, True, False]
    waits = [entry for entry in journal.read("wait") if entry.capture]
    bridge = [] if devices[0].context.any_stream else [False, True]
    assert [entry.stream == handles[0] for entry in waits] == bridge
    enter(handles[0])
    run.density(*scene.arguments())
    assert [entry.capture for entry in journal.read()][-1] == 0  # the events of the graph serve again outside of it


def test_a_launch_that_fails_is_joined(devices, journal, torch_streams, handles, monkeypatch):
    """The side stream is waited for all the same: a capture would be invalid otherwise."""
    streams, enter = torch_streams
    scene, run = Scene(), kernels(devices[0], streams=streams)
    enter(handles[0])
    run.density(*scene.arguments())
    before = len(journal.read("wait"))
    monkeypatch.setenv("STANDIN_LAUNCH_FAILS", "1")
    with pytest.raises(Exception, match="cuLaunchKernel"):
        run.density(*scene.arguments())
    assert journal.stack_depth() == 0
    waits = journal.read("wait")[before:]
    if devices[0].context.any_stream:
        assert waits == []
    else:
        first, last = waits
        assert first.other == handles[0] and (last.stream, last.other) == (handles[0], first.stream)


class Memory:
    """torch.empty, as far as TorchStreams uses it, in the host's memory, which is the stand-in's."""

    def __init__(self, journal):
        self.journal, self.new, self.given, self.freed_after = journal, torch.empty, [], []

    def empty(self, n_bytes, dtype, device):
        assert device == torch.device("cuda", 0)
        memory = self.new(n_bytes, dtype=dtype).fill_(0xA5)
        self.given.append(n_bytes)
        weakref.finalize(memory, lambda: self.freed_after.append(len(self.journal.read())))
        return memory


@pytest.fixture
def memory(monkeypatch, journal):
    """What torch's allocator gave, and how many calls of the driver came before it was given back."""
    found = Memory(journal)
    monkeypatch.setattr(torch, "empty", found.empty)
    return found


@pytest.mark.parametrize("captured", [False, True], ids=["launched", "captured"])
def test_what_is_found_before_the_tiles(devices, journal, torch_streams, handles, memory, captured):
    """On the stream of the tiles and before them, in memory of torch's that is kept until all is launched."""
    streams, enter = torch_streams
    scene, run = Scene(), kernels(devices[0], streams=streams, limits=ALWAYS)
    enter(handles[0])
    run.density(*scene.vector_arguments())
    scene.check()
    before, freed = len(journal.read()), len(memory.freed_after)
    scene.density.fill_(-7)
    if captured:
        assert journal.library.cuStreamBeginCapture_v2(ctypes.c_void_p(handles[0]), 0) == 0
    run.density(*scene.vector_arguments())
    if captured:
        assert journal.library.cuStreamEndCapture(ctypes.c_void_p(handles[0]), ctypes.byref(ctypes.c_void_p())) == 0
    scene.check()
    launches = [entry for entry in journal.read()[before:] if entry.what == b"launch"]
    assert [entry.name for entry in launches] == [b"weight_bits", b"list_cells", b"density_aligned"]
    assert [entry.capture > 0 for entry in launches] == [captured] * 3
    assert len({entry.stream for entry in launches}) == 1
    assert launches[0].grid == 3  # parts of two atoms
    assert len(memory.given) == 2
    assert memory.freed_after[freed:] == [len(journal.read())]


def test_no_memory_for_it(devices, journal, torch_streams, handles, monkeypatch):
    """Torch's error, before anything is launched or waited for."""
    streams, enter = torch_streams
    scene, run = Scene(), kernels(devices[0], streams=streams, limits=ALWAYS)
    enter(handles[0])

    def empty(*_, **__):
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(torch.OutOfMemoryError, match="none left"):
        run.density(*scene.vector_arguments())
    assert journal.read("launch", "record", "wait") == [] and journal.stack_depth() == 0


def test_a_small_call_is_one_launch(devices, journal, torch_streams, memory):
    streams, enter = torch_streams
    scene = Scene()
    enter(0)
    kernels(devices[0], streams=streams).density(*scene.vector_arguments())
    scene.check()
    assert [entry.name for entry in journal.read("launch")] == [b"density_aligned"]
    assert memory.given == []


def test_gpu_kernels_and_check(through, monkeypatch):
    monkeypatch.setattr(gpu, "_kernels", {})
    monkeypatch.setattr(gpu, "_devices", {})
    enter = FakeTorchStream(None, 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda where: enter)
    run = gpu.kernels("float64", torch.device("cuda", 1))
    assert gpu.kernels("float64", torch.device("cuda", 1)) is run
    scene = Scene()
    run.density(*scene.arguments(index=torch.tensor([0, 2, 1, -1, 0, 4])))
    with pytest.raises(ValueError, match="on cuda:1"):
        gpu.check()
    gpu.check()
