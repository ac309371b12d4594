"""Writers: what other programs' readers find in the files, and what is refused."""

import os
import stat

import numpy as np
import pytest
import torch

from gridgrad.io import FORMATS, DensityGrid, atomic_files, check_output, write

ORIGIN = np.array([1.25, -4.5, 17.125])


@pytest.fixture
def grid():
    density = np.random.default_rng(3).uniform(0, 2, (3, 5, 6, 7)).astype(np.float32)
    density[1] = 0
    extra = {"coords": np.arange(6.0).reshape(2, 3), "types": np.array([0, 2]), "source": "a.sdf, record 1"}
    return DensityGrid(density, ("receptor C", "receptor N", "ligand/C"), ORIGIN, 0.75, "made ü", extra)


def test_npz_holds_everything(tmp_path, grid):
    (path,) = write(tmp_path / "g.npz", grid)
    with np.load(path, allow_pickle=False) as data:
        np.testing.assert_array_equal(data["density"], grid.density)
        np.testing.assert_array_equal(data["origin"], ORIGIN)
        np.testing.assert_array_equal(data["coords"], grid.extra["coords"])
        assert data["density"].dtype == np.float32 and data["types"].dtype == np.int64
        assert data["resolution"] == 0.75 and tuple(data["channels"]) == grid.channels
        assert str(data["name"]) == grid.name and str(data["source"]) == grid.extra["source"]


def test_pt_holds_everything_and_loads_weights_only(tmp_path, grid):
    (path,) = write(tmp_path / "g.PT", grid)
    data = torch.load(path, weights_only=True)
    np.testing.assert_array_equal(data["density"].numpy(), grid.density)
    np.testing.assert_array_equal(data["origin"].numpy(), ORIGIN)
    np.testing.assert_array_equal(data["types"].numpy(), grid.extra["types"])
    assert data["resolution"].item() == 0.75 and data["channels"] == list(grid.channels)
    assert data["name"] == grid.name and data["source"] == grid.extra["source"]


@pytest.mark.parametrize(("channel", "index"), [("total", None), ("ligand/C", 2), ("receptor N", 1)])
def test_dx_by_griddataformats(tmp_path, grid, channel, index):
    grid_data = pytest.importorskip("gridData", reason="GridDataFormats is not installed")
    (path,) = write(tmp_path / "g.dx", grid, channel)
    read = grid_data.Grid(str(path))
    expected = grid.density.sum(axis=0) if index is None else grid.density[index]
    assert read.grid.shape == (5, 6, 7)
    np.testing.assert_allclose(read.grid, expected, rtol=1e-7)
    np.testing.assert_allclose(read.origin, ORIGIN, atol=1e-6)
    np.testing.assert_allclose(read.delta, 0.75)


@pytest.mark.parametrize("suffix", [".mrc", ".map", ".ccp4"])
def test_mrc_by_mrcfile_griddataformats_and_gemmi(tmp_path, grid, suffix):
    mrcfile = pytest.importorskip("mrcfile", reason="mrcfile is not installed")
    grid_data = pytest.importorskip("gridData", reason="GridDataFormats is not installed")
    gemmi = pytest.importorskip("gemmi", reason="gemmi is not installed")
    expected = grid.density.sum(axis=0)
    (path,) = write(tmp_path / f"g{suffix}", grid)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as mrc:
        np.testing.assert_array_equal(mrc.data.transpose(2, 1, 0), expected)
        assert [mrc.voxel_size[axis] for axis in "xyz"] == [0.75] * 3
        assert [mrc.header.origin[axis] for axis in "xyz"] == ORIGIN.tolist()
        assert [int(mrc.header[f"n{axis}start"]) for axis in "xyz"] == [0, 0, 0]
        assert any("total" in label for label in mrc.get_labels())
    read = grid_data.Grid(str(path), file_format="mrc")
    np.testing.assert_array_equal(read.grid, expected)
    np.testing.assert_allclose(read.origin, ORIGIN)
    np.testing.assert_allclose(read.delta, 0.75)
    ccp4 = gemmi.read_ccp4_map(str(path))
    np.testing.assert_array_equal(np.array(ccp4.grid, copy=False), expected)
    assert ccp4.header_float(50) == ORIGIN[0]  # word 50: ORIGIN x
    assert ccp4.grid.spacing == (0.75, 0.75, 0.75)


