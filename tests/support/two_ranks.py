"""One of two ranks: ``python two_ranks.py FILE RANK`` prints, as JSON, the rows that its loaders of two workers gave.

``FILE`` is where the two meet. Each sampler learns its rank from torch.distributed.
"""

import datetime
import json
import sys

import torch
from support.epochs import CLASSES, dataset

from gridgrad.data import AtomBudgetBatchSampler, BalancedSampler, DataLoader, StratifiedSampler


def loaders():
    rows = dataset()
    yield "plain", rows, {"sampler": StratifiedSampler([0] * 48), "batch_size": 5}
    yield "small", rows, {"sampler": BalancedSampler(CLASSES, epoch_size="small"), "batch_size": 4}
    yield "budget", rows, {"batch_sampler": AtomBudgetBatchSampler(rows.count_atoms(), 20)}


if __name__ == "__main__":
    file, rank = sys.argv[1], int(sys.argv[2])
    timeout = datetime.timedelta(seconds=60)
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2, timeout=timeout)
    given = {
        name: [batch.labels["row"].tolist() for batch in DataLoader(rows, num_workers=2, **options)]
        for name, rows, options in loaders()
    }
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    print(json.dumps(given))
