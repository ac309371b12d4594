"""The parts of a store as tasks of a Ray cluster (extra ``cluster``)."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gridgrad.data.build import Built, build_parts
from gridgrad.data.plan import Plan
from gridgrad.data.typing_job import TypingJob
from gridgrad.extras import require

__all__ = ["build_on_ray"]

_RETRIES = 20
"""How often a part is begun again after its node or process died."""


def build_on_ray(
    address: str, folder: Path, job: TypingJob, plan: Plan, numbers: Sequence[int], workers: int
) -> Iterator[Built]:
    """Type and write parts as tasks of a Ray cluster, as many at a time as it has room for.

    A part is written under a temporary name and then renamed, so that of two tasks which write the same one, because
    the node of the first was thought dead, either may win.

    Parameters
    ----------
    address : str
        Where the cluster is, as for ``ray.init``.
    folder, job, plan, numbers
        As for `gridgrad.data.build.build_parts`.
    workers : int
        Processes of each task, which asks for as many cores.

    Yields
    ------
    Built
        Each part when it is on the disk, in any order.
    """
    ray = require("ray", "cluster")
    ours = not ray.is_initialized()
    if ours:
        ray.init(address, log_to_driver=False)
    try:
        build = ray.remote(num_cpus=max(workers, 1), max_retries=_RETRIES)(_build)
        shared = ray.put((os.getcwd(), sys.path, pickle.dumps((folder, job, plan)), workers))
        tasks = [build.remote(shared, number) for number in numbers]
        while tasks:
            done, tasks = ray.wait(tasks)
            yield from ray.get(done)
    finally:
        if ours:
            ray.shutdown()


def _build(shared: tuple, number: int) -> Built:
    """Build one part; in a process of the cluster."""
    folder, path, pickled, workers = shared
    os.chdir(folder)
    sys.path += [entry for entry in path if entry not in sys.path]  # where the typer may come from
    folder, job, plan = pickle.loads(pickled)
    return next(build_parts(folder, job, plan, [number], workers, lambda records: None))
