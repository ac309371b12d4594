"""``gridgrad fit``: a grid written by ``gridgrad grid`` becomes atoms again."""

import numpy as np
import pytest

pytest.importorskip("rdkit", reason="rdkit is not installed")

from support.mol_data import cdk2

from gridgrad.cli import main
from gridgrad.mol import element_of_channel, read_molecules


@pytest.fixture(scope="module")
def ligand(tmp_path_factory):
    """The first CDK2 ligand in a file of its own, and its molecule."""
    from rdkit import Chem

    path = tmp_path_factory.mktemp("ligand") / "ligand.sdf"
    with Chem.SDWriter(str(path)) as writer:
        writer.write(next(iter(Chem.SDMolSupplier(str(cdk2()), removeHs=False))))
    return path, next(read_molecules(path))


def assert_same_atoms(path, molecule, bar=0.01):
    found = next(read_molecules(path))
    assert sorted(found.elements) == sorted(molecule.elements)
    far = 1e3 * (found.elements[:, None] != molecule.elements)
    distance = np.linalg.norm(found.coords[:, None] - molecule.coords, axis=2) + far
    assert distance.min(0).max() < bar and len(set(distance.argmin(0))) == len(molecule)


@pytest.mark.parametrize("suffix", [".sdf", ".xyz"])
@pytest.mark.parametrize("settings", [(), ("--tail", "quintic", "--radius-scale", "0.8")], ids=["default", "quintic"])
def test_there_and_back(ligand, tmp_path, capsys, settings, suffix):
    """Channels by element; the profile is the one that the file names."""
    path, molecule = ligand
    grid, output = tmp_path / "grid.npz", tmp_path / f"atoms{suffix}"
    assert main(["grid", str(path), "-o", str(grid), *settings]) == 0
    assert main(["fit", str(grid), "-o", str(output)]) == 0
    assert_same_atoms(output, molecule)
    report = capsys.readouterr().out
    assert f"{len(molecule)} atoms" in report and "converged" in report


def test_one_volume(ligand, tmp_path, capsys):
    """A map of one channel has no name that says what its atoms are."""
    path, molecule = ligand
    volume, output = tmp_path / "c.mrc", tmp_path / "c.xyz"
    assert main(["grid", str(path), "-o", str(volume), "--channel", "C"]) == 0
    assert main(["fit", str(volume), "-o", str(output)]) == 2
    assert "--element: not given, and channel 'total' names none" in capsys.readouterr().err
    assert not output.exists()
    assert main(["fit", str(volume), "-o", str(output), "--element", "C"]) == 0
    assert len(next(read_molecules(output))) == (molecule.elements == 6).sum()


def test_bad_input(tmp_path, capsys):
    missing = tmp_path / "missing.npz"
    for output, words in (("atoms.pdb", "--output: unknown format '.pdb'"), ("atoms.sdf", "missing.npz")):
        assert main(["fit", str(missing), "-o", str(tmp_path / output)]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_channel_names():
    assert element_of_channel("Cl") == element_of_channel("receptor Cl") == ("Cl", 1.75)
    assert element_of_channel("ligand AromaticCarbonXSHydrophobe") == ("C", 1.9)
    assert element_of_channel("Bromine_Iodine") == ("Br", 2.0)
    assert element_of_channel("GenericMetal_Boron") is element_of_channel("other") is element_of_channel("*") is None
