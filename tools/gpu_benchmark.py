"""Time the CUDA kernels beside the memory bandwidth and libmolgrid, in one run.

    python tools/gpu_benchmark.py [--json FILE]     64 complexes (400 atoms, 28 channels, 48^3, float32), one molecule
    python tools/gpu_benchmark.py --host            one molecule only: the time of a call on the host
    python tools/gpu_benchmark.py --exercise        every kernel once, small, for compute-sanitizer

The times of single kernels stand beside those that tools/gpu_prediction.py predicts. Without a usable GPU it says why
and ends with status 0. libmolgrid is measured if it can be imported, from
``MOLGRID_SITE`` if that is set.
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import sys
import time

import torch
from gpu_workload import ATOMS, BATCH, CASES, CHANNELS, atoms, workload

import gridgrad as gg
from gridgrad import gpu

SMALL_ATOMS, SMALL_CHANNELS = 40, 14
LARGE_ATOMS, LARGE_CHANNELS, LARGE_DIMENSION = 4000, 16, 35.5


def device_time(function, repeats=20):
    """Return the median time on the GPU, in ms."""
    for _ in range(3):
        function()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def host_time(function, repeats=200):
    """Return the median time that a call takes on the host, in microseconds, with an idle GPU at its start."""
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        times.append(1e6 * (time.perf_counter() - start))
    return statistics.median(times)


def time_orders(gm, coords, types, radii, n_types=None):
    """Return the times of the three orders, and the density."""
    grid = gm.forward((0, 0, 0), coords, types, radii, n_types)
    grad, v = torch.randn_like(grid), torch.randn_like(coords)
    needs = [coords.clone().requires_grad_(), types, radii]

    def backward():
        density = gg.coords2grid(gm, (0, 0, 0), *needs, n_types)
        (gradient,) = torch.autograd.grad(density, needs[0], grad)
        return gradient

    def double_backward():
        density = gg.coords2grid(gm, (0, 0, 0), *needs, n_types)
        cotangent = grad.requires_grad_()
        (gradient,) = torch.autograd.grad(density, needs[0], cotangent, create_graph=True)
        return torch.autograd.grad(gradient, (needs[0], cotangent), v)

    forward = device_time(lambda: gm.forward((0, 0, 0), coords, types, radii, n_types, out=grid))
    both = device_time(backward)
    return {"forward": forward, "forward_backward": both, "with_double_backward": device_time(double_backward)}, grid


def time_molgrid(coords, types, radii, grid):
    """Return the times of libmolgrid's GridMaker, an example at a time as it has to be called, or why not."""
    if "MOLGRID_SITE" in os.environ:
        sys.path.insert(0, os.environ["MOLGRID_SITE"])
    try:
        import molgrid

        gm = molgrid.GridMaker(resolution=0.5, dimension=23.5)
        centre = molgrid.float3(0, 0, 0)
        out, gradient = torch.empty_like(grid), torch.empty_like(coords)
        type_gradient = torch.empty_like(types)

        def forward():
            for b in range(len(coords)):
                gm.forward(centre, coords[b], types[b], radii[b], out[b])

        def backward():
            for b in range(len(coords)):
                gm.backward(centre, coords[b], types[b], radii[b], grid[b], gradient[b], type_gradient[b])

        return {"forward": device_time(forward, 5), "backward": device_time(backward, 5)}
    except (ImportError, RuntimeError, TypeError, AttributeError, ValueError) as error:
        return {"absent": f"{type(error).__name__}: {error}"}


def measure():
    """Measure everything."""
    gm = gg.GridMaker()
    coords, types, radii, index = atoms(BATCH, ATOMS, CHANNELS)
    vector, grid = time_orders(gm, coords, types, radii)
    zero = device_time(grid.zero_)
    n_bytes = grid.numel() * grid.element_size()
    results = {
        "device": torch.cuda.get_device_name(),
        "config": gg.config.config(),
        "bytes": n_bytes,
        "zero_ms": zero,
        "zero_GB_per_s": n_bytes / zero / 1e6,
        "vector_ms": vector,
        "index_ms": time_orders(gm, coords, index, radii, CHANNELS)[0],
        "molgrid_ms": time_molgrid(coords, types, radii, grid),
    }
    results["forward_over_zero_bandwidth"] = zero / vector["forward"]
    return results | measure_host() | {"kernels": beside_predictions()}


