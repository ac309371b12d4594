"""The command: what it writes, prints, refuses, and its exit status."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from support.mol_data import METHANOL, METHANOL_BONDS, cdk2, molblock, posebusters

import gridgrad as gg
from gridgrad import gpu
from gridgrad.cli import demo, main
from gridgrad.mol import ElementTyper, read_molecules, type_atoms

for package in ("rdkit", "gemmi", "tqdm", "matplotlib"):
    pytest.importorskip(package, reason=f"{package} is not installed")

GOOD = molblock(METHANOL, METHANOL_BONDS)
DRAWING = molblock([(s, x, y, 0.0) for s, x, y, _ in METHANOL], METHANOL_BONDS, "2D")


@pytest.fixture
def sdf(tmp_path):
    path = tmp_path / "methanol.sdf"
    path.write_text(GOOD + "$$$$\n")
    return str(path)


def run(*arguments):
    return main(["grid", *map(str, arguments)])


def files(folder):
    return sorted(os.listdir(folder))


def test_grid_of_one_ligand(sdf, tmp_path, capsys):
    assert run(sdf, "-o", tmp_path / "g.npz", "--dimension", "12", "--dtype", "float64") == 0
    ligand = next(read_molecules(sdf))
    atoms, center = type_atoms(ligand), ligand.coords.mean(axis=0)
    expected = gg.GridMaker(dimension=12).forward(tuple(center), atoms.coords, atoms.types, atoms.radii, n_types=11)
    with np.load(tmp_path / "g.npz") as data:
        np.testing.assert_allclose(data["density"], expected, atol=1e-12)
        np.testing.assert_allclose(data["origin"], center - 6)
        np.testing.assert_array_equal(data["coords"], ligand.coords)
        assert "methanol.sdf, record 1" in str(data["source"])
    out = capsys.readouterr().out
    assert "small" in out and "25 × 25 × 25" in out and "cpu" in out and " ms" in out and "g.npz" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert rows["H"][1] == "4" and rows["C"][1] == "1" and rows["O"][1] == "1" and rows["total"][1] == "6"
    assert float(rows["O"][2]) == pytest.approx(expected[3].sum(), abs=1e-3)
    assert float(rows["total"][2]) == pytest.approx(expected.sum(), abs=1e-3)


@pytest.mark.parametrize("suffix", [".mrc", ".dx"])
def test_complex_1ia1_reads_back(tmp_path, capsys, suffix):
    grid_data = pytest.importorskip("gridData", reason="GridDataFormats is not installed")
    mrcfile = pytest.importorskip("mrcfile", reason="mrcfile is not installed")
    ligand_path = posebusters("1ia1", "ligand.sdf")
    receptor_path = posebusters("1ia1", "protein_one_lig_removed.pdb")
    out, png, html = (tmp_path / f"c{s}" for s in (suffix, ".png", ".html"))
    assert run(ligand_path, "--receptor", receptor_path, "-o", out, "--png", png, "--html", html) == 0
    text = capsys.readouterr().out
    assert "19 + 3243" in text and "receptor C" in text and "ligand S" in text

    ligand, receptor = next(read_molecules(ligand_path)), next(read_molecules(receptor_path))
    center = ligand.coords.mean(axis=0)
    parts = [type_atoms(receptor), type_atoms(ligand)]
    coords, radii = (np.concatenate([getattr(part, key) for part in parts]) for key in ("coords", "radii"))
    types = np.zeros(len(coords), dtype=np.int64)
    expected = gg.GridMaker().forward(tuple(center), coords, types, radii, n_types=1)[0]
    read = grid_data.Grid(str(out))
    assert read.grid.shape == (48, 48, 48)
    np.testing.assert_allclose(read.grid, expected, atol=2e-5)
    np.testing.assert_allclose(read.origin, center - 11.75, atol=1e-5)
    np.testing.assert_allclose(read.delta, 0.5)
    if suffix == ".mrc":
        with mrcfile.open(out) as mrc:
            np.testing.assert_allclose(mrc.data.transpose(2, 1, 0), expected, atol=2e-5)
            np.testing.assert_allclose([mrc.header.origin[axis] for axis in "xyz"], center - 11.75, atol=1e-5)
            assert [mrc.voxel_size[axis] for axis in "xyz"] == [0.5] * 3
    # the density at the point nearest to an atom of the ligand is high, far from every atom it is zero
    nearest = np.rint((ligand.coords - read.origin) / 0.5).astype(int)
    assert (read.grid[tuple(nearest.T)] > 0.7).all()
    assert png.read_bytes().startswith(b"\x89PNG") and html.stat().st_size > 100_000
    assert files(tmp_path) == sorted([out.name, png.name, html.name])


def test_options_reach_the_grid(sdf, tmp_path):
    out = tmp_path / "g.pt"
    options = ["--center", "-1,0.5,2", "--resolution", "0.25", "--dimension", "4,5,6", "--tail", "quintic"]
    options += ["--radius-scale", "1.2", "--gaussian-radius-multiple", "1.1", "--no-hydrogens", "--elements", "O"]
    assert run(sdf, "-o", out, *options) == 0
    data = torch.load(out, weights_only=True)
    assert data["channels"] == ["O", "other"] and data["coords"].shape == (2, 3)
    np.testing.assert_allclose(data["origin"].numpy(), [-3, -2, -1])
    gm = gg.GridMaker(0.25, (4, 5, 6), tail="quintic", radius_scale=1.2, gaussian_radius_multiple=1.1)
    atoms = type_atoms(next(read_molecules(sdf, hydrogens=False)), ElementTyper(("O",)))
    expected = gm.forward((-1.0, 0.5, 2.0), atoms.coords, atoms.types, atoms.radii, n_types=2)
    np.testing.assert_allclose(data["density"].numpy(), expected, atol=1e-6)
    assert run(sdf, "-o", tmp_path / "b.npz", "--binary") == 0
    with np.load(tmp_path / "b.npz") as data:
        assert set(np.unique(data["density"])) >= {0.0, 1.0} and not (data["density"] % 1).any()


def test_channels_of_volumes(sdf, tmp_path, capsys):
    assert run(sdf, "-o", tmp_path / "g.mrc", "--channel", "each") == 0
    assert files(tmp_path) == ["g_C.mrc", "g_H.mrc", "g_O.mrc", "methanol.sdf"]
    assert run(sdf, "-o", tmp_path / "o.dx", "--channel", "O") == 0
    assert run(sdf, "-o", tmp_path / "q.dx", "--channel", "Q") == 2
    assert run(sdf, "--channel", "O") == 2
    assert run(sdf, "-o", tmp_path / "q.npz", "--channel", "O") == 2
    assert "q.dx" not in files(tmp_path) and "q.npz" not in files(tmp_path)
    assert "channel: got 'Q', expected total, each or one of H" in capsys.readouterr().err


def test_pymol_and_ccp4_suffixes(sdf, tmp_path, capsys):
    assert run(sdf, "-o", tmp_path / "g.ccp4") == 0
    assert "note: PyMOL" in capsys.readouterr().err
    assert run(sdf, "-o", tmp_path / "g.map") == 0
    assert not capsys.readouterr().err


def test_many_ligands_are_numbered(tmp_path, capsys):
    assert run(cdk2(), "-o", tmp_path / "g.npz") == 0
    assert files(tmp_path) == [f"g_{number:04d}.npz" for number in range(1, 48)]
    captured = capsys.readouterr()
    assert "47 of 47 molecules gridded on cpu" in captured.out
    assert captured.out.count("ZINC") == 47
    third = list(read_molecules(cdk2()))[2]
    with np.load(tmp_path / "g_0003.npz") as data:
        assert str(data["name"]) == third.name
        np.testing.assert_array_equal(data["coords"], third.coords)


def test_bad_records_are_skipped_reported_and_change_the_status(tmp_path, capsys):
    first, second = tmp_path / "first.sdf", tmp_path / "second.mol"
    first.write_text("$$$$\n".join([GOOD, DRAWING, GOOD, GOOD[:150], ""]))
    second.write_text(GOOD)
    out = tmp_path / "out"
    out.mkdir()
    assert run(first, tmp_path / "none.pdb", second, "-o", out / "g.npz") == 1
    assert files(out) == ["g_0001.npz", "g_0003.npz", "g_0005.npz"]
    captured = capsys.readouterr()
    assert "3 of 5 molecules gridded" in captured.out
    for text in ("first.sdf, record 2: no 3D", "first.sdf, record 4: truncated", "none.pdb: no such file"):
        assert text in captured.err
    assert run(first, "--flat", "-o", out / "h.npz") == 1
    assert "h_0002.npz" in files(out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "{tmp}/g.foo"], "unknown format '.foo'"),
        (["-o", "{tmp}/nowhere/g.npz"], "nowhere of .* does not exist"),
        (["--png", "{tmp}/g.jpg"], "unknown format '.jpg' of .*, expected .png"),
        (["--html", "{tmp}/nowhere/g.html"], "does not exist"),
        (["--resolution", "0"], "resolution: 0.0"),
        (["--dimension", "-3"], "dimension: -3.0"),
        (["--dimension", "inf"], "dimension: inf"),
        (["--dimension", "5000"], "GiB"),
        (["--radius-scale", "0"], "radius_scale: 0.0"),
        (["--center", "1,nan,2"], "--center: got .*nan"),
        (["--device", "abacus"], "--device: got 'abacus'"),
        (["--device", "meta"], "--device: got 'meta'"),
        (["--elements", "C,Qq"], "element: got 'Qq'"),
        (["--typer", "nothing"], "--typer: got 'nothing', expected gnina, gnina-openbabel or MODULE:NAME"),
        (["--typer", "no_such_module:f"], "no_such_module"),
        (["--typer", "math:pi"], "--typer: pi of math is 3.14"),
        (["--typer", "math:sin", "--elements", "C"], "--elements: is for the element typer"),
        (["--receptor", "{tmp}/none.pdb"], "none.pdb: no such file"),
    ],
)
def test_arguments_that_cannot_be_followed(sdf, tmp_path, capsys, options, message):
    import re

    before = files(tmp_path)
    assert run(sdf, *(option.format(tmp=tmp_path) for option in options)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and "Traceback" not in error
    assert files(tmp_path) == before


def test_cuda_grids_the_same_or_says_why_not(sdf, tmp_path, capsys):
    status = run(sdf, "--device", "cuda", "-o", tmp_path / "gpu.npz")
    usable, reason = gpu.availability()
    if not usable:
        assert status == 2 and reason in capsys.readouterr().err and not (tmp_path / "gpu.npz").exists()
        return
    assert status == 0 and run(sdf, "-o", tmp_path / "cpu.npz") == 0
    with np.load(tmp_path / "gpu.npz") as there, np.load(tmp_path / "cpu.npz") as here:
        np.testing.assert_allclose(there["density"], here["density"], atol=1e-5)


@pytest.mark.parametrize(
    "arguments", [[], ["grid"], ["grid", "a.sdf", "--center", "1,2"], ["grid", "a.sdf", "--tail", "x"]]
)
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage: gridgrad" in capsys.readouterr().err


def test_a_typer_of_ones_own(sdf, tmp_path, monkeypatch):
    (tmp_path / "my_typer.py").write_text(
        "import numpy as np\n"
        "def heavy(m):\n"
        "    w = (m.elements > 1).astype(float)\n"
        "    return np.stack([w, 0.5 * w], axis=1), np.full(len(m), 1.5), ('full', 'half')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run(sdf, "--typer", "my_typer:heavy", "-o", "g.npz") == 0
    with np.load("g.npz") as data:
        assert tuple(data["channels"]) == ("full", "half") and data["density"].any()
        np.testing.assert_allclose(data["density"][1], data["density"][0] / 2, rtol=1e-6)


def test_a_ligand_outside_the_box_is_said(sdf, capsys):
    assert run(sdf, "--center", "100,0,0") == 0
    assert "6 of the 6 lie outside the box" in capsys.readouterr().out


def test_the_first_model_of_a_receptor_is_taken_and_said(sdf, tmp_path, capsys):
    receptor = tmp_path / "rec.sdf"
    receptor.write_text(f"{GOOD}$$$$\n{GOOD}$$$$\n")
    assert run(sdf, "--receptor", receptor) == 0
    assert "has more than one record; the first is the receptor" in capsys.readouterr().err


def test_info_prints_the_configuration(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert torch.__version__ in out and "SIMD" in out and "CUDA" in out


def test_demo_checks_its_numbers_and_draws(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    assert files(tmp_path / "demo") == ["gradient.png", "grid.html", "grid.png"]
    assert "NO " not in out and out.count("  ok  ") == 7
    assert "0 0 0 0 0.1353 0.6065 1 0.6065 0.1353 0 0 0 0" in out
    assert "0.5413411329" in out and "1.7583013333" in out


def test_demo_fails_when_a_number_does_not_come_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "closed_forms", lambda: [("wrong", np.array(1.0), np.array(1.0 + 1e-9))])
    assert main(["demo", "-o", str(tmp_path)]) == 1
    assert "NO  wrong" in capsys.readouterr().out


def test_a_missing_extra_is_named(tmp_path):
    code = (
        "import sys\n"
        "sys.modules.update(rdkit=None, gemmi=None)\n"
        "from gridgrad.cli import main\n"
        f"sys.exit(main(['grid', {str(tmp_path / 'a.sdf')!r}]))\n"
    )
    (tmp_path / "a.sdf").write_text(GOOD)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "pip install 'gridgrad[mol]'" in result.stderr and "Traceback" not in result.stderr


def test_import_takes_no_optional_package():
    names = "{'rdkit', 'gemmi', 'gridData', 'mrcfile', 'matplotlib', 'tqdm', 'scipy', 'gridgrad.mol', 'gridgrad.plot'}"
    code = (
        f"import sys, torch; before = set(sys.modules)\nimport gridgrad, gridgrad.cli\n"
        f"print(sorted({names} & (set(sys.modules) - before)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_reader_that_leaves_is_no_error(sdf):
    code = f"import sys; from gridgrad.cli import main; sys.exit(main(['grid', {str(cdk2())!r}]))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    assert b"Traceback" not in error and process.returncode in (0, 141)


def test_gnina_types_by_role(tmp_path, capsys):
    atoms = [("C", 0, 0, 0), ("C", 1.5, 0, 0), ("C", 0, 1.5, 0), ("C", 0, 0, 1.5), ("C", -1.5, 0, 0), ("C", 0, -1.5, 0),
             ("Cl", 0, 1.7, 2.5)]  # fmt: skip
    path = tmp_path / "m.sdf"
    path.write_text(molblock(atoms, [(1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (4, 7)]))
    assert run(path, "--receptor", str(path), "--typer", "gnina", "-o", str(tmp_path / "g.npz")) == 0
    out, error = capsys.readouterr()
    assert "28 channels" in out and "receptor Bromine_Iodine_Chlorine_Fluorine " in out and "ligand Chlorine " in out
    tryptophan = posebusters("1uou", "protein_one_lig_removed.pdb")
    found = []
    for name in ("gnina", "gnina-openbabel"):
        options = ("--receptor", str(tryptophan), "--typer", name, "--center=0,0,0", "--dimension", "2")
        assert run(posebusters("1uou", "ligand.sdf"), *options) == 0
        line = next(line for line in capsys.readouterr().out.splitlines() if "receptor AromaticCarbonXSNonH" in line)
        found.append(int(line.split()[2]))
    assert found == [27, 1]  # histidine, tryptophan and a tyrosine; the tyrosine
    remark = "atoms typed by their element, whose bonds RDKit cannot understand: 1"
    assert remark in out and remark in error
