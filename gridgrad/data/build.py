"""Parts of a store from the records that they are made of."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from gridgrad.data.folder import Failure, part_file, sidecar, write_json
from gridgrad.data.parts import Entry, Layout, Rows, write_part
from gridgrad.data.plan import Plan
from gridgrad.data.pool import map_ordered
from gridgrad.data.typing_job import Typed, TypingJob
from gridgrad.mol.chunks import Chunk, split_records

__all__ = ["Built", "build_parts"]

_CHUNKS = 64
"""Chunks of a part, which processes type one at a time, within these limits of their records:"""

_CHUNK_RECORDS = 16, 256


class Built(NamedTuple):
    """A part that was written."""

    number: int
    entry: Entry
    failed: list[Failure]
    remarks: Counter[str]
    seconds: float


def build_parts(
    folder: Path, job: TypingJob, plan: Plan, numbers: Sequence[int], workers: int, count: Callable[[int], Any]
) -> Iterator[Built]:
    """Type and write some parts, one after the other, the records of each on several processes.

    Parameters
    ----------
    folder : Path
        That of the store.
    job : TypingJob
        What to do with the records.
    plan : Plan
        Which records make which part.
    numbers : sequence of int
        The parts.
    workers : int
        Processes.
    count : callable
        Called with a number of records whenever so many more are done.

    Yields
    ------
    Built
        Each part when it is on the disk.
    """
    underway: deque[tuple[int, int]] = deque()  # part, records

    def items() -> Iterator[list[Chunk]]:
        for number in numbers:
            for chunks in _chunks(plan, number, job.reading["record_limit"]):
                underway.append((number, sum(len(chunk.records) for chunk in chunks)))
                yield chunks

    def results() -> Iterator[tuple[int, Typed]]:
        for typed in map_ordered(job, items(), workers, job.died):
            number, records = underway.popleft()
            count(records)
            yield number, typed

    for number, group in groupby(results(), key=itemgetter(0)):
        yield _write(folder, job.known_layout, number, (typed for _, typed in group))


def _write(folder: Path, layout: Layout, number: int, results: Iterator[Typed]) -> Built:
    failed: list[Failure] = []
    seconds: list[float] = []
    remarks: Counter[str] = Counter()

    def rows() -> Iterator[Rows]:
        for typed in results:
            failed.extend(typed.failed)
            seconds.append(typed.seconds)
            remarks.update(typed.remarks)
            yield typed.rows

    entry = write_part(part_file(folder, number), layout, rows())
    write_json(sidecar(folder, number), {"part": entry._asdict(), "failed": failed, "remarks": remarks})
    return Built(number, entry, failed, remarks, sum(seconds))


def _chunks(plan: Plan, number: int, limit: int) -> Iterator[list[Chunk]]:
    """Cut a part into what one process does at a time."""
    together: list[Chunk] = []
    least, most = _CHUNK_RECORDS
    every = min(max(plan.records(number) // _CHUNKS, least), most)
    for source, first, stop, offset in plan.parts[number]:
        path = Path(plan.sources[source][0])
        for chunk in split_records(path, every, first=first, stop=stop, offset=offset, limit=limit):
            together.append(chunk)
            if sum(len(chunk.records) for chunk in together) >= every:
                yield together
                together = []
    if together:
        yield together
