"""`fit_atoms`: from densities back to the atoms that made them."""

import functools

import pytest
import torch
from support.reference import Reference
from support.scenes import assert_close

import gridgrad as gg
from gridgrad.data import AtomBatch
from gridgrad.fit import STATUS, fit_atoms
from gridgrad.fit.objective import Objective
from gridgrad.fit.passes import Atoms

RADII = torch.tensor([1.7, 1.2], dtype=torch.float64)
TAILS = ("quadratic", "quintic", "truncated")


def molecule(n, seed, nearest=1.1, dtype=torch.float64):
    """Random atoms (coords, types), those of a channel at least `nearest` apart."""
    generator = torch.Generator().manual_seed(seed)
    coords, types = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    while len(coords) < n:
        place = 5 * torch.rand(1, 3, generator=generator, dtype=torch.float64) - 2.5
        kind = torch.randint(0, 2, (1,), generator=generator)
        if not ((coords - place).norm(dim=1)[types == kind] < nearest).any():
            coords, types = torch.cat([coords, place]), torch.cat([types, kind])
    return coords.to(dtype), types


@functools.cache
def example(sizes=(7, 4, 9), tail="quadratic", resolution=0.5, dtype=torch.float64, seed=0):
    """A batch of molecules as (gm, density, AtomBatch); a profile that is cut is cut where it has nearly ended."""
    profile = {"tail": tail, "gaussian_radius_multiple": 3.0 if tail == "truncated" else 1.0}
    gm = gg.GridMaker(resolution, 11.5, **profile)
    parts = [molecule(n, 100 * seed + i, dtype=dtype) for i, n in enumerate(sizes)]
    coords, types = (torch.cat(values) for values in zip(*parts))
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    radii = RADII.to(dtype)[types]
    atoms = AtomBatch.from_batch_index(coords, types, radii, batch, len(sizes))
    reference = Reference(resolution, 11.5, **profile, dtype=dtype)
    density = reference.forward((0.0, 0.0, 0.0), coords, types, radii, 2, batch, len(sizes))
    return gm, density, atoms


def assert_found(found, expected, bar=1e-4):
    """The same atoms in some order, to within `bar` angstrom."""
    assert found.n_atoms.tolist() == expected.n_atoms.tolist()
    for one, other in zip(found, expected):
        far = 1e3 * (one.types[:, None] != other.types).double()
        distance, partner = (torch.cdist(one.coords.double(), other.coords.double()) + far).min(0)
        assert distance.max() < bar and len(partner.unique()) == len(partner)


@pytest.mark.parametrize("method", ["newton", "lbfgs"])
@pytest.mark.parametrize("tail", TAILS)
def test_finds_the_atoms(tail, method):
    """A ragged batch, no atoms given, densities by the dense oracle."""
    gm, density, atoms = example(tail=tail)
    found = fit_atoms(gm, density, RADII, method=method)
    assert_found(found, atoms)
    assert (found.labels["residual"] < 1e-3).all()
    assert [STATUS[i] for i in found.labels["status"]] == 3 * ["converged"]
    assert (found.labels["products"] > 0).all() == (method == "newton")


@pytest.mark.parametrize("resolution", [0.25, 0.5])
def test_float32_and_fine_grids(resolution):
    gm, density, atoms = example((5,), resolution=resolution, dtype=torch.float32)
    found = fit_atoms(gm, density[0], RADII.float())
    assert found.coords.dtype == torch.float32
    assert_found(found, atoms, 1e-3)


def test_small_radii_between_points():
    """An atom that the grid hardly sees: radius 0.5 on a spacing of 0.5, in the middle between eight points."""
    gm = gg.GridMaker(0.5, 11.5)
    coords = torch.tensor([[0.0, 0.0, 0.0], [1.45, 0.2, -0.3], [0.3, 1.6, 0.9]], dtype=torch.float64)
    types, radii = torch.zeros(3, dtype=torch.int64), torch.full((3,), 0.5, dtype=torch.float64)
    density = gg.coords2grid(gm, (0, 0, 0), coords, types, radii, n_types=1)
    found = fit_atoms(gm, density, 0.5)
    assert torch.allclose(found.coords[found.coords[:, 1].argsort()], coords[coords[:, 1].argsort()], atol=1e-5)


def test_noise():
    """With noise of a twentieth of the maximum: the right atoms, near where they are."""
    gm, density, atoms = example((6, 8), dtype=torch.float32, seed=1)
    noise = torch.randn(density.shape, generator=torch.Generator().manual_seed(0))
    assert_found(fit_atoms(gm, density + 0.05 * density.max() * noise, RADII.float()), atoms, 0.25)


