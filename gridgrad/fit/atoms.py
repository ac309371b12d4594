"""From grids back to atoms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gridgrad.data import AtomBatch
from gridgrad.fit import checks
from gridgrad.fit.crop import Box, cropped
from gridgrad.fit.passes import Atoms, Fit
from gridgrad.fit.solvers import lbfgs, newton
from gridgrad.gridmaker import GridMaker

__all__ = ["fit_atoms"]

METHODS = {"newton": newton, "lbfgs": lbfgs}


def fit_atoms(
    gm: GridMaker,
    density: Tensor,
    radii: float | Tensor,
    *,
    center: object = (0.0, 0.0, 0.0),
    initial: AtomBatch | None = None,
    n_atoms: int | Tensor | str | None = None,
    max_atoms: int | None = None,
    channels: Sequence[int] | None = None,
    min_distance: float = 0.6,
    refine: Sequence[str] = ("coords",),
    method: str = "newton",
    passes: int = 10,
    max_iterations: int = 50,
    tolerance: float = 1e-5,
    trace: Callable[[AtomBatch], None] | None = None,
) -> AtomBatch:
    """Find the atoms whose density is given.

    Atoms are set at the peaks of the density of each channel, sharpened, and then moved all together until the squared
    distance of their density from the given one is least. What the fit leaves of the density is searched again: an atom
    is added where a peak is left and one is taken away where there is too much, as often as `passes` allows and as long
    as the distance falls. Every example of a batch has its own steps and its own end.

    Parameters
    ----------
    gm : GridMaker
        The grid; not binary. Radii by type play no part.
    density : Tensor
        (T, X, Y, Z) or (B, T, X, Y, Z), float32 or float64.
    radii : float or Tensor
        Radius of the atoms of all channels, or (T,), in angstrom.
    center : sequence of float or Tensor, default (0, 0, 0)
        (3,) or (B, 3) centre of the grid in angstrom.
    initial : AtomBatch, optional
        Atoms to start from, with type indices, instead of peaks. None is added or taken away.
    n_atoms : int, Tensor or "density", optional
        Number of atoms of every example, (B,) of each, or (B, T) of each channel of each: as many of the highest peaks,
        or fewer if there are fewer. "density": the sum of each channel over that of a lone atom, rounded. By default
        all peaks count that are higher than an atom can be low.
    max_atoms : int, optional
        Largest number of atoms of an example, if `n_atoms` is not given.
    channels : sequence of int, optional
        Channels that may hold atoms; by default all.
    min_distance : float, default 0.6
        Least distance in angstrom between two atoms of a channel when they are set.
    refine : sequence of str, default ("coords",)
        What is refined: "coords", and "weights" and "radii" of the atoms, which otherwise are 1 and `radii`.
    method : {"newton", "lbfgs"}, default "newton"
        Truncated Newton on exact Hessian-vector products, or L-BFGS.
    passes : int, default 10
        How often at most atoms are added or taken away.
    max_iterations : int, default 50
        Iterations of the method in a pass.
    tolerance : float, default 1e-5
        An example has converged when no atom, were it alone, would take a Newton step as long as this, in angstrom.
    trace : callable, optional
        Called after each iteration of a pass that concerns all examples, with an `AtomBatch` as the one returned, whose
        ``evaluations`` and ``products`` count so far; ``residual`` and the rest are those of the pass before.

    Returns
    -------
    AtomBatch
        The atoms, with `center`; types are indices, or (N, T) weights if these are refined. Labels, all (B,):
        ``residual``, the norm of what the fit leaves over that of the density; ``iterations``; ``status``, an index
        into `gridgrad.fit.STATUS`; ``evaluations`` of the density, with or without its gradient, and ``products``
        with its Hessian, which the examples of a batch share.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    """
    density = checks.grid(gm, density)
    center = checks.centers(center, density)
    radii = checks.channel_radii(radii, density)
    refine = checks.refinement(refine)
    checks.one_of("method", method, METHODS)
    checks.count("passes", passes, 0)
    checks.count("max_iterations", max_iterations, 1)
    checks.length("tolerance", tolerance)
    limits = checks.limits(n_atoms, max_atoms, channels, min_distance, density, radii, gm)
    reach = gm.final_radius_multiple * gm.radius_scale * float(radii.max())
    box = cropped(gm, density, reach) if initial is None else Box.whole(gm, density)
    fit = Fit(box, radii, limits, refine, METHODS[method], max_iterations, tolerance)
    if trace is not None:
        fit.trace = lambda atoms: trace(_batch(fit, atoms, center))
    if initial is not None:
        fit.set(checks.start(initial, density, center))
    else:
        among = everywhere = fit.set(fit.seeds())
        for matched in (False, True):
            for _ in range(passes):
                atoms = fit.corrections(among, matched)
                if atoms is None:
                    break
                among = fit.set(atoms)
            among = everywhere
    return _batch(fit, fit.atoms, center)


def _batch(fit: Fit, atoms: Atoms, center: Tensor) -> AtomBatch:
    """Return atoms and how they were found as a batch."""
    target = fit.box.density
    n_examples, n_types = target.shape[:2]
    types = atoms.channel
    if "weights" in fit.refine:
        types = torch.nn.functional.one_hot(types, n_types).to(target.dtype) * atoms.weights[:, None]
    norm = target.double().square().sum((1, 2, 3, 4))
    labels = {
        "residual": (2 * fit.values.double() / norm.clamp_min(torch.finfo(norm.dtype).tiny)).sqrt(),
        "iterations": fit.iterations,
        "status": fit.status,
        "evaluations": torch.full_like(fit.status, fit.evaluations),
        "products": torch.full_like(fit.status, fit.products),
    }
    coords = (atoms.coords.double() + (center + fit.box.center)[atoms.example]).to(target.dtype)
    return AtomBatch.from_batch_index(
        coords, types, atoms.radii, atoms.example, n_examples, center=center, labels=labels
    )
