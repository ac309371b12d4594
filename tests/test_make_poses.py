"""tools/make_poses.py with programs that stand in for Vina and Open Babel: what is written, and that it goes on."""

import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")
pytest.importorskip("gemmi")
pytest.importorskip("pyarrow")
from rdkit.Chem import AllChem

from gridgrad.data import AtomStore, read_types

TOOL = Path(__file__).resolve().parents[1] / "tools" / "make_poses.py"
ATOMS = {"N": "NA", "CA": "C", "C": "C", "O": "OA", "CB": "C"}
ALANINE = ((0, 0, 0), (1.46, 0, 0), (2.0, 1.42, 0), (1.3, 2.43, 0), (2.0, -0.77, 1.2))

OBABEL = '''#!{python}
"""Writes the heavy atoms of an SDF file as PDBQT, in another order."""
import sys
from rdkit import Chem
molecule = Chem.MolFromMolFile(sys.argv[2], removeHs=True)
with open(sys.argv[5], "w") as file:
    for number, (x, y, z) in enumerate(molecule.GetConformer().GetPositions()[::-1], start=1):
        file.write(f"ATOM  {{number:>5}}  C   UNL     1    {{x:8.3f}}{{y:8.3f}}{{z:8.3f}}  0.00  0.00    +0.000 C \\n")
'''
VINA = '''#!{python}
"""Moves the ligand by 0, 1 and 5 angstrom; takes half a second, and tells of each call."""
import sys, time
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open("{calls}", "a") as file:
    file.write(options["--receptor"] + "\\n")
time.sleep(0.5)
with open(options["--out"], "w") as file:
    for model, shift in enumerate((0.0, 1.0, 5.0)):
        file.write(f"MODEL {{model + 1}}\\nREMARK VINA RESULT:    {{-7.5 + model:.1f}}      0.000      0.000\\n")
        for line in open(options["--ligand"]):
            file.write(line[:30] + f"{{float(line[30:38]) + shift:8.3f}}" + line[38:])
        file.write("ENDMDL\\n")
'''


@pytest.fixture
def make_poses(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOL.parent))
    import make_poses

    return make_poses


@pytest.fixture
def cache(tmp_path):
    """The environment that the tool would make: its python, which tells where dockstring is, and the programs."""
    resources = tmp_path / "cache" / "dockstring" / "package" / "resources"
    programs = {
        resources.parents[1] / "bin" / "python": f"#!/bin/sh\necho {resources.parent}\n",
        resources.parents[1] / "bin" / "obabel": OBABEL.format(python=sys.executable),
        resources / "bin" / "vina_linux": VINA.format(python=sys.executable, calls=tmp_path / "calls"),
    }
    for path, text in programs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (resources / "targets").mkdir()
    lines = [
        f"ATOM  {i:>5}  {name:<3} ALA A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00     0.000 {kind:<2}\n"
        for i, ((name, kind), (x, y, z)) in enumerate(zip(ATOMS.items(), ALANINE), start=1)
    ]
    for name in ("ONE", "TWO", "SIX"):
        (resources / "targets" / f"{name}_target.pdbqt").write_text("".join(lines))
        (resources / "targets" / f"{name}_conf.txt").write_text("center_x = 0\n")
    (resources.parents[1] / "complete").touch()
    return tmp_path / "cache"


# the tool, which looks through a few ligands only: it takes seconds for those of RDKit
START = f"""
import sys
sys.path.insert(0, {str(TOOL.parent)!r})
import make_poses
from rdkit import Chem
smiles = {{"nci": "Oc1ccc(F)cc1 Cc1ccncc1", "egfr": "NCc1ccoc1 c1ccsc1", "cdk2": "C1CC1"}}
make_poses.ligands = lambda: {{
    source: {{f"{{source}}-{{i}}": Chem.MolFromSmiles(text) for i, text in enumerate(texts.split())}}
    for source, texts in smiles.items()
}}
sys.exit(make_poses.main())
"""


