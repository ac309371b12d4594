"""gnina's files: what is written comes back, damaged and hostile files are refused by name, tables find molecules."""

import pickle
import random
import struct

import numpy as np
import pytest
import torch
from support.mol_data import cdk2

import gridgrad as gg
from gridgrad.data import (
    ComplexDataset,
    GninaTypesFiles,
    collate,
    read_gninatypes,
    read_molcache2,
    read_types,
    write_gninatypes,
    write_molcache2,
)
from gridgrad.mol import GninaTyper, MoleculeError, TypedAtoms, read_molecules, type_atoms

RAW = GninaTyper()


def some(n, seed=0):
    rng = np.random.default_rng(seed)
    coords = rng.normal(0, 4, (n, 3)).astype(np.float32).astype(float)
    return TypedAtoms(coords, *RAW.from_types(rng.integers(0, 28, n)))


@pytest.fixture
def molecules():
    return {f"m{n}.gninatypes": some(n, n) for n in (7, 1, 0, 30, 3)}


@pytest.fixture
def cache(tmp_path, molecules):
    write_molcache2(tmp_path / "all.molcache2", molecules.items())
    return tmp_path / "all.molcache2"


def same(batch, atoms, typer=RAW):
    """Whether a batch of one example holds these raw types as a typer puts them into channels."""
    types, radii, channels = typer.from_types(atoms.types)
    np.testing.assert_array_equal(batch.coords, atoms.coords[types >= 0].astype(np.float32))
    np.testing.assert_array_equal(batch.types, types[types >= 0])
    np.testing.assert_array_equal(batch.radii, radii[types >= 0].astype(np.float32))
    assert batch.channels == channels


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_gninatypes_is_16_bytes_an_atom(tmp_path):
    atoms = TypedAtoms(np.array([[1.5, -2, 3]]), np.array([12]), np.array([1.7]), RAW.channels)
    write_gninatypes(tmp_path / "a.gninatypes", atoms)
    assert (tmp_path / "a.gninatypes").read_bytes() == struct.pack("<fffi", 1.5, -2, 3, 12)
    back = read_gninatypes(tmp_path / "a.gninatypes")
    assert back.types.tolist() == [12] and back.radii.tolist() == [np.float32(1.7)] and back.channels == RAW.channels
    assert read_gninatypes(tmp_path / "a.gninatypes", GninaTyper("ligand")).types.tolist() == [10]


def test_molcache2_has_the_published_layout(tmp_path):
    molecules = [("a", some(2)), ("bé", some(0)), ("c" * 255, some(1))]
    write_molcache2(tmp_path / "x", molecules)
    atoms = [b"".join(struct.pack("<fffi", *xyz, t) for xyz, t in zip(m.coords, m.types)) for _, m in molecules]
    body = b"".join(struct.pack("<i", len(m)) + a for (_, m), a in zip(molecules, atoms))
    places = [12, 12 + 36, 12 + 40]
    names = [name.encode() for name, _ in molecules]
    table = b"".join(bytes([len(name)]) + name + struct.pack("<Q", place) for name, place in zip(names, places))
    assert (tmp_path / "x").read_bytes() == struct.pack("<iQ", -1, 12 + len(body)) + body + table


@pytest.mark.parametrize("part", [None, "receptor", "ligand"])
def test_molcache2_comes_back(cache, molecules, part):
    typer = GninaTyper(part)
    store = read_molcache2(cache, typer)
    assert store.names == tuple(molecules) and len(store) == 5 and store.channels == typer.channels
    for name, atoms in molecules.items():
        (row,) = store.rows([name])
        same(store[int(row)], atoms, typer)
    batch = store[[3, 0, 3, 2]]
    assert batch.names == tuple(list(molecules)[i] for i in (3, 0, 3, 2)) and batch.n_atoms[3] == 0
    for i, row in enumerate([3, 0, 3, 2]):
        same(batch[i], molecules[store.names[row]], typer)
    assert len(store[[]]) == 0 and len(store[1:4]) == 3


def test_files_are_a_store(tmp_path, molecules):
    for name, atoms in molecules.items():
        write_gninatypes(tmp_path / name, atoms)
    files = GninaTypesFiles(reversed(molecules), tmp_path, GninaTyper("receptor"))
    for row, name in enumerate(reversed(molecules)):
        assert files.rows([name]).tolist() == [row]
        same(files[row], molecules[name], GninaTyper("receptor"))
    assert files[[0, 4]].names == ("m3.gninatypes", "m7.gninatypes")
    with pytest.raises(ValueError, match="names: 'a' twice"):
        GninaTypesFiles(["a", "b", "a"])


