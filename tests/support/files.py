"""Files of every format that gridgrad parses itself, whole and from bytes that somebody else chose.

`TARGETS` has for each format good files and a function that reads bytes as such a file and uses what it has read. A
refusal is an exception of the format's own class that names the file; everything else is a fault.
"""

import contextlib
import gzip
import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from support.mol_data import METHANOL, METHANOL_BONDS, molblock, pdb_atom

from gridgrad.data import (
    AtomStore,
    StoreError,
    read_gninatypes,
    read_molcache2,
    read_types,
    write_gninatypes,
    write_molcache2,
    write_store,
)
from gridgrad.io import DensityGrid, read, write
from gridgrad.mol import ElementTyper, GninaTyper, MoleculeError, TypedAtoms, count_records, read_molecules, type_atoms

CORPUS = Path(__file__).parents[1] / "corpus"
"""Files that once were faults, in a folder for each target."""

LIMIT = 1 << 20
"""Bytes that a grid or a record may have: what is larger has to be refused before memory is asked for."""


class Target(NamedTuple):
    seeds: Callable[[], list[bytes]]
    parse: Callable[[bytes], None]


class FaultError(Exception):
    """A file was neither read nor refused as it should be."""


@cache
def folder():
    """Return a folder of this process."""
    return tempfile.TemporaryDirectory(prefix="gridgrad-files.")


def place(name, data):
    """Write a file anew: a file that is mapped into memory must not change."""
    path = Path(folder().name, name)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


