"""One of two ranks: ``python two_ranks.py FILE RANK`` prints, as JSON, the rows that its loaders of two workers gave.

``FILE`` is where the two meet. Each sampler learns its rank from torch.distributed.
"""

import datetime
import json
import sys

import numpy as np
import torch
from support.atom_batches import make_batch

from gridgrad.data import AtomBudgetBatchSampler, BalancedSampler, ComplexDataset, DataLoader, StratifiedSampler

COUNTS = tuple(np.random.default_rng(0).integers(0, 9, 48).tolist())
CLASSES = [0, 1, 1] * 16


def loaders():
    dataset = ComplexDataset({"ligand": make_batch(counts=COUNTS)}, labels={"row": range(48)}, center=np.zeros((48, 3)))
    yield "plain", dataset, {"sampler": StratifiedSampler([0] * 48), "batch_size": 5}
    yield "small", dataset, {"sampler": BalancedSampler(CLASSES, epoch_size="small"), "batch_size": 4}
    yield "budget", dataset, {"batch_sampler": AtomBudgetBatchSampler(dataset.count_atoms(), 20)}


if __name__ == "__main__":
    file, rank = sys.argv[1], int(sys.argv[2])
    timeout = datetime.timedelta(seconds=60)
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2, timeout=timeout)
    given = {
        name: [batch.labels["row"].tolist() for batch in DataLoader(dataset, num_workers=2, **options)]
        for name, dataset, options in loaders()
    }
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    print(json.dumps(given))
