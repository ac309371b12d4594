"""Minimisers of an `Objective` that treat the examples of a batch apart: each has its own steps and its own end."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CONVERGED, STALLED, EXHAUSTED = range(3)
STATUS = ("converged", "stalled", "iterations exhausted")
"""Why an example ended: its largest step fell below the tolerance; no step lowers f any more; too many iterations."""


class Solution(NamedTuple):
    """Where a minimiser ended.

    Attributes
    ----------
    unknowns : Tensor
        (N, D).
    values : Tensor
        (B,) values of the objective.
    iterations : Tensor
        (B,) int64.
    status : Tensor
        (B,) int64, an index into `STATUS`.
    """

    unknowns: Tensor
    values: Tensor
    iterations: Tensor
    status: Tensor


def _going_on(done: Tensor, status: Tensor, running: Tensor) -> Tensor:
    """Note in `status` which of the running examples are done; return the others."""
    status[running & done] = CONVERGED
    return running & ~done


def newton(objective, unknowns: Tensor, trust: Tensor, max_iterations: int, tolerance: float, trace=None) -> Solution:
    """Minimise by truncated Newton: conjugate gradients on exact Hessian-vector products in a trust region.

    Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 4.1 and 7.2 (Steihaug's). The forcing term is
    min(1/2, root of |g|) of their section 7.1, so that convergence is superlinear.

    Parameters
    ----------
    objective : Objective
        What is to be minimised.
    unknowns : Tensor
        (N, D), where to start.
    trust : Tensor
        (B,) largest norm of a first step, in units.
    max_iterations : int
        At most so many outer iterations.
    tolerance : float
        An example has converged when `Objective.largest_step` is below it.
    trace : callable, optional
        Called with the unknowns after each iteration.

    Returns
    -------
    Solution
        The best point of every example.
    """
    example, radius = objective.atoms.example, trust
    values, gradient, at = objective.gradient(unknowns, differentiable=True)
    status = torch.full_like(values, EXHAUSTED, dtype=torch.int64)
    iterations = torch.zeros_like(status)
    running = torch.ones_like(status, dtype=torch.bool)
    for _ in range(max_iterations):
        running = _going_on(objective.largest_step(gradient) < tolerance, status, running)
        if not running.any():
            break
        iterations += running
        step, predicted, at_edge = _steihaug(objective, at, gradient, radius, running)
        trial = unknowns + step
        new_values = objective.values(trial)
        gain = (values - new_values) / predicted.clamp_min(torch.finfo(values.dtype).tiny)
        better = running & (new_values < values)
        lost = running & ~better & (radius < 1e-3 * trust)
        status[lost] = STALLED
        radius = torch.where(gain < 0.25, 0.25 * radius, torch.where((gain > 0.75) & at_edge, 2 * radius, radius))
        unknowns = torch.where(better[example, None], trial, unknowns)
        running = running & ~lost
        values, gradient, at = objective.gradient(unknowns, differentiable=True)
        if trace is not None:
            trace(unknowns)
    return Solution(unknowns, values, iterations, status)


def _steihaug(objective, at, gradient, radius, running):
    """Return the step, the fall of f that the model predicts, and whether the step ends at the edge of the region."""
    dot, example = objective.dot, objective.atoms.example
    step, moved = torch.zeros_like(gradient), torch.zeros_like(gradient)  # p and H p
    rest, direction = gradient, -gradient
    square = dot(rest, rest)
    enough = square * square.sqrt().clamp_max(0.25)  # (min(1/2, |g|^1/2) |g|)^2
    at_edge = torch.zeros_like(running)
    for _ in range(4 * gradient.shape[1] + 20):
        active = running & ~at_edge & (square > enough)
        if not active.any():
            break
        product = objective.product(at, direction)
        curvature = dot(direction, product)
        length = torch.where(curvature > 0, square / curvature, 0.0)
        a, b, c = dot(direction, direction), dot(step, direction), dot(step, step) - radius.square()
        to_edge = (-b + (b * b - a * c).clamp_min(0.0).sqrt()) / a
        leaves = active & ((curvature <= 0) | (length >= to_edge))
        length = torch.where(active, torch.where(leaves, to_edge, length), 0.0)[example, None]
        step, moved, rest = step + length * direction, moved + length * product, rest + length * product
        at_edge = at_edge | leaves
        before, square = square, torch.where(active, dot(rest, rest), square)
        direction = torch.where(active[example, None], (square / before)[example, None] * direction - rest, direction)
    return step, -(dot(gradient, step) + 0.5 * dot(step, moved)), at_edge


def lbfgs(
    objective, unknowns: Tensor, trust: Tensor, max_iterations: int, tolerance: float, trace=None, memory: int = 12
) -> Solution:
    """Minimise by limited-memory BFGS with a backtracking line search.

    Nocedal and Wright, Numerical Optimization, 2nd edition, algorithms 7.4 and 3.1; a pair without positive curvature
    is left out.

    Parameters
    ----------
    objective, unknowns, trust, max_iterations, tolerance, trace
        As for `newton`.
    memory : int, default 12
        Pairs of steps and changes of the gradient that are kept.

    Returns
    -------
    Solution
        The last point of every example.
    """
    dot, example = objective.dot, objective.atoms.example
    values, gradient, _ = objective.gradient(unknowns)
    status = torch.full_like(values, EXHAUSTED, dtype=torch.int64)
    iterations = torch.zeros_like(status)
    running = torch.ones_like(status, dtype=torch.bool)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # (s, y, 1 / <s, y>), 0 where an example leaves the pair out
    for _ in range(max_iterations):
        running = _going_on(objective.largest_step(gradient) < tolerance, status, running)
        if not running.any():
            break
        iterations += running
        direction = -_two_loops(dot, example, pairs, gradient)
        slope = dot(direction, gradient)
        direction = torch.where((slope < 0)[example, None], direction, -gradient)
        slope = torch.where(slope < 0, slope, -dot(gradient, gradient))
        length = (trust / dot(direction, direction).sqrt().clamp_min(1e-30)).clamp_max(1.0) * running
        searching = running
        for _ in range(30):
            new_values = objective.values(unknowns + length[example, None] * direction)
            searching = searching & ~(new_values <= values + 1e-4 * length * slope)
            if not searching.any():
                break
            length = torch.where(searching, 0.5 * length, length)
        length = torch.where(searching, 0.0, length)
        status[searching] = STALLED
        running = running & ~searching
        step = length[example, None] * direction
        unknowns, before = unknowns + step, gradient
        values, gradient, _ = objective.gradient(unknowns)
        change = gradient - before
        curvature = dot(step, change)
        useful = curvature > 1e-10 * dot(change, change)
        pairs = [*pairs[-memory + 1 :], (step, change, torch.where(useful, curvature, torch.inf).reciprocal())]
        if trace is not None:
            trace(unknowns)
    return Solution(unknowns, values, iterations, status)


def _two_loops(dot, example, pairs, gradient):
    """Return the inverse Hessian's approximation times the gradient; 1 to start with, the units see to that."""
    result, factors = gradient, []
    for step, change, inverse in reversed(pairs):
        factor = inverse * dot(step, result)
        factors.append(factor)
        result = result - factor[example, None] * change
    for (step, change, inverse), factor in zip(pairs, reversed(factors), strict=True):
        result = result + (factor - inverse * dot(change, result))[example, None] * step
    return result