@contextlib.contextmanager
def refusing(path, kind):
    """Let the format's own error pass if it names the file, in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except kind as error:
        if type(error) is not kind or str(path) not in str(error) or len(str(error)) > 2000:
            raise FaultError(f"message: {type(error).__name__}: {str(error)[:300]}") from error


def written(name, writer, *arguments):
    path = place(name, b"")
    writer(path, *arguments)
    return path.read_bytes()


# --- molecules --------------------------------------------------------------------------------------------------------


def read_all(suffix):
    """Read molecules, each error of a record on its own, and type them."""

    def parse(data):
        path = place(f"fuzzed{suffix}", data)
        with refusing(path, MoleculeError):
            found = list(read_molecules(path, on_error=lambda error: None, record_limit=LIMIT))
            if count_records(path, record_limit=LIMIT) < len(found):
                raise FaultError("more molecules than records")
            for molecule in found:
                if not np.isfinite(molecule.coords).all() or len(molecule.elements) != len(molecule.coords):
                    raise FaultError(f"{molecule.elements.shape} elements, coordinates {molecule.coords}")
                for typer in (ElementTyper(), GninaTyper()):
                    with contextlib.suppress(MoleculeError):
                        check_typed(type_atoms(molecule, typer))

    return parse


def check_typed(atoms):
    if not ((atoms.types >= -1) & (atoms.types < len(atoms.channels))).all():
        raise FaultError(f"types {atoms.types} of {len(atoms.channels)} channels")


def sdf():
    v3000 = (
        "v3\n  test\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\nM  V30 COUNTS 2 1 0 0 0\n"
        "M  V30 BEGIN ATOM\nM  V30 1 C 0 0 0 0\nM  V30 2 Xx 0 0 1.2 0\nM  V30 END ATOM\nM  V30 BEGIN BOND\n"
        "M  V30 1 1 1 2\nM  V30 END BOND\nM  V30 END CTAB\nM  END\n$$$$\n"
    )
    text = molblock(METHANOL, METHANOL_BONDS) + "> <a>\n1\n\n$$$$\n" + molblock([("Xx", 0, 0, 1), ("cl", 1, 0, 0)])
    return [text.encode(), v3000.encode()]


def mol2():
    text = (
        b"@<TRIPOS>MOLECULE\nsmall\n 3 2 0 0 0\nSMALL\nNO_CHARGES\n\n@<TRIPOS>ATOM\n"
        b"  1 C1  0.0 0.0 0.1 C.3   1 LIG 0.0\n  2 O1  1.4 0.0 0.0 O.co2 1 LIG 0.0\n  3 X   0.0 1.4 0.0 Zz 1 LIG 0.0\n"
        b"@<TRIPOS>BOND\n 1 1 2 1\n 2 1 3 ar\n"
    )
    return [text]


def xyz():
    water = b"3\nwater\nO 0 0 0\nH 0.96 0 0\nh1 -0.24 0.93 0\n"
    extended = b"2\nProperties=species:S:1:pos:R:3\n6 0 0 1.5D0\nXx 1 1*^0 1\n"
    return [water + extended, gzip.compress(extended + water, mtime=0)]


def pdb():
    atoms = "".join(
        pdb_atom(i, f" {symbol:<3}", symbol, *place, altloc=" AB"[i % 3])
        for i, (symbol, *place) in enumerate(METHANOL, 1)
    )
    return [
        ("REMARK  Name = x\nSSBOND   1 CYS A    1    CYS A    2\n" + atoms + "CONECT    1    2    3\nEND\n").encode(),
        ("MODEL        1\n" + atoms + "ENDMDL\nMODEL        2\n" + atoms + "ENDMDL\n").encode(),
    ]


def pdbqt():
    line = "HETATM{:5d}  {:<3} LIG A   1    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00    +0.000 {:<2}\n"
    atoms = [("C1", 0, 0, 0, "A"), ("O1", 1.2, 0, 0.5, "OA"), ("H1", 0, 1, 0, "HD"), ("X", 1, 1, 1, "W")]
    return [("ROOT\n" + "".join(line.format(i, *atom) for i, atom in enumerate(atoms, 1)) + "ENDROOT\n").encode()]


def cif():
    sites = "data_x\nloop_\n" + "".join(
        f"_atom_site.{tag}\n"
        for tag in ("group_PDB", "id", "type_symbol", "label_atom_id", "label_comp_id", "label_asym_id", "label_seq_id",
                    "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "pdbx_PDB_model_num")
    )  # fmt: skip
    sites += "".join(f"HETATM {i} {symbol} {symbol}{i} LIG A 1 0.{i} 1.{i} 2.0 1.0 {1 + i // 3}\n"
                     for i, symbol in enumerate("COH'N?", 1))  # fmt: skip
    component = (
        "data_L\nloop_\n_chem_comp_atom.comp_id\n_chem_comp_atom.atom_id\n_chem_comp_atom.type_symbol\n"
        "_chem_comp_atom.x\n_chem_comp_atom.y\n_chem_comp_atom.z\nL C1 C 0 0 0\nL O1 O 1.2 0 0\nloop_\n"
        "_chem_comp_bond.comp_id\n_chem_comp_bond.atom_id_1\n_chem_comp_bond.atom_id_2\n_chem_comp_bond.type\n"
        "L C1 O1 double\n"
    )
    crystal = (
        "data_c\n_cell_length_a 5\n_cell_length_b 6\n_cell_length_c 7\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
        "_cell_angle_gamma 90\nloop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n"
        "_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_disorder_group\nC1 C 0.1 0.2 0.3 .\nO1 O2- 0.4 0.5 0.6 1\n"
    )
    return [sites.replace("'N?", "N").encode(), component.encode(), crystal.encode()]


# --- typed atoms ------------------------------------------------------------------------------------------------------


def some_atoms(count):
    rng = np.random.default_rng(count)
    return TypedAtoms(rng.normal(size=(count, 3)), *GninaTyper().from_types(rng.integers(0, 28, count)))


def parse_types(data):
    path = place("fuzzed.types", data)
    with refusing(path, ValueError):
        table = read_types(path)
        for part, names in table.names.items():
            index = table.index[part]
            if len(index) != len(table) or not ((index >= -1) & (index < len(names))).all():
                raise FaultError(f"{part}: {index}")
        if not np.isfinite(table.labels).all():
            raise FaultError(f"labels {table.labels}")


def parse_gninatypes(data):
    path = place("fuzzed.gninatypes", data)
    with refusing(path, MoleculeError):
        check_typed(read_gninatypes(path, GninaTyper("ligand")))


def parse_molcache2(data):
    path = place("fuzzed.molcache2", data)
    with refusing(path, MoleculeError):
        cache = read_molcache2(path)
        cache.rows(list(cache.names))
        for row in range(len(cache)):
            with refusing(path, MoleculeError):
                batch = cache[row]
                if not batch.coords.isfinite().all():
                    raise FaultError(f"{batch}")
        cache[:]


# --- stores -----------------------------------------------------------------------------------------------------------


@cache
def store():
    """Return the header and the part of a store of four molecules."""
    path = Path(folder().name, "made")
    write_store(path, ((f"m{count}", some_atoms(count)) for count in (3, 0, 1, 5)))
    return (path / "store.json").read_bytes(), next(path.glob("*.arrow")).read_bytes()


def use_store(header, part):
    place("store/store.json", header)
    path = place("store/part-00000.arrow", part).parent
    with refusing(path, StoreError):
        opened = AtomStore(path)
        for row in range(min(len(opened), 100)):
            with refusing(path, StoreError):
                batch = opened[row]
                if len(batch.types) != len(batch.coords) or len(batch.radii) != len(batch.coords):
                    raise FaultError(f"{batch}")
        with refusing(path, StoreError):
            opened.gather(slice(0, 100))
        with refusing(path, StoreError):
            opened.table()
        opened.verify()


def parse_part(data):
    """Read a part whose size and checksum the header has right."""
    about = json.loads(store()[0])
    about["parts"][0] |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    use_store(json.dumps(about).encode(), data)


# --- grids ------------------------------------------------------------------------------------------------------------


def some_grid():
    density = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 2, 2, 3)
    return DensityGrid(density, ("C", "N"), np.array([1.0, -2, 3]), 0.5, "some", {"source": "a", "types": np.arange(2)})


def grid_files(suffix):
    return lambda: [written(f"seed{suffix}", write, some_grid())]


def parse_grid(suffix):
    def parse(data):
        path = place(f"fuzzed{suffix}", data)
        with refusing(path, ValueError):
            grid = read(path, size_limit=LIMIT)
            if grid.density.nbytes > LIMIT or not np.isfinite(grid.density).all() or not np.isfinite(grid.extent).all():
                raise FaultError(f"{grid}")

    return parse


def members(suffix, name):
    """Good contents of a member of a zip file."""

    def seeds():
        with zipfile.ZipFile(io.BytesIO(grid_files(suffix)()[0])) as archive:
            return [archive.read(found) for found in archive.namelist() if found.endswith(name)]

    return seeds


def parse_member(suffix, name):
    """Read a grid of which a member has other bytes, in an archive whose checksums are right."""

    def parse(data):
        archive = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(grid_files(suffix)()[0])) as good,
            zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as changed,
        ):
            for found in good.namelist():
                changed.writestr(found, data if found.endswith(name) else good.read(found))
        parse_grid(suffix)(archive.getvalue())

    return parse


TARGETS = {
    "sdf": Target(sdf, read_all(".sdf")),
    "mol2": Target(mol2, read_all(".mol2")),
    "xyz": Target(xyz, read_all(".xyz")),
    "pdb": Target(pdb, read_all(".pdb")),
    "pdbqt": Target(pdbqt, read_all(".pdbqt")),
    "cif": Target(cif, read_all(".cif")),
    "types": Target(lambda: [b"1 0.5 r.pdb l.sdf # c\n0 -1e3 none m.sdf\n"], parse_types),
    "gninatypes": Target(lambda: [written("a", write_gninatypes, some_atoms(5))], parse_gninatypes),
    "molcache2": Target(
        lambda: [written("a", write_molcache2, [(f"m{n}", some_atoms(n)) for n in (2, 0, 1)])], parse_molcache2
    ),
    "store.json": Target(lambda: [store()[0]], lambda data: use_store(data, store()[1])),
    "store.arrow": Target(lambda: [store()[1]], parse_part),
    "npz": Target(grid_files(".npz"), parse_grid(".npz")),
    "npy": Target(members(".npz", "density.npy"), parse_member(".npz", "density.npy")),
    "pt": Target(grid_files(".pt"), parse_grid(".pt")),
    "pickle": Target(members(".pt", "data.pkl"), parse_member(".pt", "data.pkl")),
    "dx": Target(grid_files(".dx"), parse_grid(".dx")),
    "mrc": Target(grid_files(".mrc"), parse_grid(".mrc")),
}
