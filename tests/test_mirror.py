"""Both texts of the kernels, on the same addresses, with numbers that break arithmetic; the oracle where it reaches.

Some hundred cases; ``GRIDGRAD_MIRROR=10000`` draws as many. What is to be equal is told in docs/kernels.md.
"""

import importlib
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.hostile import SENTINEL, Case, Direction, address, cases, run
from support.mirror_bars import Bars, differences
from support.reference import Reference

from gridgrad.kernels import cpu

if shutil.which("g++") is None:
    pytest.skip("needs g++ to compile the CUDA kernels for the CPU", allow_module_level=True)
from cuda_on_cpu.shim_kernels import ALWAYS, TIGHT, ShimKernels

COUNT = int(os.environ.get("GRIDGRAD_MIRROR", "400"))
CUDA = {precision: ShimKernels(precision) for precision in cpu.KERNELS}
PREPARED = [{name: ShimKernels(name, limits=limits) for name in cpu.KERNELS} for limits in (ALWAYS, TIGHT)]
LEVELS = cpu.available_levels()
VISITING = ("density", "density_tangent", "density_tangent_tangent", "density_backward", "density_backward_backward")
VISITING += ("density_relevance",)
GRIDS = ("density", "tangent", "tangent_tangent")


def many(count):
    slow = HealthCheck.too_slow, HealthCheck.data_too_large
    return hypothesis_settings(max_examples=max(count, 1), suppress_health_check=slow)


def cython(case, level=cpu.LEVEL):
    return importlib.import_module(f"gridgrad.kernels.cpu.density_{case.dtype.name}_{level}")


def run_cuda(case, refused=None):
    """Return the outputs; the same bits where all that can be is found before the tiles."""
    found = run(CUDA[case.dtype.name], case, refused)
    for prepared in PREPARED:
        reported = None if refused is None else {}
        assert_same(run(prepared[case.dtype.name], case, reported), found)
        assert reported == refused
    return found


def run_both(case):
    """Return the outputs of both texts."""
    return run_cuda(case), run(cython(case), case)


def assert_agree(found, expected, case):
    wrong = list(differences(found, expected, Bars(case)))
    assert not wrong, "\n".join(f"{name}{list(map(int, at))}: {a}, {b}; bar {bar:.1e}" for name, at, a, b, bar in wrong)


def assert_same(found, expected):
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)  # NaN equals NaN


# ---- what both compute ----------------------------------------------------------------------------------------------


@many(COUNT)
@given(cases(), st.sampled_from(LEVELS))
def test_both_texts_agree(case, level):
    """Equal NaN masks, values within what rounding explains."""
    assert_agree(run_cuda(case), run(cython(case, level), case), case)


