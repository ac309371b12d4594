"""CIF files by gemmi: structures (mmCIF), components of the PDB's dictionary and of monomer libraries, crystals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gridgrad.extras import require
from gridgrad.mol.alternatives import Site, kept_sites
from gridgrad.mol.elements import SYMBOLS, atomic_number
from gridgrad.mol.molecule import ALTERNATIVE, Molecule, MoleculeError
from gridgrad.mol.record import Parse, Parsed, Records, out_of_plane, stem
from gridgrad.mol.residues import Template
from gridgrad.mol.structures import Row, check_count, model_molecule
from gridgrad.mol.text import Lines

__all__ = ["cif_records"]

_CHARGE = re.compile(r"[+-]?[0-9]{1,2}")
_SITES = "_atom_site."
_ORDERS = {"SING": 1, "DOUB": 2, "TRIP": 3}
_COMPONENT = "_chem_comp_atom."
_SMALL = "_atom_site_"


def cif_records(lines: Lines) -> Records:
    """Split a CIF file: every model of a block of mmCIF is a record, and every other block that has atoms."""
    found, categories = False, set()
    for text in _blocks(lines):
        try:
            block = require("gemmi", "mol").cif.read_string(text)[0]
            parses = _parses(block, lines.path, lines.record)
            categories.update(block.get_mmcif_category_names())
        except (RuntimeError, ValueError, IndexError) as error:
            reason = f"gemmi cannot parse this CIF: {error}"
            parses = [partial(_refuse, lines.path, lines.record, reason)]
        first = lines.record
        for parse in parses:
            yield lines.record, parse
            lines.end_record()
            found = True
        if lines.record == first:
            lines.skip_record()
    if not found and categories:
        raise MoleculeError(
            lines.path, None,
            f"the file holds no molecule: expected {_SITES}*, {_COMPONENT}* or {_SMALL}fract_*, "
            f"got {', '.join(sorted(categories))[:200]}",
        )  # fmt: skip


def _blocks(lines: Lines) -> Iterator[str]:
    """Yield the text of each data block."""
    block: list[str] = []
    inside, begun = False, False  # a text field; a block
    for line in lines:
        if line.startswith(";"):
            inside = not inside
        elif not inside and line[:5].lower() == "data_":
            if begun:
                yield "".join(block)
            block, begun = [], True
        block.append(line)
    if begun or any(line.strip() and not line.startswith("#") for line in block):
        yield "".join(block)


def _parses(block: Any, path: Path, record: int) -> list[Parse]:
    if block.find_values(f"{_SITES}Cartn_x"):
        return _model_parses(block, path, record)
    if block.find_values(f"{_COMPONENT}atom_id"):
        return [partial(_component, block, path, record)]
    if block.find_values(f"{_SMALL}fract_x"):
        return [partial(_crystal, block, path, record)]
    return []


def _refuse(path: Path, record: int, reason: str) -> Parsed:
    raise MoleculeError(path, record, reason)


# --- structures -------------------------------------------------------------------------------------------------------


def _model_parses(block: Any, path: Path, record: int) -> list[Parse]:
    loop = block.find_loop(f"{_SITES}Cartn_x").get_loop()
    if loop is None:  # one atom, without a loop
        pairs = [item.pair for item in block if item.pair and item.pair[0].startswith(_SITES)]
        loop = block.init_loop(_SITES, [tag.removeprefix(_SITES) for tag, _ in pairs])
        loop.add_row([value for _, value in pairs])
    strangers = [tag for tag in loop.tags if not tag.startswith(_SITES)]
    if strangers:  # gemmi does not survive them
        raise ValueError(f"{strangers[0]} in the loop of {_SITES}*")
    missing = [key for key in ("id", "type_symbol") if f"{_SITES}{key}" not in loop.tags]
    if missing:
        loop.add_columns([f"{_SITES}{key}" for key in missing], "?")
    numbers = block.find_loop(f"{_SITES}pdbx_PDB_model_num")
    models = list(dict.fromkeys(numbers)) if numbers else ["1"]
    symbols = [_word(value) for value in block.find_loop(f"{_SITES}type_symbol")]
    rows = [Row("" if symbol in "?." else symbol) for symbol in symbols]
    serials = block.find_loop(f"{_SITES}id")
    for number in range(len(rows)):
        serials[number] = str(number)
    structures: list[Any] = []  # made when the first model is asked for

    def parse(index: int, record: int) -> Parsed:
        try:
            if not structures:
                structures.append(require("gemmi", "mol").make_structure_from_block(block))
                check_count(sum(model.count_atom_sites() for model in structures[0]), len(rows), path, record)
            model = structures[0][index]
        except (RuntimeError, ValueError, IndexError) as error:
            raise MoleculeError(path, record, f"gemmi cannot read these atom sites: {error}") from error
        return model_molecule(
            model, rows, path=path, record=record, name=structures[0].name or stem(path),
            connections=structures[0].connections, templates=templates,
        )  # fmt: skip

    templates = _templates(block)
    return [partial(parse, index, record + index) for index in range(len(models))]


def _templates(block: Any) -> dict[str, Template]:
    """Return the residues whose bonds the file gives, by name; bonds to hydrogens left out."""
    residues: dict[str, dict[str, tuple[int, int]]] = {}  # name -> atom -> element and charge
    keys = ["comp_id", "atom_id", "type_symbol", "?charge"]
    for row in block.find(_COMPONENT, keys):
        symbol = _symbol(_word(row[2]), "")
        element = atomic_number(symbol) if symbol else 0
        charge = _word(row[3]) if row.has(3) else "0"
        if element != 1:
            number = int(charge) if _CHARGE.fullmatch(charge) else 0
            residues.setdefault(_word(row[0]), {})[_word(row[1])] = element, number
    bonds: dict[str, list[tuple[str, str, int]]] = {}
    for row in block.find("_chem_comp_bond.", ["comp_id", "atom_id_1", "atom_id_2", "?value_order", "?type"]):
        name, one, two = (_word(row[column]) for column in range(3))
        order = next((_word(row[column]) for column in (3, 4) if row.has(column)), "")
        bonds.setdefault(name, []).append((one, two, _ORDERS.get(order[:4].upper(), 0)))
    return {name: template for name, found in bonds.items() if (template := _template(residues.get(name), found))}


def _template(atoms: dict[str, tuple[int, int]] | None, bonds: list[tuple[str, str, int]]) -> Template | None:
    """Return a template of named atoms and bonds; orders 0, to be perceived, if one of them is none of 1, 2 and 3."""
    if atoms is None:  # elements unknown: a name that begins with H or a digit is a hydrogen's
        names = dict.fromkeys(name for bond in bonds for name in bond[:2])
        atoms = {name: (0, 0) for name in names if name[:1] not in "HD0123456789"}
    index = {name: number for number, name in enumerate(atoms)}
    heavy = [(index[one], index[two], order) for one, two, order in bonds if one in index and two in index]
    if any(order == 0 for _, _, order in heavy):
        heavy = [(one, two, 0) for one, two, _ in heavy]
    elements, charges = zip(*atoms.values(), strict=True) if atoms else ((), ())
    return Template(tuple(atoms), elements, charges, tuple(heavy)) if heavy else None


# --- components -------------------------------------------------------------------------------------------------------


def _component(block: Any, path: Path, record: int) -> Parsed:
    """Parse a component of the PDB's dictionary or of a monomer library: its own coordinates, else the ideal ones."""
    gemmi = require("gemmi", "mol")
    symbols = [_word(value) for value in block.find_values(f"{_COMPONENT}type_symbol")]
    best: tuple[Any, np.ndarray] | None = None
    note: tuple[str, ...] = ()
    for kind in (gemmi.ChemCompModel.Xyz, gemmi.ChemCompModel.Example, gemmi.ChemCompModel.Ideal):
        try:
            structure = gemmi.make_structure_from_chemcomp_block(block, kind.value)
        except (RuntimeError, ValueError) as error:
            raise MoleculeError(path, record, f"gemmi cannot read this component: {error}") from error
        if not len(structure):
            continue
        atoms = [site.atom for site in structure[0].all()]
        coords = np.array([atom.pos.tolist() for atom in atoms]).reshape(-1, 3)
        if best is None or _are_places(coords):
            best, note = (structure, coords), ("ideal coordinates",) if kind == gemmi.ChemCompModel.Ideal else ()
        if _are_places(coords):
            break
    if best is None:
        raise MoleculeError(path, record, "the component has no coordinates, expected its own or ideal ones")
    structure, coords = best
    check_count(len(coords), len(block.find_values(f"{_COMPONENT}atom_id")), path, record)
    for number, atom in enumerate(site.atom for site in structure[0].all()):
        atom.serial = number
    rows = [Row("" if symbol in "?." else symbol) for symbol in symbols]
    parsed = model_molecule(
        structure[0], rows, path=path, record=record, name=structure.name or stem(path), templates=_templates(block)
    )
    sites = parsed.molecule.sites
    number_of = {} if sites is None else {name: number for number, name in enumerate(sites.atom_names.tolist())}
    pairs = block.find("_chem_comp_bond.", ["atom_id_1", "atom_id_2"])
    bonds = [tuple(number_of.get(_word(name)) for name in pair) for pair in pairs]
    bonds = [pair for pair in bonds if None not in pair]
    molecule = replace(
        parsed.molecule, bonds=np.array(bonds, dtype=np.int64).reshape(-1, 2) if bonds else None, notes=note
    )
    return Parsed(molecule, parsed.is_3d)


