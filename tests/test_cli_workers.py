"""``gridgrad grid --workers``: the same table, files and exit status as with one process, in the same order."""

import gzip
import os
import re
import sys

import numpy as np
import pytest
from support.mol_data import METHANOL, METHANOL_BONDS, cdk2, molblock, posebusters

from gridgrad.cli import main

for package in ("rdkit", "gemmi", "tqdm"):
    pytest.importorskip(package, reason=f"{package} is not installed")

GOOD = molblock(METHANOL, METHANOL_BONDS) + "$$$$\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.sdf").write_text(GOOD * 10 + "junk\n$$$$\n" + GOOD)
    (tmp_path / "b.sdf").write_text("")
    (tmp_path / "c.sdf.gz").write_bytes(gzip.compress(cdk2().read_bytes())[:20_000])
    (tmp_path / "d.sdf").write_text(GOOD)
    return [str(tmp_path / name) for name in ("a.sdf", "b.sdf", "absent.sdf", "c.sdf.gz", "d.sdf")]


def run(capsys, *arguments):
    status = main(["grid", *map(str, arguments)])
    out, err = capsys.readouterr()
    return (
        status,
        re.sub(r"(\d\.\d\d) +\d+\.\d\d  ", r"\1 ms  ", out),
        [line for line in err.splitlines() if "skipped" in line],
    )


def grids(folder):
    return {path.name: dict(np.load(path)) for path in folder.iterdir()}


def test_the_same_as_one_process(files, tmp_path, capsys):
    results = {}
    for workers in ("1", "2"):
        folder = tmp_path / "out"
        folder.mkdir()
        options = ["--receptor", posebusters("1s3v", "protein_one_lig_removed.pdb"), "--resolution", "1"]
        results[workers] = run(capsys, *files, *options, "-o", folder / "g.npz", "--workers", workers), grids(folder)
        folder.rename(tmp_path / workers)
    (one, one_grids), (two, two_grids) = results.values()
    assert one == two and one[0] == 1 and len(one[2]) == 4
    assert one_grids.keys() == two_grids.keys() and len(one_grids) > 20
    for name, arrays in one_grids.items():
        for key, value in arrays.items():
            np.testing.assert_array_equal(value, two_grids[name][key])


def test_a_record_that_kills_its_process_is_skipped(files, tmp_path, capsys, monkeypatch):
    (tmp_path / "fatal.py").write_text(
        "import os, signal\n"
        "from gridgrad.mol import type_atoms\n"
        "def fatal(m):\n"
        "    if m.record == 3:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return type_atoms(m).types, [1.5] * len(m), type_atoms(m).channels\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    status, out, skipped = run(capsys, files[0], "--typer", "fatal:fatal", "--workers", "2")
    assert status == 1 and "10 of 12 molecules gridded" in out
    assert len(skipped) == 2 and "a.sdf, record 3: the process that read, typed or gridded it died" in skipped[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--workers", "0"], "--workers: 0; expected at least 1"), (["--workers", "2"], "a pipe to read")],
)
def test_workers_that_cannot_be(files, tmp_path, capsys, options, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.sdf")
    assert main(["grid", "pipe.sdf", *options]) == 2
    assert words in capsys.readouterr().err
