"""Grids read back: what `write` and other programs have written, and what must be refused."""

import bz2
import gzip
import io
import os
import pickle
import random
import warnings
import zipfile

import numpy as np
import pytest
import torch

from gridgrad.io import DensityGrid, read, write

ORIGIN = np.array([1.25, -4.5, 17.125])
SUFFIXES = (".npz", ".pt", ".dx", ".mrc", ".map", ".ccp4")


@pytest.fixture
def grid():
    density = np.random.default_rng(3).uniform(0, 2, (3, 5, 6, 7)).astype(np.float32)
    extra = {"coords": np.arange(6.0).reshape(2, 3), "types": np.array([0, 2]), "source": "a.sdf, record 1"}
    return DensityGrid(density, ("receptor C", "receptor N", "ligand/C"), ORIGIN, 0.1, "made ü", extra)


def needs(suffix):
    if suffix in (".mrc", ".map", ".ccp4"):
        pytest.importorskip("mrcfile", reason="mrcfile is not installed")
    if suffix == ".dx":
        pytest.importorskip("gridData", reason="GridDataFormats is not installed")


def refused(path, match, **options):
    with pytest.raises(ValueError, match=match) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_grids_come_back_as_they_were(tmp_path, grid, suffix, dtype):
    grid = DensityGrid(grid.density.astype(dtype) / 3, grid.channels, ORIGIN, 0.1, grid.name, grid.extra)
    again = read(*write(tmp_path / f"g{suffix}", grid))
    np.testing.assert_array_equal(again.density, grid.density)
    assert again.density.dtype == dtype and again.channels == grid.channels and again.name == grid.name
    np.testing.assert_array_equal(again.origin, ORIGIN)
    assert again.resolution == 0.1 and again.extra.keys() == grid.extra.keys()
    assert again.extra["source"] == grid.extra["source"]
    np.testing.assert_array_equal(again.extra["types"], grid.extra["types"])


@pytest.mark.parametrize("suffix", [".dx", ".mrc", ".map", ".ccp4"])
def test_volumes_come_back(tmp_path, grid, suffix):
    needs(suffix)
    again = read(*write(tmp_path / f"g{suffix}", grid))
    assert again.channels == ("total",) and again.resolution == 0.1 and again.name == "g"
    np.testing.assert_allclose(again.density[0], grid.total(), rtol=0, atol=1e-14 if suffix == ".dx" else 0)
    np.testing.assert_allclose(again.origin, ORIGIN, atol=1e-6)
    again = read(*write(tmp_path / f"g{suffix}", grid, "receptor N"))
    np.testing.assert_allclose(again.density[0], grid.density[1], rtol=0, atol=1e-14)


def test_opendx_begins_with_its_header(tmp_path, grid):
    """libmolgrid reads no comments."""
    needs(".dx")
    (path,) = write(tmp_path / "g.dx", grid)
    lines = path.read_text().splitlines()
    assert lines[0].split() == ["object", "1", "class", "gridpositions", "counts", "5", "6", "7"]
    assert not any(line.startswith("#") for line in lines)


LIBMOLGRID = """object 1 class gridpositions counts 2 3  2
origin 0.50000 -5.25000 16.25000
delta 0.75000 0 0
delta 0 0.75000 0
delta 0 0 0.75000
object 2 class gridconnections counts 2 3  2
object 3 class array type double rank 0 items [ 12] data follows
0.00000 0.14286 0.28571
0.42857 0.57143 0.71429
0.85714 1.00000 1.14286
1.28571 1.42857 1.57143

"""


