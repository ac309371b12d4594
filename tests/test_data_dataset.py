"""ComplexDataset: rows of molecules become batches."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from support.atom_batches import CHANNELS, assert_same, make_batch, molecules
from support.scenes import assert_close

import gridgrad as gg
from gridgrad.data import ComplexDataset, RandomRigid, collate
from gridgrad.mol import TypedAtoms, join_atoms

COUNTS_R, COUNTS_L = (7, 4, 9), (3, 2, 5, 1, 4)
ROWS = {"receptor": [0, 1, 2, 0, 1, -1], "ligand": [4, 3, 2, 1, 0, 0]}


def complexes(rows=ROWS, vectors=(False, False), by_type=False, **settings):
    stores = {
        "receptor": molecules(COUNTS_R, 1, vectors=vectors[0], by_type=by_type),
        "ligand": molecules(COUNTS_L, 2, vectors=vectors[1], by_type=by_type),
    }
    return ComplexDataset(stores, rows, **settings)


def as_typed(batch):
    return TypedAtoms(*(value.numpy() for value in (batch.coords, batch.types, batch.radii)), batch.channels)


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vectors", list(itertools.product((False, True), repeat=2)))
def test_parts_are_joined(vectors):
    """Like `gridgrad.mol.join_atoms`, row by row: atoms part by part, each with channels of its own."""
    dataset = complexes(vectors=vectors, labels={"y": range(6)})
    batch = dataset.__getitems__([5, 1, 2, 1])
    assert len(dataset) == 6 and len(batch) == 4 and batch.parts == ("receptor", "ligand")
    for row, example in zip((5, 1, 2, 1), batch):
        part = {name: dataset.parts[name].store for name in batch.parts}
        r, i = ROWS["receptor"][row], ROWS["ligand"][row]
        receptor = as_typed(part["receptor"][r] if r >= 0 else part["receptor"][:0])
        expected = join_atoms(receptor=receptor, ligand=as_typed(part["ligand"][i]))
        assert example.channels == batch.channels == expected.channels
        assert np.array_equal(example.coords.numpy(), expected.coords)
        assert np.array_equal(example.types.numpy(), expected.types.astype(example.types.numpy().dtype))
        assert np.array_equal(example.radii.numpy(), expected.radii)
        assert example.mask("receptor").tolist() == [True] * len(receptor) + [False] * COUNTS_L[i]
        assert example.labels["y"].tolist() == [row]
        assert example.names == (f"molecule {i}",)
        assert torch.equal(example.center[0], part["ligand"][i].coords.double().mean(0))
        assert_same(dataset[row], example)
    assert_same(dataset.__getitems__([-1, -5]), dataset.__getitems__(np.array([5, 1])))
    assert len(dataset.__getitems__([])) == 0


def test_radii_by_type():
    dataset = complexes(by_type=True)
    batch = dataset.__getitems__([0, 5])
    assert batch.radius_type_indexed and batch.radii.shape == (6,)
    assert torch.equal(batch.radii, torch.cat([part.store.radii for part in dataset.parts.values()]))
    gm = gg.GridMaker(0.5, 6.0, radius_type_indexed=True)
    assert gg.Coords2Grid(gm)(batch).shape == (2, 6, 13, 13, 13)


def test_shared_channels():
    stores = {name: molecules((2, 3), 1) for name in ("a", "b")}
    dataset = ComplexDataset(stores, shared_channels=True)
    batch = dataset.__getitems__([1, 0])
    assert batch.channels == CHANNELS
    assert torch.equal(batch[0].types, torch.cat([stores["a"][1].types, stores["b"][1].types]))


def test_one_part():
    """The molecules themselves, under the names of their channels."""
    store = molecules(COUNTS_L, 2)
    batch = ComplexDataset({"ligand": store}, {"ligand": [3, 0, -1]}, center=np.zeros((3, 3))).__getitems__([0, 2, 1])
    assert batch.channels == CHANNELS and batch.parts == () and batch.names == ("molecule 3", "", "molecule 0")
    assert torch.equal(batch.coords, torch.cat([store[3].coords, store[0].coords]))
    assert batch.n_atoms.tolist() == [1, 0, 3] and not batch.center.any()


class Store:
    """What a store must have."""

    def __init__(self, batch):
        self.batch = batch

    def __len__(self):
        return len(self.batch)

    def __getitem__(self, rows):
        return self.batch[rows]


def test_stores():
    """Batches, lists of examples, lists of typed atoms and other classes are stores."""
    store = molecules(COUNTS_L, 2, names=None)
    expected = ComplexDataset({"ligand": store}).__getitems__([2, 0, 2])
    for other in (list(store), [as_typed(example) for example in store], Store(store)):
        assert_same(ComplexDataset({"ligand": other}).__getitems__([2, 0, 2]), expected)


def test_stores_stay_as_they_are():
    """What a store hands out is never written to, even if it is the store's own."""
    batch = make_batch()
    examples = [example.changed() for example in batch]
    before = [example.coords.clone() for example in examples]
    dataset = ComplexDataset({"complex": examples}, transform=RandomRigid(2.0))
    for row in (0, 2, 3):
        assert not torch.equal(dataset[row].coords, before[row])
    assert all(torch.equal(example.coords, coords) for example, coords in zip(examples, before))
    batch, crop = molecules((50, 3), 1), {"grid": gg.GridMaker(0.5, 4.0), "crop": ["a"], "transform": RandomRigid(2.0)}
    whole = batch.coords.clone()
    dataset = ComplexDataset({"a": list(batch), "b": batch}, **crop)
    assert not torch.equal(dataset.__getitems__([0, 1]).coords, dataset.__getitems__([0, 1]).coords)
    assert torch.equal(batch.coords, whole)


