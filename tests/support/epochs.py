"""A dataset of 48 molecules and one sampler of each kind over it."""

import itertools

import numpy as np
from support.atom_batches import make_batch

from gridgrad.data import AtomBudgetBatchSampler, BalancedSampler, ComplexDataset, StratifiedSampler

COUNTS = tuple(np.random.default_rng(0).integers(0, 9, 48).tolist())
CLASSES = [0, 1, 1] * 16


def dataset():
    return ComplexDataset({"ligand": make_batch(counts=COUNTS)}, labels={"row": range(48)}, center=np.zeros((48, 3)))


def samplers(**ranks):
    return [
        StratifiedSampler([0] * 48, **ranks),
        BalancedSampler(CLASSES, **ranks),
        AtomBudgetBatchSampler(COUNTS, 20, **ranks),
    ]


def joined(lists):
    return list(itertools.chain.from_iterable(lists))
