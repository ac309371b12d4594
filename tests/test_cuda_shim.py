"""The CUDA kernels, compiled for the CPU, where tiles, lists and groups of channels end; against the Cython ones."""

import shutil

import pytest
import torch
from support.scenes import Scene, assert_same_bits, evaluate, relative_error

import gridgrad as gg
from gridgrad.kernels import cpu

if shutil.which("g++") is None:
    pytest.skip("needs g++ to compile the CUDA kernels for the CPU", allow_module_level=True)
from cuda_on_cpu.shim_kernels import ShimKernels

BARS = {torch.float32: 2e-5, torch.float64: 1e-12}


@pytest.fixture
def shim(monkeypatch):
    """Function that switches to the CUDA kernels."""
    return lambda: [monkeypatch.setitem(cpu.KERNELS, name, ShimKernels(name)) for name in cpu.KERNELS]


def draw(n_atoms, n_types, dimension, dtype, vector=False, by_type=False):
    generator = torch.Generator().manual_seed(n_atoms)
    coords = (torch.rand((n_atoms, 3), generator=generator, dtype=torch.float64) - 0.5) * torch.tensor(dimension)
    types = torch.randint(-1, n_types, (n_atoms,), generator=generator)
    if vector:
        types = torch.nn.functional.one_hot(types.clamp_min(0), n_types) * (types >= 0)[:, None].double() * 0.7
    radii = 0.8 + 0.5 * torch.rand(n_types if by_type else n_atoms, generator=generator, dtype=torch.float64)
    settings = {"resolution": 0.5, "dimension": dimension, "radius_type_indexed": by_type}
    return Scene(settings, torch.zeros(3, dtype=torch.float64), coords, types, radii, n_types).to(dtype)


CASES = {
    "several tiles, aligned rows": (30, 5, (7.5, 9.0, 11.5)),
    "several tiles, rows of 25": (30, 5, (7.5, 9.0, 12.0)),
    "one point": (3, 2, (0.2, 0.2, 0.2)),
    "a plane": (10, 3, (0.2, 5.0, 9.0)),
    "more atoms than a list": (700, 2, (2.0, 2.0, 2.0)),
    "more channels than a word": (40, 37, (3.0, 2.0, 2.5)),
    "no atoms": (0, 3, (3.0, 2.0, 2.5)),
}


@pytest.mark.parametrize("by_type", [False, True], ids=["per_atom", "by_type"])
@pytest.mark.parametrize("vector", [False, True], ids=["index", "vector"])
@pytest.mark.parametrize("dtype", list(BARS), ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_cython_kernels(shim, case, dtype, vector, by_type):
    scene = draw(*CASES[case], dtype, vector, by_type)
    gm = gg.GridMaker(**scene.settings)
    expected = evaluate(gm, scene)
    shim()
    found, again = evaluate(gm, scene), evaluate(gm, scene)
    for name, value in expected.items():
        if value is not None:
            # the relevance of a voxel is shared by ratios of densities, the more delicate the more atoms share it
            bar = 20 * BARS[dtype] if name == "relevance" else BARS[dtype]
            error = relative_error(found[name], value)
            assert error <= bar, f"{name}: {error:.1e}"
            assert_same_bits(again[name], found[name], name)


def test_every_element_is_written_once_and_nothing_beside_it(shim):
    shim()
    scene = draw(30, 5, (7.5, 9.0, 12.0), torch.float32)
    gm = gg.GridMaker(**scene.settings)
    shape = gm.grid_dimensions(5)
    memory = torch.full((shape[0] * shape[1] * shape[2] * shape[3] + 64,), -7.0)
    out = memory[32:-32].view(shape)
    gm.forward(scene.center, scene.coords, scene.types, scene.radii, 5, out=out)
    assert not (out == -7).any()
    assert (memory[:32] == -7).all()
    assert (memory[-32:] == -7).all()


@pytest.mark.parametrize("offset", [1, 4])
def test_output_at_any_alignment(shim, offset):
    shim()
    scene = draw(30, 5, (7.5, 9.0, 11.5), torch.float32)
    gm = gg.GridMaker(**scene.settings)
    expected = gm.forward(*scene.inputs, 5)
    memory = torch.empty(expected.numel() + offset)
    gm.forward(*scene.inputs, 5, out=memory[offset:].view(expected.shape))
    assert_same_bits(memory[offset:].view(expected.shape), expected)


def test_bad_index_touches_nothing_and_is_reported(shim):
    shim()
    scene = draw(30, 5, (7.5, 9.0, 12.0), torch.float32)
    types = scene.types.clone()
    types[3] = 10**12
    gm = gg.GridMaker(**scene.settings)
    out = torch.full(gm.grid_dimensions(5), -7.0)
    with pytest.raises(ValueError, match="types: an index >= n_types"):
        gm.forward(scene.center, scene.coords, types, scene.radii, 5, out=out)
    types[3] = -1
    assert_same_bits(out, gm.forward(scene.center, scene.coords, types, scene.radii, 5))


@pytest.mark.parametrize("by_type", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_one_of_many_channels(shim, by_type, bad):
    """In whichever atom, word of bits and search it is; an infinite weight is one as well."""
    shim()
    n_types, hidden = 300, {0: 4, 31: 3, 32: 2, 255: 1, 256: 0, 299: 4}
    weights = torch.ones(5, n_types)
    for k, i in hidden.items():
        weights[i, k] = bad
    maker = gg.GridMaker(0.5, (1.0, 1.0, 1.0), radius_type_indexed=by_type)
    density = maker.forward((0, 0, 0), torch.zeros(5, 3), weights, torch.ones(n_types if by_type else 5))
    assert density.flatten(1).isnan().all(1).nonzero().flatten().tolist() == sorted(hidden)
    assert density.flatten(1).isnan().any(1).sum() == len(hidden)


@pytest.mark.parametrize("by_type", [False, True])
@pytest.mark.parametrize(
    "offsets", [[0, 2**40, 30], [-(2**40), 15, 30], [0, 20, 10], [0, 15, 2**40], [2**62, 2**62, 9]]
)
def test_wrong_offsets_lead_to_no_foreign_address(shim, offsets, by_type):
    """On a GPU nobody looks at them before: atoms may end up in the wrong example, or in none, which is reported."""
    shim()
    maker = gg.GridMaker(0.5, (3.0, 2.0, 2.5), radius_type_indexed=by_type)
    coords, types, radii = torch.zeros(30, 3), torch.ones(30, 2), torch.ones((2, 2) if by_type else 30)
    call = coords, types, radii, torch.tensor(offsets), None
    grid = torch.ones(2, *maker.grid_dimensions(2))
    operators, settings = torch.ops.gridgrad, (maker.spec, (0.0, 0.0, 0.0), 2)
    for operator, *arguments in (
        (operators.density, *settings),
        (operators.density_tangent, coords, types, radii, *settings),
        (operators.density_backward, grid, *settings, [True] * 3),
        (operators.density_backward_backward, grid, coords, types, radii, *settings, [True] * 3),
        (operators.density_relevance, grid, grid, *settings),
    ):
        reported = None
        try:
            outputs = operator(*call, *arguments)
        except ValueError as error:
            outputs, reported = (), str(error)
        assert reported in (None, "batch: an atom in no example")
        assert all(output.isfinite().all() for output in ((outputs,) if torch.is_tensor(outputs) else outputs))
