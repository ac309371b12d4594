"""The squared distance of the density of atoms from a given one, per example, with its derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gridgrad.functional import coords2grid
from gridgrad.gridmaker import GridMaker


class Objective:
    """f_b = 1/2 sum over voxels of (density - target)^2 as a function of what is refined of each atom.

    The unknowns are a matrix (N, D), one row per atom: its position, then its weight and its radius if these are
    refined, as differences from the start in units of `unit`. An atom alone has a Hessian of diagonal 1 in these units,
    so that its gradient is the step that Newton's method would take.

    Parameters
    ----------
    gm : GridMaker
        The grid.
    target : Tensor
        (B, T, X, Y, Z).
    atoms : Atoms
        Where the atoms start.
    unit : Tensor
        (N, D), in angstrom and, for weights, 1.
    refine : sequence of str
        What of "coords", "weights" and "radii" is unknown, in this order.
    """

    def __init__(self, gm: GridMaker, target: Tensor, atoms, unit: Tensor, refine: Sequence[str]):
        self.gm, self.target, self.atoms, self.unit, self.refine = gm, target, atoms, unit, refine
        self.indices = "weights" not in refine and bool((atoms.weights == 1).all())
        self.evaluations, self.products = 0, 0

    def at(self, unknowns: Tensor):
        """Return the atoms that the unknowns stand for.

        Parameters
        ----------
        unknowns : Tensor
            (N, D).

        Returns
        -------
        Atoms
            With a graph, if the unknowns have one.
        """
        step, found, column = unknowns * self.unit, {}, 0
        for name in self.refine:
            start = getattr(self.atoms, name)
            width = 3 if name == "coords" else 1
            found[name] = start + step[:, column : column + width].reshape(start.shape)
            column += width
        return self.atoms._replace(**found)

    def density(self, atoms) -> Tensor:
        """Return the density of atoms, (B, T, X, Y, Z)."""
        n_examples, n_types = self.target.shape[:2]
        types = atoms.channel
        if not self.indices:
            types = torch.nn.functional.one_hot(types, n_types).to(atoms.weights.dtype) * atoms.weights[:, None]
        return coords2grid(
            self.gm, (0.0, 0.0, 0.0), atoms.coords, types, atoms.radii, n_types, atoms.example, n_examples
        )

    def values(self, unknowns: Tensor) -> Tensor:
        """Return f, (B,)."""
        self.evaluations += 1
        with torch.no_grad():
            return self._values(unknowns)

    def _values(self, unknowns: Tensor) -> Tensor:
        return 0.5 * (self.density(self.at(unknowns)) - self.target).square().sum((1, 2, 3, 4))

    def gradient(self, unknowns: Tensor, differentiable: bool = False) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return f and its gradient, to be differentiated by `product` on request.

        Parameters
        ----------
        unknowns : Tensor
            (N, D).
        differentiable : bool, default False
            Keep the graph of the gradient.

        Returns
        -------
        values : Tensor
            (B,).
        gradient : Tensor
            (N, D).
        at : tuple of Tensor
            What `product` wants: the unknowns and their gradient, with a graph.
        """
        self.evaluations += 1
        unknowns = unknowns.detach().requires_grad_()
        values = self._values(unknowns)
        (gradient,) = torch.autograd.grad(values.sum(), unknowns, create_graph=differentiable)
        return values.detach(), gradient.detach(), (unknowns, gradient)

    def product(self, at: tuple[Tensor, Tensor], v: Tensor) -> Tensor:
        """Return the exact product of the Hessian, block-diagonal in the examples, with v.

        Parameters
        ----------
        at : tuple of Tensor
            The third value of ``gradient(..., differentiable=True)``.
        v : Tensor
            (N, D).

        Returns
        -------
        Tensor
            (N, D).
        """
        self.products += 1
        unknowns, gradient = at
        return torch.autograd.grad(gradient, unknowns, v, retain_graph=True)[0]

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner products per example, (B,), of two matrices (N, D)."""
        return a.new_zeros(self.target.shape[0]).index_add(0, self.atoms.example, (a * b).sum(1))

    def norm(self, a: Tensor) -> Tensor:
        """Return the norms per example, (B,), of a matrix (N, D)."""
        return self.dot(a, a).sqrt()

    def largest_step(self, gradient: Tensor) -> Tensor:
        """Return the largest step, (B,), that Newton's method would take for some atom if the atoms were alone."""
        steps = (gradient * self.unit).abs().amax(1)
        return steps.new_zeros(self.target.shape[0]).scatter_reduce(0, self.atoms.example, steps, "amax")
