"""Many atoms over every voxel, each in many channels: chunks are sorted (pyx/entries.pxd), and the bits are as ever.

The same kernels take another way where channels are few: its bits, channels apart, are what is expected here.
"""

import importlib
import math

import pytest
import torch
from support.scenes import DTYPES, assert_outputs, assert_same_bits, evaluate, make_scene, mode_id

import gridgrad as gg
from gridgrad.kernels import cpu

N_TYPES, FEW = 26, 4  # not a multiple of the channels that are added up together
SIZES = {
    "rows end in the middle of a chunk": {"dimension": (6.0, 5.0, 6.5)},
    "rows shorter than a chunk": {"dimension": (7.0, 4.0, 4.5)},
    "supports across two chunks": {"dimension": (4.0, 3.0, 6.0), "resolution": 0.3},
    "planes of less than a chunk": {"dimension": (1.5, 1.0, 1.5)},
}
VALUES = [0.0, 1e-20, 1e20, -1e20, float("inf"), -float("inf"), float("nan")]


@pytest.fixture(params=cpu.available_levels())
def level(request, monkeypatch):
    """Every SIMD level of this processor."""
    for precision in list(cpu.KERNELS):
        module = importlib.import_module(f"gridgrad.kernels.cpu.density_{precision}_{request.param}")
        monkeypatch.setitem(cpu.KERNELS, precision, module)
    return request.param


def crowd(dtype=torch.float32, layout="single", n_atoms=150, tail="quadratic", **size):
    """Draw a scene to which the rule of pyx/entries.pxd applies."""
    scene = make_scene(
        tail, "per_atom", "vector", layout, dtype=dtype, n_atoms=n_atoms, n_types=N_TYPES, margin=0.0,
        **(size or SIZES["rows end in the middle of a chunk"]),
    )  # fmt: skip
    points = gg.GridMaker(**scene.settings).spatial_grid_dimensions()
    width = 2 * min(points[1], 1.5 * scene.radii.max() / scene.settings["resolution"])
    assert width <= 16
    n_examples = scene.batch_size or (len(scene.coords) if scene.coords.dim() == 3 else 1)
    assert width**3 * scene.coords.numel() / 3 > 2 * math.prod(points) * n_examples
    assert N_TYPES * 4 >= 96 > FEW * 8
    return scene


def directions(scene, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = scene.coords.shape, scene.types.shape, scene.radii.shape
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(scene.dtype) for shape in shapes]


def compute(scene, types, u, v):
    """Density and its first and second derivatives along u and v."""
    maker = gg.GridMaker(**scene.settings)
    offsets = None
    if scene.batch is not None:
        offsets = torch.ops.gridgrad.batch_offsets(scene.batch, scene.batch_size)
    one = scene.center.dim() == 1
    center, centers = (scene.center.tolist(), None) if one else ([0.0, 0.0, 0.0], scene.center.double())
    atoms = scene.coords, types, scene.radii, offsets, centers
    rest = maker.spec, center, types.shape[-1]
    ops = torch.ops.gridgrad
    return {
        "density": ops.density(*atoms, *rest),
        "density_tangent": ops.density_tangent(*atoms, *v, *rest),
        "tangent, weights at rest": ops.density_tangent(*atoms, v[0], None, None, *rest),
        "tangent, atoms at rest": ops.density_tangent(*atoms, None, v[1], None, *rest),
        "density_tangent_tangent": ops.density_tangent_tangent(*atoms, *u, *v, *rest),
        "the same, u without weights": ops.density_tangent_tangent(*atoms, u[0], None, u[2], *v, *rest),
    }


def by_few(scene, types, u, v):
    """The same, FEW channels at a time."""
    parts = []
    for k in range(0, N_TYPES, FEW):
        part = slice(k, k + FEW)
        parts.append(compute(scene, types[..., part], *([c, w[..., part].contiguous(), r] for c, w, r in (u, v))))
    return {name: torch.cat([part[name] for part in parts], -4) for name in parts[0]}


def check(scene, types, u, v):
    found, expected = compute(scene, types, u, v), by_few(scene, types, u, v)
    for name, value in found.items():
        assert_same_bits(*(torch.where(t.isnan(), math.nan, t) for t in (value, expected[name])), name)


def sparse(scene):
    """Weights of which some are zero, and a channel without any."""
    generator = torch.Generator().manual_seed(5)
    types = torch.where(torch.rand(scene.types.shape, generator=generator) < 0.4, scene.types, 0)
    types[..., 3] = 0
    return types


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("size", SIZES)
def test_bits_are_those_of_few_channels(size, dtype, level):
    scene = crowd(dtype, **SIZES[size])
    check(scene, sparse(scene), directions(scene, 1), directions(scene, 2))


@pytest.mark.parametrize("layout", ["padded", "ragged"])
@pytest.mark.parametrize("tail", ["truncated", "quintic", "binary"])
def test_batches(tail, layout, level):
    scene = crowd(layout=layout, tail=tail)
    check(scene, sparse(scene), directions(scene, 1), directions(scene, 2))


def test_more_atoms_than_are_noted_at_a_time(level):
    scene = crowd(n_atoms=2000)
    check(scene, sparse(scene), directions(scene, 1), directions(scene, 2))


@pytest.mark.parametrize("seed", range(12))
def test_numbers_that_break_arithmetic(seed, level):
    """Some positions, radii, weights and directions are extreme or not finite."""
    scene = crowd()
    generator = torch.Generator().manual_seed(seed)

    def spoil(tensor, values, n):
        tensor = tensor.clone()
        at = torch.randint(tensor.numel(), (n,), generator=generator)
        which = torch.randint(len(values), (n,), generator=generator)
        tensor.view(-1)[at] = torch.tensor(values, dtype=tensor.dtype)[which]
        return tensor

    n = seed % 4
    u, v = ([spoil(part, VALUES, n) for part in directions(scene, s)] for s in (1, 2))
    radii = spoil(scene.radii, [1e-20, float("inf"), float("nan")], seed % 3)
    scene = scene.replace(coords=spoil(scene.coords, VALUES, seed % 3), radii=radii)
    check(scene, spoil(sparse(scene), VALUES, seed % 5), u, v)


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
def test_oracle(dtype, level, threads):
    threads(2)
    scene = crowd(dtype, n_atoms=60)
    found = evaluate(gg.GridMaker(**scene.settings), scene)
    assert_outputs(found, evaluate(scene.reference(), scene), dtype)
