"""Rigid motions: what they do, that they are undone, how they are distributed, and that densities follow them."""

import math
import pickle

import numpy as np
import pytest
import torch
from support.atom_batches import make_batch
from support.scenes import assert_close, assert_same_bits

import gridgrad as gg
from gridgrad.data import RandomRigid, Rigid

N = 200_000


def draw(n=N, seed=0, **settings):
    return RandomRigid(generator=torch.Generator().manual_seed(seed), **settings).draw(n)


def assert_mean(values, expected, sigmas=5.0):
    """The mean of n samples lies within `sigmas` of its own standard deviations of what it should be."""
    values = np.asarray(values, dtype=np.float64)
    error = values.std(axis=0) / math.sqrt(len(values)) + 1e-12
    assert (np.abs(values.mean(axis=0) - expected) < sigmas * error).all()


def assert_distribution(values, cdf):
    """Kolmogorov-Smirnov; 1.95 is exceeded once in a thousand."""
    values = np.sort(np.asarray(values))
    steps = np.arange(len(values) + 1) / len(values)
    distance = max(np.abs(cdf(values) - steps[1:]).max(), np.abs(cdf(values) - steps[:-1]).max())
    assert distance * math.sqrt(len(values)) < 1.95


# --- distributions ----------------------------------------------------------------------------------------------------


def test_rotations_are_rotations():
    rotation, translation = draw(1000)
    assert_close(rotation @ rotation.mT, torch.eye(3, dtype=torch.float64).expand(1000, 3, 3), 1e-14)
    assert_close(torch.linalg.det(rotation), torch.ones(1000, dtype=torch.float64), 1e-14)
    assert not translation.any()


def test_rotations_are_uniform():
    """Moments of the Haar measure: <Q> = 0, <Q_ij Q_kl> = 1/3 where (i, j) = (k, l), and those of the trace.

    <tr^k> is the multiplicity of the trivial representation in the k-th power of the vectors: 0, 1, 1, 3, 6, 15. The
    angle t of rotation has the distribution (t - sin t) / pi.
    """
    rotation = draw()[0].numpy()
    assert_mean(rotation, np.zeros((3, 3)))
    flat = rotation.reshape(-1, 9)
    assert_mean(flat[:, :, None] * flat[:, None, :], np.eye(9) / 3)
    trace = np.trace(rotation, axis1=1, axis2=2)
    for power, expected in enumerate((0, 1, 1, 3, 6, 15), start=1):
        assert_mean(trace**power, expected)
    angle = np.arccos(np.clip((trace - 1) / 2, -1, 1))
    assert_distribution(angle, lambda t: (t - np.sin(t)) / np.pi)


def test_rotations_have_no_preferred_direction():
    """A fixed vector goes everywhere on the sphere, before and after any other rotation."""
    rotation = draw()[0]
    other = draw(1, seed=7)[0][0]
    for q in (rotation, other @ rotation, rotation @ other):
        image = (q @ torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)).numpy()
        for axis in range(3):
            assert_distribution(image[:, axis], lambda z: (z + 1) / 2)


def test_examples_are_independent():
    rotation, translation = draw(translation=1.0)
    one, next_one = rotation[:-1].reshape(-1, 9).numpy(), rotation[1:].reshape(-1, 9).numpy()
    assert_mean(one[:, :, None] * next_one[:, None, :], 0)
    assert_mean(one[:, :, None] * translation[:-1].numpy()[:, None, :], 0)


def test_ball():
    translation = draw(translation=2.0)[1].numpy()
    length = np.linalg.norm(translation, axis=1)
    assert length.max() <= 2 and length.max() > 1.999
    assert_distribution(length, lambda r: (r / 2) ** 3)
    assert_distribution(translation[:, 2] / length, lambda z: (z + 1) / 2)
    assert_mean(translation[:, :, None] * translation[:, None, :], np.eye(3) * 4 / 5)


@pytest.mark.parametrize("edges", [2.0, (1.0, 0.0, 3.0)])
def test_box(edges):
    random = RandomRigid(edges, within="box")
    translation = draw(translation=edges, within="box")[1].numpy()
    half = np.broadcast_to(edges, 3)
    assert (random.farthest == half).all() and random.farthest_distance == np.linalg.norm(half)
    assert (np.abs(translation) <= half).all()
    for axis in np.flatnonzero(half):
        assert_distribution(translation[:, axis], lambda t, h=half[axis]: (t + h) / (2 * h))
    assert_mean(translation[:, :, None] * translation[:, None, :], np.diag(half**2) / 3)


def test_no_rotation():
    rotation, translation = draw(5, translation=1.0, rotate=False)
    assert torch.equal(rotation, torch.eye(3, dtype=torch.float64).expand(5, 3, 3)) and translation.any()


