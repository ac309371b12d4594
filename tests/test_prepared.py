"""What a call on a GPU finds before its tiles: when, where it lies, and that the output keeps its bits."""

import itertools
import shutil

import numpy as np
import pytest
import torch
from support.reference import Reference
from support.scenes import assert_same_bits

import gridgrad as gg
from gridgrad.kernels import abi, cpu
from gridgrad.kernels.gpu.preparation import Limits, preparation

if shutil.which("g++") is None:
    pytest.skip("needs g++ to compile the CUDA kernels for the CPU", allow_module_level=True)
from cuda_on_cpu.shim_kernels import ALWAYS, TIGHT, ShimKernels

OPERATORS = torch.ops.gridgrad
NAN, INF = float("nan"), float("inf")
KERNELS = ("density", "density_tangent", "density_tangent_tangent")
BARS = {torch.float32: 2e-5, torch.float64: 1e-12}


# ---- when, from sizes alone -----------------------------------------------------------------------------------------


class Sizes:
    """A call of which only the sizes are known: every address is a number that nobody follows."""

    def __init__(self, kernel, n_examples, atoms, n_types, points, vector=True, ragged=False, limits=None):
        kernels = ShimKernels("float32")
        self.kernel, self.asked = abi.KERNELS[kernel], []
        settings = {"resolution": 0.5, "dimension": tuple(0.5 * (n - 1) for n in points)}
        self.given = {name: 1000 + nth for nth, name in enumerate(self.kernel.formats)}
        self.given |= {"index": 0 if vector else 8, "weights": 16 * vector, "offsets": 24 * ragged}
        self.given |= {"geometry": gg.GridMaker(**settings).geometry("float32"), "n_examples": n_examples}
        self.given |= {"n_atoms": n_examples * atoms, "n_types": n_types}
        self.arguments = tuple(self.given.values())
        blocks = self.kernel.blocks(kernels.rows[kernel])(self.arguments)
        self.found = preparation(self.kernel, kernels.rows, limits)(self.arguments, blocks, self.scratch)
        self.steps = {
            step.name: dict(zip(abi.GPU_KERNELS[step.name].formats, step.arguments, strict=True))
            for step in self.found.steps
        }

    def scratch(self, n_bytes):
        self.asked.append(n_bytes)
        return 2**20, "kept"