def test_real_ligands_make_the_same_grid(tmp_path):
    pytest.importorskip("rdkit", reason="rdkit is not installed")
    ligands = list(read_molecules(cdk2()))[:5]
    write_molcache2(tmp_path / "x", [(str(m.record), type_atoms(m, RAW)) for m in ligands])
    store, gm = read_molcache2(tmp_path / "x", GninaTyper("ligand")), gg.GridMaker(0.5, 12)
    for row, molecule in enumerate(ligands):
        atoms, batch = type_atoms(molecule, GninaTyper("ligand")), store[row]
        center = molecule.coords.mean(axis=0)
        direct = gm.forward(tuple(center), atoms.coords, atoms.types, atoms.radii, n_types=14)
        read = gm.forward(tuple(center), *(x.double() if x.dtype == torch.float32 else x
                                           for x in (batch.coords, batch.types, batch.radii)), n_types=14)  # fmt: skip
        np.testing.assert_allclose(read, direct, atol=2e-5)


@pytest.mark.parametrize("number", [-1, 28])
def test_ignored_and_unknown_types(tmp_path, number):
    (tmp_path / "a").write_bytes(struct.pack("<fffi", 0, 0, 0, number))
    types = read_gninatypes(tmp_path / "a", GninaTyper("ligand")).types
    assert types.tolist() == ([] if number < 0 else [13]), "as libmolgrid: not there, a generic metal"


def test_a_cache_pickles_as_its_path(cache, molecules, monkeypatch):
    monkeypatch.chdir(cache.parent)
    text = pickle.dumps(read_molcache2(cache.name, GninaTyper("ligand")))
    monkeypatch.chdir("/")
    again = pickle.loads(text)
    assert len(text) < 500 and again.names == tuple(molecules)
    same(again[3], molecules["m30.gninatypes"], GninaTyper("ligand"))


# --- what is refused --------------------------------------------------------------------------------------------------


def table_entry(data, table, row, place):
    """Write the place of a molecule into the table."""
    for _ in range(row):
        table += 1 + data[table] + 8
    struct.pack_into("<Q", data, table + 1 + data[table], place)