# --- motions ----------------------------------------------------------------------------------------------------------


def random_rigid(batch, seed=0, **settings):
    random = RandomRigid(**{"translation": 2.0, "generator": torch.Generator().manual_seed(seed), **settings})
    return random(batch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("counts", [(3, 0, 5, 1), (0, 0), (), (5000, 1, 9000, 0, 4000)])
def test_every_example_moves_as_it_should(dtype, counts):
    """Against the formula, example by example, in float64; the two ways to compute it agree to the bit."""
    batch = make_batch(dtype=dtype, counts=counts)
    moved, rigid = random_rigid(batch)
    assert len(rigid) == len(batch) and rigid.rotation.dtype == dtype
    for i in range(len(batch)):
        rotation, translation, origin = (
            value[i].double() for value in (rigid.rotation, rigid.translation, rigid.origin)
        )
        assert torch.equal(rigid.origin[i], batch.center[i])
        expected = (batch[i].coords.double() - origin) @ rotation.T + origin + translation
        assert_close(moved[i].coords.double(), expected, 1e-6 if dtype == torch.float32 else 1e-14)
    assert_same_bits(rigid._move(batch.coords, batch.batch), moved.coords)
    for name in ("center", "types", "radii", "offsets", "part", "labels", "names", "channels"):
        assert getattr(moved, name) is getattr(batch, name)


def test_in_place():
    """The same numbers where the old ones were, unless a graph is recorded."""
    batch = make_batch(counts=(5000, 0, 9000))
    rigid = random_rigid(batch)[1]
    expected, place = rigid(batch).coords, batch.coords.data_ptr()
    assert rigid(batch, in_place=True).coords.data_ptr() == place
    assert_same_bits(batch.coords, expected)
    batch.requires_grad_()
    moved = rigid(batch, in_place=True)
    assert moved.coords.data_ptr() != place and moved.coords.requires_grad
    assert_same_bits(batch.coords.detach(), expected)


def test_inverse_and_composition():
    batch = make_batch(dtype=torch.float64)
    once, a = random_rigid(batch, seed=1)
    twice, b = random_rigid(once, seed=2)
    assert_close((b @ a)(batch).coords, twice.coords, 1e-14)
    assert_close((b @ a).inverse()(twice).coords, batch.coords, 1e-14)
    assert_close(a.inverse()(once).coords, batch.coords, 1e-14)
    assert_close((a.inverse() @ b.inverse())(twice).coords, batch.coords, 1e-14)
    identity = a.inverse() @ a
    assert_close(identity.rotation, torch.eye(3, dtype=torch.float64).expand(4, 3, 3), 1e-14)
    assert_close(identity(batch).coords, batch.coords, 1e-14)
    assert_close(((b @ a) @ a.inverse())(once).coords, twice.coords, 1e-14)
    assert_same_bits(a[2](batch[2]).coords, once[2].coords)
    assert_same_bits(a[1:](batch[1:]).coords, once[1:].coords)


def test_far_from_the_origin():
    """Coordinates of a large crystal lose no more than float32 rounds them to: 1e-4 of 1000 angstrom."""
    batch = make_batch()
    far = batch.changed(coords=batch.coords + 1000, center=batch.center + 1000)
    moved, rigid = random_rigid(far)
    exact = rigid.to(dtype=torch.float64)(far.to(dtype=torch.float64))
    assert (moved.coords - exact.coords).abs().max() < 2e-4


def test_about_a_centre_in_float64():
    """Far away, where float32 has every 1/128 angstrom: what is turned is what lies about the centre, as precise."""
    near = make_batch()
    center = near.center.double() + torch.tensor([1e5, -1e5, 3e4], dtype=torch.float64)
    center += torch.tensor([1 / 256, 1 / 300, 1 / 700], dtype=torch.float64)  # what float32 rounds away
    far = near.changed(coords=(near.coords + center[near.batch]).float(), center=center)
    moved, rigid = random_rigid(far)
    assert rigid.origin is center and moved.center is center and rigid.rotation.dtype == torch.float32
    assert_same_bits(rigid._move(far.coords, far.batch), moved.coords)
    arms = (far.coords - center[far.batch]).unsqueeze(-1)
    exact = (rigid.rotation.double()[far.batch] @ arms).squeeze(-1) + (center + rigid.translation)[far.batch]
    assert (moved.coords - exact).abs().max() <= 1 / 256 + 1e-6
    assert_same_bits(rigid.to(dtype=torch.float64)(far.to(dtype=torch.float64)).coords.float(), exact.float())
    again, back = rigid @ rigid, rigid.inverse() @ rigid
    assert again.origin.dtype == torch.float64 and again.translation.dtype == torch.float32
    assert_close(again.translation, (rigid.rotation @ rigid.translation[..., None])[..., 0] + rigid.translation, 1e-6)
    assert back.translation.abs().max() < 1e-6


def test_gradients():
    """gradcheck and gradgradcheck through the motion, in the atoms and in what it is made of, up to the density."""
    batch = make_batch(dtype=torch.float64, counts=(1, 0, 1))
    rigid = random_rigid(batch)[1]
    layer = gg.Coords2Grid(gg.GridMaker(1.5, 3.0, tail="quintic"))

    def density(coords, rotation, translation, origin):
        return layer(Rigid(rotation, translation, origin)(batch.changed(coords=coords)))

    inputs = [t.clone().requires_grad_() for t in (batch.coords, rigid.rotation, rigid.translation, rigid.origin)]
    assert torch.autograd.gradcheck(density, inputs)
    assert torch.autograd.gradgradcheck(density, inputs)


def test_gradients_reach_the_atoms_through_a_random_motion():
    """The gradient of what the moved atoms want, turned back, is the gradient with respect to the atoms."""
    batch = make_batch(dtype=torch.float64).requires_grad_("ligand")
    moved, rigid = random_rigid(batch)
    moved.coords.retain_grad()
    assert torch.equal(moved.fixed, batch.fixed)
    gg.Coords2Grid(gg.GridMaker(0.5, 6.0, tail="quintic"))(moved).square().sum().backward()
    back = (rigid.rotation.mT[batch.batch] @ moved.coords.grad.unsqueeze(-1)).squeeze(-1)
    assert batch.coords.grad.any() and not batch.coords.grad[batch.fixed].any()
    assert_close(batch.coords.grad, back, 1e-13)


def test_transforms():
    batch = make_batch(dtype=torch.float64)
    rigid = random_rigid(batch)[1]

    def energy(coords):
        return rigid(batch.changed(coords=coords)).coords.pow(3).sum()

    coords = batch.coords.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(coords), coords)
    assert_close(torch.func.grad(energy)(batch.coords), expected, 1e-13)