def _are_places(coords: np.ndarray) -> bool:
    if len(coords) < 2:
        return len(coords) == 1 and bool(np.isfinite(coords).all())
    return bool(np.isfinite(coords).all()) and np.ptp(coords, axis=0).max() > 0


# --- small molecules --------------------------------------------------------------------------------------------------


def _crystal(block: Any, path: Path, record: int) -> Parsed:
    """Parse the asymmetric unit of a crystal of small molecules."""
    try:
        crystal = require("gemmi", "mol").make_small_structure_from_block(block)
    except (RuntimeError, ValueError) as error:
        raise MoleculeError(path, record, f"gemmi cannot read these atom sites: {error}") from error
    if not crystal.cell.is_crystal():
        raise MoleculeError(path, record, "fractional coordinates without a unit cell, expected _cell_length_*")
    sites = list(crystal.sites)
    columns = {key: _column(block, key, len(sites)) for key in ("calc_flag", "disorder_assembly", "disorder_group")}
    for values in (block.find_values(f"{_SMALL}fract_x"), *columns.values()):
        check_count(len(sites), len(values), path, record)
    coords = np.array([crystal.cell.orthogonalize(site.fract).tolist() for site in sites]).reshape(-1, 3)
    elements, unknown = [], {}
    for number, (site, flag) in enumerate(zip(sites, columns["calc_flag"], strict=True)):
        symbol = "" if flag == "dum" else _symbol(site.type_symbol, site.label)
        elements.append(atomic_number(symbol) if symbol else 0)
        if not symbol:
            unknown[number] = f"{site.label}, a dummy atom" if flag == "dum" else f"{site.label}, of no known element"
    name = crystal.name or stem(path)
    note = "the asymmetric unit of a crystal, as the file has it"
    molecule = Molecule(
        np.array(elements, dtype=np.int64), coords, None, name, path, record, unknown=unknown, notes=(note,)
    )
    kept = _kept(sites, columns["disorder_assembly"], columns["disorder_group"])
    return Parsed(molecule.subset(kept, ALTERNATIVE), out_of_plane(coords))


