"""The benchmarks run, measure what they say, and skip what is not there."""

import pathlib
import subprocess
import sys

import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
if not (ROOT / "asv_bench" / "benchmarks").is_dir():
    pytest.skip("no benchmarks beside the tests", allow_module_level=True)
sys.path.append(str(ROOT / "asv_bench"))

from benchmarks import accuracy, cuda_text, memory, orders, overhead, ratios, scaling, workloads

SUITES = [orders.Orders, memory.PeakMemory, memory.ExtraMemory, ratios.GpuOverCpu, ratios.OverMemset]
SUITES += [ratios.Float64OverFloat32, ratios.TwoThreadsOverOne, ratios.FixedOverAll, accuracy.Float32Error]
SUITES += [overhead.Call]
SUITES += [scaling.Atoms, scaling.AtomsSlope, scaling.Channels, scaling.Resolution, scaling.Threads]
SUITES += [scaling.Boxes, scaling.BoxesOneHot, scaling.BoxesFloor, scaling.ManyLigands]
SMALL = {
    "device": "cpu",
    "workload": "ligand",
    "dtype": "float32",
    "atoms": 100,
    "channels": 4,
    "points": 25,
    "threads": 1,
    "box": 24,
}


@pytest.fixture(autouse=True)
def few_calls(monkeypatch, threads):
    """Keep the ratios short; the number of threads comes back after the test."""
    for module in (ratios, overhead, scaling):
        if hasattr(module, "seconds"):
            monkeypatch.setattr(module, "seconds", lambda run, budget=0.0, most=1: workloads.seconds(run, 0.0, 1))
    monkeypatch.setattr(ratios, "ratio_of_times", lambda run, base: workloads.ratio_of_times(run, base, rounds=1))
    monkeypatch.setattr(scaling.AtomsSlope, "counts", (100, 1000))
    yield
    workloads._prepare.cache_clear()


def small_params(suite):
    """One small choice of parameters for each pass or mode."""
    rest = [SMALL.get(name) if SMALL.get(name) in values else values[0] for name, values in parameters(suite)[1:]]
    return [(first, *rest) for first in suite.params[0]]


def parameters(suite):
    return list(zip(suite.param_names, suite.params, strict=True))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.__name__)
def test_benchmark_runs(suite):
    for values in small_params(suite):
        bench = suite()
        try:
            bench.setup(*values)
        except NotImplementedError as reason:
            pytest.skip(str(reason))
        for name in dir(bench):
            if name.startswith(("time_", "track_", "peakmem_")):
                found = getattr(bench, name)(*values)
                assert not name.startswith("track_") or isinstance(found, (int, float))


@pytest.mark.parametrize("suite", [suite for suite in SUITES if "device" in suite.param_names])
def test_absent_device_is_skipped_in_setup(suite, monkeypatch):
    from gridgrad import gpu

    monkeypatch.setattr(gpu, "availability", lambda: (False, "none here"))
    values = [("cuda" if name == "device" else choice[0]) for name, choice in parameters(suite)]
    with pytest.raises(NotImplementedError, match="none here"):
        suite().setup(*values)


def test_more_threads_than_cores_are_skipped():
    with pytest.raises(NotImplementedError, match="cores"):
        scaling.Threads().setup("density", "ligand", 1_000_000)


def test_float32_error_is_that_of_float32():
    errors = [accuracy.Float32Error().track_float32_error(name, "cpu") for name in workloads.PASSES]
    assert all(1e-9 < error < 2e-5 for error in errors), errors


def test_float32_error_sees_a_wrong_output(monkeypatch):
    real = accuracy.make_pass
    monkeypatch.setattr(accuracy, "make_pass", lambda *arguments: lambda: real(*arguments)() * 1.01)
    assert accuracy.Float32Error().track_float32_error("density", "cpu") == pytest.approx(0.01, rel=1e-3)


def test_extra_memory_sees_an_allocation():
    def run():
        return torch.ones(5_000_000), torch.ones(10_000_000).sum()

    outputs, peak = memory._on_cpu(run)
    extra = peak - memory._bytes(outputs)
    assert 35e6 < extra < 60e6


def test_padded_and_ragged_hold_the_same_atoms():
    grids = []
    for layout in ("padded", "ragged"):
        workload = workloads.Workload((3, 7, 5), 4, 0.5, 5.5, layout)
        inputs = workloads.make_inputs(workload, torch.float64, "cpu")
        grids.append(workloads.make_pass("density", workload, inputs)())
    assert grids[0].shape == (3, 4, 12, 12, 12)
    assert grids[0].abs().sum() > 0
    torch.testing.assert_close(*grids, rtol=0, atol=0)


def test_inputs_are_the_same_in_each_dtype():
    workload = workloads.WORKLOADS["ligand"]
    single, double = (workloads.make_inputs(workload, dtype, "cpu") for dtype in (torch.float32, torch.float64))
    assert torch.equal(single.coords, double.coords.float()) and torch.equal(single.index, double.index)


def test_asv_accepts_the_suite():
    pytest.importorskip("asv", reason="asv is not installed")
    command = [
        sys.executable,
        "-m",
        "asv",
        "check",
        "--python=same",
        "--config",
        str(ROOT / "asv_bench" / "asv.conf.json"),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_cuda_text_is_tracked(monkeypatch):
    """On one architecture and one case; where there is no disassembler, the rest is skipped."""
    prediction = cuda_text.gpu_prediction
    monkeypatch.setattr(cuda_text, "ARCHITECTURES", (90,))
    monkeypatch.setattr(prediction, "CASES", {"density": prediction.CASES["density"]})
    monkeypatch.setattr(prediction, "DEVICES", {"H200": prediction.DEVICES["H200"]})
    if not cuda_text.has_compiler():
        pytest.skip("needs nvidia-cuda-nvrtc")
    found = cuda_text.setup_cache()
    registers = cuda_text.Registers()
    registers.setup(found, "density", 90)
    assert 32 < registers.track_registers(found, "density", 90) <= 80
    assert registers.track_spills(found, "density", 90) == 0
    instructions, predicted = cuda_text.Instructions(), cuda_text.Predicted()
    if cuda_text.sass.nvdisasm() is None:
        with pytest.raises(NotImplementedError, match="nvdisasm"):
            instructions.setup(found, "density", 90)
        with pytest.raises(NotImplementedError, match="nvdisasm"):
            predicted.setup(found, "density", "H200")
        pytest.skip("needs nvidia-cuda-nvdisasm")
    instructions.setup(found, "density", 90)
    assert 50 < instructions.track_inner_loop(found, "density", 90) < 400
    predicted.setup(found, "density", "H200")
    seconds = predicted.track_predicted_time(found, "density", "H200")
    assert prediction.CASES["density"].n_bytes / 4.8e12 < seconds < 1e-2
    kept = prediction.kept("NVIDIA H200")["density"].expected  # made anew by tools/gpu_prediction.py --json
    assert 1e3 * seconds == pytest.approx(kept, rel=0.1)
    assert prediction.kept("NVIDIA H100 80GB HBM3") and prediction.kept("NVIDIA GeForce GTX 480") is None


def test_no_compiler_is_a_skip(monkeypatch):
    monkeypatch.setattr(cuda_text, "has_compiler", lambda: False)
    found = cuda_text.setup_cache()
    for suite in (cuda_text.Registers, cuda_text.Instructions, cuda_text.Predicted):
        with pytest.raises(NotImplementedError):
            suite().setup(found, *(values[0] for values in suite.params))
