"""Count how often the tiles of a GPU test whether an atom reaches them, without cells and with them; no GPU is needed.

    python tools/count_tests.py

Atoms are uniform in the box, radii 1.2 to 2.0 A, 0.5 A between points, as in tools/gpu_benchmark.py.
"""

import math
import sys
from pathlib import Path

import numpy as np

from gridgrad import GridMaker
from gridgrad.kernels.gpu import preparation

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from cuda_on_cpu.shim_kernels import ShimKernels

WORKLOADS = {"64 complexes, 48^3": (64, 400, 48), "1 structure, 385^3": (1, 200_000, 385)}


def reaching(positions, reach, size, points, resolution):
    """Return by region of `size` points along each axis how many atoms reach it."""
    low = [np.arange(0, points, edge) * resolution for edge in size]
    gaps = [
        np.maximum(np.maximum(first - x[:, None], x[:, None] - (first + (edge - 1) * resolution)), 0)
        for first, edge, x in zip(low, size, positions.T, strict=True)
    ]
    found = np.zeros([len(first) for first in low], int)
    for at in np.ndindex(found.shape):
        distance = sum(gap[:, nth] ** 2 for gap, nth in zip(gaps, at, strict=True))
        found[at] = np.count_nonzero(distance <= reach**2)
    return found


def main():
    """Print the table."""
    kernels, maker = ShimKernels("float32"), GridMaker()
    limits, smallest, tile = preparation.Limits(), kernels.rows["list_cells"], kernels.rows["density"]
    print("| | tests by tiles, all atoms | cells | tests by cells | tests by tiles, of their cell | steps of a tile |")
    print("|---|---|---|---|---|---|")
    for name, (n_examples, n_atoms, points) in WORKLOADS.items():
        rng, h, grid = np.random.default_rng(0), maker.resolution, (points,) * 3
        positions, radii = rng.uniform(0, h * (points - 1), (n_atoms, 3)), rng.uniform(1.2, 2.0, n_atoms)
        tiles = tile.regions(grid, 1)
        how = preparation._cells(grid, n_examples, n_examples * n_atoms, tiles, tile.threads, smallest, limits, False)
        size = [how.scale * edge for edge in smallest[1:]]
        lists = reaching(positions, maker.final_radius_multiple * radii, size, points, h)
        assert lists.max() <= how.capacity
        in_cell = [np.bincount(np.arange(0, points, edge) // of) for edge, of in zip(tile[1:], size, strict=True)]
        per_cell = np.einsum("i,j,k->ijk", *in_cell)  # tiles
        cells = f"{n_examples} x {how.number} of {' x '.join(map(str, size))}"
        by_tiles = n_examples * int((lists * per_cell).sum())
        steps = (np.ceil(lists / tile.threads) * per_cell).sum() / tiles
        print(
            f"| {name} | {n_examples * n_atoms * tiles:.2e} | {cells} | {n_examples * n_atoms * how.number:.2e} "
            f"| {by_tiles:.2e} | {math.ceil(n_atoms / tile.threads)}, {steps:.1f} |"
        )


if __name__ == "__main__":
    main()