def test_each_channel_that_is_not_empty_gets_a_file(tmp_path, grid):
    mrcfile = pytest.importorskip("mrcfile", reason="mrcfile is not installed")
    paths = write(tmp_path / "g.mrc", grid, "each")
    assert [path.name for path in paths] == ["g_receptor-C.mrc", "g_ligand-C.mrc"]
    for path, index in zip(paths, (0, 2), strict=True):
        with mrcfile.open(path) as mrc:
            np.testing.assert_array_equal(mrc.data.transpose(2, 1, 0), grid.density[index])
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in paths)


def test_a_float64_grid(tmp_path, grid):
    double = DensityGrid(grid.density.astype(np.float64) / 3, grid.channels, ORIGIN, 0.75)
    (path,) = write(tmp_path / "g.npz", double)
    with np.load(path) as data:
        np.testing.assert_array_equal(data["density"], double.density)
    grid_data = pytest.importorskip("gridData", reason="GridDataFormats is not installed")
    (path,) = write(tmp_path / "g.dx", double)
    np.testing.assert_allclose(grid_data.Grid(str(path)).grid, double.total(), rtol=1e-12)


# --- refused, and never half a file -----------------------------------------------------------------------------------


def test_outputs_that_cannot_be_written(tmp_path, grid):
    with pytest.raises(ValueError, match=r"output: unknown format '.xyz' of .*expected one of .npz"):
        write(tmp_path / "g.xyz", grid)
    with pytest.raises(ValueError, match="unknown format ''"):
        check_output(tmp_path / "g")
    with pytest.raises(FileNotFoundError, match=r"output: the folder .*nowhere of .* does not exist"):
        write(tmp_path / "nowhere" / "g.npz", grid)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        check_output(tmp_path / "file" / "g.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder, expected a file"):
        check_output(tmp_path / "folder.npz")
    for suffix in (".npz", ".pt"):
        with pytest.raises(ValueError, match=f"channel: got 'each', but {suffix} holds all channels"):
            check_output(tmp_path / f"g{suffix}", "each")
    with pytest.raises(ValueError, match="channel: got 'ligand Q', expected total, each or one of receptor C"):
        write(tmp_path / "g.dx", grid, "ligand Q")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.npz"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written to"):
        check_output(tmp_path / "g.npz")


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path, grid, monkeypatch):
    path = tmp_path / "g.npz"
    path.write_text("old")

    def fails(file, grid):
        file.write_text("half a grid")
        raise RuntimeError("disk full")

    monkeypatch.setitem(FORMATS, ".npz", fails)
    monkeypatch.setattr("gridgrad.io.writers._WHOLE", {fails})
    with pytest.raises(RuntimeError, match="disk full"):
        write(path, grid)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["g.npz"]


def test_several_files_appear_together_or_not_at_all(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]

    def interrupted():
        with atomic_files(paths) as temporaries:
            assert len(os.listdir(tmp_path)) == 1
            temporaries[0].write_text("first")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []
    with atomic_files(paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text("done")
        assert not any(path.exists() for path in paths)
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask for path in paths)


def test_a_grid_that_does_not_fit_its_names(grid):
    with pytest.raises(ValueError, match="density: got shape"):
        DensityGrid(grid.density, ("a",), ORIGIN, 0.5)
    with pytest.raises(ValueError, match="density: got shape"):
        DensityGrid(grid.density[0], ("a",) * 5, ORIGIN, 0.5)
    with pytest.raises(ValueError, match="origin: got shape"):
        DensityGrid(grid.density, grid.channels, ORIGIN[:2], 0.5)
    np.testing.assert_allclose(grid.extent, [[1.25, 4.25], [-4.5, -0.75], [17.125, 21.625]])


def test_a_missing_package_is_named_with_its_extra(tmp_path, grid, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mrcfile", None)
    with pytest.raises(ImportError, match=r"mrcfile is needed here .*pip install 'gridgrad\[mol\]'"):
        check_output(tmp_path / "g.mrc")
    check_output(tmp_path / "g.npz")
