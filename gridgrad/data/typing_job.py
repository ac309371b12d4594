"""What is done with a run of records, whichever process does it: read, type, put into rows (extra ``mol``)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gridgrad.data.folder import Failure
from gridgrad.data.parts import Layout, Rows
from gridgrad.data.pool import WorkerDiedError, map_ordered
from gridgrad.mol import Molecule, MoleculeError, TypedAtoms, Typer, read_molecules, type_atoms
from gridgrad.mol.chunks import Chunk

__all__ = ["Typed", "TypingJob", "as_row", "layout_of"]


class Typed(NamedTuple):
    """What came of some records.

    Rows in their order, failures, what there is to remark and how often, and how long it took in seconds.
    """

    rows: Rows
    failed: list[Failure]
    remarks: Counter[str]
    seconds: float = 0.0


@dataclass(frozen=True)
class TypingJob:
    """How molecules are read and typed. Called with chunks of records, in any process, it returns what came of them.

    Attributes
    ----------
    typer : callable
        The typer.
    reading : dict
        Options of `gridgrad.mol.read_molecules`.
    layout : Layout or None
        What the rows have to be like.
    """

    typer: Typer
    reading: dict[str, Any]
    layout: Layout | None = None

    @property
    def known_layout(self) -> Layout:
        """The layout, once it is known."""
        if self.layout is None:
            raise ValueError("layout: None; expected what the rows have to be like")
        return self.layout

    def molecules(self, chunk: Chunk, failed: list[MoleculeError]) -> Iterator[Molecule]:
        """Read the molecules of a chunk; what cannot be read is appended to `failed`."""
        if chunk.error is not None:
            failed.append(chunk.error)
            return iter(())
        return read_molecules(
            chunk.path, on_error=failed.append, records=chunk.records, data=chunk.data, **self.reading
        )

    def __call__(self, chunks: list[Chunk]) -> Typed:
        """Type the records of some chunks."""
        start = time.perf_counter()
        failed: list[MoleculeError] = []
        kept: list[Molecule] = []
        rows: list[tuple[np.ndarray, ...]] = []
        for chunk in chunks:
            for molecule in self.molecules(chunk, failed):
                try:
                    rows.append(as_row(self.known_layout, type_atoms(molecule, self.typer), molecule.error))
                    kept.append(molecule)
                except MoleculeError as error:
                    failed.append(error)
        names, sources = [molecule.name for molecule in kept], [str(molecule.path) for molecule in kept]
        made = Rows.of(self.known_layout, names, sources, [molecule.record for molecule in kept], rows)
        failures = [Failure(str(error.path), error.record, error.reason) for error in failed]
        return Typed(made, failures, sum(map(_remarks, kept), Counter()), time.perf_counter() - start)

    def died(self, chunks: list[Chunk], error: WorkerDiedError) -> Typed:
        """Return what comes of chunks that a process died of: all but the records that are to blame."""
        singles = [single for chunk in chunks for single in chunk.singles()]
        if len(singles) == 1:
            path, record = singles[0].path, singles[0].records.start
            failure = Failure(str(path), record, f"the process that read or typed it died: {error}")
            return Typed(Rows.of(self.known_layout, [], [], [], []), [failure], Counter())
        typed = list(map_ordered(self, [[single] for single in singles], 1, self.died))
        failed = [failure for part in typed for failure in part.failed]
        remarks: Counter[str] = sum((part.remarks for part in typed), Counter())
        return Typed(Rows.join([part.rows for part in typed]), failed, remarks, sum(part.seconds for part in typed))


def _remarks(molecule: Molecule) -> Counter[str]:
    """Count what of a record is not in the molecule, unless that was asked for, and what is not known of it."""
    remarks = Counter(molecule.notes)
    for reason, count in molecule.left_out.items():
        if reason != "hydrogens":
            remarks[f"atoms left out: {reason}"] += count
    if molecule.by_element:
        remarks["atoms typed by their element, whose bonds RDKit cannot understand"] += molecule.by_element
    return remarks


def layout_of(typer: Typer, atoms: TypedAtoms) -> Layout:
    """Return the layout of what a typer makes, from a molecule that it typed."""
    radii = getattr(typer, "channel_radii", None)
    return Layout(atoms.channels, atoms.types.ndim == 2, None if radii is None else tuple(radii))


def as_row(
    layout: Layout, atoms: TypedAtoms, error: Callable[[str], ValueError]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return coordinates, types and radii of a molecule as a store has them.

    Raises
    ------
    ValueError
        The `error` of what does not fit the layout, or is beyond float32.
    """
    if tuple(atoms.channels) != layout.channels:
        raise error(f"channels {', '.join(atoms.channels)}; expected {', '.join(layout.channels)}, those of the store")
    if (atoms.types.ndim == 2) != layout.vector_types:
        kinds = "(N,) type indices", "(N, T) type vectors"
        raise error(
            f"{kinds[atoms.types.ndim == 2]}; expected {kinds[layout.vector_types]}, as in the rest of the store"
        )
    with np.errstate(over="ignore"):
        coords, radii = atoms.coords.astype(np.float32), atoms.radii.astype(np.float32)
        types = atoms.types.astype(np.float32 if layout.vector_types else np.int32)
    for name, values in (("coords", coords), ("types", types), ("radii", radii)):
        if not np.isfinite(values).all():
            raise error(f"{name} that are not finite; expected finite numbers in the range of float32")
    if layout.radii is not None:
        expected = np.array(layout.radii, np.float32)[types]
        wrong = np.flatnonzero((types >= 0) & (radii != expected))
        if len(wrong):
            atom = wrong[0]
            raise error(f"atom {atom + 1} has radius {radii[atom]}; expected {expected[atom]}, that of its channel")
    return coords, types, radii
