"""Which atoms reach which points: cells as wide as the widest atom, in plain torch, without a table of all pairs."""

from __future__ import annotations

import torch
from torch import Tensor

CANDIDATES = 2**20
"""Pairs looked at in one go."""
MAX_CELLS = 2**13
"""Along an axis of an example, fewer where there are many: cells get wider where atoms lie farther apart."""
SLACK = 1e-4
"""Of a reach: whether the profile is zero is for the kernels to say."""


def _cells(coords: Tensor, example: Tensor, n_examples: int, widest: Tensor, n_cells: int) -> tuple[Tensor, Tensor]:
    """Return the lowest corner of the atoms of each example, (B, 3), and the edge of a cell."""
    index = example[:, None].expand(-1, 3)
    infinite = coords.new_full((n_examples, 3), torch.inf)
    low = infinite.scatter_reduce(0, index, coords, "amin")
    high = (-infinite).scatter_reduce(0, index, coords, "amax")
    spread = torch.where(low <= high, high - low, 0.0).max()
    return low, torch.maximum(widest, spread / (n_cells - 2))


def _runs(points, point_example, cell, low, edge, n_cells, keys) -> tuple[Tensor, Tensor, Tensor]:
    """Return runs of sorted atoms that may reach a point: its number, first and count; three cells along z a run."""
    shift = torch.arange(-1, 2, device=points.device)
    columns = torch.cartesian_prod(shift, shift)
    x = cell[:, None, 0] + columns[:, 0]
    y = cell[:, None, 1] + columns[:, 1]
    row = ((point_example[:, None] * n_cells + x) * n_cells + y) * n_cells
    z_begin = (cell[:, None, 2] - 1).clamp(0, n_cells)
    z_end = (cell[:, None, 2] + 2).clamp(0, n_cells)
    begin, end = torch.searchsorted(keys, row + z_begin), torch.searchsorted(keys, row + z_end)
    inside = (x >= 0) & (x < n_cells) & (y >= 0) & (y < n_cells)
    count = torch.where(inside, end - begin, 0)
    number = torch.arange(len(points), device=points.device)[:, None].expand_as(count)
    some = count > 0
    return number[some], begin[some], count[some]


def pairs_in_reach(
    points: Tensor, coords: Tensor, reach: Tensor, point_example: Tensor, example: Tensor, n_examples: int
) -> tuple[Tensor, Tensor]:
    """Return the pairs of a point and an atom that reaches it.

    Parameters
    ----------
    points : Tensor
        (P, 3) float64.
    coords : Tensor
        (N, 3) float64.
    reach : Tensor
        (N,) float64: how far an atom reaches; 0 or NaN: nowhere.
    point_example, example : Tensor
        (P,) and (N,) int64, from 0 to `n_examples` - 1; only points and atoms of one example meet.
    n_examples : int
        Examples.

    Returns
    -------
    point, atom : Tensor
        (M,) int64, by point and then by atom. Pairs that are farther apart by up to `SLACK` are among them.
    """
    none = example.new_empty(0)
    atoms = (coords.isfinite().all(1) & (reach > 0)).nonzero()[:, 0]
    met = points.isfinite().all(1).nonzero()[:, 0]
    if not len(atoms) or not len(met):
        return none, none
    reach = reach * (1 + SLACK)
    n_cells = min(MAX_CELLS, int((2**62 / n_examples) ** (1 / 3)))  # numbers of cells are int64
    low, edge = _cells(coords[atoms], example[atoms], n_examples, reach[atoms].max(), n_cells)

    def cell_of(where, of):
        # points far away come to lie beside the first cell or the last
        return ((where - low[of]) / edge).floor().clamp(-2, n_cells + 1).nan_to_num(-2).long()

    cell = cell_of(coords[atoms], example[atoms])
    key = ((example[atoms] * n_cells + cell[:, 0]) * n_cells + cell[:, 1]) * n_cells + cell[:, 2]
    keys, order = key.sort(stable=True)
    order = atoms[order]
    cell = cell_of(points[met], point_example[met])
    point, begin, count = _runs(points[met], point_example[met], cell, low, edge, n_cells, keys)
    point = met[point]
    found = [(none, none)]
    ends = count.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    bounds = torch.arange(CANDIDATES, total + CANDIDATES, CANDIDATES, device=ends.device)
    first = 0
    for last in map(int, torch.searchsorted(ends, bounds, right=True)):  # torch 2.5 has no tolist() under torch.func
        last = max(last, min(first + 1, len(ends)))
        run = slice(first, last)
        number = torch.repeat_interleave(count[run])
        starts = ends[run] - count[run]
        offset = torch.arange(len(number), device=number.device) - (starts - starts[:1])[number]
        one, other = point[run][number], order[begin[run][number] + offset]
        near = (points[one] - coords[other]).square().sum(1) <= reach[other].square()
        found.append((one[near], other[near]))
        first = last
    point, atom = map(torch.cat, zip(*found, strict=True))
    by_atom = (point * len(coords) + atom).argsort()
    return point[by_atom], atom[by_atom]
