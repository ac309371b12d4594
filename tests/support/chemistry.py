"""Molecules of RDKit as files, and back."""

from rdkit import Chem
from rdkit.Chem import AllChem

from gridgrad.mol import read_molecules


def one(path, **options):
    (molecule,) = read_molecules(path, **options)
    return molecule


def flat_smiles(molecule, hydrogens=True):
    """SMILES without stereochemistry; with explicit hydrogens made implicit."""
    molecule = Chem.RemoveHs(molecule) if hydrogens else Chem.Mol(molecule)
    Chem.RemoveStereochemistry(molecule)
    return Chem.MolToSmiles(Chem.RemoveHs(Chem.AddHs(molecule)))


def embedded(molecule, seed=5, iterations=200):
    """The molecule with hydrogens and positions, and residue names for the hydrogens."""
    molecule = Chem.AddHs(molecule, addResidueInfo=True)
    assert AllChem.EmbedMolecule(molecule, randomSeed=seed, useRandomCoords=True) == 0
    AllChem.MMFFOptimizeMolecule(molecule, maxIters=iterations)
    return molecule


def embedded_heavy(molecule):
    return Chem.RemoveHs(embedded(molecule, iterations=0))


def pdb_text(molecule):
    """PDB text without CONECT records."""
    lines = Chem.MolToPDBBlock(molecule, flavor=2 + 8).splitlines()
    return "".join(f"{line[:78]}\n" for line in lines)  # without charges
