"""``gridgrad prepare``: molecule files in, a store of typed molecules out."""

from __future__ import annotations

import argparse
import math
import sys

from gridgrad.cli.terminal import say
from gridgrad.cli.typer import make_typer
from gridgrad.data.folder import FAILED, Failure
from gridgrad.data.library import prepare

__all__ = ["run"]

_TOLD = 20
"""Failures that are told one by one; all stand in the list."""


def run(options: argparse.Namespace) -> int:
    """Type the molecules of the files that the arguments name; 1 if any of them could not be."""
    files = list(options.files)
    if options.files_from is not None:
        text = sys.stdin.read() if str(options.files_from) == "-" else options.files_from.read_text(encoding="utf-8")
        files += [line for line in text.splitlines() if line.strip()]
    told = 0

    def report(failure: Failure) -> None:
        nonlocal told
        told += 1
        if told <= _TOLD:
            where = failure.file if failure.record is None else f"{failure.file}, record {failure.record}"
            say(f"gridgrad prepare: skipped: {where}: {failure.reason}", sys.stderr)

    done = prepare(
        files, options.output, typer=make_typer(options, options.part), hydrogens=options.hydrogens,
        skip_unknown=options.skip_unknown, flat=options.flat, record_limit=options.record_limit << 20,
        workers=options.workers, shard=options.shard, ray=options.ray, part_records=options.part_records,
        on_error=report, progress=None,
    )  # fmt: skip
    header = done.header
    if told > _TOLD:
        print(f"gridgrad prepare: skipped: {told - _TOLD} more", file=sys.stderr)
    if done.parts:
        rate = f"{done.molecules} molecules in {done.seconds:.1f} s, {done.molecules / done.seconds:.0f} a second"
        print(rate + ("" if math.isnan(done.busy) else f", workers {100 * done.busy:.0f} % busy"))
    if not header.parts:
        missing = len(header.missing(options.output))
        print(f"{options.output}: {header.n_parts - missing} of {header.n_parts} parts, {missing} still to be written")
        return int(done.failed > 0)
    molecules, atoms = sum(part.rows for part in header.parts), sum(part.atoms for part in header.parts)
    print(f"{options.output}: {molecules} molecules, {atoms} atoms, {len(header.layout.channels)} channels")
    for remark, count in header.remarks.items():
        say(f"{remark}: {count}", sys.stderr)
    if header.failed:
        print(f"{header.failed} records could not be typed, see {options.output / FAILED}", file=sys.stderr)
    return int(header.failed > 0)
