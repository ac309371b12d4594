"""GridMaker as a value: points, equality, hash, pickle, immutability; and show_config."""

import copy
import dataclasses
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.scenes import assert_same_bits, make_scene

import gridgrad as gg

SETTINGS = (
    {},
    {"resolution": 0.25, "dimension": 8.0},
    {"dimension": (10.0, 8.0, 4.5), "binary": True},
    {"radius_type_indexed": True, "radius_scale": 1.5},
    {"gaussian_radius_multiple": -1.5},
    {"gaussian_radius_multiple": 1.25, "tail": "quintic"},
    {"tail": "truncated"},
)


def test_defaults():
    maker = gg.GridMaker()
    assert maker.resolution == 0.5 and maker.dimension == (23.5, 23.5, 23.5)
    assert maker.binary is False and maker.radius_type_indexed is False
    assert maker.radius_scale == 1.0 and maker.gaussian_radius_multiple == 1.0 and maker.tail == "quadratic"
    assert maker.spatial_grid_dimensions() == (48, 48, 48) and maker.grid_dimensions(14) == (14, 48, 48, 48)


@pytest.mark.parametrize(
    ("resolution", "dimension", "points"),
    [
        (0.5, 23.5, (48, 48, 48)),
        (0.5, 6, (13, 13, 13)),
        (1.0, (3.0, 4.0, 5.0), (4, 5, 6)),
        (0.1, 0.3, (4, 4, 4)),
        (0.1, 23.5, (236, 236, 236)),
        (0.3, 2.0, (8, 8, 8)),
        (0.5, (0.1, 0.3, 0.6), (1, 2, 2)),
        (0.7, np.float32(7.0), (11, 11, 11)),
    ],
)
def test_points_per_axis(resolution, dimension, points):
    maker = gg.GridMaker(resolution, dimension)
    assert maker.spatial_grid_dimensions() == points
    assert maker.grid_dimensions(2) == (2, *points)
    assert all(type(count) is int for count in maker.grid_dimensions(2))
    one = torch.zeros((1, 3)), torch.zeros(1, dtype=torch.int64), torch.ones(1)
    assert maker.forward((0, 0, 0), *one, n_types=2).shape == (2, *points)


def test_points_lie_where_they_should():
    """A tiny sphere at ``center - dimension / 2 + i * resolution`` lights up voxel i and no other."""
    maker = gg.GridMaker(0.3, (2.0, 1.2, 1.6), binary=True)
    points = np.array(maker.spatial_grid_dimensions())
    center = np.array([4.0, -3.0, 1.0])
    voxels = np.stack(np.meshgrid(*map(np.arange, points), indexing="ij"), -1).reshape(-1, 3)
    coords = center - np.array([2.0, 1.2, 1.6]) / 2 + 0.3 * voxels
    count = len(voxels)
    density = maker.forward(center, coords, np.arange(count), np.full(count, 0.01), n_types=count)
    assert np.array_equal(density.reshape(count, count), np.eye(count))


@pytest.mark.parametrize(
    ("settings", "cutoff"),
    [
        ({}, 1.5),
        ({"binary": True}, 1.0),
        ({"gaussian_radius_multiple": 2.0}, 2.25),
        ({"gaussian_radius_multiple": -2.0}, 2.0),
        ({"gaussian_radius_multiple": -2.0, "tail": "quintic"}, 2.0),
        ({"tail": "quintic"}, 1.5),
        ({"tail": "truncated", "gaussian_radius_multiple": 1.25}, 1.25),
    ],
)
def test_final_radius_multiple(settings, cutoff):
    assert gg.GridMaker(**settings).final_radius_multiple == cutoff


@pytest.mark.parametrize("settings", SETTINGS)
def test_equality_hash_copy_and_pickle(settings):
    maker = gg.GridMaker(**settings)
    for twin in (
        gg.GridMaker(**settings),
        copy.copy(maker),
        copy.deepcopy(maker),
        *(pickle.loads(pickle.dumps(maker, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)),
    ):
        assert twin == maker and hash(twin) == hash(maker) and type(twin) is gg.GridMaker
        assert twin.final_radius_multiple == maker.final_radius_multiple
        assert twin.grid_dimensions(3) == maker.grid_dimensions(3)
    others = [gg.GridMaker(**other) for other in SETTINGS if other != settings]
    assert all(maker != other for other in others)
    assert len({maker, *others}) == len(SETTINGS)


def test_equality_does_not_depend_on_spelling():
    assert gg.GridMaker(0.5, 8) == gg.GridMaker(0.5, (8.0, 8.0, 8.0)) == gg.GridMaker(dimension=[8, 8, 8])
    assert hash(gg.GridMaker(0.5, 8)) == hash(gg.GridMaker(0.5, (8.0, 8.0, 8.0)))
    assert all(gg.GridMaker() != other for other in ("GridMaker", None, 0.5))


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_pickled_maker_computes_the_same(settings):
    maker = gg.GridMaker(**{**settings, "dimension": 4.0})
    twin = pickle.loads(pickle.dumps(maker))
    scene = make_scene("quadratic", "by_type" if maker.radius_type_indexed else "per_atom")
    assert_same_bits(twin.forward(*scene.inputs), maker.forward(*scene.inputs))


@pytest.mark.parametrize("name", ["resolution", "dimension", "binary", "radius_scale", "tail", "anything"])
def test_immutable(name):
    maker = gg.GridMaker()
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        setattr(maker, name, 1)
    with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
        delattr(maker, name)
    assert maker == gg.GridMaker()


def test_repr_gives_the_maker_back():
    for settings in SETTINGS:
        maker = gg.GridMaker(**settings)
        assert eval(repr(maker), {"GridMaker": gg.GridMaker}) == maker


def test_only_resolution_and_dimension_are_positional():
    with pytest.raises(TypeError):
        gg.GridMaker(0.5, 23.5, True)


def test_settings_keep_their_precision():
    """Numbers come back as given, not through float32."""
    maker = pickle.loads(pickle.dumps(gg.GridMaker(math.pi / 7, math.pi, radius_scale=math.e)))
    assert maker.resolution == math.pi / 7 and maker.dimension == (math.pi,) * 3 and maker.radius_scale == math.e


def test_show_config(capsys):
    text = gg.show_config()
    assert text.strip() in capsys.readouterr().out
    for expected in (gg.__version__, torch.__version__, np.__version__, "SIMD", "CUDA", str(torch.get_num_threads())):
        assert expected in text


def test_import_needs_only_numpy_and_torch():
    """No optional package is touched by ``import gridgrad``."""
    optional = (
        "rdkit",
        "gemmi",
        "matplotlib",
        "pycuda",
        "mrcfile",
        "gridData",
        "tqdm.auto",
        "scipy",
        "pandas",
        "plotly",
    )
    code = (
        f"import sys, torch; before = set(sys.modules); import gridgrad; new = set(sys.modules) - before\n"
        f"print(sorted(new & set({optional!r})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