# --- densities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plane", [(0, 1), (1, 2), (0, 2)])
def test_density_turns_with_the_atoms(plane):
    """A quarter turn about the centre of a cube turns the grid; a step of the grid shifts it."""
    batch = make_batch(dtype=torch.float64)
    layer = gg.Coords2Grid(gg.GridMaker(0.5, 12.0))
    a, b = plane
    quarter = torch.eye(3, dtype=torch.float64)
    quarter[a, a] = quarter[b, b] = 0
    quarter[b, a], quarter[a, b] = 1, -1  # axis a goes to axis b
    still = torch.zeros(4, 3, dtype=torch.float64)
    turned = Rigid(quarter.expand(4, 3, 3), still, batch.center)(batch)
    expected = torch.rot90(layer(batch), 1, (a + 2, b + 2))
    assert expected.any() and not torch.equal(expected, layer(batch))
    assert_close(layer(turned), expected, 1e-12)
    step = still.clone()
    step[:, a] = 0.5
    shifted = Rigid(torch.eye(3, dtype=torch.float64).expand(4, 3, 3), step, batch.center)(batch)
    assert_close(layer(shifted), layer(batch).roll(1, a + 2), 1e-12)  # nothing reaches the faces


def test_density_about_which_is_rotated():
    """No rotation about the centre, whatever its angle, changes the density at the centre."""
    batch = make_batch(dtype=torch.float64, counts=(40,) * 8)
    layer = gg.Coords2Grid(gg.GridMaker(0.5, 12.0))
    turned = random_rigid(batch, translation=0.0)[0]
    middle = layer(batch)[..., 12, 12, 12]
    assert (middle > 0).all() and not torch.equal(layer(turned), layer(batch))
    assert_close(layer(turned)[..., 12, 12, 12], middle, 1e-12)


def test_both_modes_of_differentiation():
    """Reverse mode and forward mode agree through a motion: <grad, u> is the slope along u."""
    batch = make_batch(dtype=torch.float64)
    rigid = random_rigid(batch)[1]
    layer = gg.Coords2Grid(gg.GridMaker(0.5, 12.0, tail="quintic"))
    along = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def total(coords):
        return layer(rigid(batch.changed(coords=coords))).square().sum()

    value, slope = torch.func.jvp(total, (batch.coords,), (along,))
    coords = batch.coords.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(coords), coords)
    assert_close((gradient * along).sum(), slope, 1e-12)
    assert value > 0


# --- random numbers ---------------------------------------------------------------------------------------------------


