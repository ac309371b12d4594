"""From a gemmi model to a molecule: what PDB, PDBQT and mmCIF files share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gridgrad.extras import require
from gridgrad.mol.alternatives import Site, kept_sites
from gridgrad.mol.elements import atomic_number
from gridgrad.mol.molecule import ALTERNATIVE, Molecule, MoleculeError, Sites
from gridgrad.mol.names import element_of_name
from gridgrad.mol.record import Parsed, out_of_plane
from gridgrad.mol.residues import Template

__all__ = ["Row", "check_count", "model_molecule"]


class Row(NamedTuple):
    """What gemmi does not keep of an atom."""

    symbol: str
    """The element as the file has it, empty if it does not."""
    by_columns: bool = False
    """Whether the columns of the atom's name tell it to gemmi."""


def model_molecule(
    model: Any,
    rows: Sequence[Row],
    *,
    path: Path,
    record: int,
    name: str,
    links: Sequence[tuple[int, int]] = (),
    connections: Iterable[Any] = (),
    templates: Mapping[str, Template] | None = None,
) -> Parsed:
    """Make a molecule of the atoms of a gemmi model, in the order of the file, without alternative locations.

    Parameters
    ----------
    model : gemmi.Model
        The model; the serial number of an atom is its place in `rows`, counted from 0.
    rows : sequence of Row
        One for each atom of the file.
    path, record, name
        As in `Molecule`.
    links : sequence of (int, int)
        Bonds that the file names, as places in `rows`.
    connections : iterable of gemmi.Connection
        Bonds that the file names by chain, residue and atom.
    templates : mapping of str to Template, optional
        Residues whose bonds the file gives.
    """
    atoms = _in_file_order(model)
    sites, elements, unknown = [], [], {}
    for number, (place, residue, atom) in enumerate(atoms):
        row, atom_name = rows[atom.serial], atom.name
        element, problem = _element(row, atom, residue)
        if problem:
            unknown[number] = f"{atom_name} of {residue} {place[1]}: {problem}"
        elements.append(element)
        label = "" if atom.altloc == "\0" else atom.altloc
        key = "H" + atom_name[1:] if row.symbol == "D" and atom_name.startswith("D") else atom_name
        sites.append(Site(place, residue, key, label, atom.occ))
    kept, residues = kept_sites(sites)
    coords = np.array([atom.pos.tolist() for _, _, atom in atoms], dtype=np.float64).reshape(-1, 3)
    number_of = {atom.serial: number for number, (_, _, atom) in enumerate(atoms)}
    pairs = [*links, *_connected(model, connections)]
    molecule = Molecule(
        np.array(elements, dtype=np.int64), coords, None, name, path, record, unknown=unknown,
        sites=Sites(
            atom_names=np.array([atom.name for _, _, atom in atoms], dtype=np.str_),
            residue_names=np.array([site.residue for site in sites], dtype=np.str_),
            chains=np.array([site.place[0] for site in sites], dtype=np.str_),
            numbers=np.array([site.place[1] for site in sites], dtype=np.str_),
            residues=residues,
            charges=np.array([atom.charge for _, _, atom in atoms], dtype=np.int64),
            links=np.array([(number_of[i], number_of[j]) for i, j in pairs], dtype=np.int64).reshape(-1, 2),
            templates=templates or {},
        ),
    )  # fmt: skip
    return Parsed(molecule.subset(kept, ALTERNATIVE), out_of_plane(coords))


def check_count(found: int, expected: int, path: Path, record: int) -> None:
    """Refuse a record of which gemmi has left out atoms.

    Raises
    ------
    MoleculeError
        If the numbers differ.
    """
    if found != expected:
        raise MoleculeError(path, record, f"gemmi reads {found} of {expected} atoms: a column is missing or misnamed")


def _in_file_order(model: Any) -> list[tuple[tuple[str, ...], str, Any]]:
    """Return the atoms of a model with their place (see `Site`) and the name of their residue."""
    atoms: list[tuple[tuple[str, ...], str, Any]] = []
    for chain in model:
        for residue in chain:
            place, name = (chain.name, str(residue.seqid), residue.segment, residue.subchain), residue.name
            atoms += [(place, name, atom) for atom in residue]
    atoms.sort(key=lambda found: found[2].serial)
    return atoms


def _element(row: Row, atom: Any, residue: str) -> tuple[int, str]:
    """Return the atomic number, or 0 and why it is not known."""
    if row.symbol:
        number = _number(row.symbol)
        if number is None:
            return 0, f"its element is {row.symbol!r}, which is no chemical element"
        return number, "" if number else "a dummy atom"
    by_columns = atom.element.name if row.by_columns and atom.element.atomic_number else ""
    symbol = element_of_name(atom.name, residue, by_columns)
    if symbol:
        return atomic_number(symbol), ""
    return 0, "the file does not name its element, and the atom's name does not tell it"


@lru_cache(maxsize=1024)
def _number(symbol: str) -> int | None:
    try:
        return atomic_number(symbol)
    except ValueError:
        return None


def _connected(model: Any, connections: Iterable[Any]) -> Iterator[tuple[int, int]]:
    """Yield the serial numbers of the atoms that a connection joins: bonds inside of the model, no hydrogen bonds."""
    gemmi = require("gemmi", "mol")
    for connection in connections:
        if connection.type == gemmi.ConnectionType.Hydrog or connection.asu == gemmi.Asu.Different:
            continue
        ends = [model.find_cra(partner).atom for partner in (connection.partner1, connection.partner2)]
        if None not in ends:
            yield ends[0].serial, ends[1].serial