@pytest.mark.parametrize("vector", [False, True], ids=["index", "vector"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_small_call_prepares_nothing(kernel, vector):
    """One molecule, one complex, eight complexes: one launch, no memory."""
    for n_examples, atoms, points in ((1, 40, 48), (1, 400, 48), (8, 400, 48), (1, 0, 385), (64, 30, 48)):
        call = Sizes(kernel, n_examples, atoms, 14, (points,) * 3, vector)
        assert call.found == ((), (0,) * 6, None) and call.asked == []


def test_kernels_without_tiles_prepare_nothing():
    for name in ("density_backward", "density_relevance", "radii_sum"):
        assert preparation(abi.KERNELS[name], ShimKernels("float32").rows)((), 10**9, None) == ((), (), None)


def test_the_benchmark_prepares_both():
    call = Sizes("density", 64, 400, 28, (48,) * 3)
    assert list(call.steps) == ["weight_bits", "list_cells"]
    assert (call.steps["weight_bits"]["n_parts"], call.steps["list_cells"]["cell_scale"]) == (6, 1)
    assert call.steps["list_cells"]["capacity"] == 400  # without offsets, an example cannot have more
    assert call.asked == [4 * (64 * 400 + 64 * 6 * 2 + 64 * 8 * 401)]
    assert call.found.kept == "kept"


def test_a_large_structure_lists_cells():
    call = Sizes("density", 1, 200_000, 14, (385,) * 3, vector=False)
    (cells,) = call.steps.values()
    assert cells["cell_scale"] == 2 and cells["capacity"] < 10_000
    assert call.found.arguments == (0, 0, cells["cells"], 0, 2, cells["capacity"])


@pytest.mark.parametrize("ragged", [False, True])
def test_memory_is_laid_out_without_overlap(ragged):
    call = Sizes("density_tangent_tangent", 3, 7, 40, (25, 24, 33), ragged=ragged, limits=ALWAYS)
    bits, cells = call.steps["weight_bits"], call.steps["list_cells"]
    n_parts, capacity = bits["n_parts"], cells["capacity"]
    assert (n_parts, capacity) == (3, 21 if ragged else 7)
    places = bits["bits"], bits["channels"], cells["cells"], 2**20 + call.asked[0]
    assert np.diff(places).tolist() == [4 * 21 * 2, 4 * 3 * n_parts * 2 * 2, 4 * 3 * (2 * 1 * 2) * (1 + capacity)]
    assert call.found.arguments == (*places[:3], n_parts, 1, capacity)
    for name in ("offsets", "n_atoms", "u_weights", "v_weights"):
        assert bits[name] == cells[name] == call.given[name]


def test_the_direction_of_the_first_derivative():
    call = Sizes("density_tangent", 1, 7, 4, (9,) * 3, limits=ALWAYS)
    for step in call.steps.values():
        assert (step["u_weights"], step["v_weights"]) == (0, call.given["grad_grad_weights"])


def test_without_memory_the_tiles_look_for_themselves():
    call = Sizes("density", 64, 400, 28, (48,) * 3)
    none = preparation(call.kernel, ShimKernels("float32").rows)(call.arguments, 4608, lambda n_bytes: (0, None))
    assert none == ((), (0,) * 6, None)


# ---- what it is -----------------------------------------------------------------------------------------------------


def address(array):
    return 0 if array is None else array.ctypes.data


@pytest.mark.parametrize("precision", cpu.KERNELS)
@pytest.mark.parametrize("directions", [(), (0,), (0, 1)])
def test_bits_of_weights(precision, directions):
    """Bit by bit; channels are whatever any atom of a part has."""
    rng, kernels, n_types, words, n_parts = np.random.default_rng(1), ShimKernels(precision), 37, 2, 3
    offsets = np.array([0, 5, 5, 24])
    given = rng.choice(
        [0, 0, 0, 0, 1, -1e-40, NAN, INF], (3, 24, n_types), p=[0.2, 0.2, 0.2, 0.2, 0.1, 0.09, 0.005, 0.005]
    )
    given = given.astype(precision)
    bits, channels = np.full((24, words), 77, np.uint32), np.full((3, n_parts, 2, words), 77, np.uint32)
    u, v = (given[1 + nth] if nth in directions else None for nth in (0, 1))
    arguments = (
        address(given[0]), address(u), address(v), address(offsets), 3, 24, n_types, n_parts, address(bits),
        address(channels),
    )  # fmt: skip
    kernels.launch_packed(abi.GPU_KERNELS["weight_bits"], 3 * n_parts, arguments)
    used = given[[0, *(1 + nth for nth in directions)]]
    counts, spoiled = (used != 0).any(0), ~np.isfinite(used).all(0)

    def unpacked(of):
        return np.unpackbits(of.view(np.uint8), axis=-1, bitorder="little").astype(bool)

    assert np.array_equal(unpacked(bits), np.pad(counts, ((0, 0), (0, 64 - n_types))))
    for b, (first, last) in enumerate(itertools.pairwise(offsets)):
        found = unpacked(channels[b])[..., :n_types]
        assert np.array_equal(found[:, 0].any(0), counts[first:last].any(0))
        assert np.array_equal(found[:, 1].any(0), spoiled[first:last].any(0))
    assert spoiled.any() and not spoiled.any(0).all()


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("precision", cpu.KERNELS)
def test_atoms_of_cells(precision, scale):
    """In order, all that reach a voxel of the cell, none far from it; more atoms than a block tests at a time."""
    rng, kernels, n_atoms, capacity = np.random.default_rng(2), ShimKernels(precision), 9000, 400
    maker = gg.GridMaker(0.5, (13.0, 12.0, 33.0))
    points, spread = np.array(maker.spatial_grid_dimensions()), np.array([60.0, 60.0, 120.0])
    coords = (rng.uniform(-0.5, 0.5, (n_atoms, 3)) * spread).astype(precision)
    coords[4000:4500] = 3 * rng.uniform(-1, 1, (500, 3)) - [0, 0, 15]  # more than one list holds
    radii, index = rng.uniform(0.8, 1.4, n_atoms).astype(precision), np.zeros(n_atoms, np.int64)
    coords[7], coords[8999], radii[20], index[30] = [NAN, 0, 0], [INF, -INF, 0], NAN, -1
    edges = scale * np.array(kernels.rows["list_cells"][1:4])
    number = -(-points // edges)
    cells = np.full((number.prod(), 1 + capacity), -7, np.int32)
    arguments = (
        address(coords), address(index), 0, address(radii), 0, 0, 0, 0, maker.geometry(precision), 1, n_atoms, 1, 0,
        scale, capacity, address(cells),
    )  # fmt: skip
    kernels.launch_packed(abi.GPU_KERNELS["list_cells"], number.prod(), arguments)
    positions = coords.astype(float) + np.array(maker.dimension) / 2
    overflown = 0
    for row, cell in zip(cells, np.ndindex(*number), strict=True):
        low = np.array(cell) * edges
        high = np.minimum(low + edges, points) - 1
        gap = np.maximum(np.maximum(0.5 * low - positions, positions - 0.5 * high), 0)
        with np.errstate(invalid="ignore"):
            relative = np.sqrt((gap**2).sum(1)) / (maker.final_radius_multiple * radii)
        unknown = np.isnan(coords).any(1) | np.isnan(radii)
        has, may = (relative < 1 - 1e-4) | unknown, ~(relative > 1 + 1e-3) | unknown
        has[[30, 8999]] = may[[30, 8999]] = False
        if row[0] < 0:
            assert may.sum() > capacity
            overflown += 1
            continue
        listed = row[1 : 1 + row[0]]
        assert (np.diff(listed) > 0).all()
        assert set(np.flatnonzero(has)) <= set(listed) <= set(np.flatnonzero(may))
    assert 0 < overflown < len(cells)
    assert not kernels.fault[:][0]


# ---- the output -----------------------------------------------------------------------------------------------------


@pytest.fixture
def way(monkeypatch):
    """Function that switches to the CUDA kernels with some limits."""

    def switch(limits):
        for name in cpu.KERNELS:
            monkeypatch.setitem(cpu.KERNELS, name, ShimKernels(name, limits=limits))

    return switch


class Call:
    """Atoms over several cells, a ragged batch whose second example is empty, and directions."""

    def __init__(self, dtype, vector, by_type, spoil=lambda call: None, n_atoms=60, crowded=False):
        generator = torch.Generator().manual_seed(5)

        def draw(*shape):
            return torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5

        self.n_types, dimension = 3, (12.5, 5.0, 17.0)
        self.settings = {"resolution": 0.5, "dimension": dimension, "radius_type_indexed": by_type}
        self.maker = gg.GridMaker(**self.settings)
        self.coords = draw(n_atoms, 3) * 1.2 * torch.tensor(dimension)
        if crowded:
            self.coords[5:-20] = draw(n_atoms - 25, 3)
        self.types = torch.randint(-1, 3, (n_atoms,), generator=generator)
        if vector:
            self.types = draw(n_atoms, 3) * (draw(n_atoms, 3) > 0)
        self.radii = 1.2 + draw(self.n_types if by_type else n_atoms)
        self.u, self.v = ([draw(n_atoms, 3), draw(n_atoms, 3) if vector else None, draw(len(self.radii))] for _ in "uv")
        self.offsets = torch.tensor([0, n_atoms - 20, n_atoms - 20, n_atoms])
        spoil(self)
        for name in ("coords", "types", "radii"):
            value = getattr(self, name)
            setattr(self, name, value.to(dtype) if value.is_floating_point() else value)
        self.u, self.v = ([None if x is None else x.to(dtype) for x in of] for of in (self.u, self.v))

    def outputs(self):
        atoms, grid = (self.coords, self.types, self.radii, self.offsets, None), (self.maker.spec, (0.1, 0, -0.1), 3)
        return {
            "density": OPERATORS.density(*atoms, *grid),
            "density_tangent": OPERATORS.density_tangent(*atoms, *self.v, *grid),
            "density_tangent_tangent": OPERATORS.density_tangent_tangent(*atoms, *self.u, *self.v, *grid),
        }


def nan_weight(call):
    if call.types.is_floating_point():
        call.types[-1, 1], call.v[1][3, 2] = NAN, INF


def nan_far_away(call):
    """Of an atom that no cell has."""
    call.coords[2] = torch.tensor([1e4, 0.0, 0.0])
    if call.types.is_floating_point():
        call.types[2, 0] = NAN


def odd_positions(call):
    call.coords[0], call.coords[1, 2], call.coords[-3, 1] = torch.tensor([INF, -INF, 0.0]), INF, NAN


def nan_radius(call):
    call.radii[1] = NAN


def infinite_radius(call):
    call.radii[2] = INF


def no_atoms(call):
    call.coords = call.coords[:0] + torch.zeros(0, 3)
    call.types, call.offsets = call.types[:0], torch.zeros(4, dtype=torch.int64)
    call.radii = call.radii if call.settings["radius_type_indexed"] else call.radii[:0]
    call.u, call.v = (
        [coords[:0], None if types is None else types[:0], radii[: len(call.radii)]]
        for coords, types, radii in (call.u, call.v)
    )


SPOILS = (lambda call: None, nan_weight, nan_far_away, odd_positions, nan_radius, infinite_radius, no_atoms)


@pytest.mark.parametrize("by_type", [False, True], ids=["per_atom", "by_type"])
@pytest.mark.parametrize("vector", [False, True], ids=["index", "vector"])
@pytest.mark.parametrize("dtype", list(BARS), ids=["float32", "float64"])
@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__.strip("<>"))
def test_the_same_bits(way, dtype, vector, by_type, spoil):
    """As by tiles that look for themselves, and the numbers of the Cython kernels."""
    call = Call(dtype, vector, by_type, spoil)
    cython = call.outputs()
    way(Limits())
    expected = call.outputs()
    for limits in (ALWAYS, TIGHT, ALWAYS._replace(weights=2**62), ALWAYS._replace(tests=2**62)):
        way(limits)
        for name, value in call.outputs().items():
            assert_same_bits(value, expected[name], f"{name}, {limits}")
    for name, value in cython.items():
        assert torch.equal(value.isnan(), expected[name].isnan()), name
        scale = value.nan_to_num().abs().max().clamp_min(1e-30)
        assert ((value - expected[name]).nan_to_num().abs() <= BARS[dtype] * scale).all(), name


@pytest.mark.parametrize("vector", [False, True], ids=["index", "vector"])
def test_more_candidates_than_a_list_of_a_tile(way, vector):
    call = Call(torch.float32, vector, False, n_atoms=700, crowded=True)
    way(Limits())
    expected = call.outputs()
    way(ALWAYS)
    for name, value in call.outputs().items():
        assert_same_bits(value, expected[name], name)


@pytest.mark.parametrize("limits", [ALWAYS, TIGHT], ids=["always", "tight"])
def test_against_the_oracle(way, limits):
    call = Call(torch.float64, True, False)
    way(limits)
    found, center = call.outputs()["density"], torch.tensor([0.1, 0.0, -0.1], dtype=torch.float64)
    reference = Reference(**call.settings)
    for b, (first, last) in enumerate(itertools.pairwise(call.offsets)):
        expected = reference.forward(center, call.coords[first:last], call.types[first:last], call.radii[first:last], 3)
        torch.testing.assert_close(found[b], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limits", [None, ALWAYS, TIGHT], ids=["tiles", "always", "tight"])
def test_a_bad_atom_that_no_tile_sees_is_reported(way, limits):
    """An index or a radius of an atom far away from the grid."""
    way(limits)
    for spoil, complaint in (("types", "types: an index"), ("radii", "radii: a radius")):
        call = Call(torch.float32, False, False)
        call.coords[7], call.types[7] = 1e6, 1
        getattr(call, spoil)[7] = 3 if spoil == "types" else -1
        with pytest.raises(ValueError, match=complaint):
            call.outputs()
