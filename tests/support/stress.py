"""Threads and processes under load.

``python -m support.stress threads|fork|loader-fork|loader-spawn|loader-forkserver N``
prints how many results were right; a hang is for the caller's time limit to notice.
"""

import concurrent.futures
import multiprocessing
import os
import sys

import torch
from torch.utils.data import DataLoader, Dataset

import gridgrad as gg

MAKER = gg.GridMaker(0.5, 8.0)
N_EXAMPLES = 4


def atoms(example):
    generator = torch.Generator().manual_seed(example)
    coords = 8 * torch.rand(40, 3, generator=generator, dtype=torch.float64) - 4
    types = torch.rand(40, 3, generator=generator, dtype=torch.float64)
    return coords, types, torch.rand(40, generator=generator, dtype=torch.float64) + 1


def outputs(example):
    """Every order in one vector."""
    leaves = [leaf.requires_grad_() for leaf in atoms(example)]
    grid = gg.coords2grid(MAKER, (0.1, 0.2, 0.3), *leaves)
    first = torch.autograd.grad(grid.square().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), leaves)
    return torch.cat([value.detach().flatten() for value in (grid, *first, *second)])


class Examples(Dataset):
    def __len__(self):
        return N_EXAMPLES

    def __getitem__(self, example):
        return outputs(example)


def right_in_threads(repeats, expected):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        examples = [i % N_EXAMPLES for i in range(8 * repeats)]
        return sum(torch.equal(found, expected[i]) for i, found in zip(examples, pool.map(outputs, examples))) // 8


def right_after_fork(repeats, expected):
    right = 0
    for i in range(repeats):
        child = os.fork()
        if child == 0:
            os._exit(0 if torch.equal(outputs(i % N_EXAMPLES), expected[i % N_EXAMPLES]) else 1)
        right += os.waitpid(child, 0)[1] == 0
        assert torch.equal(outputs(i % N_EXAMPLES), expected[i % N_EXAMPLES])
    return right


def right_in_workers(method, repeats, expected):
    """Fork and forkserver start new workers each time; spawn, which imports torch anew, keeps them."""
    keep = method == "spawn"
    options = {"num_workers": 2, "batch_size": None, "multiprocessing_context": method}
    loader = DataLoader(Examples(), persistent_workers=keep, **options)
    right = 0
    for _ in range(repeats):
        right += all(torch.equal(found, target) for found, target in zip(loader, expected, strict=True))
        if not keep:
            loader = DataLoader(Examples(), **options)
    return right


def main(kind, repeats):
    torch.set_num_threads(2)
    torch.rand(1 << 20).exp()
    expected = [outputs(example) for example in range(N_EXAMPLES)]
    if kind == "threads":
        right = right_in_threads(repeats, expected)
    elif kind == "fork":
        right = right_after_fork(repeats, expected)
    else:
        method = kind.removeprefix("loader-")
        if method == "forkserver":
            multiprocessing.set_forkserver_preload(["gridgrad"])
        right = right_in_workers(method, repeats, expected)
    print(f"right: {right} of {repeats}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