def _kept(sites: list[Any], assemblies: list[str], groups: list[str]) -> np.ndarray:
    """Keep one group of each disordered assembly."""
    kept = np.ones(len(sites), dtype=bool)
    disordered = [number for number, group in enumerate(groups) if group]
    disordered.sort(key=lambda number: assemblies[number])
    alternatives = [
        # groups are alternatives as a whole, as different residues at one place are
        Site((assemblies[n], "", ""), groups[n], sites[n].label, groups[n], sites[n].occ)
        for n in disordered
    ]
    kept[disordered] = kept_sites(alternatives)[0]
    return kept


def _column(block: Any, key: str, count: int) -> list[str]:
    """Return the values of a column of the atom sites, empty where they are not given."""
    values = [_word(value) for value in block.find_values(f"{_SMALL}{key}")]
    return ["" if value in "?." else value for value in values] or [""] * count


def _symbol(kind: str, label: str) -> str:
    """Return the element of a type symbol such as O2-, or of a label without one; empty if there is none."""
    if kind.strip("?."):
        letters = _letters(kind)
        return letters if letters.upper() in ("D", "T", *map(str.upper, SYMBOLS[1:])) else ""
    letters = _letters(label)
    if letters in SYMBOLS[1:]:
        return letters
    if letters[1:2].islower() or letters[:2].capitalize() in SYMBOLS:
        return ""  # CL1 may be chlorine or a carbon
    return letters[:1] if letters[:1] in SYMBOLS[1:] else ""


def _letters(text: str) -> str:
    """Return what a text begins with."""
    return re.split("[^A-Za-z]", text, maxsplit=1)[0]


def _word(value: str) -> str:
    return require("gemmi", "mol").cif.as_string(value) if value[:1] in "'\";" else value
