"""AtomBatch and collate: what goes in comes out, of every example, in every shape and on its way through a layer."""

import pickle
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.atom_batches import CHANNELS, COUNTS, assert_same, make_batch
from support.scenes import assert_same_bits

import gridgrad as gg
from gridgrad.data import AtomBatch, collate

MODES = pytest.mark.parametrize(("vectors", "by_type"), [(False, False), (True, False), (False, True), (True, True)])


@MODES
def test_examples(vectors, by_type):
    """An example has its own rows; examples put together are the batch; a selection is in its own order."""
    batch = make_batch(vectors, by_type)
    assert len(batch) == batch.batch_size == 4 and batch.n_types == 3
    assert batch.batch.tolist() == [0, 0, 0, 2, 2, 2, 2, 2, 3]
    for i, example in enumerate(batch):
        rows = batch.batch == i
        assert example.batch_size == 1 and example.names == (f"molecule {i}",)
        assert torch.equal(example.coords, batch.coords[rows]) and torch.equal(example.types, batch.types[rows])
        assert torch.equal(example.part, batch.part[rows]) and torch.equal(example.center, batch.center[i : i + 1])
        assert torch.equal(example.radii, batch.radii if by_type else batch.radii[rows])
        assert example.labels["active"].tolist() == [i]
    assert_same(collate(list(batch)), batch)
    assert_same(batch[:], batch)
    assert_same(collate([batch[2], batch[0], batch[2]]), batch[[2, 0, 2]])
    assert_same(collate([batch[1:3], batch[3]]), batch[1:])
    for index in ([2, -1], np.array([2, 3]), torch.tensor([2, 3]), torch.tensor([False, False, True, True])):
        assert_same(batch[index], batch[2:4])
    assert batch[[]].batch_size == 0 and batch[2].batch_size == batch[np.int64(2)].batch_size == 1
    assert_same(collate(batch), batch)


@pytest.mark.parametrize("index", [4, -5, [0, 4]])
def test_no_such_example(index):
    with pytest.raises(IndexError, match=r"^index: -?\d; expected one of 4 examples"):
        make_batch()[index]


@pytest.mark.parametrize("index", [0.5, [0.5], "a", [[0, 1]], None, [True, False]])
def test_no_index(index):
    with pytest.raises(TypeError, match=r"^index: .*; expected an integer"):
        make_batch()[index]


@MODES
def test_padded(vectors, by_type):
    """Padded atoms give the grid of the ragged ones to the bit; the mask gets them back."""
    batch = make_batch(vectors, by_type)
    padded = batch.padded()
    assert padded.mask.shape == (4, 5) and padded.mask.sum(1).tolist() == list(COUNTS)
    assert torch.equal(padded.coords[padded.mask], batch.coords)
    assert torch.equal(padded.types[padded.mask], batch.types)
    gm = gg.GridMaker(0.5, 6.0, radius_type_indexed=by_type)
    found = gg.coords2grid(gm, batch.center, padded.coords, padded.types, padded.radii, 3)
    assert_same_bits(found, gg.Coords2Grid(gm)(batch))
    assert batch[[]].padded().coords.shape == (0, 0, 3) and batch[1].padded().coords.shape == (1, 0, 3)


@MODES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layer(vectors, by_type, dtype):
    """The layer takes the fields of a batch; its own centre serves where the batch has none."""
    batch = make_batch(vectors, by_type, dtype)
    gm = gg.GridMaker(0.5, 6.0, radius_type_indexed=by_type)
    atoms = batch.coords, batch.types, batch.radii, 3, batch.batch, 4
    assert_same_bits(gg.Coords2Grid(gm)(batch), gg.coords2grid(gm, batch.center, *atoms))
    assert_same_bits(gg.Coords2Grid(gm, n_types=3)(batch), gg.coords2grid(gm, batch.center, *atoms))
    batch.center = None
    expected = gg.coords2grid(gm, torch.tensor([1, 2, 3], dtype=dtype), *atoms)
    assert_same_bits(gg.Coords2Grid(gm, (1.0, 2.0, 3.0))(batch), expected)
    assert gg.Coords2Grid(gm)(batch[[]]).shape == (0, *gm.grid_dimensions(3))