def measure_host():
    """Measure what a call takes on the host, on torch's default stream and on another."""
    gm = gg.GridMaker()
    coords, types, radii, _ = atoms(1, SMALL_ATOMS, SMALL_CHANNELS)
    one = coords[0], types[0], radii[0]
    small = gm.forward((0, 0, 0), *one)

    def forward():
        gm.forward((0, 0, 0), *one, out=small)

    results = {"driver": gg.config.config()["CUDA driver"], "small_forward_host_us": host_time(forward)}
    with torch.cuda.stream(torch.cuda.Stream()):
        results["small_forward_other_stream_host_us"] = host_time(forward)
    results["torch_empty_op_host_us"] = host_time(lambda: torch.add(radii, radii, out=radii))
    return results


def beside_predictions():
    """Print the times of single kernels beside those that tools/gpu_prediction.json predicts, and return them."""
    import gpu_prediction

    name = torch.cuda.get_device_name()
    predicted = gpu_prediction.kept(name)
    given = workload(BATCH, "cuda")
    times = {case: device_time(functools.partial(one.call, **given)) for case, one in CASES.items()}
    print(f"{'':40} measured  predicted  floor of bytes (ms), {name}")
    for case, time_ms in times.items():
        expected = (
            f"{predicted[case].expected:9.3f}  {predicted[case].memory:9.3f}" if predicted else "device not known"
        )
        print(f"{case:40} {time_ms:8.3f}  {expected}")
    return {
        case: {"measured_ms": time_ms, **(predicted[case]._asdict() if predicted else {})}
        for case, time_ms in times.items()
    }


def launch_all(atom_tensors, maker, n_types):
    """Run every operator once, with every set of gradients."""
    operators, end = torch.ops.gridgrad, (maker.spec, (0.0, 0.0, 0.0), n_types)
    coords, types, radii = atom_tensors[:3]
    vectors = types.is_floating_point()
    v = coords, types if vectors else None, radii
    density = operators.density(*atom_tensors, *end)
    operators.density_tangent(*atom_tensors, *v, *end)
    operators.density_tangent_tangent(*atom_tensors, *v, *v, *end)
    operators.density_relevance(*atom_tensors, density, density, *end)
    for needs in itertools.product((False, True), (False, True) if vectors else (False,), (False, True)):
        if any(needs):
            operators.density_backward(*atom_tensors, density, *end, needs)
            operators.density_backward_backward(*atom_tensors, density, *v, *end, needs)


def exercise(device="cuda"):
    """Run every kernel in every precision and layout: also those that only larger calls launch."""
    for dtype in (torch.float32, torch.float64):
        for dimension in ((5.0, 4.0, 5.5), (5.5, 4.0, 6.0)):  # rows of 12 and 13 points
            for by_type in (False, True):
                maker = gg.GridMaker(dimension=dimension, radius_type_indexed=by_type, tail="quintic")
                coords, types, radii, index = atoms(2, 6, 5, dtype, device)
                radii = radii[0, :5].clone() if by_type else radii
                for kind in (types, index):
                    launch_all((coords / 5, kind, radii, None, None), maker, 5)
        # tiles enough to find beforehand which atoms reach them and have a weight in which channel
        coords, types, radii, _ = atoms(1, LARGE_ATOMS, LARGE_CHANNELS, dtype, device)
        maker = gg.GridMaker(dimension=LARGE_DIMENSION)
        torch.ops.gridgrad.density(coords, types, radii, None, None, maker.spec, (0.0, 0.0, 0.0), LARGE_CHANNELS)


def main():
    """Measure or exercise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--host", action="store_true", help="measure the host only")
    parser.add_argument("--exercise", action="store_true", help="run every kernel once")
    arguments = parser.parse_args()
    usable, reason = gpu.availability()
    if not usable:
        print(f"no usable GPU: {reason}")
        return
    if arguments.exercise:
        exercise()
        gpu.check()
        return
    text = json.dumps(measure_host() if arguments.host else measure(), indent=2)
    print(text)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
