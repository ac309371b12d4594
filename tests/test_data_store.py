"""Stores: what goes in comes out, in every process; whatever is damaged, foreign or newer is refused by name."""

import json
import multiprocessing
import pickle
import random
import shutil

import numpy as np
import pytest
import torch
from support.mol_data import cdk2

import gridgrad as gg
from gridgrad.data import AtomStore, StoreError, collate, prepare, write_store
from gridgrad.mol import GninaTyper, TypedAtoms, read_molecules, type_atoms

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra data)")
pytest.importorskip("rdkit", reason="rdkit is not installed")


@pytest.fixture(scope="module")
def ligands():
    return [(molecule, type_atoms(molecule)) for molecule in read_molecules(cdk2())]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store of three parts."""
    path = tmp_path_factory.mktemp("made") / "store"
    prepare([cdk2()], path, workers=0, part_records=20)
    return path


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def edit(path, **changes):
    about = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(about | changes))


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_every_molecule_comes_back(made, ligands):
    store = AtomStore(made)
    assert len(store) == 47 and len(list(made.glob("part-*.arrow"))) == 3
    assert store.n_atoms == sum(len(atoms) for _, atoms in ligands)
    for i, (molecule, atoms) in enumerate(ligands):
        batch = store[i]
        assert batch.names == (molecule.name,) and batch.channels == atoms.channels == store.channels
        np.testing.assert_array_equal(batch.coords, atoms.coords.astype(np.float32))
        np.testing.assert_array_equal(batch.types, atoms.types)
        np.testing.assert_array_equal(batch.radii, atoms.radii.astype(np.float32))
    table = store.table().to_pydict()
    assert table["record"] == list(range(1, 48)) and set(table["source"]) == {str(cdk2())}
    store.verify()


@pytest.mark.parametrize(
    "rows", [[3], [25, 2, 25, 46], range(5), [], [-1, 0], slice(30, 50, 3), np.array([40, 41]), torch.tensor([1, 21])]
)
def test_rows_in_any_order_make_the_batch_of_the_single_ones(made, rows):
    store = AtomStore(made)
    batch = store[rows]
    singles = [store[int(i)] for i in (range(47)[rows] if isinstance(rows, slice) else rows)]
    assert batch.batch_size == len(singles) and batch.names == tuple(name for s in singles for name in s.names)
    for field in ("coords", "types", "radii"):
        expected = torch.cat([getattr(single, field) for single in singles]) if singles else getattr(batch, field)[:0]
        assert torch.equal(getattr(batch, field), expected)
        assert torch.equal(getattr(store.gather(rows), field), expected)
    assert store.gather(rows).names is None


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (47, IndexError, "index: 47; expected one of 47"),
        ([0, -48], IndexError, "index: -48"),
        ("a", TypeError, "index: 'a'; expected"),
        (1.0, TypeError, "index: 1.0"),
        ([0.5], TypeError, "index: [0.5]"),
        (np.zeros(46, bool), TypeError, "index: "),
        ([[1]], TypeError, "index: [[1]]"),
    ],
)
def test_bad_rows_are_refused(made, rows, error, words):
    with pytest.raises(error) as caught:
        AtomStore(made)[rows]
    assert words in str(caught.value)


def test_names_find_rows(made, ligands):
    store = AtomStore(made)
    names = [molecule.name for molecule, _ in ligands]
    unique = [name for name in names if names.count(name) == 1]
    assert store.rows(unique[::-1] + unique[:2]).tolist() == [names.index(n) for n in unique[::-1] + unique[:2]]
    assert store.rows([]).tolist() == []
    with pytest.raises(KeyError, match="0 molecules of name 'absent'"):
        store.rows([unique[0], "absent"])


def test_a_name_of_two_molecules_is_ambiguous(tmp_path, ligands):
    write_store(tmp_path / "s", [("a", ligands[0][1]), ("b", ligands[1][1]), ("a", ligands[2][1])])
    assert AtomStore(tmp_path / "s").rows(["b"]).tolist() == [1]
    with pytest.raises(KeyError, match="2 molecules of name 'a'"):
        AtomStore(tmp_path / "s").rows(["b", "a"])


def test_vector_types_and_radii_by_channel(tmp_path, ligands):
    molecule = ligands[0][0]
    vectors = TypedAtoms(
        molecule.coords, np.eye(3)[np.arange(len(molecule)) % 3] / 3, np.full(len(molecule), 1.5), "xyz"
    )
    write_store(tmp_path / "vectors", [("v", vectors)] * 3)
    batch = AtomStore(tmp_path / "vectors")[[2, 0]]
    np.testing.assert_array_equal(batch.types[: len(molecule)], vectors.types.astype(np.float32))

    raw = type_atoms(molecule, GninaTyper())
    write_store(tmp_path / "raw", [("r", raw)], radii=GninaTyper().channel_radii)
    store = AtomStore(tmp_path / "raw")
    assert "radii" not in store.table(["coords", "types"]).schema.names
    np.testing.assert_array_equal(store[0].radii, raw.radii.astype(np.float32))
    wrong = TypedAtoms(raw.coords, raw.types, raw.radii + 1, raw.channels)
    with pytest.raises(ValueError, match=r"molecules: 1, 'w': atom 1 has radius .* expected .* its channel"):
        write_store(tmp_path / "wrong", [("r", raw), ("w", wrong)], radii=GninaTyper().channel_radii)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "vectors"], "nothing half-written"


def test_many_rows_make_several_parts_and_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("gridgrad.data.library.PART_RECORDS", 2048)
    monkeypatch.setattr("gridgrad.data.parts.BATCH_ATOMS", 3000)

    def molecules():
        for i in range(5000):
            yield f"m{i}", TypedAtoms(np.full((1 + i % 3, 3), i), np.zeros(1 + i % 3, int), np.ones(1 + i % 3), ("c",))

    write_store(tmp_path / "s", molecules())
    store = AtomStore(tmp_path / "s")
    assert len(list((tmp_path / "s").glob("*.arrow"))) == 3 and len(store) == 5000
    rows = np.random.default_rng(0).permutation(5000)
    batch = store[rows]
    assert batch.names == tuple(f"m{i}" for i in rows)
    assert torch.equal(batch.coords[batch.offsets[:-1], 0].long(), torch.from_numpy(rows))
    assert torch.equal(batch.n_atoms, torch.from_numpy(1 + rows % 3))
    store.verify()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coords": np.full((2, 3), 1e39)}, "coords that are not finite"),
        ({"channels": ("x",)}, "channels x; expected c"),
        ({"types": np.ones((2, 1))}, r"\(N, T\) type vectors; expected \(N,\) type indices"),
    ],
)
def test_molecules_that_do_not_fit_are_named(tmp_path, change, words):
    good = {"coords": np.zeros((2, 3)), "types": np.zeros(2, int), "radii": np.ones(2), "channels": ("c",)}
    molecules = [("good", TypedAtoms(**good)), ("bad", TypedAtoms(**(good | change)))]
    with pytest.raises(ValueError, match=f"molecules: 1, 'bad': {words}"):
        write_store(tmp_path / "s", molecules)
    with pytest.raises(ValueError, match="molecules: none"):
        write_store(tmp_path / "s", [])
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="there: exists"):
        write_store(tmp_path / "there", molecules[:1])


def test_it_is_plain_arrow(made):
    rows = []
    for part in sorted(made.glob("*.arrow")):
        with pa.memory_map(str(part)) as source:
            rows += pa.ipc.open_file(source).read_all().to_pylist()
    assert len(rows) == 47 and set(rows[0]) == {"name", "source", "record", "coords", "types", "radii"}
    np.testing.assert_array_equal(np.float32(rows[30]["coords"]), AtomStore(made)[30].coords)


def test_polars_reads_it(made):
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.scan_ipc(sorted(made.glob("*.arrow"))).collect()
    np.testing.assert_array_equal(np.float32(frame["coords"][30].to_list()), AtomStore(made)[30].coords)


def test_datasets_reads_it(made, tmp_path):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    files = [str(part) for part in sorted(made.glob("*.arrow"))]
    table = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path))
    np.testing.assert_array_equal(np.float32(table[30]["coords"]), AtomStore(made)[30].coords)


# --- in other processes -----------------------------------------------------------------------------------------------


def test_a_store_pickles_as_its_path(made, monkeypatch):
    monkeypatch.chdir(made.parent)
    text = pickle.dumps(AtomStore("store"))
    monkeypatch.chdir("/")
    assert len(text) < 500 and len(pickle.loads(text)) == 47


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_two_workers_see_every_molecule_once(made, method):
    loader = torch.utils.data.DataLoader(
        AtomStore(made), batch_size=10, shuffle=True, num_workers=2, collate_fn=collate, multiprocessing_context=method
    )
    density, seen = gg.Coords2Grid(gg.GridMaker(1.0, 8.0), n_types=11), []
    for batch in loader:
        seen += batch.names
        assert density(batch).shape == (len(batch), 11, 9, 9, 9)
    assert sorted(seen) == sorted(AtomStore(made)[:].names)


# --- what is refused --------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return print, ("unpickled",)


def other_part(path):
    (path / "part-00001.arrow").write_bytes((path / "part-00000.arrow").read_bytes())
    about = json.loads((path / "store.json").read_text())
    about["parts"][1] = about["parts"][0] | {"file": "part-00001.arrow", "rows": 21}
    edit(path, parts=about["parts"])


def foreign(path):
    table = pa.table({"a": [1, 2, 3]})
    with pa.OSFile(str(path / "part-00001.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    about = json.loads((path / "store.json").read_text())
    about["parts"][1]["bytes"] = (path / "part-00001.arrow").stat().st_size
    edit(path, parts=about["parts"])


def parts_with(path, **changes):
    about = json.loads((path / "store.json").read_text())
    about["parts"][0] |= changes
    edit(path, parts=about["parts"])


DAMAGE = {
    "no folder": (lambda p: shutil.rmtree(p), "no such folder"),
    "no header": (lambda p: (p / "store.json").unlink(), "no store.json in it"),
    "no JSON": (lambda p: (p / "store.json").write_text("{"), "expected JSON"),
    "deep JSON": (lambda p: (p / "store.json").write_text("[" * 100_000), "expected JSON"),
    "binary header": (lambda p: (p / "store.json").write_bytes(b"\xff\xfe\0"), "expected JSON"),
    "pickled header": (lambda p: (p / "store.json").write_bytes(pickle.dumps(Bomb())), "expected JSON"),
    "pickled part": (lambda p: (p / "part-00000.arrow").write_bytes(pickle.dumps(Bomb())), "bytes; expected"),
    "a list": (lambda p: (p / "store.json").write_text("[]"), "format 'list'"),
    "another format": (lambda p: edit(p, format="zarr"), "format 'zarr'; expected 'gridgrad atom store'"),
    "newer": (lambda p: edit(p, version=2), "version 2; expected 1"),
    "channels": (lambda p: edit(p, channels=["a"]), "part-00000.arrow: .* expected that of the store"),
    "no channels": (lambda p: edit(p, channels=None), "expected the header of a"),
    "radii": (lambda p: edit(p, radii=[1.0]), "expected the header of a"),
    "truncated": (lambda p: (p / "part-00002.arrow").write_bytes((p / "part-00002.arrow").read_bytes()[:-1]),
                  "part-00002.arrow: .* bytes; expected .* truncated"),
    "grown": (lambda p: (p / "part-00002.arrow").open("ab").write(b"\0"), "part-00002.arrow: .* bytes; expected"),
    "missing": (lambda p: (p / "part-00001.arrow").unlink(), "part-00001.arrow: no such file"),
    "zeros": (lambda p: (p / "part-00001.arrow").write_bytes(bytes((p / "part-00001.arrow").stat().st_size)),
              "part-00001.arrow: not readable .* expected an Arrow IPC file"),
    "other rows": (other_part, "part-00001.arrow: 20 rows; expected 21"),
    "foreign": (foreign, "part-00001.arrow: an Arrow file of columns a; expected a part of a gridgrad atom store"),
    "path": (lambda p: parts_with(p, file="../x.arrow"), "expected a name in the folder"),
    "negative": (lambda p: parts_with(p, rows=-1), "expected whole numbers"),
    "text": (lambda p: parts_with(p, bytes="1"), "expected whole numbers"),
    "atoms": (lambda p: parts_with(p, atoms=7), "part-00000.arrow: .* atoms; expected 7"),
    "incomplete": (lambda p: edit(p, parts=[]), "3 of 3 parts are missing, part-00000.arrow for one"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_refused_by_name(copy, damage, capsys):
    spoil, words = DAMAGE[damage]
    spoil(copy)
    with pytest.raises(StoreError, match=words) as caught:
        AtomStore(copy)
    assert str(copy) in str(caught.value) and "unpickled" not in capsys.readouterr().out


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(StoreError, match="x: a file; expected the folder"):
        AtomStore(tmp_path / "x")


def test_verify_finds_a_flipped_bit(copy):
    part = copy / "part-00001.arrow"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    store = AtomStore(copy)
    with pytest.raises(StoreError, match=r"part-00001.arrow: SHA-256 .*; expected .*, damaged"):
        store.verify()


def test_flipped_bytes_never_read_foreign_memory(copy):
    """Whatever a damaged file says of itself: an error by name, or rows of the right kind."""
    part, rng = copy / "part-00000.arrow", random.Random(6)
    good, refused = part.read_bytes(), 0
    for trial in range(300):
        data = bytearray(good)
        low = rng.choice([0, len(data) - 3000, 0]) if trial % 2 else 0
        high = rng.choice([len(data), low + 3000])
        for _ in range(rng.choice([1, 4, 50])):
            data[rng.randrange(low, min(high, len(data)))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        part.write_bytes(data)
        try:
            store = AtomStore(copy)
            store.gather(range(len(store)))
            for i in range(len(store)):
                store.gather([i])
        except StoreError:
            refused += 1
    assert 30 < refused < 300


@pytest.mark.parametrize("what", ["replaced", "deleted"])
def test_an_open_store_outlives_its_files(copy, made, what):
    """What is open goes on with the file that it has opened; what opens now is told."""
    store, expected = AtomStore(copy), AtomStore(made)
    for part in copy.glob("part-*.arrow"):
        if what == "replaced":
            (copy / "other").write_bytes(b"no store" * 1000)
            (copy / "other").replace(part)
        else:
            part.unlink()
    rows = list(range(len(expected)))
    assert torch.equal(store[rows].coords, expected[rows].coords)
    with pytest.raises(StoreError, match=r"part-0000\d.arrow"):
        AtomStore(copy)


def test_without_pyarrow_the_extra_is_named(made, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'gridgrad\[data\]'"):
        AtomStore(made)
