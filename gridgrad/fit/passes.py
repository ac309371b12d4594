"""The passes of a fit: atoms are set, moved, added and taken away, example by example."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import jvp

from gridgrad.fit.objective import Objective
from gridgrad.fit.peaks import Filters, find_peaks
from gridgrad.fit.solvers import EXHAUSTED
from gridgrad.functional import coords2grid
from gridgrad.gridmaker import GridMaker

VISIBLE = 0.01
"""What of the peak of an atom of weight 1 is looked at; smaller values everywhere hide no atom."""
HEIGHT = 0.6
"""Least height of a peak of the sharpened density, in those of an atom of weight 1 in the middle between points."""
SIGMAS = 5.5
"""Both, in standard deviations of the noise."""
MISFIT = 0.1
"""Least output of the matched filter for what a fit leaves, in weights of an atom, for which something is tried."""
REACH = 1.0
"""Largest distance in angstrom between a trough of what the fit leaves and the atom that is taken away for it."""
NEARLY_OUT = 0.9
"""An atom is gone that is so far from the box, in units of the distance from its centre to its end."""
FIRST_STEP = 0.25
"""Radius of the first trust region, in radii of an atom, for each atom."""


class Atoms(NamedTuple):
    """Atoms of B examples while they are fitted, sorted by example.

    Attributes
    ----------
    example, channel : Tensor
        (N,) int64.
    coords : Tensor
        (N, 3) relative to the centre of the grid.
    weights, radii : Tensor
        (N,).
    """

    example: Tensor
    channel: Tensor
    coords: Tensor
    weights: Tensor
    radii: Tensor

    def only(self, kept: Tensor) -> Atoms:
        """Return the atoms that a mask or indices select."""
        return Atoms(*(value[kept] for value in self))


class Peaks(NamedTuple):
    """Where there may be atoms.

    Attributes
    ----------
    example, channel : Tensor
        (P,) int64.
    position : Tensor
        (P, 3) relative to the centre of the grid, float64.
    height : Tensor
        (P,) in units of an atom of weight 1 on a point.
    """

    example: Tensor
    channel: Tensor
    position: Tensor
    height: Tensor


def join(*parts: Atoms) -> Atoms:
    """Return all atoms, sorted by example, otherwise in the order given."""
    together = Atoms(*map(torch.cat, zip(*parts, strict=True)))
    return together.only(torch.argsort(together.example, stable=True))


class Limits(NamedTuple):
    """How many atoms there may be, and how close.

    Attributes
    ----------
    number : Tensor or None
        Largest number of atoms, (B,) of each example or (B, T) of each of its channels; None: any.
    channels : Tensor
        (T,) bool: channels that may hold atoms.
    min_distance : float
        Least distance between two atoms of a channel when they are set, in angstrom.
    """

    number: Tensor | None
    channels: Tensor
    min_distance: float


def _alone(gm: GridMaker, radii: Tensor, resolution: float) -> GridMaker:
    """Return a grid that holds an atom of each of these radii whole."""
    reach = gm.final_radius_multiple * gm.radius_scale * float(radii.max())
    side = 2 * math.ceil(reach / resolution) * resolution
    return GridMaker(
        resolution, side, radius_scale=gm.radius_scale, tail=gm.tail,
        gaussian_radius_multiple=gm.gaussian_radius_multiple,
    )  # fmt: skip


def units(gm: GridMaker, radii: Tensor, refine: Sequence[str]) -> Tensor:
    """Return, for an atom alone of each channel, one over the root of its Hessian's diagonal for each unknown.

    Parameters
    ----------
    gm : GridMaker
        The grid.
    radii : Tensor
        (T,) radii in angstrom.
    refine : sequence of str
        The unknowns, see `Objective`.

    Returns
    -------
    Tensor
        (T, D), in angstrom, and 1 for weights.
    """
    zero = radii.new_zeros(())
    derivatives = {
        "coords": lambda: jvp(lambda x: _lone_atoms(gm, radii, x), (zero,), (zero + 1,))[1],
        "weights": lambda: _lone_atoms(gm, radii, zero),
        "radii": lambda: jvp(lambda r: _lone_atoms(gm, r, zero), (radii,), (torch.ones_like(radii),))[1],
    }
    found = []
    for name in refine:
        unit = (derivatives[name]().square().sum((1, 2, 3)) / 8).rsqrt()
        found += [unit] * (3 if name == "coords" else 1)
    return torch.stack(found, 1)


def integrals(gm: GridMaker, radii: Tensor) -> Tensor:
    """Return, for an atom alone of each channel, the sum of its density over the points of the grid.

    Parameters
    ----------
    gm : GridMaker
        The grid.
    radii : Tensor
        (T,) radii in angstrom.

    Returns
    -------
    Tensor
        (T,).
    """
    return _lone_atoms(gm, radii, radii.new_zeros(())).sum((1, 2, 3)) / 8


def _lone_atoms(gm: GridMaker, radii: Tensor, x: Tensor) -> Tensor:
    """Density of an atom of each channel at (x, 0, 0), on half the spacing: the mean over places between the points."""
    fine = _alone(gm, radii.detach(), gm.resolution / 2)
    coords = radii.new_zeros(len(radii), 3) + x * radii.new_tensor([1.0, 0.0, 0.0])
    channels = torch.arange(len(radii), device=radii.device)
    return coords2grid(fine, (0.0, 0.0, 0.0), coords, channels, radii, len(radii))


class Fit:
    """The state of a fit of B examples.

    Parameters
    ----------
    box : Box
        Densities, and the grid and the noise that they have.
    radii : Tensor
        (T,) in angstrom.
    limits : Limits
        How many atoms there may be.
    refine : sequence of str
        What is refined.
    solve : callable
        `newton` or `lbfgs`.
    max_iterations : int
        Of `solve`.
    tolerance : float
        Of `solve`.
    """

    def __init__(self, box, radii, limits, refine, solve, max_iterations, tolerance):
        self.box, self.radii, self.limits = box, radii, limits
        self.gm, self.target, self.noise = box.gm, box.density, box.noise
        self.refine, self.solve, self.max_iterations, self.tolerance = refine, solve, max_iterations, tolerance
        self.filters: Filters | None = None
        self.trace: Callable[[Atoms], None] | None = None
        self.units = units(self.gm, radii, refine)
        target = self.target
        n_examples = len(target)
        self.values = 0.5 * target.square().sum((1, 2, 3, 4))
        self.iterations = torch.zeros(n_examples, dtype=torch.int64, device=target.device)
        self.status = torch.full_like(self.iterations, EXHAUSTED)
        self.evaluations = self.products = 0
        empty = self.iterations[:0]
        self.atoms = Atoms(empty, empty, target.new_zeros(0, 3), target.new_zeros(0), target.new_zeros(0))

    def set(self, atoms: Atoms) -> Tensor:
        """Refine atoms, and keep them where they are better than what there is.

        Parameters
        ----------
        atoms : Atoms
            Atoms of some examples: all that these examples shall have.

        Returns
        -------
        Tensor
            (B,) bool: the examples that they were kept for.
        """
        tried = torch.zeros_like(self.status, dtype=torch.bool)
        tried[atoms.example] = True
        examples = tried.nonzero()[:, 0]
        place = torch.cumsum(tried, 0) - 1
        objective = Objective(
            self.gm, self.target[examples], atoms._replace(example=place[atoms.example]),
            self.units[atoms.channel], self.refine,
        )  # fmt: skip
        trust = FIRST_STEP * objective.norm(self.gm.radius_scale * atoms.radii[:, None] / objective.unit[:, :1])
        start = torch.zeros_like(objective.unit)
        trace = None
        if self.trace is not None and len(examples) == len(tried):
            trace = self._tracer(objective, self.trace)
        solution = self.solve(objective, start, trust, self.max_iterations, self.tolerance, trace)
        self.evaluations += objective.evaluations
        self.products += objective.products
        self.iterations[examples] += solution.iterations
        refined, values = objective.at(solution.unknowns), solution.values
        seen = self._seen(refined)
        if not seen.all():
            refined = refined.only(seen)
            values = 0.5 * (objective.density(refined) - objective.target).square().sum((1, 2, 3, 4))
        better = torch.zeros_like(tried)
        better[examples] = values < self.values[examples]
        kept = better[examples]
        self.values[examples[kept]] = values[kept]
        self.status[examples[kept]] = solution.status[kept]
        refined = refined._replace(example=examples[refined.example])
        self.atoms = join(self.atoms.only(~better[self.atoms.example]), refined.only(better[refined.example]))
        return better

    def _tracer(self, objective: Objective, trace: Callable[[Atoms], None]) -> Callable[[Tensor], None]:
        """Return what a minimiser calls after each iteration."""
        before = self.evaluations, self.products

        def tracer(unknowns: Tensor) -> None:
            self.evaluations, self.products = before[0] + objective.evaluations, before[1] + objective.products
            trace(objective.at(unknowns))
            self.evaluations, self.products = before

        return tracer

    def _seen(self, atoms: Atoms) -> Tensor:
        """Return which atoms, (N,), are not so far outside of the box that next to nothing of them is inside."""
        half = atoms.coords.new_tensor(self.gm.dimension) / 2
        outside = (atoms.coords.abs() - half).clamp_min(0.0).norm(dim=1)
        return outside < NEARLY_OUT * self.gm.final_radius_multiple * self.gm.radius_scale * atoms.radii

    def seeds(self) -> Atoms:
        """Return atoms at the peaks of the sharpened target."""
        peaks, _ = self._peaks(self.target)
        return self._atoms_at(self._spread(peaks, self.atoms))

    def corrections(self, among: Tensor, matched: bool) -> Atoms | None:
        """Return other atoms for the examples that have peaks or troughs in what the fit leaves.

        Parameters
        ----------
        among : Tensor
            (B,) bool: the examples to look at.
        matched : bool
            Whether to look through the matched filter, at the highest peak and the deepest trough of each channel,
            instead of at what is sharpened.

        Returns
        -------
        Atoms or None
            All atoms of the examples that get others; None if there is no such example.
        """
        no_unit = self.target.new_zeros(0)  # nothing is refined
        rest = self.target - Objective(self.gm, self.target, self.atoms, no_unit, ()).density(self.atoms)
        peaks, troughs = self._peaks(rest, matched)
        surplus = torch.zeros_like(self.atoms.example, dtype=torch.bool)
        for example, channel, position, _ in zip(*troughs, strict=True):
            near = (self.atoms.coords.double() - position).norm(dim=1)
            near[(self.atoms.example != example) | (self.atoms.channel != channel) | surplus] = math.inf
            if len(near) and near.min() < REACH:
                surplus[near.argmin()] = True
        kept = self.atoms.only(~surplus)
        added = self._atoms_at(self._spread(self._beside(peaks, kept) if matched else peaks, kept))
        changed = torch.zeros_like(among)
        changed[self.atoms.example[surplus]] = True
        changed[added.example] = True
        changed &= among
        if not changed.any():
            return None
        return join(kept.only(changed[kept.example]), added.only(changed[added.example]))

    def _peaks(self, density: Tensor, matched: bool = False) -> tuple[Peaks, Peaks]:
        """Return the peaks and the troughs of a density (B, T, X, Y, Z) after a filter, see `corrections`."""
        hidden = VISIBLE + (0.0 if matched else SIGMAS) * self.noise
        visible = density.abs().amax((2, 3, 4)) > hidden[:, None]
        example, channel = (visible & self.limits.channels).nonzero().T
        if not len(example):
            nothing = Peaks(example, channel, density.new_zeros(0, 3).double(), density.new_zeros(0).double())
            return nothing, nothing
        if self.filters is None:
            radii, self.kind = self.radii.double().unique(return_inverse=True)
            self.filters = Filters(_alone(self.gm, radii, self.gm.resolution), self.gm, radii)
        volumes, kind = density[example, channel], self.kind[channel]
        filtered = self.filters.matched if matched else self.filters.sharpened
        heights, lowest, noise = filtered(volumes, kind, self.noise[example])
        threshold = torch.maximum(SIGMAS * noise, (MISFIT if matched else HEIGHT) * lowest)
        found = []
        for sign in (1, -1):
            volume, position, height = find_peaks(sign * heights, threshold, self.gm)
            if matched:
                highest = {int(volume[i]): i for i in torch.argsort(height).tolist()}
                volume, position, height = (value[list(highest.values())] for value in (volume, position, height))
            found.append(Peaks(example[volume], channel[volume], position, height))
        peaks, troughs = found
        return peaks, troughs

    def _beside(self, peaks: Peaks, others: Atoms) -> Peaks:
        """Move peaks that are closer to an atom of their channel than atoms may be set: it may stand for two atoms."""
        position = peaks.position.clone()
        for i in range(len(position)):
            same = (others.example == peaks.example[i]) & (others.channel == peaks.channel[i])
            away = position[i] - others.coords[same].double()
            if len(away):
                nearest = away[away.norm(dim=1).argmin()]
                short = 1.001 * self.limits.min_distance - nearest.norm()
                if short > 0:
                    position[i] += short * nearest / nearest.norm().clamp_min(torch.finfo(nearest.dtype).tiny)
        return peaks._replace(position=position)

    def _spread(self, peaks: Peaks, others: Atoms) -> Peaks:
        """Return the highest peaks that are far enough from each other and from other atoms, as many as allowed."""
        order = torch.argsort(peaks.height, descending=True, stable=True)
        peaks = Peaks(*(value[order] for value in peaks))
        kept = []
        for example in peaks.example.unique().tolist():
            at = (peaks.example == example).nonzero()[:, 0]
            there = others.only(others.example == example)
            groups = torch.cat([there.channel, peaks.channel[at]])
            places = torch.cat([there.coords.double(), peaks.position[at]])
            close = (torch.cdist(places, places) < self.limits.min_distance) & (groups[:, None] == groups)
            alive, n = torch.ones(len(groups), dtype=torch.bool, device=groups.device), len(there.channel)
            for i in range(len(at)):
                alive[n + i] = not (close[n + i, : n + i] & alive[: n + i]).any()
            kept.append(self._fewest(at[alive[n:]], peaks, there, example))
        indices = torch.cat(kept) if kept else order[:0]
        return Peaks(*(value[indices] for value in peaks))

    def _fewest(self, at: Tensor, peaks: Peaks, there: Atoms, example: int) -> Tensor:
        """Return the first of the peaks `at`, as many as the limits leave room for."""
        number = self.limits.number
        if number is None:
            return at
        if number.dim() == 1:
            return at[: max(int(number[example]) - len(there.channel), 0)]
        parts = []
        for channel in peaks.channel[at].unique().tolist():
            room = int(number[example, channel]) - int((there.channel == channel).sum())
            parts.append(at[peaks.channel[at] == channel][: max(room, 0)])
        return torch.cat(parts) if parts else at

    def _atoms_at(self, peaks: Peaks) -> Atoms:
        """Return an atom of weight 1 at each peak."""
        dtype = self.target.dtype
        radii = self.radii[peaks.channel]
        atoms = Atoms(peaks.example, peaks.channel, peaks.position.to(dtype), torch.ones_like(radii), radii)
        return join(atoms)