def test_opendx_of_other_programs(tmp_path):
    path = tmp_path / "g.dx"
    expected = np.round(np.arange(12).reshape(1, 2, 3, 2) / 7, 5)
    footer = 'attribute "dep" string "positions"\nobject "regular positions" class field\ncomponent "data" value 3\n'
    for text in (
        LIBMOLGRID,
        "# a comment\n\n#another\n" + LIBMOLGRID.replace("[ 12]", "12") + footer,
        LIBMOLGRID.replace("\n", "\r\n"),
        LIBMOLGRID.replace("type double", 'type "float"').replace("0.75000", "7.5e-01"),
    ):
        path.write_bytes(text.encode())
        grid = read(path)
        np.testing.assert_array_equal(grid.density, expected)
        assert grid.origin.tolist() == [0.5, -5.25, 16.25] and grid.resolution == 0.75


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (3, 1, 2)])
def test_mrc_in_any_order_of_axes(tmp_path, order):
    """The columns, rows and sections of the file are the axes `order`; the origin is in NSTART."""
    mrcfile = pytest.importorskip("mrcfile", reason="mrcfile is not installed")
    density = np.random.default_rng(1).uniform(0, 1, (3, 4, 5)).astype(np.float32)  # x, y, z
    columns, rows, sections = (axis - 1 for axis in order)
    path = tmp_path / "g.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.ascontiguousarray(density.transpose(sections, rows, columns)))
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = order
        for axis, n in zip("xyz", density.shape, strict=True):
            mrc.header[f"m{axis}"] = n
            mrc.header.cella[axis] = 0.5 * n
        start = np.array([10, -20, 30])[[columns, rows, sections]]
        mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = start
    grid = read(path)
    np.testing.assert_array_equal(grid.density[0], density)
    assert grid.origin.tolist() == [5, -10, 15] and grid.resolution == 0.5


def test_a_map_by_gemmi(tmp_path):
    gemmi = pytest.importorskip("gemmi", reason="gemmi is not installed")
    needs(".ccp4")
    volume = np.arange(120, dtype=np.float32).reshape(4, 5, 6)
    cell = gemmi.FloatGrid(4, 5, 6)
    cell.set_unit_cell(gemmi.UnitCell(2, 2.5, 3, 90, 90, 90))
    cell.spacegroup = gemmi.SpaceGroup("P 1")
    np.array(cell, copy=False)[:] = volume
    written = gemmi.Ccp4Map()
    written.grid = cell
    written.update_ccp4_header()
    written.write_ccp4_map(str(tmp_path / "g.ccp4"))
    grid = read(tmp_path / "g.ccp4")
    np.testing.assert_array_equal(grid.density[0], volume)
    assert grid.resolution == 0.5 and grid.origin.tolist() == [0, 0, 0]


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_and_empty_files(tmp_path, grid, suffix):
    needs(suffix)
    (path,) = write(tmp_path / f"g{suffix}", grid)
    data = path.read_bytes()
    for length in (0, 1, 50, 300, len(data) // 2, len(data) - 200):
        path.write_bytes(data[:length])
        refused(path, "truncated|expected|Expected|enough|MRC")
    path.write_bytes(b"hello, this is no grid\n" * 100)
    refused(path, "truncated|expected|Expected|enough|MRC")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"g{suffix}"):
        read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_density_that_is_not_finite(tmp_path, grid, suffix, value):
    needs(suffix)
    grid.density[1, 2, 3, 4] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of mrcfile, which sees it too
        (path,) = write(tmp_path / f"g{suffix}", grid)
    refused(path, rf"density: got {value} at \(., 2, 3, 4\), expected finite numbers")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_beyond_the_limit(tmp_path, grid, suffix):
    needs(suffix)
    (path,) = write(tmp_path / f"g{suffix}", grid)
    refused(path, "limit of size|expected at most", size_limit=500)
    read(path, size_limit=100_000)


