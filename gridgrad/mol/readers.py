"""Molecule files: SDF, MOL, MOL2, XYZ, PDB, PDBQT and CIF, plain or gzipped, with any number of records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from gridgrad.mol.blocks import mol2_records, sdf_records
from gridgrad.mol.cif import cif_records
from gridgrad.mol.molecule import Molecule, MoleculeError
from gridgrad.mol.pdb import pdb_records, pdbqt_records
from gridgrad.mol.record import Parsed, Records
from gridgrad.mol.text import RECORD_LIMIT, Lines
from gridgrad.mol.xyz import xyz_records

__all__ = ["FORMATS", "count_records", "file_format", "read_molecules"]

FORMATS = {
    ".sdf": "sdf", ".sd": "sdf", ".mol": "sdf", ".mdl": "sdf", ".mol2": "mol2", ".xyz": "xyz",
    ".pdb": "pdb", ".ent": "pdb", ".pdbqt": "pdbqt", ".cif": "cif", ".mmcif": "cif",
}  # fmt: skip
"""Format by file name suffix; ``.gz`` may follow."""

_RECORDS: dict[str, Callable[[Lines], Records]] = {
    "sdf": sdf_records, "mol2": mol2_records, "xyz": xyz_records,
    "pdb": pdb_records, "pdbqt": pdbqt_records, "cif": cif_records,
}  # fmt: skip


def file_format(path: Path) -> str:
    """Return the format of a molecule file by its name: "sdf", "mol2", "xyz", "pdb", "pdbqt" or "cif".

    Raises
    ------
    MoleculeError
        If the suffix is not one of `FORMATS`.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    suffix = next((s for s in reversed(suffixes) if s != ".gz"), "")
    if suffix not in FORMATS:
        raise MoleculeError(path, None, f"unknown molecule format {suffix!r}, expected one of {', '.join(FORMATS)}")
    return FORMATS[suffix]


def read_molecules(
    path: str | Path,
    *,
    hydrogens: bool = True,
    skip_unknown: bool = False,
    flat: bool = False,
    on_error: Callable[[MoleculeError], None] | None = None,
    record_limit: int = RECORD_LIMIT,
    records: range | None = None,
    data: bytes | None = None,
) -> Iterator[Molecule]:
    """Read the molecules of a file, one record after the other.

    SDF, MOL and MOL2 are read by RDKit, without sanitization: only elements, positions and bonds are needed, and a
    strange valence is no reason to lose a molecule. PDB, PDBQT and CIF are read by gemmi, which takes every protein;
    every model is a record. The file is opened and read once, a record at a time, so it may be a pipe.

    Every atom of a record is in the molecule, in the order of the file, or counted in `Molecule.left_out`. Of
    alternative locations only one conformer of each group stays: that with the highest occupancy, the first among
    equals, for each residue as a whole.

    Parameters
    ----------
    path : str or Path
        The file; the format follows from the suffix, gzip from the content.
    hydrogens : bool, default True
        Keep the hydrogen atoms that the file has; False leaves them out.
    skip_unknown : bool, default False
        Leave out dummy atoms and atoms of unknown elements. Otherwise they are atoms of element 0, which typers refuse.
    flat : bool, default False
        Accept a molecule whose atoms all have z = 0. Otherwise it is refused as a drawing, unless the record is
        marked "3D" or has too few atoms to tell.
    on_error : callable, optional
        Called with the `MoleculeError` of each record that cannot be used, which is then skipped. By default the
        error is raised.
    record_limit : int, default 2**28
        Largest size of a record, in bytes of text. Reading ends at a larger one: it may have no end.
    records : range, optional
        Numbers of the records to read, from 1; by default all.
    data : bytes, optional
        The text of these records, of an SDF or MOL2 file, which is then not opened: see `gridgrad.mol.chunks`.

    Yields
    ------
    Molecule
        Each usable record.

    Raises
    ------
    MoleculeError
        If the file or a record is missing, empty, truncated, cannot be parsed or has no 3D coordinates.
    """
    path = Path(path)
    report = _raise if on_error is None else on_error
    wanted = range(1, 2**63) if records is None else records
    for record, parse in _records(path, report, record_limit, data, wanted.start if data is not None else 1):
        if record < wanted.start:
            continue
        if record >= wanted.stop:
            break
        try:
            molecule = _checked(parse(), flat=flat, hydrogens=hydrogens, skip_unknown=skip_unknown)
        except MoleculeError as error:
            report(error)
        else:
            yield molecule


def count_records(path: str | Path, *, record_limit: int = RECORD_LIMIT) -> int:
    """Return the number of records of a molecule file, good and bad, as far as the file can be read.

    The whole file is read, though hardly parsed: a pipe is empty afterwards.
    """
    count = 0
    for record, _ in _records(Path(path), lambda error: None, record_limit):
        count = record
    return count


def _records(
    path: Path, report: Callable[[MoleculeError], None], limit: int, data: bytes | None = None, first: int = 1
) -> Records:
    """Yield the records of a file; an error that ends the reading is reported, or is that of the last record."""
    found = False
    try:
        for record, parse in _RECORDS[file_format(path)](Lines(path, limit, data, first)):
            found = True
            yield record, parse
        if not found:
            raise MoleculeError(path, None, "the file holds no molecule")
    except MoleculeError as error:
        if error.record is None:
            report(error)
        else:
            yield error.record, partial(_raise, error)


def _raise(error: MoleculeError) -> NoReturn:
    raise error


def _checked(parsed: Parsed, *, flat: bool, hydrogens: bool, skip_unknown: bool) -> Molecule:
    molecule, is_3d = parsed
    if len(molecule) == 0:
        raise molecule.error("no atoms")
    if skip_unknown:
        molecule = molecule.without_unknown()
        if len(molecule) == 0:
            raise molecule.error("no atoms but dummies and unknown elements, which are left out")
    coords = molecule.coords
    bad = np.flatnonzero(~np.isfinite(coords).all(axis=1))
    if len(bad):
        raise molecule.error(f"the position of atom {bad[0] + 1} is {coords[bad[0]].tolist()}, expected finite numbers")
    if len(molecule) > 1 and np.ptp(coords, axis=0).max() == 0:
        raise molecule.error("no 3D coordinates: all atoms lie at one point")
    if not is_3d and not flat:
        raise molecule.error("no 3D coordinates: z is 0 for every atom, expected a conformer, not a 2D drawing")
    if not hydrogens:
        molecule = molecule.without_hydrogens()
        if len(molecule) == 0:
            raise molecule.error("no atoms but hydrogens, which are left out")
    return molecule