def test_generators():
    """A seed gives the same motions; a copy goes on where the original stood; without a generator it is torch's."""
    batch = make_batch()
    random = RandomRigid(2.0, generator=torch.Generator().manual_seed(5))
    first, copy = random(batch)[0].coords, pickle.loads(pickle.dumps(random))
    second = random(batch)[0].coords
    assert not torch.equal(first, second)
    assert torch.equal(copy(batch)[0].coords, second)
    assert torch.equal(RandomRigid(2.0, generator=torch.Generator().manual_seed(5))(batch)[0].coords, first)
    torch.manual_seed(5)
    assert torch.equal(RandomRigid(2.0)(batch)[0].coords, first)


class Motions(torch.utils.data.Dataset):
    def __init__(self, generator):
        self.random = RandomRigid(2.0, generator=generator)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.random.draw(1)[0]


@pytest.mark.parametrize("generator", [None, torch.Generator().manual_seed(1)])
def test_workers_draw_different_numbers(generator):
    """No worker repeats another, no epoch the one before; the seed of the loader decides."""
    epochs = []
    for seed in (0, 0, 1):
        loader = torch.utils.data.DataLoader(
            Motions(generator), num_workers=2, generator=torch.Generator().manual_seed(seed)
        )
        epochs.append([torch.cat(list(loader)) for _ in range(2)])
    for same, again in zip(epochs[0], epochs[1]):
        assert torch.equal(same, again)
    drawn = torch.cat([*epochs[0], *epochs[2]]).reshape(24, 9)
    assert len(torch.unique(drawn, dim=0)) == 24


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"translation": -1.0}, r"translation: -1.0; expected a number >= 0"),
        ({"translation": math.nan}, r"translation: nan; expected a number >= 0"),
        ({"translation": math.inf}, r"translation: inf; expected"),
        ({"translation": (1, 2, 3)}, r"translation: \(1, 2, 3\); expected a number >= 0"),
        ({"translation": (1, 2), "within": "box"}, r"translation: \(1, 2\); expected .* three"),
        ({"translation": (1, 2, -3), "within": "box"}, r"translation: \(1, 2, -3\); expected"),
        ({"translation": "a"}, r"translation: 'a'; expected"),
        ({"translation": None}, r"translation: None; expected"),
        ({"within": "sphere"}, r"within: 'sphere'; expected 'ball' or 'box'"),
        ({"generator": 3}, r"generator: int; expected a torch.Generator"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        RandomRigid(**settings)


def test_bad_batches_and_motions():
    batch, rigid = make_batch(), random_rigid(make_batch())[1]
    with pytest.raises(ValueError, match=r"^batch: no centres"):
        RandomRigid()(make_batch(center=None))
    for call in (RandomRigid(), rigid):
        with pytest.raises(TypeError, match=r"^batch: Tensor; expected an AtomBatch"):
            call(batch.coords)
    with pytest.raises(ValueError, match=r"^batch: 3 examples; expected 4, one per motion"):
        rigid(batch[1:])
    with pytest.raises(ValueError, match=r"^first: 3 motions; expected 4"):
        rigid @ rigid[1:]
    ones, eye = torch.ones(2, 3), torch.eye(3).expand(2, 3, 3)
    for fields, name in (
        ((eye[0], ones, ones), "rotation"),
        ((eye, ones[:1], ones), "translation"),
        ((eye, ones.double(), ones), "translation"),
        ((eye.double(), ones.double(), ones), "origin"),
        ((eye, ones, [0, 0, 0]), "origin"),
        ((eye.long(), ones, ones), "rotation"),
    ):
        with pytest.raises((TypeError, ValueError), match=rf"^{name}: .*; expected"):
            Rigid(*fields)


@pytest.mark.parametrize("largest", [0.5, 30.0, 135.0])
def test_small_angles(largest):
    """Uniform among the rotations up to an angle: (t - sin t) up to it, about axes that are uniform on the sphere."""
    rotation = draw(angle=largest)[0]
    axis = torch.stack([rotation[:, i, j] - rotation[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], dim=1)
    sine, trace = axis.norm(dim=1) / 2, rotation.diagonal(dim1=1, dim2=2).sum(1)
    angle = torch.atan2(sine, (trace - 1) / 2)
    limit = math.radians(largest)
    assert 0.99 * limit < angle.max() <= limit * (1 + 1e-9)
    assert_distribution(angle.numpy(), lambda t: (t - np.sin(t)) / (limit - math.sin(limit)))
    for direction in (axis / axis.norm(dim=1, keepdim=True)).numpy().T:
        assert_distribution(direction, lambda z: (z + 1) / 2)


def test_all_angles_are_the_default():
    assert_same_bits(draw(100, angle=180.0)[0], draw(100)[0])


@pytest.mark.parametrize("angle", [0.0, -1.0, 180.1, math.nan, "30"])
def test_angles_that_are_refused(angle):
    with pytest.raises(ValueError, match=r"^angle: .*; expected a number of degrees"):
        RandomRigid(angle=angle)
