"""coords2points: the density at points against the oracle and the grid, its derivatives, its neighbours, bad input."""

import dataclasses
import itertools

import pytest
import torch
from support.rows import row
from support.scenes import (
    DENSITY_BAR,
    DERIVATIVE_BAR,
    DTYPES,
    LAYOUTS,
    MODES,
    RADII,
    TAILS,
    TYPES,
    assert_close,
    assert_same_bits,
    make_scene,
    mode_id,
    tail_settings,
)
from torch.autograd import gradcheck, gradgradcheck

import gridgrad as gg
from gridgrad.autograd import pairs

INPUTS = ("points", "coords", "types", "radii")


def draw(scene, n_points=17, seed=0):
    """Return points around the atoms of a scene and what says to which example they belong."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.arange(n_points) % scene.coords.shape[-2]
    points = scene.coords[..., atoms, :].double()
    points = points + 0.6 * torch.randn(points.shape, generator=generator, dtype=torch.float64)
    points_batch = None
    if scene.batch is not None:  # in no order
        points_batch = scene.batch[atoms]
        points_batch[::5] = torch.randint(0, scene.batch_size, points_batch[::5].shape, generator=generator)
    return points.to(scene.dtype), points_batch


def oracle(scene, points, coords, types, radii, points_batch):
    """Return the density at the points from the dense oracle: a grid of one point at each of them."""
    settings = scene.settings | {"resolution": 1.0, "dimension": (1e-300,) * 3}
    reference = type(scene.reference())(**settings)

    def one(points, *atoms):
        grids = [reference.forward(x, *atoms, n_types=scene.n_types) for x in points.double()]
        return torch.stack(grids).reshape(len(points), scene.n_types) if grids else points.new_zeros(0, scene.n_types)

    by_type = scene.settings["radius_type_indexed"]
    if coords.dim() == 3:
        rows = (radii if by_type else radii[b] for b in range(len(coords)))
        return torch.stack([one(*row) for row in zip(points, coords, types, rows, strict=True)])
    if points_batch is None:
        return one(points, coords, types, radii)
    found = []
    for x, b in zip(points, points_batch.tolist(), strict=True):
        own = scene.batch == b
        found.append(one(x[None], coords[own], types[own], radii if by_type else radii[own]))
    return torch.cat(found)


def call(scene, points, coords, types, radii, points_batch):
    return gg.coords2points(
        gg.GridMaker(**scene.settings), points, coords, types, radii, **scene.grouping, points_batch=points_batch
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("mode", MODES, ids=mode_id)
def test_density_and_gradients(mode, dtype):
    """In every mode, against the oracle: the density and the gradients of all inputs, points included."""
    scene = make_scene(*mode, dtype=dtype, radius_scale=1.1)
    points, points_batch = draw(scene)
    leaves = [points, scene.coords, scene.types, scene.radii]
    wanted = [value.is_floating_point() for value in leaves]
    results = []
    for function in (call, oracle):
        own = [value.detach().clone().requires_grad_(want) for value, want in zip(leaves, wanted, strict=True)]
        density = function(scene, *own, points_batch)
        weight = torch.linspace(0.5, 1.5, density.numel(), dtype=torch.float64).reshape(density.shape)
        inputs = [value for value, want in zip(own, wanted, strict=True) if want]
        gradients = torch.autograd.grad((density.double() * weight).sum(), inputs, allow_unused=True)
        results.append((density, *(torch.zeros_like(x) if g is None else g for g, x in zip(gradients, inputs))))
    found, expected = results
    assert found[0].dtype == dtype and found[0].any()
    assert_close(found[0], expected[0], DENSITY_BAR[dtype])
    for value, target in zip(found[1:], expected[1:], strict=True):
        assert_close(value, target, DERIVATIVE_BAR[dtype])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("pair", list(itertools.combinations_with_replacement(INPUTS, 2)), ids=mode_id)
def test_second_derivatives(pair, radius_mode, layout):
    """gradcheck and gradgradcheck over every pair of inputs."""
    scene = make_scene("quintic", radius_mode, "vector", layout, n_atoms=3, n_types=2)
    points, points_batch = draw(scene, 4)
    given = dict(zip(INPUTS, (points, scene.coords, scene.types, scene.radii), strict=True))

    def function(*values):
        return call(scene, *(given | dict(zip(dict.fromkeys(pair), values))).values(), points_batch)

    leaves = [given[name].clone().requires_grad_() for name in dict.fromkeys(pair)]
    assert gradcheck(function, leaves, fast_mode=True)
    assert gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("dimension", [(7.5, 4.0, 9.0), (2.0, 3.0, 5.5)], ids=["long rows", "short rows"])
def test_the_bits_of_the_grid(dimension, tail, radius_mode, types, dtype):
    """At grid points, which are numbers exactly here: the density and the gradients of the points' atoms."""
    scene = make_scene(
        tail, radius_mode, types, n_atoms=40, n_types=5, dimension=dimension, dtype=dtype, center_per_example=False,
        margin=1e-7,
    )  # fmt: skip
    settings = scene.settings | {"resolution": 0.5}
    maker, center = gg.GridMaker(**settings), torch.tensor([1.25, -2.5, 0.125], dtype=torch.float64)
    coords = scene.coords - scene.center + center.to(dtype)
    grid = gg.coords2grid(maker, center, coords, scene.types, scene.radii, scene.n_types)
    axes = [torch.arange(n, dtype=torch.float64) * 0.5 - side / 2 for n, side in zip(grid.shape[1:], dimension)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) + center
    found = gg.coords2points(maker, points.reshape(-1, 3), coords, scene.types, scene.radii, scene.n_types)
    assert grid.any()
    assert_same_bits(found.T.reshape(grid.shape), grid)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_to_do(layout):
    """No points, no atoms, atoms that count nowhere, points out of reach."""
    scene = make_scene("quintic", "per_atom", "index", layout)
    points, points_batch = draw(scene)
    none = call(scene, points[..., :0, :], *scene.inputs[1:], None if points_batch is None else points_batch[:0])
    assert none.shape == (*points.shape[:-2], 0, 3)
    far = points + 1e4
    far[..., 0, :] = torch.inf
    assert not call(scene, far, *scene.inputs[1:], points_batch).any()
    ignored = torch.full_like(scene.types, -1)
    assert not call(scene, points, scene.coords, ignored, scene.radii, points_batch).any()
    if layout == "single":
        maker = gg.GridMaker(**scene.settings)
        assert not gg.coords2points(maker, points, scene.coords[:0], scene.types[:0], scene.radii[:0], 3).any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["coords", "radii", "types", "points"])
