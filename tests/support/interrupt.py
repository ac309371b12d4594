"""Send SIGINT into a long call of each kernel: ``python -m support.interrupt`` prints how long it went on, in seconds.

Then the same kernel on few atoms is compared with what it gave before; a handler that returns must not end a call.
"""

import itertools
import os
import signal
import threading
import time

import torch

import gridgrad as gg

KERNELS = ("density", "density_backward", "density_backward_backward", "density_relevance", "autograd")
MAKER = gg.GridMaker(0.5, 48.0)  # 97^3 points


def scene(n_atoms, n_examples):
    generator = torch.Generator().manual_seed(0)
    coords = 40 * torch.rand(n_examples, n_atoms, 3, generator=generator) - 20
    types = torch.rand(n_examples, n_atoms, 2, generator=generator)
    return torch.zeros(3), coords, types, torch.full((n_examples, n_atoms), 3.0)


def call(kernel, n_atoms, n_examples):
    """Return a function of no arguments; the tensors are made here."""
    atoms = scene(n_atoms, n_examples)
    gm = MAKER
    grid = torch.ones(n_examples, 2, *gm.spatial_grid_dimensions())
    if kernel == "density":
        return lambda: gm.forward(*atoms)
    if kernel == "density_relevance":
        return lambda: gm.backward_relevance(*atoms, grid, grid)
    if kernel == "density_backward":
        return lambda: gm.backward(*atoms, grid)[0]
    if kernel == "autograd":
        leaf = atoms[1].requires_grad_()
        density = gg.coords2grid(gm, atoms[0], leaf, *atoms[2:])
        return lambda: torch.autograd.grad(density, leaf, grid, retain_graph=True)[0]
    tangents = [torch.ones_like(atom) for atom in atoms[1:]]
    return lambda: gm.backward_gradients(*atoms, grid, *tangents)[1]


def seconds_of(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def signal_during(function, delay):
    """Return the seconds that the call took after the signal, and whether it was interrupted."""
    sent = []

    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, send)
    timer.start()
    try:
        function()
        interrupted = False
    except KeyboardInterrupt:
        interrupted = True
    ended = time.perf_counter()
    timer.join()
    return ended - sent[0], interrupted


def main():
    for kernel, threads in itertools.product(KERNELS, (1, 2)):
        torch.set_num_threads(threads)
        small = call(kernel, 5, 1)
        before = small()
        one = call(kernel, 1000, 1)
        n_examples = min(1 + int(3 / min(seconds_of(one) for _ in range(5))), 150)
        long = call(kernel, 1000, n_examples)
        signal.signal(signal.SIGINT, lambda *_: None)
        assert not signal_during(call(kernel, 1000, 1 + n_examples // 10), 0.1)[1]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        seconds, interrupted = signal_during(long, 0.2)
        assert interrupted, "the call was over before the signal came"
        assert torch.equal(small(), before)
        print(f"{kernel} {threads} {seconds:.3f}")


if __name__ == "__main__":
    main()
