"""The commands replace no file that is there already, unless they are told to."""

import os

import pytest
from support.mol_data import METHANOL, METHANOL_BONDS, molblock

from gridgrad.cli import main

for package in ("rdkit", "gemmi", "tqdm", "matplotlib", "gridData"):
    pytest.importorskip(package, reason=f"{package} is not installed")

RECORD = molblock(METHANOL, METHANOL_BONDS) + "$$$$\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "one.sdf").write_text(RECORD)
    (tmp_path / "two.sdf").write_text(RECORD + RECORD)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    return lambda command: main(command.split())


def contents(folder):
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


GRID = [
    ("grid one.sdf --dimension 6 -o out/g.npz", "g.npz"),
    ("grid one.sdf --dimension 6 --png out/g.png", "g.png"),
    ("grid one.sdf --dimension 6 --html out/g.html", "g.html"),
    ("grid one.sdf --dimension 6 -o out/g.dx --channel each", "g_O.dx"),
    ("grid two.sdf --dimension 6 -o out/g.npz", "g_0002.npz"),
    ("grid two.sdf --dimension 6 -o out/g.npz --workers 2", "g_0002.npz"),
    ("grid two.sdf --dimension 6 -o out/g.dx --channel each", "g_0002_O.dx"),
]


@pytest.mark.parametrize(("command", "name"), GRID)
def test_grid(run, tmp_path, capsys, command, name):
    """Where the names can be told beforehand nothing is written at all."""
    (tmp_path / "out" / name).write_text("mine")
    assert run(command) == 2
    assert f"output: out/{name} exists; expected a new file" in capsys.readouterr().err
    found = contents(tmp_path / "out")
    assert found[name] == b"mine" and (len(found) == 1 or "each" in command)
    assert run(f"{command} --overwrite") == 0
    assert contents(tmp_path / "out")[name] != b"mine"


def test_fit(run, tmp_path, capsys):
    assert run("grid one.sdf --dimension 6 -o out/g.npz") == 0
    (tmp_path / "out" / "a.sdf").write_text("mine")
    assert run("fit out/g.npz -o out/a.sdf") == 2
    assert "output: out/a.sdf exists; expected a new file" in capsys.readouterr().err
    assert contents(tmp_path / "out")["a.sdf"] == b"mine"
    assert run("fit out/g.npz -o out/a.sdf --overwrite") in (0, 1)
    assert b"M  END" in contents(tmp_path / "out")["a.sdf"]


def test_demo(run, tmp_path, capsys):
    """It replaces the pictures of its own folder only."""
    (tmp_path / "out" / "gradient.png").write_text("mine")
    assert run("demo -o out") == 2
    assert "output: out/gradient.png exists; expected a new file" in capsys.readouterr().err
    assert contents(tmp_path / "out") == {"gradient.png": b"mine"}
    (tmp_path / "gridgrad-demo").mkdir()
    (tmp_path / "gridgrad-demo" / "gradient.png").write_text("old")
    assert run("demo") == 0
    assert contents(tmp_path / "gridgrad-demo")["gradient.png"] != b"old"
    assert run("demo -o out --overwrite") == 0