@pytest.mark.parametrize("seed", [3, 5, 9])
def test_bonded_atoms_under_noise(seed):
    """Naphthalene, radii larger than the bonds: sharpened, the noise hides up to three of the ten atoms."""
    angle = torch.arange(6) * torch.pi / 3
    ring = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1) * 1.39
    other = ring + 1.39 * 3**0.5 * torch.tensor([3**0.5 / 2, 0.5, 0.0])
    coords = torch.cat([ring, other[torch.cdist(other, ring).amin(1) > 0.5]]) - torch.tensor([1.2, 0.1, 0.07])
    types, radii = torch.zeros(10, dtype=torch.int64), torch.tensor([1.7])
    gm = gg.GridMaker(0.5, 11.5)
    density = gg.coords2grid(gm, (0.0, 0.0, 0.0), coords, types, radii.expand(10), 1)
    noise = 0.05 * density.max() * torch.randn(density.shape, generator=torch.Generator().manual_seed(seed))
    expected = AtomBatch.from_batch_index(coords, types, radii.expand(10), types, 1)
    assert_found(fit_atoms(gm, density + noise, radii), expected, 0.25)


def test_centres_and_boxes():
    """Positions come back in the frame of the centres; a box that is no cube; atoms cut by the edge."""
    gm = gg.GridMaker(0.5, (9.0, 7.0, 11.0))
    coords, types = molecule(6, 3)
    coords[0] = torch.tensor([3.6, 0.0, 4.4])  # its tail ends outside
    radii = RADII[types]
    center = torch.tensor([[10.0, -20.0, 30.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    both = torch.stack([coords + c for c in center])
    density = gg.coords2grid(gm, center, both, types.expand(2, -1), radii.expand(2, -1), n_types=2)
    found = fit_atoms(gm, density, RADII, center=center)
    batch = torch.repeat_interleave(torch.arange(2), 6)
    assert_found(found, AtomBatch.from_batch_index(both.reshape(-1, 3), types.repeat(2), radii.repeat(2), batch))
    assert torch.equal(fit_atoms(gm, density[0], RADII, center=(10.0, -20.0, 30.0)).coords, found[0].coords)
    assert torch.equal(found.center, center)  # the grid's, whatever of it holds atoms
    assert_close(gg.Coords2Grid(gm, n_types=2)(found), density, 1e-4)


def test_initial_atoms():
    gm, density, atoms = example()
    shift = 0.2 * torch.randn(atoms.coords.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start = AtomBatch(atoms.coords + shift, atoms.types, atoms.radii, atoms.offsets)
    found = fit_atoms(gm, density, RADII, initial=start)
    assert torch.allclose(found.coords, atoms.coords, atol=1e-5)
    assert torch.equal(found.types, atoms.types) and torch.equal(start.coords, atoms.coords + shift)


def test_numbers_of_atoms():
    gm, density, atoms = example()
    counts = torch.stack([torch.bincount(part.types, minlength=2) for part in atoms])
    for n_atoms in ("density", atoms.n_atoms, counts):
        assert_found(fit_atoms(gm, density, RADII, n_atoms=n_atoms), atoms)
    assert fit_atoms(gm, density, RADII, n_atoms=3, passes=0).n_atoms.tolist() == [3, 3, 3]
    assert fit_atoms(gm, density, RADII, max_atoms=5).n_atoms.tolist() == [5, 4, 5]
    only = fit_atoms(gm, density, RADII, channels=[1])
    assert (only.types == 1).all() and only.n_atoms.tolist() == counts[:, 1].tolist()
    apart = fit_atoms(gm, density, RADII, min_distance=3.0, passes=0)
    assert (apart.n_atoms < atoms.n_atoms).any()


def test_weights_and_radii():
    """Of each atom, from a start that is wrong in both."""
    gm = gg.GridMaker(0.5, 11.5, tail="quintic")
    coords, types = molecule(5, 4, nearest=2.0)
    weights = torch.tensor([0.8, 1.3, 1.1, 0.7, 1.0], dtype=torch.float64)
    radii = RADII[types] * torch.tensor([1.1, 0.95, 1.05, 0.9, 1.0], dtype=torch.float64)
    vectors = torch.nn.functional.one_hot(types, 2) * weights[:, None]
    density = gg.coords2grid(gm, (0, 0, 0), coords, vectors, radii)
    found = fit_atoms(gm, density, RADII, refine=("radii", "coords", "weights"))
    distance, partner = torch.cdist(coords, found.coords).min(1)
    assert distance.max() < 1e-3 and len(found.coords) == 5
    assert torch.allclose(found.radii[partner], radii, atol=1e-3)
    assert torch.allclose(found.types[partner], vectors.to(found.types), atol=1e-3)


def test_nothing_there():
    gm = gg.GridMaker(0.5, 5.5)
    found = fit_atoms(gm, torch.zeros(2, 3, 12, 12, 12), 1.5)
    assert len(found) == 2 and found.n_atoms.tolist() == [0, 0] and found.coords.shape == (0, 3)
    assert (found.labels["residual"] == 0).all()


def test_trace():
    gm, density, _ = example((5,))
    seen = []
    found = fit_atoms(gm, density, RADII, trace=seen.append)
    assert seen and all(len(batch) == 1 for batch in seen)
    assert torch.equal(seen[-1].coords, found.coords)
    counts = [batch.labels["evaluations"].item() for batch in seen]
    assert counts == sorted(set(counts)) and counts[-1] <= found.labels["evaluations"].item()


def test_examples_do_not_touch_each_other():
    """A batch gives what its examples give alone."""
    gm, density, _ = example()
    together = fit_atoms(gm, density, RADII)
    for i in range(3):
        assert_found(fit_atoms(gm, density[i], RADII), together[i], 1e-6)


@pytest.mark.parametrize("refine", [("coords",), ("coords", "weights"), ("coords", "weights", "radii")])
def test_objective_against_the_oracle(refine):
    """Value, gradient and Hessian product of the dense oracle."""
    gm, density, atoms = example((3, 2), seed=2)
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(density.shape, generator=generator, dtype=torch.float64)
    target = density + 0.3 * noise
    start = Atoms(atoms.batch, atoms.types, atoms.coords, 0.9 * torch.ones_like(atoms.radii), 1.05 * atoms.radii)
    unit = 0.5 + torch.rand(5, 2 + len(refine), generator=generator, dtype=torch.float64)
    objective = Objective(gm, target, start, unit, refine)
    unknowns, v = (0.1 * torch.randn(unit.shape, generator=generator, dtype=torch.float64) for _ in range(2))
    reference = Reference(gm.resolution, gm.dimension[0])

    def oracle(x):
        moved = objective.at(x)
        types = torch.nn.functional.one_hot(moved.channel, 2) * moved.weights[:, None]
        grid = reference.forward((0.0, 0.0, 0.0), moved.coords, types, moved.radii, 2, moved.example, 2)
        return 0.5 * (grid - target).square().sum((1, 2, 3, 4))

    values, gradient, at = objective.gradient(unknowns, differentiable=True)
    assert_close(values, oracle(unknowns), 1e-12)
    _, expected = torch.autograd.functional.vjp(lambda x: oracle(x).sum(), unknowns)
    assert_close(gradient, expected, 1e-11)
    _, expected = torch.autograd.functional.hvp(lambda x: oracle(x).sum(), unknowns, v)
    assert_close(objective.product(at, v), expected, 1e-11)


BAD = {
    "gm": ({"gm": None}, TypeError),
    "gm ": ({"gm": gg.GridMaker(0.5, 5.5, binary=True)}, ValueError),
    "density": ({"density": torch.zeros(2, 3, 4, 5)}, ValueError),
    "density ": ({"density": torch.zeros(2, 12, 12, 12, dtype=torch.int64)}, TypeError),
    "density  ": ({"density": torch.full((2, 12, 12, 12), torch.nan)}, ValueError),
    "radii": ({"radii": 0.0}, ValueError),
    "radii ": ({"radii": torch.ones(3)}, ValueError),
    "radii  ": ({"radii": "big"}, TypeError),
    "center": ({"center": (0.0, 1.0)}, ValueError),
    "n_atoms": ({"n_atoms": -1}, ValueError),
    "n_atoms ": ({"n_atoms": "many"}, ValueError),
    "n_atoms  ": ({"n_atoms": torch.ones(3, dtype=torch.int64)}, ValueError),
    "max_atoms": ({"max_atoms": 1.5}, ValueError),
    "max_atoms ": ({"max_atoms": 3, "n_atoms": 2}, ValueError),
    "channels": ({"channels": [2]}, ValueError),
    "min_distance": ({"min_distance": float("nan")}, ValueError),
    "refine": ({"refine": ("types",)}, ValueError),
    "refine ": ({"refine": ()}, ValueError),
    "method": ({"method": "adam"}, ValueError),
    "passes": ({"passes": True}, ValueError),
    "max_iterations": ({"max_iterations": 0}, ValueError),
    "tolerance": ({"tolerance": -1.0}, ValueError),
    "initial": ({"initial": torch.zeros(1, 3)}, TypeError),
    "initial ": ({"initial": example()[2]}, ValueError),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    changes, error = BAD[name]
    arguments = {"gm": gg.GridMaker(0.5, 5.5), "density": torch.zeros(2, 12, 12, 12), "radii": 1.5, **changes}
    with pytest.raises(error, match=rf"^{name.strip()}: .*expected"):
        fit_atoms(**arguments)
