"""Weights of elements and properties."""

import pickle

import numpy as np
import pytest
from support.mol_data import cdk2, posebusters

Chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
from rdkit.Chem import rdPartialCharges

import gridgrad as gg
from gridgrad.mol import (
    GNINA_TYPES,
    PROPERTIES,
    VDW_RADII,
    GninaTyper,
    Molecule,
    PropertyTyper,
    grid_atoms,
    read_molecules,
    type_atoms,
)


def made(smiles):
    """A molecule of atoms on a line, with the bonds of a SMILES."""
    molecule = Chem.MolFromSmiles(smiles)
    coords = np.arange(3.0 * molecule.GetNumAtoms()).reshape(-1, 3)
    elements = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    return Molecule(elements, coords, None, smiles, "made", 1, lambda: molecule)


def test_channels_hold_elements_and_properties():
    typer = PropertyTyper(properties=PROPERTIES)
    weights, _, channels = typer(made("Nc1ccccc1C(=O)[O-].[Zn+2].CSC"))
    assert channels == typer.channels == ("H", "C", "N", "O", "S_Se", "P", "F_Cl_Br_I", "other", *PROPERTIES)
    columns = dict(zip(channels, weights.T.tolist(), strict=True))
    assert columns["N"] == [1] + 13 * [0]
    assert columns["C"] == [0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1]
    assert columns["O"] == [0] * 8 + [1, 1, 0, 0, 0, 0]
    assert columns["S_Se"] == [0] * 12 + [1, 0]
    assert columns["other"] == [0] * 10 + [1, 0, 0, 0]
    assert columns["aromatic"] == [0] + 6 * [1] + 7 * [0]
    assert columns["donor"] == [1] + 9 * [0] + [1, 0, 0, 0]
    assert columns["acceptor"] == [0] * 8 + [1, 1, 0, 0, 0, 0]
    assert columns["hydrophobe"] == [0, 0, 1, 1, 1, 1, 1] + 7 * [0]
    assert columns["formal_charge"] == [0] * 9 + [-1, 2, 0, 0, 0]
    assert columns["partial_charge"][10] == 2 and -0.6 < columns["partial_charge"][9] < -0.4


def test_properties_are_those_of_the_types():
    receptor = next(read_molecules(posebusters("1uou", "protein_one_lig_removed.pdb")))
    names = np.array([kind.name for kind in GNINA_TYPES])[GninaTyper()(receptor)[0]]
    weights = type_atoms(receptor, PropertyTyper((), None, ("donor", "acceptor", "aromatic", "hydrophobe"))).types
    for column, word in zip(weights.T, ("Donor", "Acceptor", "Aromatic", "XSHydrophobe"), strict=True):
        np.testing.assert_array_equal(column, [word in name for name in names])


@pytest.mark.parametrize("hydrogens", [True, False])
def test_partial_charges_are_those_of_rdkit(hydrogens):
    expected = Chem.SDMolSupplier(str(cdk2()), removeHs=False)
    for ligand, other in zip(read_molecules(cdk2(), hydrogens=hydrogens), expected, strict=True):
        charges = ligand.partial_charges()
        assert charges.sum() == pytest.approx(Chem.GetFormalCharge(other), abs=1e-6)
        rdPartialCharges.ComputeGasteigerCharges(other)
        theirs = np.array([atom.GetDoubleProp("_GasteigerCharge") for atom in other.GetAtoms()])
        if hydrogens:
            np.testing.assert_array_equal(charges, theirs)
        else:
            united = [
                theirs[atom.GetIdx()] + sum(theirs[n.GetIdx()] for n in atom.GetNeighbors() if n.GetAtomicNum() == 1)
                for atom in other.GetAtoms()
                if atom.GetAtomicNum() != 1
            ]
            np.testing.assert_allclose(charges, united, atol=1e-12)


def test_an_element_without_parameters_spoils_no_other_charge():
    selenium, sulfur = (made(f"NC(CC{x}C)C(=O)O").partial_charges() for x in ("[Se]", "S"))
    np.testing.assert_array_equal(selenium, sulfur)
    assert np.isfinite(made("CC[Hg]C").partial_charges()).all()


def test_radii_and_groups():
    molecule = made("CCl.[Fe+2].C[Si]C.C[Ru]")
    weights, radii, channels = PropertyTyper(("C Si", "Cl"), None, ())(molecule)
    assert channels == ("C_Si", "Cl") and weights.sum(axis=1).tolist() == [1, 1, 0, 1, 1, 1, 1, 0]
    assert radii.tolist()[:3] == [VDW_RADII["C"], VDW_RADII["Cl"], VDW_RADII["Fe"]]
    assert PropertyTyper(radii="xs")(molecule)[1].tolist()[:3] == [1.9, 1.8, 1.2]
    assert PropertyTyper(radii="covalent")(molecule)[1].tolist()[:3] == [0.77, 0.99, 1.25]
    for wrong, message in (
        ({"elements": ("C", "C N")}, "elements"),
        ({"elements": ("Qq",)}, "element"),
        ({"elements": ("*",)}, "elements"),
        ({"properties": ("mass",)}, "properties: got 'mass'"),
        ({"radii": "big"}, "radii"),
        ({"other": "donor"}, "elements"),
        ({"elements": (), "other": None, "properties": ()}, "elements"),
    ):
        with pytest.raises(ValueError, match=message):
            PropertyTyper(**wrong)


def test_weights_are_never_truncated():
    ligand = next(read_molecules(cdk2()))
    typer = PropertyTyper(("C",), None, ("partial_charge",))
    atoms = type_atoms(ligand, pickle.loads(pickle.dumps(typer)))
    charges = ligand.partial_charges()
    np.testing.assert_array_equal(atoms.types[:, 1], charges)
    gm = gg.GridMaker(0.5, 12.0)
    grid = grid_atoms(gm, atoms, ligand.coords.mean(axis=0)).density[1]
    assert grid.min() < -0.1 and grid.max() > 0.1
