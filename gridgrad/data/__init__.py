"""Atoms on disk and in batches: what a network on grids is trained with.

Needs only numpy and torch; stores need pyarrow as well (extra ``data``), and making them from files the extra ``mol``.
"""

from gridgrad.data.batch import AtomBatch
from gridgrad.data.budget import AtomBudgetBatchSampler
from gridgrad.data.collate import collate
from gridgrad.data.dataset import ComplexDataset
from gridgrad.data.gnina import (
    GninaTypesFiles,
    MolCache,
    read_gninatypes,
    read_molcache2,
    write_gninatypes,
    write_molcache2,
)
from gridgrad.data.library import prepare, write_store
from gridgrad.data.loader import DataLoader
from gridgrad.data.padding import PaddedAtoms
from gridgrad.data.parts import StoreError
from gridgrad.data.pyg import from_pyg, to_pyg
from gridgrad.data.rigid import RandomRigid, Rigid
from gridgrad.data.samplers import BalancedSampler, StratifiedSampler
from gridgrad.data.store import AtomStore
from gridgrad.data.types_table import TypesTable, read_types

__all__ = [
    "AtomBatch", "AtomBudgetBatchSampler", "AtomStore", "BalancedSampler", "ComplexDataset", "DataLoader",
    "GninaTypesFiles", "MolCache", "PaddedAtoms", "RandomRigid", "Rigid", "StoreError", "StratifiedSampler",
    "TypesTable", "collate", "from_pyg", "prepare", "read_gninatypes", "read_molcache2", "read_types", "to_pyg",
    "write_gninatypes", "write_molcache2", "write_store",
]  # fmt: skip