def test_not_a_number(what, layout):
    """What an atom makes NaN on the grid of its example, it makes NaN at the points of its example."""
    scene = make_scene("quintic", "per_atom", "vector", layout)
    points, points_batch = draw(scene)
    given = dict(zip(INPUTS, (points, *scene.inputs[1:]), strict=True))
    given = {name: value.clone() for name, value in given.items()}
    expected = call(scene, *given.values(), points_batch)
    first = (0,) * (scene.coords.dim() - 1)
    counts = given["types"][first] != 0
    if what == "types":
        given[what][(*first, int(counts.nonzero()[0]))] = torch.nan
        counts = given["types"][first].isnan()
    elif what == "radii":
        given[what][first] = torch.nan
    else:
        given[what][(*first, 1)] = torch.nan
    leaf = given["coords"].requires_grad_()
    found = call(scene, *given.values(), points_batch)
    wrong = torch.zeros_like(expected, dtype=torch.bool)
    if what == "points":
        wrong[first] = True
    elif layout == "ragged":
        wrong[points_batch == scene.batch[0]] = counts
    elif layout == "padded":
        wrong[0] = counts
    else:
        wrong[:] = counts
    assert torch.equal(found.isnan(), wrong)
    assert_close(found[~wrong], expected[~wrong], 1e-14)
    found.nan_to_num().sum().backward()
    lost = leaf.grad.isnan().any(-1)
    assert what == "points" or lost[first]
    assert int(lost.sum()) == int(what != "points")


def all_pairs(points, coords, reach, point_example, example):
    near = torch.cdist(points, coords, compute_mode="donot_use_mm_for_euclid_dist") <= reach * (1 + pairs.SLACK)
    return (near & (point_example[:, None] == example)).nonzero().unbind(1)


@pytest.mark.parametrize("candidates", [1, 50, 2**20])
@pytest.mark.parametrize("spread", [1.0, 30.0, 1e6])
def test_neighbours(monkeypatch, spread, candidates):
    """The pairs of the cells are those of the table of all, however many are looked at in one go."""
    monkeypatch.setattr(pairs, "CANDIDATES", candidates)
    generator = torch.Generator().manual_seed(3)
    coords, points = (spread * torch.rand((n, 3), generator=generator, dtype=torch.float64) for n in (150, 90))
    points[:60] = coords[:60] + torch.randn((60, 3), generator=generator, dtype=torch.float64)
    example = torch.randint(0, 3, (150,), generator=generator)
    point_example = torch.randint(0, 3, (90,), generator=generator)
    coords += 1e3 * example[:, None]
    points += 1e3 * point_example[:, None]
    reach = 0.5 + 2 * torch.rand(150, generator=generator, dtype=torch.float64)
    reach[7] = 0
    found = pairs.pairs_in_reach(points, coords, reach, point_example, example, 3)
    expected = all_pairs(points, coords, reach, point_example, example)
    kept = expected[1] != 7
    assert len(expected[0]) > 10
    for value, target in zip(found, expected, strict=True):
        assert torch.equal(value, target[kept])