def test_rows_by_name():
    names = ["molecule 2", "", "molecule 0"]
    dataset = complexes({"receptor": names, "ligand": ["molecule 4"] * 3})
    assert dataset.parts["receptor"].numbers.tolist() == [2, -1, 0]
    with pytest.raises(KeyError, match="molecule 7"):
        complexes({"receptor": ["molecule 7"], "ligand": [0]})


def test_centers():
    centers = np.arange(18.0).reshape(6, 3)
    assert torch.equal(complexes(center=centers).__getitems__([4, 0]).center, torch.from_numpy(centers[[4, 0]]))
    batch = complexes(center="receptor").__getitems__([1, 0])
    store = molecules(COUNTS_R, 1)
    assert torch.equal(batch.center[1], store[0].coords.double().mean(0))
    with pytest.raises(ValueError, match=r"^row 5: no atoms in 'receptor'; expected some"):
        complexes(center="receptor").__getitems__([0, 5])


def test_centers_far_from_zero():
    """They stay in float64 from the table to the kernel, where 10^5 angstrom and float32 would lose 1/128 of it."""
    far = torch.tensor([[1e5, -1e5, 3e4]] * 5, dtype=torch.float64) + torch.rand(5, 3, dtype=torch.float64)
    store = molecules(COUNTS_L, 2)
    store.coords = (store.coords + far[store.batch]).float()
    gm = gg.GridMaker(0.5, 6.0)
    dataset = ComplexDataset({"ligand": store}, center=far.numpy(), grid=gm, crop=[])
    rows = [0, 3, 1]
    batch, loader = dataset.__getitems__(rows), torch.utils.data.DataLoader
    atoms = batch.coords.double(), batch.types, batch.radii.double()
    expected = gm.forward(far[rows], *atoms, n_types=3, batch=batch.batch, batch_size=3)
    ways = {
        "dataset": batch,
        "collate": collate([batch[i] for i in range(3)]),
        "pickle": pickle.loads(pickle.dumps(batch)),
        "worker": next(iter(loader(dataset, batch_sampler=[rows], num_workers=1, collate_fn=collate))),
        "both ways": batch.to(dtype=torch.float64).to(dtype=torch.float32),
        "of double": collate([batch.to(dtype=torch.float64)], dtype=torch.float32),
        "not moved": RandomRigid(0.0, rotate=False)(batch)[0],
    }
    for name, found in ways.items():
        assert found.dtype == torch.float32 and torch.equal(found.center, far[rows]), name
        assert_close(gg.Coords2Grid(gm)(found).double(), expected, 2e-6, name)


def test_no_atoms_at_all():
    """Rows without any atom make a batch and a grid of zeros."""
    dataset = complexes({"receptor": [-1, -1], "ligand": [-1, -1]}, center=np.zeros((2, 3)), transform=RandomRigid(2.0))
    batch = dataset.__getitems__([1, 0])
    assert batch.n_atoms.tolist() == [0, 0]
    assert not gg.Coords2Grid(gg.GridMaker(0.5, 3.0))(batch).any()