HOSTILE = {
    "empty": (lambda d, t: d.clear(), "0 bytes; expected at least the 12 of a header"),
    "short": (lambda d, t: d.__delitem__(slice(11, None)), "11 bytes; expected at least"),
    "old cache": (lambda d, t: struct.pack_into("<i", d, 0, 5), "begins with 5 and a table of names at"),
    "table beyond": (lambda d, t: struct.pack_into("<Q", d, 4, len(d) + 1), "expected -1 and a place in its"),
    "table far": (lambda d, t: struct.pack_into("<Q", d, 4, 2**64 - 1), "a table of names at 18446744073709551615"),
    "table in header": (lambda d, t: struct.pack_into("<Q", d, 4, 8), "a table of names at 8"),
    "truncated": (lambda d, t: d.__delitem__(slice(len(d) - 1, None)), "the table of names ends within name 5"),
    "name too long": (lambda d, t: d.__setitem__(t, 255), "the table of names ends within name 1"),
    "place in header": (lambda d, t: table_entry(d, t, 1, 4), "'m1.gninatypes' at 4; expected a multiple of 4 from"),
    "place in table": (lambda d, t: table_entry(d, t, 1, t), r"molecule 'm1.gninatypes' at \d+; expected"),
    "place far": (lambda d, t: table_entry(d, t, 1, 2**63), "molecule 'm1.gninatypes' at 9223372036854775808"),
    "unaligned": (lambda d, t: table_entry(d, t, 1, 130), "at 130; expected a multiple of 4"),
    "same place": (lambda d, t: table_entry(d, t, 1, 12), r"\['m7.gninatypes', 'm1.gninatypes'\] at the same place"),
    "same name": (lambda d, t: d.__setitem__(slice(t + 1, t + 3), b"m1"), "name 'm1.gninatypes' twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_caches_are_refused_when_opened(cache, case):
    spoil, words = HOSTILE[case]
    data = bytearray(cache.read_bytes())
    spoil(data, struct.unpack_from("<Q", data, 4)[0])
    cache.write_bytes(data)
    with pytest.raises(MoleculeError, match=words) as caught:
        read_molcache2(cache)
    assert str(cache) in str(caught.value)


@pytest.mark.parametrize(
    ("at", "form", "value", "words"),
    [
        (12, "i", -1, "-1 atoms; expected 0 to 7"),
        (12, "i", 8, "8 atoms; expected 0 to 7, for which there is room"),
        (12, "i", 2**31 - 1, "2147483647 atoms"),
        (16 + 16, "f", float("nan"), "atom 2 lies at .*nan.*; expected finite numbers"),
        (16 + 32 + 8, "f", float("inf"), "atom 3 lies at"),
        (16 + 12, "i", 29, "atom 1 lies at .* of type 29; expected finite numbers and a type of -1 to 28"),
        (16 + 12, "i", -2, "atom 1 lies at .* of type -2"),
    ],
)
def test_hostile_molecules_are_refused_when_read(cache, at, form, value, words):
    data = bytearray(cache.read_bytes())
    struct.pack_into("<" + form, data, at, value)
    cache.write_bytes(data)
    store = read_molcache2(cache)
    for rows in (0, [1, 0, 4]):
        with pytest.raises(MoleculeError, match=f"molecule 'm7.gninatypes': {words}"):
            store[rows]
    assert store[[1, 3]].batch_size == 2, "the others are as they were"


def test_flipped_bytes_never_read_foreign_memory(cache):
    good, rng, refused = cache.read_bytes(), random.Random(3), 0
    for _ in range(200):
        data = bytearray(good)
        for _ in range(rng.choice([1, 3, 20])):
            data[rng.randrange(rng.choice([len(data), 16]))] = rng.choice([0, 1, 127, 128, 255])
        cache.write_bytes(data)
        try:
            store = read_molcache2(cache)
            for row in range(len(store)):
                store[row]
        except MoleculeError:
            refused += 1
    assert 40 < refused < 200


def test_nothing_is_unpickled(tmp_path, capsys):
    class Bomb:
        def __reduce__(self):
            return print, ("unpickled",)

    (tmp_path / "x").write_bytes(pickle.dumps(Bomb()))
    for read, words in ((read_gninatypes, "bytes; expected"), (read_molcache2, "begins"), (read_types, "not UTF-8")):
        with pytest.raises(ValueError, match=words):
            read(tmp_path / "x")
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read: No such file"), (bytes(17), "17 bytes; expected a multiple of 16"),
     (struct.pack("<fffi", 0, np.nan, 0, 1), "atom 1 lies at"), (b"HETATM    1  C  ", "of type")],
)  # fmt: skip
def test_bad_gninatypes_are_named(tmp_path, content, words):
    if content is not None:
        (tmp_path / "a.gninatypes").write_bytes(content)
    with pytest.raises(MoleculeError, match=words) as caught:
        read_gninatypes(tmp_path / "a.gninatypes")
    assert caught.value.path == tmp_path / "a.gninatypes"


def test_what_cannot_be_written(tmp_path):
    ligand = TypedAtoms(np.zeros((1, 3)), np.zeros(1, int), np.ones(1), GninaTyper("ligand").channels)
    far = TypedAtoms(np.full((1, 3), 1e39), np.zeros(1, int), np.ones(1), RAW.channels)
    with pytest.raises(ValueError, match=r"atoms: channels .*; expected type indices of Hydrogen"):
        write_gninatypes(tmp_path / "a", ligand)
    with pytest.raises(ValueError, match="molecules: 'f': positions that are not finite"):
        write_molcache2(tmp_path / "a", [("f", far)])
    for names, words in ((["n", "n"], "'n', twice"), (["n" * 256], "256 bytes"), ([""], "0 bytes")):
        with pytest.raises(ValueError, match=f"molecules: name .*{words}; expected 1 to 255"):
            write_molcache2(tmp_path / "a", [(name, some(1)) for name in names])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("row", [5, -6])
def test_rows_that_are_not_there(cache, row):
    with pytest.raises(IndexError, match=f"index: {row}"):
        read_molcache2(cache)[row]
    with pytest.raises(KeyError, match="no molecule is named 'absent'"):
        read_molcache2(cache).rows(["absent"])
    with pytest.raises(TypeError, match="typer: str; expected a GninaTyper"):
        read_molcache2(cache, "ligand")


# --- tables -----------------------------------------------------------------------------------------------------------