@pytest.mark.parametrize("module", [gzip, bz2])
def test_volumes_that_unpack_beyond_the_limit(tmp_path, module):
    needs(".mrc")
    volume = DensityGrid(np.ones((1, 20, 20, 20), np.float32), ("a",), ORIGIN, 0.5)
    (path,) = write(tmp_path / "g.mrc", volume)
    path.write_bytes(module.compress(path.read_bytes()))
    assert path.stat().st_size < 1024
    refused(path, "more than 33023 bytes, the limit of size", size_limit=33023)
    np.testing.assert_array_equal(read(path, size_limit=33024).density, volume.density)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_nothing_is_unpickled(tmp_path, grid, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("objects.npz", density=grid.density, origin=ORIGIN, resolution=1.0, channels=np.array([Bomb()], object))
    refused("objects.npz", "channels.npy: got Python objects")
    torch.save({"density": Bomb()}, "objects.pt")
    refused("objects.pt", "weights_only|Unsupported|truncated or broken")
    with open("plain.pt", "wb") as file:
        pickle.dump(Bomb(), file)
    refused("plain.pt", "truncated or broken")
    assert not os.path.exists("exploded")


def test_arrays_that_claim_to_be_huge(tmp_path, grid):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**6,) * 3})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("density.npy", header.getvalue())
    refused(tmp_path / "huge.npz", r"density.npy: got shape \(1000000, 1000000, 1000000\)")
    huge = torch.zeros(1).expand(1, 10**4, 10**4, 10**4)  # one number in the file
    torch.save({"density": huge}, tmp_path / "huge.pt")
    refused(tmp_path / "huge.pt", "tensors of 4000000000000 bytes")
    text = LIBMOLGRID.replace("counts 2 3", "counts 2000000000 3").replace("12]", "12000000000]")
    (tmp_path / "huge.dx").write_text(text)
    refused(tmp_path / "huge.dx", "got 12 values, expected 12000000000")
    (path,) = write(tmp_path / "huge.mrc", grid)
    path.write_bytes(b"\x00\x00\x00\x7f" * 3 + path.read_bytes()[12:])
    refused(path, "bytes")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"density": None}, "got no density"),
        ({"density": np.zeros((2, 2, 2))}, "density: got shape"),
        ({"density": np.zeros((1, 2, 2, 2), int)}, "density: got int64, expected floating-point"),
        ({"channels": np.array(["a", "b"])}, "density: got shape .* and 2 channels"),
        ({"origin": np.zeros(2)}, "origin: got shape"),
        ({"origin": np.full(3, np.nan)}, "origin: got .*nan"),
        ({"resolution": np.array(-1.0)}, "resolution: got -1.0, expected one positive number"),
        ({"resolution": np.ones(3)}, "resolution: got .*expected one positive"),
    ],
)
def test_arrays_that_make_no_grid(tmp_path, change, match):
    arrays = {"density": np.zeros((1, 2, 2, 2)), "origin": np.zeros(3), "resolution": np.array(1.0)}
    arrays = {"channels": np.array(["a"])} | arrays | change
    np.savez(tmp_path / "g.npz", **{key: value for key, value in arrays.items() if value is not None})
    refused(tmp_path / "g.npz", match)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("delta 0.75000 0 0", "delta 0.80000 0 0", "delta: got .*same spacing"),
        ("delta 0.75000 0 0", "delta 0.75000 0.1 0", "delta: got .*same spacing"),
        ("delta 0.75000 0 0\n", "", r"got 'object 2 .*expected delta"),
        ("[ 12]", "[ 13]", "got 13 items for"),
        ("0.14286", "word", "expected numbers only"),
        ("0.14286", "", "got 11 values, expected 12"),
        ("0.14286", "1 2", "got 13 values, expected 12"),
        ("rank 0", "rank 1", "expected object class array"),
    ],
)
def test_opendx_that_is_no_grid(tmp_path, old, new, match):
    (tmp_path / "g.dx").write_text(LIBMOLGRID.replace(old, new))
    refused(tmp_path / "g.dx", match)


def test_mrc_that_is_no_grid(tmp_path, grid):
    mrcfile = pytest.importorskip("mrcfile", reason="mrcfile is not installed")
    for key, value, match in (
        ("cellb", (90, 100, 90), "the angles .*100"), ("cella", (1, 2, 3), "same spacing"), ("mapc", 3, "MAPC, MAPR"),
    ):  # fmt: skip
        (path,) = write(tmp_path / "g.mrc", grid)
        with mrcfile.open(path, "r+") as mrc:
            mrc.header[key] = value
        refused(path, match)


def test_an_unknown_format(tmp_path):
    with pytest.raises(ValueError, match=r"input: unknown format '.cube' of .*expected one of .npz"):
        read(tmp_path / "g.cube")


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".dx", ".mrc"])
def test_broken_bytes_end_in_a_value_error(tmp_path, suffix):
    """Of 20 000 files that were mutated like this none ended otherwise."""
    needs(suffix)
    (path,) = write(tmp_path / f"g{suffix}", DensityGrid(np.ones((2, 3, 4, 5), np.float32), ("a", "b"), ORIGIN, 0.5))
    data, rng = path.read_bytes(), random.Random(suffix)
    for _ in range(100):
        broken = bytearray(data)
        for _ in range(rng.choice([1, 3, 20])):
            broken[rng.randrange(min(len(data), 1500))] = rng.randrange(256)
        path.write_bytes(broken[: len(data) if rng.random() < 0.7 else rng.randrange(len(data))])
        try:
            grid = read(path)
        except ValueError:
            continue
        assert np.isfinite(grid.density).all()
