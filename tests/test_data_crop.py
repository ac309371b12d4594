"""What ComplexDataset leaves out of a receptor is in no grid."""

import pickle

import numpy as np
import pytest
import torch
from support.atom_batches import assert_same, molecules
from support.scenes import assert_same_bits, tail_settings

import gridgrad as gg
from gridgrad.data import AtomBatch, ComplexDataset, RandomRigid

MOTIONS = {
    "none": None,
    "ball": RandomRigid(1.5, rotate=False),
    "box": RandomRigid((0.0, 3.0, 0.5), within="box", rotate=False),
    "rotation": RandomRigid(),
    "rotation and ball": RandomRigid(1.5),
    "rotation and box": RandomRigid(1.0, within="box"),
}


def surroundings(vectors=False, by_type=False, n=4000, seed=0):
    """A receptor much larger than the box, with ignored atoms, and one more that is not finite."""
    batch = molecules((n, 50), seed, vectors=vectors, by_type=by_type)
    batch.coords *= 8
    batch.coords += torch.tensor([40.0, -10.0, 5.0])
    return batch


def cropped_and_whole(motion, vectors=False, by_type=False, rows=40, **settings):
    """Two datasets, the second of which leaves nothing out, and their grid."""
    gm = gg.GridMaker(0.5, (6.0, 5.0, 7.2), radius_type_indexed=by_type, radius_scale=1.1, **settings)
    ligands = molecules((3,) * rows, 1, vectors=vectors, by_type=by_type)
    ligands.coords += torch.tensor([41.0, -9.0, 6.0]) + 2 * torch.randn(rows, 3).repeat_interleave(3, 0)
    stores = {"receptor": surroundings(vectors, by_type), "ligand": ligands}
    wanted = {"receptor": [0] * (rows - 1) + [1], "ligand": range(rows)}
    return *(ComplexDataset(stores, wanted, grid=grid, transform=motion) for grid in (gm, None)), gg.Coords2Grid(gm)


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("by_type", [False, True])
@pytest.mark.parametrize("motion", MOTIONS)
def test_crop_changes_no_bit(motion, vectors, by_type):
    """Most atoms are left out, and the grids, with the same motions, are the same."""
    torch.manual_seed(0)
    cropped, whole, layer = cropped_and_whole(MOTIONS[motion], vectors, by_type)
    rows, kept = list(range(40)), 0
    for seed in range(3):
        batches = []
        for dataset in (cropped, whole):
            torch.manual_seed(seed)
            batches.append(dataset.__getitems__(rows))
        kept += len(batches[0].coords) / len(batches[1].coords) / 3
        assert batches[1].n_atoms.tolist() == [4003] * 39 + [53]
        density = layer(batches[0])
        assert (density.flatten(1).amax(1) > 0).all()
        assert_same_bits(density, layer(batches[1]))
    assert 0.01 < kept < 0.5


@pytest.mark.parametrize("tail", ["quintic", "truncated", "binary", "negative"])
def test_crop_of_other_profiles(tail):
    torch.manual_seed(0)
    cropped, whole, layer = cropped_and_whole(RandomRigid(1.0), **tail_settings(tail, 1.4))
    for seed in range(3):
        torch.manual_seed(seed)
        density = layer(cropped.__getitems__(range(40)))
        torch.manual_seed(seed)
        assert_same_bits(density, layer(whole.__getitems__(range(40))))