def start(cache, folder, *options):
    return subprocess.Popen(
        [sys.executable, "-c", START, folder, "--cache", cache, "--quick", *options], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_killed_and_resumed(cache, tmp_path):
    """What is there stays, nothing is docked twice, and the result is that of a run that was not disturbed."""
    whole, folder = tmp_path / "whole", tmp_path / "poses"
    undisturbed = start(cache, whole, "--workers", "4")
    output, errors = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, errors
    assert "2 receptors, 4 ligands, 12 poses" in output
    (tmp_path / "calls").unlink()

    killed = start(cache, folder)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("ligands/[!.]*.sdf"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = {path: path.stat().st_mtime_ns for path in folder.glob("ligands/[!.]*.sdf")}
    assert 2 <= len(done) < 4
    assert not (folder / "poses.types").exists()

    again = start(cache, folder)
    _, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    assert len((tmp_path / "calls").read_text().splitlines()) <= 5  # four, and one that the kill interrupted
    leftovers = [path for path in contents(folder) if path.name.startswith(".")]
    assert {path: data for path, data in contents(folder).items() if path not in leftovers} == contents(whole)

    table = read_types(folder / "poses.types")
    assert len(table) == 12
    assert np.array_equal(np.unique(table.labels[:, 0]), [0, 1])
    stores = {part: AtomStore(folder / f"{part}s.store") for part in ("receptor", "ligand")}
    rows = table.rows(stores)
    for row in range(0, len(table), 3):
        best, near, far = (stores["ligand"][rows["ligand"][row + rank]] for rank in range(3))
        assert np.allclose(near.coords - best.coords, [1, 0, 0], atol=1e-3)
        assert np.array_equal(table.labels[row : row + 3, 0], [1, 1, 0])
        assert np.allclose(table.labels[row : row + 3, 1], [-7.5, -6.5, -5.5])
        assert table.labels[row, 2] == 0 and table.labels[row + 2, 2] <= 5.001
        assert (best.types >= 0).all() and len(far.coords) == len(best.coords)


def test_failures_are_told(cache, tmp_path):
    """A program that fails costs its ligand; the others are there, and the exit status says so."""
    (cache / "dockstring" / "package" / "resources" / "targets" / "ONE_target.pdbqt").rename(
        cache / "dockstring" / "package" / "resources" / "targets" / "AAA_target.pdbqt"
    )
    vina = cache / "dockstring" / "package" / "resources" / "bin" / "vina_linux"
    text = vina.read_text()
    vina.write_text(text.replace("time.sleep(0.5)", "if 'AAA' in options['--receptor']: sys.exit('no such atom type')"))
    run = start(cache, tmp_path / "poses")
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 1
    assert errors.count("vina_linux: status 1: no such atom type") == 2
    assert "1 receptors, 2 ligands, 6 poses" in output


def test_atoms_are_matched(make_poses, cache, tmp_path):
    """Every heavy atom gets the position of the pose, bond lengths and elements stay."""
    molecule = Chem.AddHs(Chem.MolFromSmiles("Oc1ccc(cc1)C(F)=O"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    tools = make_poses.Tools.installed(cache)
    path = tmp_path / "ONE_phenol.sdf"
    make_poses.dock(tools, "ONE", molecule, path)
    poses = list(Chem.SDMolSupplier(str(path)))
    heavy = Chem.RemoveHs(molecule)
    assert [pose.GetProp("_Name") for pose in poses] == [f"ONE_phenol_{rank}" for rank in (1, 2, 3)]
    for pose, shift in zip(poses, (0.0, 1.0, 5.0)):
        assert [a.GetSymbol() for a in pose.GetAtoms()] == [a.GetSymbol() for a in heavy.GetAtoms()]
        moved = heavy.GetConformer().GetPositions() + np.array([shift, 0, 0])
        assert np.abs(pose.GetConformer().GetPositions() - moved).max() < 1e-3
        assert Chem.MolToSmiles(pose) == Chem.MolToSmiles(heavy)


def test_rmsd_over_symmetries(make_poses, tmp_path):
    """Benzene turned by 60 degrees about its axis is where it was."""
    benzene = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1"))
    AllChem.EmbedMolecule(benzene, randomSeed=1)
    benzene = Chem.RemoveHs(benzene)
    coords = benzene.GetConformer().GetPositions()
    make_poses.write_poses(tmp_path / "b.sdf", benzene, [(-1.0, coords), (-0.5, np.roll(coords, 1, axis=0))])
    poses = list(Chem.SDMolSupplier(str(tmp_path / "b.sdf")))
    assert poses[1].GetDoubleProp("rmsd") < 1e-3


def test_atoms_that_do_not_match(make_poses, cache, tmp_path):
    obabel = cache / "dockstring" / "bin" / "obabel"
    obabel.write_text(obabel.read_text().replace("[::-1]", "[:3]"))
    molecule = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    with pytest.raises(ValueError, match="expected poses of all atoms"):
        make_poses.dock(make_poses.Tools.installed(cache), "ONE", molecule, tmp_path / "x.sdf")
    assert not (tmp_path / "x.sdf").exists()


def test_ligands_are_small(make_poses):
    """The pools hold what they say, and each receptor gets the same ones again."""
    pools = make_poses.ligands()
    assert len(pools["nci"]) > 1000 and len(pools["egfr"]) > 100 and len(pools["cdk2"]) > 5
    assert all(11 <= each.GetNumHeavyAtoms() <= 22 for pool in pools.values() for each in pool.values())
    first, again, other = (
        [name for name, _ in make_poses.chosen(receptor, pools, 4)] for receptor in ("EGFR", "EGFR", "ACHE")
    )
    assert first == again != other
    assert [name.split("-")[0] for name in first] == ["nci", "egfr", "nci", "cdk2"]