def test_layer_and_batch_disagree():
    with pytest.raises(ValueError, match=r"^n_types: 4; expected 3, the channels of the batch"):
        gg.Coords2Grid(gg.GridMaker(0.5, 6.0), n_types=4)(make_batch())
    with pytest.raises(ValueError, match=r"^n_types: None; expected"):
        gg.Coords2Grid(gg.GridMaker(0.5, 6.0))(make_batch(channels=None))
    with pytest.raises(ValueError, match=r"^radii: "):
        gg.Coords2Grid(gg.GridMaker(0.5, 6.0))(make_batch(by_type=True))


@MODES
def test_gradients_of_one_part(vectors, by_type):
    """With gradients of the ligand only, the density and the ligand's gradients keep their bits."""
    layer = gg.Coords2Grid(gg.GridMaker(0.5, 6.0, radius_type_indexed=by_type))
    full, batch = make_batch(vectors, by_type).requires_grad_(), make_batch(vectors, by_type).requires_grad_("ligand")
    for b in (full, batch):
        b.density = layer(b)
        b.density.square().sum().backward()
    assert_same_bits(batch.density, full.density)
    ligand = batch.mask("ligand")
    assert ligand.any() and not ligand.all() and torch.equal(batch.fixed, batch.mask("receptor"))
    assert torch.equal(batch.mask("receptor", "ligand"), torch.ones_like(ligand))
    assert_same_bits(batch.coords.grad[ligand], full.coords.grad[ligand])
    assert full.coords.grad[~ligand].any() and not batch.coords.grad[~ligand].any()
    assert torch.equal(batch[2].fixed, batch.fixed[3:8])
    with pytest.raises(ValueError, match=r"^parts: 'solvent'; expected one of \('receptor', 'ligand'\)"):
        batch.requires_grad_("solvent")


def test_conversion():
    batch = make_batch(vectors=True)
    double = batch.to(dtype=torch.float64)
    assert double.coords.dtype == double.types.dtype == double.radii.dtype == double.center.dtype == torch.float64
    assert double.labels["affinity"].dtype == torch.float32 and double.offsets.dtype == torch.int64
    back = double.to("cpu", torch.float32, non_blocking=True)
    assert_same(back, batch.changed(center=double.center))  # is never rounded
    assert make_batch().to(dtype=torch.float64).types.dtype == torch.int64
    meta = batch.to("meta")
    assert all(t.is_meta for t in (meta.coords, meta.radii, meta.offsets, meta.part, meta.labels["active"]))
    with pytest.raises(TypeError, match=r"^dtype: torch.float16; expected"):
        batch.to(dtype=torch.float16)


@MODES
def test_pickle(vectors, by_type):
    batch = make_batch(vectors, by_type)
    assert_same(pickle.loads(pickle.dumps(batch)), batch)


@pytest.mark.parametrize("counts", [(), (0, 0), (3, 2), (5000, 0, 20000)])
def test_between_processes(counts):
    """As torch.multiprocessing sends it: small ones in the message, large ones as one shared memory."""
    batch = make_batch(counts=counts)
    message = ForkingPickler.dumps(batch)
    assert_same(ForkingPickler.loads(message), batch)
    assert len(message) < 1 << 18
    one, two = make_batch(counts=counts), pickle.loads(pickle.dumps(batch))
    two.coords += 1
    assert torch.equal(two.coords, one.coords + 1) and torch.equal(two.radii, one.radii)
    assert torch.equal(two.labels["affinity"], one.labels["affinity"])


def test_gradients_survive_pickle():
    batch = make_batch().requires_grad_("ligand")
    copy = pickle.loads(pickle.dumps(batch))
    assert copy.coords.requires_grad and torch.equal(copy.fixed, batch.fixed)
    assert torch.equal(copy.coords, batch.coords)


