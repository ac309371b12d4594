"""Atoms in batches: what a network on grids is trained with. Needs only numpy and torch."""

from gridgrad.data.batch import AtomBatch, PaddedAtoms
from gridgrad.data.collate import collate

__all__ = ["AtomBatch", "PaddedAtoms", "collate"]
