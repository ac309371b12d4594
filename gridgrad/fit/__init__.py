"""From grids back to atoms."""

from gridgrad.fit.atoms import fit_atoms
from gridgrad.fit.solvers import STATUS

__all__ = ["STATUS", "fit_atoms"]
