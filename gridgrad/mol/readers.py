"""Molecule files: SDF, MOL, MOL2, PDB and mmCIF, plain or gzipped, with any number of records."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.extras import require
from gridgrad.mol.molecule import Molecule, MoleculeError

__all__ = ["FORMATS", "count_records", "file_format", "read_molecules"]

FORMATS = {
    ".sdf": "sdf", ".sd": "sdf", ".mol": "sdf", ".mdl": "sdf", ".mol2": "mol2",
    ".pdb": "pdb", ".ent": "pdb", ".cif": "mmcif", ".mmcif": "mmcif",
}  # fmt: skip
"""Format by file name suffix; ``.gz`` may follow."""

_GZIP_MAGIC = b"\x1f\x8b"
_MOL2_START = "@<TRIPOS>MOLECULE"


def file_format(path: Path) -> str:
    """Return the format of a molecule file by its name: "sdf", "mol2", "pdb" or "mmcif".

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
    flat: bool = False,
    on_error: Callable[[MoleculeError], None] | None = None,
    records: range | None = None,
    data: bytes | None = None,
) -> Iterator[Molecule]:
    """Read the molecules of a file, one record after the other.

    SDF, MOL and MOL2 are read by RDKit, without sanitization: only elements, positions and bonds are needed, and a
    strange valence is no reason to lose a molecule. PDB and mmCIF are read by gemmi, which takes every protein; every
    model of a PDB or mmCIF file is a record, and of alternative locations the first is kept.

    Parameters
    ----------
    path : str or Path
        The file; the format follows from the suffix, gzip from the content.
    hydrogens : bool, default True
        Keep the hydrogen atoms that the file has; False drops them.
    flat : bool, default False
        Accept a molecule whose atoms all have z = 0. Otherwise it is refused as a drawing, unless the record is
        marked "3D" or has too few atoms to tell.
    on_error : callable, optional
        Called with the `MoleculeError` of each record that cannot be used, which is then skipped. By default the
        error is raised.
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
    found = False
    try:
        for record, parse in _RECORDS[file_format(path)](path, data):
            found = True
            if records is not None:
                record += 0 if data is None else records.start - 1
                if record < records.start:
                    continue
                if record >= records.stop:
                    break
            try:
                molecule = _checked(*parse(record), flat=flat, hydrogens=hydrogens)
            except MoleculeError as error:
                report(error)
            else:
                yield molecule
        if not found:
            raise MoleculeError(path, None, "the file holds no molecule")
    except MoleculeError as error:
        if error.record is not None:
            raise
        report(error)


def _raise(error: MoleculeError) -> None:
    raise error


def count_records(path: str | Path) -> int:
    """Return the number of records of a molecule file, good and bad, as far as the file can be read."""
    path = Path(path)
    count = 0
    try:
        for record, _ in _RECORDS[file_format(path)](path, None):
            count = record
    except MoleculeError:
        pass  # `read_molecules` reports it
    return count


def _checked(molecule: Molecule, is_3d: bool, *, flat: bool, hydrogens: bool) -> Molecule:
    if len(molecule) == 0:
        raise molecule.error("no atoms")
    coords = molecule.coords
    bad = np.flatnonzero(~np.isfinite(coords).all(axis=1))
    if len(bad):
        raise molecule.error(f"the position of atom {bad[0] + 1} is {coords[bad[0]].tolist()}, expected finite numbers")
    if len(molecule) > 1 and np.ptp(coords, axis=0).max() == 0:
        raise molecule.error("no 3D coordinates: all atoms lie at one point")
    if not is_3d and not flat:
        raise molecule.error("no 3D coordinates: z is 0 for every atom, expected a conformer, not a 2D drawing")
    if hydrogens:
        return molecule
    molecule = molecule.without_hydrogens()
    if len(molecule) == 0:
        raise molecule.error("no atoms but hydrogens, which are left out")
    return molecule


# --- text -------------------------------------------------------------------------------------------------------------


def _lines(path: Path, data: bytes | None = None) -> Iterator[str]:
    """Lines of a plain or gzipped text file, or of some text of it."""
    if data is not None:
        for line in io.BytesIO(data):
            yield _decoded(line)
        return
    try:
        with open(path, "rb") as file:
            magic = file.read(2)
        if not magic:
            raise MoleculeError(path, None, "the file is empty")
        with gzip.open(path) if magic == _GZIP_MAGIC else open(path, "rb") as file:
            for line in file:
                yield _decoded(line)
    except FileNotFoundError:
        raise MoleculeError(path, None, "no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise MoleculeError(path, None, f"cannot be read: {error}") from error


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").replace("\r\n", "\n")


def _text(path: Path) -> str:
    return "".join(_lines(path))


def _stem(path: Path) -> str:
    return path.name.partition(".")[0] or path.name


# --- SDF, MOL and MOL2 by RDKit ---------------------------------------------------------------------------------------

_Parse = Callable[[int], tuple[Molecule, bool]]
"""Record number -> molecule, and whether it has 3D coordinates."""


def _sdf_records(path: Path, data: bytes | None) -> Iterator[tuple[int, _Parse]]:
    record, lines = 1, []
    for line in _lines(path, data):
        if line.startswith("$$$$"):
            yield record, partial(_parse_molblock, path, "".join(lines))
            record, lines = record + 1, []
        else:
            lines.append(line)
    if any(line.strip() for line in lines):
        yield record, partial(_parse_molblock, path, "".join(lines))


def _mol2_records(path: Path, data: bytes | None) -> Iterator[tuple[int, _Parse]]:
    record, lines = 0, []
    for line in _lines(path, data):
        if line.startswith(_MOL2_START):
            if record:
                yield record, partial(_parse_mol2, path, "".join(lines))
            record, lines = record + 1, []
        lines.append(line)
    if record:
        yield record, partial(_parse_mol2, path, "".join(lines))


def _parse_molblock(path: Path, text: str, record: int) -> tuple[Molecule, bool]:
    read = partial(_quietly, "MolFromMolBlock", text, removeHs=False)
    molecule = read(sanitize=False)
    if molecule is None:
        raise MoleculeError(path, record, _molblock_problem(text.split("\n")))
    # RDKit's flag: the record is marked "3D", or some z differs from 0
    is_3d = molecule.GetNumAtoms() == 1 or (molecule.GetNumConformers() > 0 and molecule.GetConformer().Is3D())
    return _from_rdkit(molecule, path, record, partial(read, sanitize=True)), is_3d


def _parse_mol2(path: Path, text: str, record: int) -> tuple[Molecule, bool]:
    read = partial(_quietly, "MolFromMol2Block", text, removeHs=False)
    molecule = read(sanitize=False, cleanupSubstructures=False)
    if molecule is None:
        raise MoleculeError(path, record, _mol2_problem(text.split("\n")))
    atoms = _from_rdkit(molecule, path, record, partial(read, sanitize=True))
    return atoms, _out_of_plane(atoms.coords)


def _out_of_plane(coords: np.ndarray) -> bool:
    """Whether the atoms leave the plane z = 0, or are too few to tell a drawing from a conformer."""
    return len(coords) <= 3 or bool(coords[:, 2].any())


def _quietly(function: str, text: str, **options: bool) -> Any:
    """Call an RDKit reader without its log; None where it fails."""
    chem = require("rdkit.Chem", "mol")
    with require("rdkit.rdBase", "mol").BlockLogs():
        try:
            return getattr(chem, function)(text, **options)
        except (RuntimeError, ValueError):
            return None


def _from_rdkit(molecule: Any, path: Path, record: int, to_rdkit: Callable[[], Any]) -> Molecule:
    n_atoms = molecule.GetNumAtoms()
    elements = np.fromiter((atom.GetAtomicNum() for atom in molecule.GetAtoms()), np.int64, n_atoms)
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    coords = molecule.GetConformer().GetPositions() if molecule.GetNumConformers() else np.zeros((n_atoms, 3))
    name = molecule.GetProp("_Name").strip() if molecule.HasProp("_Name") else ""
    bonds = np.array(bonds, dtype=np.int64).reshape(-1, 2)
    return Molecule(elements, coords, bonds, name or _stem(path), path, record, to_rdkit)


def _molblock_problem(lines: list[str]) -> str:
    """Say why a MOL block cannot be parsed."""
    if not any(line.strip() for line in lines):
        return "the record is empty"
    if len(lines) < 4:
        return "truncated before the counts line (line 4)"
    if not any(line.startswith("M  END") for line in lines):
        return f"truncated: {len(lines)} lines and no 'M  END'"
    return "RDKit cannot parse this MOL block"


def _mol2_problem(lines: list[str]) -> str:
    """Say why a MOL2 record cannot be parsed."""
    if not any(line.startswith("@<TRIPOS>ATOM") for line in lines):
        return "truncated: no @<TRIPOS>ATOM section"
    return "truncated, or RDKit cannot parse this MOL2 record (it knows the Tripos and Corina atom types)"


# --- PDB and mmCIF by gemmi -------------------------------------------------------------------------------------------


def _pdb_records(path: Path, _: None) -> Iterator[tuple[int, _Parse]]:
    text = _text(path)
    try:
        structure = require("gemmi", "mol").read_pdb_string(text)
    except (RuntimeError, ValueError) as error:
        raise MoleculeError(path, None, f"gemmi cannot parse this PDB file: {error}") from error
    for index in range(len(structure) if any(len(model) for model in structure) else 0):
        to_rdkit = partial(_pdb_to_rdkit, text, index)
        yield index + 1, partial(_parse_model, path, structure, index, to_rdkit)


def _mmcif_records(path: Path, _: None) -> Iterator[tuple[int, _Parse]]:
    gemmi = require("gemmi", "mol")
    try:
        record = 0
        for block in gemmi.cif.read_string(_text(path)):
            if block.find_loop("_chem_comp_atom.atom_id") and not block.find_loop("_atom_site.id"):
                structure = gemmi.make_structure_from_chemcomp_block(block)
                models = min(1, len(structure))  # the ideal model that may follow is the same molecule again
            else:
                structure = gemmi.make_structure_from_block(block)
                models = len(structure)
            for index in range(models):
                record += 1
                yield record, partial(_parse_model, path, structure, index, None)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, MoleculeError):
            raise
        raise MoleculeError(path, None, f"gemmi cannot parse this mmCIF file: {error}") from error


def _parse_model(path: Path, structure: Any, index: int, to_rdkit: Any, record: int) -> tuple[Molecule, bool]:
    model = structure[index].clone()
    model.remove_alternative_conformations()
    atoms = [site.atom for site in model.all()]
    elements = np.fromiter((atom.element.atomic_number for atom in atoms), np.int64, len(atoms))
    coords = np.array([atom.pos.tolist() for atom in atoms], dtype=np.float64).reshape(-1, 3)
    name = "" if structure.input_format == require("gemmi", "mol").CoorFormat.Pdb else structure.name
    molecule = Molecule(elements, coords, None, name or _stem(path), path, record, to_rdkit)
    return molecule, _out_of_plane(coords)


def _pdb_to_rdkit(text: str, index: int) -> Any:
    """Read one model of a PDB file by RDKit; None where it refuses."""
    model, lines = -1, []
    inside = True
    for line in text.splitlines(keepends=True):
        if line.startswith("MODEL "):
            model += 1
            inside = model == index
        elif line.startswith("ENDMDL"):
            inside = True
        elif inside:
            lines.append(line)
    return _quietly("MolFromPDBBlock", "".join(lines), sanitize=True, removeHs=False)


_RECORDS = {"sdf": _sdf_records, "mol2": _mol2_records, "pdb": _pdb_records, "mmcif": _mmcif_records}