def test_batch_index():
    batch = make_batch()
    fields = {"center": batch.center, "channels": CHANNELS}
    atoms = batch.coords, batch.types, batch.radii
    for index in (batch.batch, batch.batch.int()):
        assert torch.equal(AtomBatch.from_batch_index(*atoms, index, 4, **fields).offsets, batch.offsets)
    assert AtomBatch.from_batch_index(*atoms, batch.batch).batch_size == 4
    assert AtomBatch.from_batch_index(*atoms, batch.batch, 6).n_atoms.tolist() == [3, 0, 5, 1, 0, 0]
    for index in (batch.batch.flip(0), batch.batch - 1, batch.batch + 1, batch.batch[1:], batch.batch.float(), None):
        with pytest.raises((TypeError, ValueError), match=r"^batch: .*; expected"):
            AtomBatch.from_batch_index(*atoms, index, 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coords", np.zeros((9, 3))),
        ("coords", torch.zeros(9, 2)),
        ("coords", torch.zeros(9, 3, dtype=torch.float16)),
        ("coords", torch.zeros(9, 3, dtype=torch.int64)),
        ("types", torch.zeros(8, dtype=torch.int64)),
        ("types", torch.zeros(9, dtype=torch.int32)),
        ("types", torch.zeros(9, 3, dtype=torch.float64)),
        ("types", torch.zeros(9, 1, 3)),
        ("types", None),
        ("radii", torch.zeros(8)),
        ("radii", torch.zeros(9, dtype=torch.float64)),
        ("offsets", torch.tensor([0, 3, 9])),
        ("offsets", torch.tensor([0, 3, 3, 8, 8])),
        ("offsets", torch.tensor([1, 3, 3, 8, 9])),
        ("offsets", torch.tensor([0, 3, 2, 8, 9])),
        ("offsets", torch.tensor([[0, 9]])),
        ("offsets", torch.zeros(0, dtype=torch.int64)),
        ("offsets", torch.tensor([0, 3, 3, 8, 9], dtype=torch.int32)),
        ("center", torch.zeros(3)),
        ("center", torch.zeros(4, 3, dtype=torch.float16)),
        ("labels", {"active": torch.zeros(3)}),
        ("labels", {"active": torch.tensor(0)}),
        ("labels", {"active": [0, 0, 0, 0]}),
        ("names", ["a"]),
        ("channels", ["a"]),
        ("part", None),
        ("part", torch.zeros(8, dtype=torch.uint8)),
        ("part", torch.zeros(9, dtype=torch.int64)),
        ("parts", ()),
        ("fixed", torch.zeros(9)),
        ("fixed", torch.zeros(8, dtype=torch.bool)),
        ("radii", torch.zeros(9, device="meta")),
    ],
)
def test_bad_fields(name, value):
    """Every field is named where it is wrong."""
    expected = {"offsets": "offsets|coords|names|labels|center", "channels": "channels", "part": "parts?"}.get(
        name, name
    )
    with pytest.raises((TypeError, ValueError), match=rf"^({expected})\b.*: .*; expected"):
        make_batch(vectors=name == "channels", **{name: value})


def test_collate_typed_atoms():
    """Typed atoms, as the typers return them, become float32 unless told otherwise."""
    atoms = [
        SimpleNamespace(coords=np.eye(3) * i, types=np.array([0, 1, -1]), radii=np.full(3, 1.5), channels=("a", "b"))
        for i in (1, 2)
    ]
    batch = collate(atoms)
    assert batch.dtype == torch.float32 and batch.types.tolist() == [0, 1, -1] * 2 and batch.channels == ("a", "b")
    assert torch.equal(batch.coords[3:], 2 * torch.eye(3))
    assert collate(atoms, torch.float64).radii.dtype == torch.float64
    vectors = SimpleNamespace(coords=np.eye(3), types=np.eye(3)[:, :2], radii=np.full(3, 1.5), channels=("a", "b"))
    assert collate([vectors]).types.dtype == torch.float32


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (make_batch(vectors=True), "example 1: types of dtype torch.float32; expected torch.int64"),
        (make_batch(channels=("a", "b", "c")), r"example 1: channels \('a', 'b', 'c'\); expected \('C', 'N', 'O'\)"),
        (make_batch(labels={}), r"example 1: labels \(\); expected \('active', 'affinity'\)"),
        (make_batch(center=None), "example 1: fields .*; expected"),
        (make_batch(dtype=torch.float64), "example 1: dtype torch.float64; expected torch.float32"),
        (make_batch(by_type=True), "example 1: radii by type True; expected False"),
        (3, "example 1: int; expected an AtomBatch or TypedAtoms"),
    ],
)
def test_examples_that_do_not_fit(second, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        collate([make_batch(), second])


def test_collate_needs_examples_and_one_table_of_radii():
    with pytest.raises(ValueError, match=r"^examples: 0; expected at least one"):
        collate([])
    with pytest.raises(ValueError, match=r"^example 1: radii .*; expected .*, as in example 0"):
        collate([make_batch(by_type=True), make_batch(by_type=True, radii=torch.ones(3))])