@many(COUNT // 8)
@given(cases(hostile=False, precisions=["float64"]), st.sampled_from([np.nan, np.inf, 1 + 1e-4]))
def test_what_is_off_is_found(case, factor):
    """Of usual numbers every element is compared, and one that is off by 1e-4 or not finite is found."""
    expected, bars = run(cython(case), case), Bars(case)
    for name, value in expected.items():
        assert not np.any(bars.open[name])
        if value.any():
            at = np.unravel_index(np.argmax(np.abs(value) / bars.bars[name]), value.shape)
            spoiled = expected | {name: value.copy()}
            spoiled[name][at] *= factor
            assert [(name, at)] == [found[:2] for found in differences(spoiled, expected, bars)]


@many(COUNT // 8)
@given(cases(hostile=False) | cases())
def test_both_texts_agree_with_the_oracle(case):
    """Where that is defined: in finite numbers whose squares neither overflow nor vanish in float64."""
    arrays = case.floats.values()
    usual = all(((a == 0) | ((abs(a) > 1e-30) & (abs(a) < 1e30))).all() for a in arrays)
    if not usual:
        case = tamed(case)
    expected, bars = oracle(case), Bars(case)
    for found in run_both(case):
        wrong = list(differences(found, {name: expected[name] for name in expected if name in found}, bars))
        assert not wrong, wrong[:9]


def tamed(case):
    """The case with 1 for every number that the oracle cannot take."""

    def tame(array):
        if array is None:
            return None
        with np.errstate(all="ignore"):
            usual = (array == 0) | ((abs(array) > 1e-30) & (abs(array) < 1e30))
        return np.where(usual, array, 1).astype(array.dtype)

    names = "coords", "weights", "radii", "center", "centers", "grad_density", "density"
    directions = {name: Direction(*map(tame, getattr(case, name))) for name in "uv"}
    return case.replace(**{name: tame(getattr(case, name)) for name in names}, **directions)


def oracle(case):
    """Return the outputs of tests/support/reference.py, an example at a time."""
    reference = Reference(**case.settings)
    shapes = {"order 1 grad_coords": case.coords.shape, "order 1 grad_radii": case.radii.shape}
    if case.weights is not None:
        shapes["order 1 grad_weights"] = case.weights.shape
    shapes |= {name.replace("1", "2"): shape for name, shape in shapes.items()}
    grid = case.n_examples, case.n_types, *case.grid.spatial_grid_dimensions()
    found = {name: np.zeros(shape) for name, shape in shapes.items()} | {name: np.zeros(grid) for name in GRIDS}
    found["relevance"] = np.zeros(case.n_atoms)
    for b in range(case.n_examples):
        atoms = np.flatnonzero(case.example == b)
        row = (b if case.radii.ndim == 2 else ...) if case.by_type else atoms

        def part(arrays, atoms=atoms, row=row):
            coords, weights, radii = arrays
            picked = coords, weights, radii
            where = atoms, atoms, row
            return [None if a is None else torch.as_tensor(a[w]) for a, w in zip(picked, where, strict=True)]

        types = case.index if case.weights is None else case.weights
        center = torch.as_tensor(case.center if case.centers is None else case.centers[b])
        scene = center, *part((case.coords, types, case.radii))
        u, v = part(case.u), part(case.v)
        grad_density, density = torch.as_tensor(case.grad_density[b]), torch.as_tensor(case.density[b])
        found["density"][b] = reference.forward(*scene, case.n_types)
        found["tangent_tangent"][b] = reference.second_derivative(*scene, u, v, case.n_types)
        found["tangent"][b], *second = reference.backward_gradients(*scene, grad_density, *v)
        found["relevance"][atoms] = reference.backward_relevance(*scene, density, grad_density)
        for order, gradients in ((1, reference.backward(*scene, grad_density)), (2, second)):
            names = "coords", "weights", "radii"
            for name, gradient, where in zip(names, gradients, (atoms, atoms, row), strict=True):
                if gradient is not None:
                    found[f"order {order} grad_{name}"][where] += gradient.detach().numpy()
    return found


# ---- what each refuses, in its own way ------------------------------------------------------------------------------

bad_radii = st.sampled_from([0.0, -0.0, -1.0, -1e-40, -np.inf])


def changed(array, place, value):
    found = array.copy()
    found.reshape(-1)[place] = value
    return found


def counting(case, kernel):
    """(N, T): terms that count, by their weight or that of a direction that the kernel has."""
    found = case.weights != 0 if case.weights is not None else case.index[:, None] == np.arange(case.n_types)
    directions = {"density_tangent_tangent": (case.u, case.v)}
    directions |= dict.fromkeys(("density_tangent", "density_backward_backward"), (case.v,))
    for direction in directions.get(kernel, ()):
        if direction.weights is not None:
            found = found | (direction.weights != 0)
    return found


@many(COUNT // 4)
@given(cases(), st.integers(0, 10**4), bad_radii)
def test_radius_that_is_none(case, place, value):
    """A radius <= 0 that counts: an error before anything is written; on CUDA NaN, and the fault word."""
    if not case.radii.size:
        return
    place %= case.radii.size
    bad = case.replace(radii=changed(case.radii, place, value))
    refused, reported = {}, {}
    outputs, found = run(cython(case), bad, refused), run_cuda(bad, reported)
    here = case.by_atom(np.arange(case.radii.size).reshape(case.radii.shape)) == place  # (N, T)
    expected = {kernel for kernel in VISITING if (counting(case, kernel) & here).any()}
    assert set(refused) == expected
    assert set(reported) == expected
    assert all(message.startswith("radii: ") and "expected" in message for message in refused.values()), refused
    written = {"density": "density", "density_tangent": "tangent", "density_tangent_tangent": "tangent_tangent"}
    for kernel in expected & set(written):
        assert (outputs[written[kernel]] == SENTINEL).all()
    if "density_backward" in expected:
        assert all((array == SENTINEL).all() for name, array in outputs.items() if name.startswith("order 1 grad_c"))
    as_nan = run_cuda(case.replace(radii=changed(case.radii, place, np.nan)))
    for order, kernel in enumerate(("density_backward", "density_backward_backward"), 1):
        if f"order {order} grad_weights" in as_nan:  # of a radius that nobody counts: 0
            counted = counting(case, kernel) if case.by_type else counting(case, kernel).any(1, keepdims=True)
            known = ~np.isnan(case.positions).any(1, keepdims=True)
            as_nan[f"order {order} grad_weights"][here & ~counted & known] = 0
    assert_same(found, as_nan)
    if not expected:
        assert_agree(found, outputs, case.replace(radii=changed(case.radii, place, 1.0)))


@many(COUNT // 4)
@given(cases(), st.integers(0, 10**4), st.sampled_from([0, 1, 2**31, 2**32, 2**62, 2**63 - 1]))
def test_index_that_is_none(case, place, more):
    """An index >= T: an error; on CUDA as a negative one, and the fault word."""
    if case.index is None or not case.n_atoms:
        return
    place %= case.n_atoms
    bad = case.replace(index=changed(case.index, place, min(case.n_types + more, 2**63 - 1)))
    refused, reported = {}, {}
    outputs, found = run(cython(case), bad, refused), run_cuda(bad, reported)
    assert {*VISITING} <= set(refused)
    assert set(reported) == {*VISITING}
    assert all(f"types: atom {place} has index" in message for message in refused.values())
    assert all((array == SENTINEL).all() for array in outputs.values())
    assert_same(found, run_cuda(case.replace(index=changed(case.index, place, -1))))


@many(COUNT // 4)
@given(cases(), st.integers(1, 3))
def test_atoms_of_no_example(case, lost):
    """Offsets that end early: an error; on CUDA the last atoms are in no density, their gradients 0, and reported."""
    if case.offsets is None or case.n_atoms == 0:
        return
    kept = max(case.n_atoms - lost, 0)
    bad = case.replace(offsets=np.minimum(case.offsets, kept))
    refused, reported = {}, {}
    outputs, found = run(cython(case), bad, refused), run_cuda(bad, reported)
    assert {*VISITING} <= set(refused)
    assert set(reported) == {*VISITING}
    assert all(message.startswith("offsets: element ") for message in refused.values())
    assert all((array == SENTINEL).all() for array in outputs.values())
    expected = run_cuda(without(case, kept))
    for name, value in expected.items():
        if name not in GRIDS and not (case.by_type and name.endswith("grad_radii")):
            np.testing.assert_array_equal(found[name][:kept], value, err_msg=name)
            assert (found[name][kept:] == 0).all(), name
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


def without(case, kept):
    """The case with its first atoms only."""

    def cut(direction):
        coords, weights, radii = (None if array is None else array[:kept] for array in direction)
        return Direction(coords, weights, direction.radii if case.by_type else radii)

    return case.replace(
        coords=case.coords[:kept], index=None if case.index is None else case.index[:kept],
        weights=None if case.weights is None else case.weights[:kept],
        radii=case.radii if case.by_type else case.radii[:kept], offsets=np.minimum(case.offsets, kept),
        u=cut(case.u), v=cut(case.v),
    )  # fmt: skip


# ---- sums over many atoms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("vectors", [False, True])
def test_radii_sum_adds_in_float64(vectors, per_example):
    """Both texts: a sum of float32 numbers whose float32 sum would be off in the fourth digit."""
    rng = np.random.default_rng(0)
    n, n_examples, n_types = 40000, 2, 2
    partials = rng.uniform(0.5, 1, (n, n_types) if vectors else n).astype(np.float32)
    partials[:1] = 1e7  # below it, float32 knows no halves
    index = None if vectors else rng.integers(-1, n_types, n)
    offsets = np.array([0, n // 3, n])
    example = np.repeat(range(n_examples), np.diff(offsets)) if per_example else np.zeros(n, int)
    expected = np.zeros((n_examples if per_example else 1, n_types))
    for k in range(n_types):
        values = partials[:, k] if vectors else np.where(index == k, partials, 0)
        np.add.at(expected[:, k], example, values.astype(np.float64))
    for kernels in cpu.KERNELS["float32"], CUDA["float32"]:
        found = np.full(expected.shape, np.nan, np.float32)
        kernels.radii_sum(
            address(partials), address(index), address(offsets), n_examples, n, n_types, per_example, address(found)
        )
        np.testing.assert_array_equal(found, expected.astype(np.float32))


# ---- cases by hand --------------------------------------------------------------------------------------------------


def one_atom(dtype="float32", points=3, **changes):
    """An atom of radius 1 on the middle voxel of points^3 of 1 A; index types, G = 1, no directions."""
    dtype, grid = np.dtype(dtype), (1, 1, points, points, points)
    case = Case(
        settings={"resolution": 1.0, "dimension": (max(points - 1.0, 1e-3),) * 3, "radius_type_indexed": False},
        dtype=dtype, n_examples=1, n_types=1,
        coords=np.zeros((1, 3), dtype), index=np.zeros(1, np.int64), weights=None, radii=np.ones(1, dtype),
        offsets=None, center=np.zeros(3), centers=None, grad_density=np.ones(grid, dtype), density=np.ones(grid, dtype),
        u=Direction(), v=Direction(),
    )  # fmt: skip
    return case.replace(**changes)


@pytest.mark.parametrize("position", [(np.inf, -np.inf, 0), (np.inf, np.inf, np.inf), (0, 0, -np.inf)])
@pytest.mark.parametrize("dtype", cpu.KERNELS)
def test_an_infinite_position_is_outside(dtype, position):
    """Infinities of both signs too, whose sum is NaN."""
    v = Direction(coords=np.ones((1, 3), dtype), radii=np.ones(1, dtype))
    case = one_atom(dtype, coords=np.array([position], dtype), u=v, v=v)
    for found in run_both(case):
        for name, value in found.items():
            assert not value.any(), name


@pytest.mark.parametrize("dtype", cpu.KERNELS)
def test_an_infinite_position_is_outside_of_an_infinite_radius(dtype):
    """Infinity less infinity is no reach."""
    case = one_atom(dtype, coords=np.full((1, 3), np.inf, dtype), radii=np.array([np.inf], dtype))
    for found in run_both(case):
        assert not found["density"].any()


SMALL = [("float32", 1e-20), ("float32", 1e-40), ("float64", 1e-150), ("float64", 1e-160), ("float64", 1e-310)]


@pytest.mark.parametrize(("dtype", "radius"), SMALL)
def test_an_atom_whose_radius_has_no_square_or_no_inverse(dtype, radius):
    """It is seen by the voxel that it sits on, and by no other; there, phi is 1 and has no slope."""
    case = one_atom(dtype, radii=np.array([radius], dtype))
    for found in run_both(case):
        assert found["density"][0, 0, 1, 1, 1] == found["density"].sum() == 1
        assert not found["order 1 grad_coords"].any() and not found["order 1 grad_radii"].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", cpu.KERNELS)
def test_a_profile_without_slope_reads_no_cotangent(dtype, value):
    """The derivatives of binary densities in positions and radii are 0, whatever stands in G, in both orders."""
    case = one_atom(dtype)
    v = Direction(coords=np.ones((1, 3), dtype), radii=np.ones(1, dtype))
    case = case.replace(
        settings=case.settings | {"binary": True}, grad_density=np.full_like(case.grad_density, value), u=v, v=v
    )
    for found in run_both(case):
        for order in (1, 2):
            assert not found[f"order {order} grad_coords"].any() and not found[f"order {order} grad_radii"].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_vanishes_reads_no_cotangent(value):
    """Nine radii off, exp(-162) is 0 in float32: NaN in G there is nobody's; the second order asks for the support."""
    case = one_atom(points=21, index=None, weights=np.ones((1, 1), np.float32))
    case.grad_density[0, 0, 1, 10, 10] = value
    v = Direction(coords=np.ones((1, 3), np.float32), weights=np.ones((1, 1), np.float32), radii=case.radii)
    far = {"gaussian_radius_multiple": 9.5, "tail": "truncated"}
    case = case.replace(settings=case.settings | far, v=v)
    for found in run_both(case):
        for name in ("order 1 grad_coords", "order 1 grad_weights", "order 1 grad_radii", "relevance"):
            assert np.isfinite(found[name]).all(), name
        assert not np.isfinite(found["order 2 grad_coords"]).any()


def test_a_term_that_does_not_count_reads_no_cotangent():
    """Neither its weight nor its v_w: only its weight has a derivative, which reads G."""
    none = np.zeros((1, 1), np.float32)
    v = Direction(coords=np.ones((1, 3), np.float32), weights=none, radii=np.ones(1, np.float32))
    case = one_atom(index=None, weights=none, v=v)
    case.grad_density[...] = np.nan
    for found in run_both(case):
        for order in (1, 2):
            assert not found[f"order {order} grad_coords"].any() and not found[f"order {order} grad_radii"].any()
            assert np.isnan(found[f"order {order} grad_weights"]).all()


def test_an_atom_on_a_voxel_with_large_derivatives():
    """G and v_R of 1e20 at s = 0: their product, which float32 does not hold, is no part of the radius gradient."""
    large = np.full(1, 1e20, np.float32)
    corner = np.float32(-5e-4)  # of the grid of one voxel, whose edge is 1e-3
    case = one_atom(
        points=1, coords=np.full((1, 3), corner), center=np.full(3, np.float64(corner) + 5e-4),
        grad_density=large.reshape(1, 1, 1, 1, 1), v=Direction(radii=large),
    )  # fmt: skip
    for found in run_both(case):
        assert found["order 2 grad_radii"] == 0