TABLE = """1 2.5 m7.gninatypes m1.gninatypes # comment 3
0 -1e3 m30.gninatypes none

1\t+.5  m7.gninatypes m3.gninatypes #7
# only a comment
0 7. m3.gninatypes 1.gninatypes
"""


def test_types(tmp_path):
    (tmp_path / "x.types").write_text(TABLE)
    table = read_types(tmp_path / "x.types")
    assert len(table) == 4
    assert table.labels.tolist() == [[1, 2.5], [0, -1000], [1, 0.5], [0, 7]]
    assert table.names["receptor"] == ["m7.gninatypes", "m30.gninatypes", "m3.gninatypes"]
    assert table.names["ligand"] == ["m1.gninatypes", "m3.gninatypes", "1.gninatypes"]
    assert table.index["receptor"].tolist() == [0, 1, 0, 2] and table.index["ligand"].tolist() == [0, -1, 1, 2]


def test_types_of_other_shapes(tmp_path):
    path = tmp_path / "x.types"
    path.write_text("1 a\n0 b\n")
    assert read_types(path).names == {"ligand": ["a", "b"]}
    path.write_text("a b c\n")
    table = read_types(path, parts=("receptor", "ligand", "water"))
    assert table.labels.shape == (1, 0) and table.names["water"] == ["c"]
    path.write_text("1 2 3\n")
    assert read_types(path, n_labels=1).names == {"receptor": ["2"], "ligand": ["3"]}


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "x.types: no line; expected"),
        ("1 a b\n1 2 a b\n", {}, r"line 2: 4 words; expected 1 labels and 2 molecules \(receptor, ligand\)"),
        ("1 a b\n\nx a b\n", {}, "line 3: label 'x'; expected a finite number"),
        ("1 a b\nnan a b\n", {}, "line 2: label 'nan'"),
        ("1e999 a b\n", {}, "line 1: label '1e999'"),
        ("1_0 a b\n", {}, "line 1: 3 molecules; expected 1 or 2, or their `parts`"),
        ("1 a b c\n", {}, "line 1: 3 molecules"),
        ("1\n", {}, "line 1: 0 molecules"),
        ("1 a b\n", {"parts": ("x", "x")}, "line 1: 2 molecules; expected one for each"),
        ("1 a b\n", {"n_labels": 2}, "line 1: label 'a'"),
    ],
)
def test_bad_tables_are_refused_by_line(tmp_path, text, options, words):
    (tmp_path / "x.types").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_types(tmp_path / "x.types", **options)


@pytest.fixture
def dataset(tmp_path, cache):
    (tmp_path / "x.types").write_text(TABLE.replace(" 1.gninatypes", " m0.gninatypes"))
    table = read_types(tmp_path / "x.types")
    stores = {part: read_molcache2(cache, GninaTyper(part)) for part in ("receptor", "ligand")}
    labels = {"active": table.labels[:, 0], "affinity": table.labels[:, 1]}
    return ComplexDataset(stores, table.rows(stores), labels, center=np.zeros((4, 3)))


def test_a_table_over_caches_is_a_dataset(dataset):
    batch = dataset.__getitems__([2, 1])
    heavy = {n: int((some(n, n).types > 1).sum()) for n in (3, 7, 30)}
    assert batch.n_atoms.tolist() == [heavy[7] + heavy[3], heavy[30]]
    assert batch.labels["affinity"].tolist() == [0.5, -1000]
    assert len(batch.channels) == 28 and batch.channels[14].startswith("ligand ")


def test_a_table_of_other_parts_or_names_is_refused(dataset, tmp_path, cache):
    (tmp_path / "x.types").write_text("1 m7.gninatypes absent\n")
    table, stores = read_types(tmp_path / "x.types"), {"receptor": read_molcache2(cache)}
    with pytest.raises(ValueError, match=r"stores: of \('receptor',\); expected of \('receptor', 'ligand'\)"):
        table.rows(stores)
    with pytest.raises(KeyError, match=r"all\.molcache2: no molecule is named 'absent'"):
        table.rows(stores | {"ligand": read_molcache2(cache)})


def test_a_worker_reads_caches(dataset):
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=2, num_workers=1, collate_fn=collate, multiprocessing_context="spawn"
    )
    batches = list(loader)
    assert torch.equal(torch.cat([batch.coords for batch in batches]), dataset.__getitems__(range(4)).coords)