@row("`coords2points` under `grad`, `jvp`, `jvp` of `grad`")
def test_transforms():
    scene = make_scene("quintic")
    points, _ = draw(scene, 6)

    def energy(points, coords):
        return call(scene, points, coords, *scene.inputs[2:], None).square().sum()

    def dense(points, coords):
        return oracle(scene, points, coords, *scene.inputs[2:], None).square().sum()

    for argnums in (0, 1):
        gradient = torch.func.grad(energy, argnums)(points, scene.coords)
        assert_close(gradient, torch.func.grad(dense, argnums)(points, scene.coords), 1e-12)
    along = torch.randn_like(points), torch.randn_like(scene.coords)
    for function, other in ((energy, dense), (torch.func.grad(energy), torch.func.grad(dense))):
        found = torch.func.jvp(function, (points, scene.coords), along)
        expected = torch.func.jvp(other, (points, scene.coords), along)
        assert_close(found[1], expected[1], 1e-12)


@pytest.mark.parametrize(
    ("changes", "name", "seen"),
    [
        ({"points": torch.zeros(4, 2)}, "points", r"shape \(4, 2\); expected \(P, 3\)"),
        ({"points": torch.zeros(2, 4, 3)}, "points", r"shape \(2, 4, 3\); expected \(P, 3\)"),
        ({"points": torch.zeros(4, 3, dtype=torch.int64)}, "points", "dtype torch.int64"),
        ({"points": torch.zeros(4, 3, device="meta")}, "points", "on meta"),
        ({"points": [[0.0, 0.0, 0.0]]}, "points", "list"),
        ({"points_batch": torch.zeros(4, dtype=torch.int64)}, "points_batch", "given without batch"),
        ({"batch": torch.zeros(5, dtype=torch.int64)}, "points_batch", "None with batch"),
        ({"batch": torch.zeros(5, dtype=torch.int64), "points_batch": torch.ones(4).long()}, "points_batch", "values"),
        ({"batch": torch.zeros(5, dtype=torch.int64), "points_batch": torch.ones(3).long()}, "points_batch", "shape"),
        ({"batch": torch.zeros(5, dtype=torch.int64), "points_batch": torch.ones(4)}, "points_batch", "dtype"),
        ({"gm": 3}, "gm", "int"),
        ({"radii": -torch.ones(5)}, "radii", "element 0 is -1.0"),
        ({"types": torch.full((5,), 7)}, "types", "atom 0 has index 7"),
        ({"coords": torch.zeros(4, 3)}, "types", "shape"),
    ],
)
def test_bad_input(changes, name, seen):
    given = {
        "gm": gg.GridMaker(), "points": torch.zeros(4, 3), "coords": torch.full((5, 3), 1e3),
        "types": torch.zeros(5, dtype=torch.int64), "radii": torch.ones(5), "n_types": 2,
    }  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: .*{seen}.*"):
        gg.coords2points(**given | changes)


def test_profiles():
    """The resolution and the box of the grid do not matter, its profile does."""
    points = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.4, 0.0], [1.2, 0.0, 0.0]])
    one = torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), 1.0, 1
    for tail in ("quadratic", "binary"):
        found = [gg.coords2points(gg.GridMaker(h, **tail_settings(tail)), points, *one) for h in (0.1, 7.0)]
        assert_same_bits(*found)
    smooth = gg.coords2points(gg.GridMaker(), points, *one)[:, 0]
    torch.testing.assert_close(smooth[:2], torch.exp(-2 * torch.tensor([0.0, 0.25])))
    assert torch.equal(found[0][:, 0], torch.tensor([1.0, 1.0, 0.0]))


def test_where_subnormal_numbers_are_flushed():
    """As `torch.set_flush_denormal` does, and libraries that were compiled with fast-math when they are loaded."""
    scene = make_scene("quadratic", layout="single", type_mode="vector", dtype=torch.float32)
    points = scene.coords + 0.5
    one = scene.coords, scene.types, scene.radii
    maker = gg.GridMaker(**scene.settings | {"gaussian_radius_multiple": 1.25})
    assert torch.set_flush_denormal(True)
    try:
        found = gg.coords2points(maker, points, *one)
    finally:
        torch.set_flush_denormal(False)
    assert found.any()
    assert torch.equal(found, gg.coords2points(dataclasses.replace(maker), points, *one))