def test_labels():
    labels = {
        "a": [0.5] * 6,
        "b": np.arange(6),
        "c": torch.zeros(6, 2),
        "d": np.ones(6, dtype=np.float64),
        "e": [True] * 6,
    }
    batch = complexes(labels=labels).__getitems__([3, 1])
    expected = {"a": torch.float32, "b": torch.int64, "c": torch.float32, "d": torch.float64, "e": torch.bool}
    assert {name: value.dtype for name, value in batch.labels.items()} == expected
    assert batch.labels["b"].tolist() == [3, 1] and batch.labels["c"].shape == (2, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stores": []}, r"stores: \[\]; expected a mapping"),
        ({"stores": {}}, r"stores: {}; expected a mapping"),
        ({"stores": {"ligand": 3}}, r"stores\['ligand'\]: int; expected an AtomStore"),
        ({"stores": {"ligand": []}}, r"stores\['ligand'\]: no molecules; expected at least one"),
        ({"rows": {"ligand": [0]}}, r"rows: of \('ligand',\); expected of \('receptor', 'ligand'\)"),
        ({"rows": {"receptor": [0], "ligand": [0, 1]}}, r"rows\['ligand'\]: 2; expected 1, as of 'receptor'"),
        (
            {"rows": {"receptor": [3], "ligand": [0]}},
            r"rows\['receptor'\]: row 0 has molecule 3; expected one of 3, or -1",
        ),
        ({"rows": {"receptor": [0, -2], "ligand": [0, 0]}}, r"rows\['receptor'\]: row 1 has molecule -2; expected"),
        (
            {"rows": {"receptor": [0.5], "ligand": [0]}},
            r"rows\['receptor'\]: float64 of shape \(1,\); expected numbers",
        ),
        ({"rows": {"receptor": [[0]], "ligand": [0]}}, r"rows\['receptor'\]: int64 of shape \(1, 1\); expected"),
        ({"labels": {"y": [0] * 5}}, r"labels\['y'\]: shape \(5,\); expected \(6, ...\)"),
        ({"labels": {"y": 0}}, r"labels\['y'\]: shape \(\); expected \(6, ...\)"),
        ({"labels": {"y": ["a"] * 6}}, r"labels\['y'\]: .*; expected numbers"),
        ({"center": "solvent"}, r"center: 'solvent'; expected one of \('receptor', 'ligand'\)"),
        ({"center": np.zeros((5, 3))}, r"center: shape \(5, 3\); expected \(6, 3\)"),
        ({"center": [["a"]]}, r"center: .*; expected the name of a part"),
        ({"grid": 23.5}, r"grid: float; expected a GridMaker"),
        ({"crop": ["solvent"]}, r"crop: 'solvent'; expected parts .* out of \('receptor',\)"),
        ({"crop": ["ligand"]}, r"crop: 'ligand'; expected parts that do not give the centre"),
        ({"transform": torch.nn.Identity()}, r"transform: Identity; expected a RandomRigid"),
        ({"shared_channels": True, "channels": ("a", "b", "c")}, r"stores\['ligand'\]: channels .*; expected"),
        ({"channels": None}, r"stores\['ligand'\]: channels without names; expected names"),
        ({"dtype": torch.float64}, r"stores\['ligand'\]: torch.float64; expected torch.float32"),
        ({"by_type": True}, r"stores\['ligand'\]: radii by type True; expected False"),
    ],
)
def test_bad_arguments(settings, message):
    ligand = {name: settings.pop(name) for name in ("channels", "dtype", "by_type") if name in settings}
    stores = {"receptor": molecules(COUNTS_R, 1), "ligand": molecules(COUNTS_L, 2, **ligand)}
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        ComplexDataset(**{"stores": stores, "rows": None if "stores" in settings else ROWS, **settings})


@pytest.mark.parametrize(
    ("index", "error"), [([6], IndexError), ([-7], IndexError), ([0.5], TypeError), (["a"], TypeError)]
)
def test_bad_index(index, error):
    with pytest.raises(error, match=r"^index: .*; expected"):
        complexes().__getitems__(index)


def test_rows_by_name_need_names():
    with pytest.raises(TypeError, match=r"^rows\['ligand'\]: names; expected numbers, since a list has none"):
        ComplexDataset({"ligand": list(molecules(COUNTS_L, 2))}, {"ligand": ["a"]})


def test_moved_later():
    """With `apply_transform` off the atoms are kept for a motion that comes later."""
    random = RandomRigid(2.0, generator=torch.Generator().manual_seed(3))
    datasets = [complexes(transform=random, grid=gg.GridMaker(0.5, 4.0), apply_transform=a) for a in (False, True)]
    batch = datasets[0].__getitems__([0, 1])
    state = random.generator.get_state()
    expected = datasets[1].__getitems__([0, 1])
    random.generator.set_state(state)
    assert_same(random(batch)[0], expected)


# --- loaders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers(method):
    """Batches of worker processes are those of this one, each example once."""
    dataset = complexes(labels={"y": range(6)}, grid=gg.GridMaker(0.5, 4.0))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=2, num_workers=2, collate_fn=collate, multiprocessing_context=method
    )
    batches = list(loader)
    assert torch.cat([batch.labels["y"] for batch in batches]).tolist() == list(range(6))
    for i, batch in enumerate(batches):
        assert_same(batch, dataset.__getitems__([2 * i, 2 * i + 1]))


def test_pickle():
    dataset = complexes(labels={"y": range(6)}, transform=RandomRigid(2.0, generator=torch.Generator().manual_seed(1)))
    copy = pickle.loads(pickle.dumps(dataset))
    assert_same(copy.__getitems__([3, 1]), dataset.__getitems__([3, 1]))
