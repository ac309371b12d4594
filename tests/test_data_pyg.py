"""PyTorch Geometric: batches go there and come back, and its own batches go through the layer."""

from types import SimpleNamespace

import pytest
import torch
from support.atom_batches import CHANNELS, make_batch
from support.scenes import assert_same_bits

import gridgrad as gg
from gridgrad.data import AtomBatch, from_pyg, to_pyg

BACK = {"center": "center", "labels": ("active", "affinity"), "names": "name", "channels": CHANNELS}


@pytest.fixture
def pyg():
    return pytest.importorskip("torch_geometric.data", reason="PyTorch Geometric is not installed")


@pytest.mark.parametrize("vectors", [False, True])
def test_there_and_back(pyg, vectors):
    batch = make_batch(vectors)
    there = to_pyg(batch)
    assert isinstance(there, pyg.Batch) and there.num_graphs == 4
    assert torch.equal(there.batch, batch.batch) and torch.equal(there.ptr, batch.offsets)
    back = from_pyg(there, "types", "radii", **BACK)
    for name in ("coords", "types", "radii", "offsets", "center"):
        assert torch.equal(getattr(back, name), getattr(batch, name))
    assert all(torch.equal(back.labels[name], batch.labels[name]) for name in batch.labels)
    assert back.names == batch.names and back.channels == batch.channels and torch.equal(there.part, batch.part)
    for i, example in enumerate(there.to_data_list()):
        one = from_pyg(example, "types", "radii", **BACK)
        assert torch.equal(one.coords, batch[i].coords) and one.names == batch[i].names
    layer = gg.Coords2Grid(gg.GridMaker(0.5, 6.0))
    assert_same_bits(layer(back), layer(batch))


def test_gradients_go_along(pyg):
    batch = make_batch().requires_grad_()
    from_pyg(to_pyg(batch), "types", "radii").coords.square().sum().backward()
    assert_same_bits(batch.coords.grad, 2 * batch.coords.detach())


def test_radii_by_type(pyg):
    batch = make_batch(by_type=True)
    back = from_pyg(to_pyg(batch), "types", "radii", **BACK)
    layers = [gg.Coords2Grid(gg.GridMaker(0.5, 6.0, radius_type_indexed=by_type)) for by_type in (True, False)]
    assert_same_bits(layers[1](back), layers[0](batch))
    with pytest.raises(ValueError, match=r"^radii: by type, with type vectors; expected one per atom"):
        to_pyg(make_batch(vectors=True, by_type=True))


def test_a_batch_made_there(pyg):
    """Nodes with atomic numbers: channels and radii from tables."""
    channel_of = torch.full((10,), -1)
    channel_of[[6, 7, 8]] = torch.arange(3)
    radius_of = torch.linspace(1.0, 1.9, 10)
    molecules = [
        pyg.Data(pos=torch.randn(n, 3), z=torch.randint(6, 9, (n,)), y=torch.tensor([float(n)])) for n in (2, 0, 3)
    ]
    data = pyg.Batch.from_data_list(molecules)
    batch = from_pyg(data, channel_of[data.z], radius_of[data.z], labels=["y"], channels=CHANNELS)
    assert batch.n_atoms.tolist() == [2, 0, 3] and batch.labels["y"].tolist() == [2, 0, 3]
    assert batch.coords.data_ptr() == data.pos.data_ptr()
    assert gg.Coords2Grid(gg.GridMaker(0.5, 6.0))(batch).shape == (3, 3, 13, 13, 13)
    single = from_pyg(molecules[0], channel_of[molecules[0].z], radius_of[molecules[0].z], labels=["y"])
    assert len(single) == 1 and torch.equal(single.coords, molecules[0].pos)


def test_labels_with_names_of_fields(pyg):
    with pytest.raises(ValueError, match=r"^labels: 'pos'; expected another name"):
        to_pyg(make_batch(labels={"pos": torch.zeros(4)}))


def test_only_the_fields_count():
    """Whatever has the fields of a Data or a Batch is taken, and what lacks one is refused by its name."""
    batch = make_batch()
    given = {"pos": batch.coords, "kind": batch.types, "r": batch.radii, "num_graphs": 4}
    expected = AtomBatch(batch.coords, batch.types, batch.radii, batch.offsets)
    for more in ({"batch": batch.batch}, {"ptr": batch.offsets}, {"batch": batch.batch, "ptr": batch.offsets}):
        found = from_pyg(SimpleNamespace(**given, **more), "kind", "r")
        assert torch.equal(found.offsets, expected.offsets) and torch.equal(found.types, expected.types)
    assert len(from_pyg(SimpleNamespace(**given), "kind", "r")) == 1
    for missing in ("pos", "kind", "r"):
        with pytest.raises(ValueError, match=rf"^data: no field '{missing}'; expected"):
            from_pyg(SimpleNamespace(**{name: value for name, value in given.items() if name != missing}), "kind", "r")
    with pytest.raises(ValueError, match=r"^labels\['y'\]: shape \(3,\); expected"):
        from_pyg(SimpleNamespace(**given, ptr=batch.offsets, y=torch.zeros(3)), "kind", "r", labels=["y"])
