"""What the command survives: a typer that raises, a full disk, input without an end, pipes, hostile names, links."""

import gzip
import os
import resource
import subprocess
import sys
import threading

import numpy as np
import pytest
from support.mol_data import METHANOL, METHANOL_BONDS, molblock
from support.traps import TRAPS

from gridgrad.cli import main
from gridgrad.io import DensityGrid, atomic_files, check_output, write
from gridgrad.mol import MoleculeError, read_molecules

for package in ("rdkit", "gemmi", "tqdm", "matplotlib", "gridData", "mrcfile"):
    pytest.importorskip(package, reason=f"{package} is not installed")

GOOD = molblock(METHANOL, METHANOL_BONDS) + "$$$$\n"


@pytest.fixture
def sdf(tmp_path):
    path = tmp_path / "three.sdf"
    path.write_text(GOOD * 3)
    return path


@pytest.fixture
def typers(tmp_path, monkeypatch):
    (tmp_path / "some_typers.py").write_text(
        "import numpy as np\n"
        "def picky(m):\n"
        "    if m.record == 2: raise ZeroDivisionError('two \\x1b[31m')\n"
        "    return np.zeros(len(m), int), np.ones(len(m)), ('all',)\n"
        "def slashes(m):\n"
        "    return np.arange(len(m)) % 4, np.ones(len(m)), ('a/b', 'a b', 'A B', 'a-b-2')\n"
    )
    (tmp_path / "broken_typers.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments):
    return main(["grid", "--dimension", "8", *map(str, arguments)])


def names(folder):
    return sorted(os.listdir(folder))


def test_a_typer_that_raises_costs_one_record(sdf, typers, tmp_path, capsys):
    assert run(sdf, "--typer", "some_typers:picky", "-o", "g.npz") == 1
    assert [name for name in names(tmp_path) if name.endswith("npz")] == ["g_0001.npz", "g_0003.npz"]
    captured = capsys.readouterr()
    assert "three.sdf, record 2: the typer raised ZeroDivisionError: two \\x1b[31m" in captured.err
    assert "2 of 3 molecules" in captured.out and "\x1b[31m" not in captured.err
    assert run(sdf, "--typer", "broken_typers:f") == 2
    assert "--typer: broken_typers cannot be imported: ZeroDivisionError" in capsys.readouterr().err


def test_a_typer_that_raises_for_the_receptor_ends_the_run(sdf, typers, tmp_path, capsys):
    receptor = tmp_path / "receptor.sdf"
    receptor.write_text("x\n$$$$\n" + GOOD)
    assert run(sdf, "--receptor", receptor) == 2
    assert "receptor.sdf, record 1: truncated" in capsys.readouterr().err


@pytest.mark.parametrize(
    "output", ["-o g.npz", "-o g.pt", "-o g.dx", "-o g.mrc", "-o g.map --channel each", "--png g.png", "--html g.html"]
)
def test_a_full_disk_is_one_line_with_the_name_of_the_file(tmp_path, capsys, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.sdf").write_text(GOOD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        status = run("one.sdf", *output.split())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2 and "File too large" in line
    assert output.split()[1].partition(".")[0] in line and line.startswith("gridgrad grid: ")
    assert names(tmp_path) == ["one.sdf"]


def test_a_full_disk_behind_the_standard_output(sdf):
    code = f"import sys; from gridgrad.cli import main; sys.exit(main(['grid', {str(sdf)!r}]))"
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    (line,) = result.stderr.strip().splitlines()
    assert result.returncode == 2 and "No space left on device" in line and "standard output" in line


def test_input_without_an_end(tmp_path, capsys):
    bomb = tmp_path / "bomb.sdf.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(GOOD.encode())
        for _ in range(3):
            file.write(b"\n" * (1 << 20))
    assert run(bomb, "--record-limit", "1") == 1
    captured = capsys.readouterr()
    assert "record 2: longer than 1048576 bytes, the limit of a record" in captured.err
    assert "1 of 2 molecules" in captured.out
    for name in ("x.sdf", "x.mol2", "x.pdb", "x.pdbqt", "x.cif", "x.xyz"):
        endless = tmp_path / name
        endless.symlink_to("/dev/zero")
        with pytest.raises(MoleculeError, match="longer than 100000 bytes"):
            list(read_molecules(endless, record_limit=100_000))


def test_a_count_that_explodes(tmp_path):
    path = tmp_path / "x.xyz"
    path.write_text(f"{10**18}\n\nC 0 0 1\n")
    with pytest.raises(MoleculeError, match="truncated: 1 of 1000000000000000000 atoms"):
        list(read_molecules(path))


def test_pipes_are_read_once(tmp_path, capsys):
    paths = {name: tmp_path / name for name in ("ligands.sdf", "receptor.pdb")}
    texts = {"ligands.sdf": GOOD * 2 + "x\n$$$$\n" + GOOD, "receptor.pdb": TRAPS["after_a_model.pdb"].text}

    def feed(name):
        with open(paths[name], "w") as file:
            file.write(texts[name])

    for name, path in paths.items():
        os.mkfifo(path)
        threading.Thread(target=feed, args=(name,), daemon=True).start()
    assert run(paths["ligands.sdf"], "--receptor", paths["receptor.pdb"], "-o", tmp_path / "g.npz") == 1
    captured = capsys.readouterr()
    assert "3 of 4 molecules" in captured.out and "receptor.pdb has more than one record" in captured.err
    assert [n for n in names(tmp_path) if n.endswith("npz")] == ["g_0001.npz", "g_0002.npz", "g_0004.npz"]


@pytest.mark.parametrize("records", [1, 2])
def test_names_cannot_command_the_terminal(tmp_path, capsys, records):
    folder = tmp_path / "a\nb\x1b[2J\udcff"
    folder.mkdir()
    path = folder / "m.sdf"
    hostile = molblock(METHANOL, METHANOL_BONDS, title="\x1b]0;owned\x07\u202e\x9b31m$x^{_ <b>\0")
    path.write_text(hostile + "$$$$\n" + (hostile[:99] + "$$$$\n") * (records - 1))
    outputs = ("-o", folder / "g.mrc", "--png", folder / "g.png", "--html", folder / "g.html")
    assert run(path, "--receptor", path, *outputs) == records - 1
    captured = capsys.readouterr()
    text = (captured.out + captured.err).replace("\n", "")
    assert text.isprintable() and "owned" in text and "\\x1b]0;" in text
    assert len(names(folder)) == 4
    assert run(path, "-o", folder / "nowhere" / "g.npz") == 2
    assert capsys.readouterr().err.replace("\n", "").isprintable()


def test_what_was_left_out_is_said(tmp_path, capsys):
    for name in ("as_a_whole.pdb", "one_dummy.pdb"):
        (tmp_path / name).write_text(TRAPS[name].text)
    assert run(tmp_path / "as_a_whole.pdb") == 0
    assert "atoms left out: 2 of alternative locations" in capsys.readouterr().out
    assert run(tmp_path / "one_dummy.pdb") == 1
    assert "atom 5 is X1 of DUM 1: a dummy atom; expected chemical elements" in capsys.readouterr().err
    assert run(tmp_path / "one_dummy.pdb", "--skip-unknown", "--receptor", tmp_path / "as_a_whole.pdb") == 0
    captured = capsys.readouterr()
    assert "atoms left out: 1 of unknown elements" in captured.out
    assert "as_a_whole.pdb: atoms left out: 2 of alternative locations" in captured.err
    (tmp_path / "ideal.cif").write_text(TRAPS["component_with_ideal_places_only.cif"].text)
    assert run(tmp_path / "ideal.cif", tmp_path / "as_a_whole.pdb") == 0
    captured = capsys.readouterr()
    assert "ideal coordinates" in captured.out and "2 of alternative locations" in captured.out


def test_links_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    grid = DensityGrid(np.ones((1, 2, 2, 2), np.float32), ("C",), np.zeros(3), 1.0)
    for name, target in {"old.npz": "real/old.npz", "new.npz": "real/new.npz"}.items():
        (tmp_path / name).symlink_to(target)  # new.npz leads nowhere yet
    (tmp_path / "real" / "old.npz").write_text("old")
    for name in ("old.npz", "new.npz"):
        write(tmp_path / name, grid)
        assert (tmp_path / name).is_symlink() and not (tmp_path / "real" / name).is_symlink()
        with np.load(tmp_path / name) as data:
            assert data["density"].all()
    assert names(tmp_path / "real") == ["new.npz", "old.npz"]
    (tmp_path / "away.npz").symlink_to("nowhere/away.npz")
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere"):
        check_output(tmp_path / "away.npz")


def test_a_device_is_not_replaced(tmp_path):
    (tmp_path / "null.npz").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("null.npz", "pipe.npz"):
        with pytest.raises(FileExistsError, match="is a pipe or a device, expected a file"):
            check_output(tmp_path / name)
    (tmp_path / "one.txt").symlink_to("two.txt")
    with (
        pytest.raises(ValueError, match="are the same file"),
        atomic_files([tmp_path / "one.txt", tmp_path / "two.txt"]),
    ):
        pass


def test_channels_have_files_of_their_own(sdf, typers, tmp_path):
    (tmp_path / "one.sdf").write_text(GOOD)
    assert run("one.sdf", "--typer", "some_typers:slashes", "-o", "g.mrc", "--channel", "each") == 0
    files = [name for name in names(tmp_path) if name.endswith("mrc")]
    assert files == ["g_A-B-3.mrc", "g_a-b-2-2.mrc", "g_a-b-2.mrc", "g_a-b.mrc"]
    assert len({(tmp_path / name).read_bytes() for name in files}) == 4
