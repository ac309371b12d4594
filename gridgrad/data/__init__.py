"""Atoms in batches: what a network on grids is trained with. Needs only numpy and torch."""

from gridgrad.data.batch import AtomBatch, PaddedAtoms
from gridgrad.data.collate import collate
from gridgrad.data.dataset import ComplexDataset
from gridgrad.data.rigid import RandomRigid, Rigid

__all__ = ["AtomBatch", "ComplexDataset", "PaddedAtoms", "RandomRigid", "Rigid", "collate"]