@pytest.mark.parametrize("motion", MOTIONS)
def test_crop_keeps_what_the_farthest_motion_brings_in(motion):
    """Atoms are kept that the farthest motion makes just touch the box; those farther away by a cell are not."""
    random = MOTIONS[motion]
    gm = gg.GridMaker(0.5, (6.0, 5.0, 7.0))
    radius, half = 1.5, torch.tensor([3.0, 2.5, 3.5], dtype=torch.float64)
    reach = radius * gm.final_radius_multiple
    generator = np.random.default_rng(0)
    center = generator.normal(size=3)
    rotates = random is not None and random.rotate
    shift = torch.zeros(3, dtype=torch.float64) if random is None else torch.from_numpy(random.farthest)
    for _ in range(200):
        corner = half * torch.from_numpy(generator.choice([-1.0, 1.0], 3) if rotates else generator.uniform(-1, 1, 3))
        if not rotates:
            axis = generator.integers(3)
            corner[axis] = half[axis] * corner[axis].sign()
            outward = torch.nn.functional.one_hot(torch.tensor(axis), 3) * corner.sign()
            distance = reach + (outward * shift).abs().sum()
        else:
            outward = corner / corner.norm()
            distance = reach + random.farthest_distance
        for factor, expected in ((0.999, True), (1.001 + 1.8 / distance, False)):
            place = corner + outward * distance * factor
            if rotates:
                place = torch.from_numpy(np.linalg.qr(generator.normal(size=(3, 3)))[0]) @ place
            atom = AtomBatch(
                (place + torch.from_numpy(center))[None].float(), torch.zeros(1, dtype=torch.int64),
                torch.tensor([radius]), torch.tensor([0, 1]), channels=("a",),
            )  # fmt: skip
            dataset = ComplexDataset(
                {"receptor": atom}, center=center[None], grid=gm, transform=random, crop=["receptor"]
            )
            dataset.apply_transform = False
            assert (len(dataset[0].coords) == 1) == expected


def test_atoms_that_are_not_numbers_are_kept():
    """They make their channel NaN wherever they are."""
    cropped, whole, layer = cropped_and_whole(None, vectors=True)
    store = cropped.parts["receptor"].store
    assert store is whole.parts["receptor"].store
    far = int((store.coords[:4000] - store.coords[:4000].mean(0)).norm(dim=1).argmax())
    before = layer(cropped.__getitems__([0]))
    for field, value in (
        (store.coords[far], torch.nan),
        (store.radii[far : far + 1], torch.nan),
        (store.types[far], torch.nan),
    ):
        saved = field.clone()
        field[0] = value
        for crop in cropped._crops.values():
            crop.forget()
        density = layer(cropped.__getitems__([0]))
        assert density.isnan().any()
        assert torch.equal(density.isnan(), layer(whole.__getitems__([0])).isnan())
        field.copy_(saved)
    for crop in cropped._crops.values():
        crop.forget()
    assert_same_bits(layer(cropped.__getitems__([0])), before)


def test_kept_atoms_are_remembered_within_limits():
    """One entry for all boxes in a cell of 1 angstrom; what was not used for longest goes first; copies begin anew."""
    cropped = cropped_and_whole(MOTIONS["rotation and ball"])[0]
    crop = cropped._crops["receptor"]
    loads = []
    load = cropped.parts["receptor"].molecule
    cropped.parts["receptor"].molecule = lambda number: loads.append(number) or load(number)
    batch = cropped.__getitems__(range(40))
    cells = len(set(crop.cells(batch.center.numpy())))
    assert 10 < len(loads) <= cells + 1 and crop._size == sum(map(_bytes, crop._kept.values()))
    assert not loads.clear() and len(cropped.__getitems__(range(40))) == 40 and not loads
    crop.n_bytes = crop._size // 2
    crop.forget()
    cropped.__getitems__(range(40))
    assert crop._size <= crop.n_bytes and crop._size == sum(map(_bytes, crop._kept.values()))
    last = next(reversed(crop._kept))
    cropped.__getitems__([39])
    assert last in crop._kept
    del cropped.parts["receptor"].molecule
    copy = pickle.loads(pickle.dumps(cropped))
    assert copy._crops["receptor"]._size == 0 and len(crop._kept)
    torch.manual_seed(1)
    expected = cropped.__getitems__([3, 1])
    torch.manual_seed(1)
    assert_same(copy.__getitems__([3, 1]), expected)


def _bytes(atoms):
    return sum(array.nbytes for array in atoms) + 200
