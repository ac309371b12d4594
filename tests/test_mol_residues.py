"""Residues that a table knows: bonds, orders, charges and hydrogens of polymers, against RDKit."""

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
gemmi = pytest.importorskip("gemmi", reason="gemmi is not installed")
from support.chemistry import embedded, embedded_heavy, flat_smiles, one, pdb_text

from gridgrad.mol import GninaTyper
from gridgrad.mol.residues import _table, template

AMINO_ACIDS = "ARNDCQEGHILKMFPSTWYV"


def test_every_template_is_whole():
    assert len(_table()) > 500
    for name, (smiles, names) in _table().items():
        known = template(name, len(names.split()))
        assert (
            len(known.names) == len(set(known.names)) == len(known.elements) == Chem.MolFromSmiles(smiles).GetNumAtoms()
        )


@pytest.mark.parametrize("letter", AMINO_ACIDS)
def test_templates_are_those_of_rdkit(letter):
    molecule = Chem.MolFromSequence(letter)
    Chem.Kekulize(molecule, clearAromaticFlags=True)
    names = [atom.GetPDBResidueInfo().GetName().strip() for atom in molecule.GetAtoms()]
    known = template(molecule.GetAtomWithIdx(0).GetPDBResidueInfo().GetResidueName(), len(names))
    assert set(known.names) == set(names)
    expected = {
        frozenset((names[bond.GetBeginAtomIdx()], names[bond.GetEndAtomIdx()])): bond.GetBondTypeAsDouble()
        for bond in molecule.GetBonds()
    }
    found = {frozenset((known.names[i], known.names[j])): order for i, j, order in known.bonds}
    assert (set(found) == set(expected)) == (letter != "I") and sum(found.values()) == sum(expected.values())
    if letter not in "RHWFYI":  # other tautomers and Kekulé structures; RDKit exchanges CG1 and CG2 of I
        acid = {frozenset(("CG", "OD1")), frozenset(("CG", "OD2")), frozenset(("CD", "OE1")), frozenset(("CD", "OE2"))}
        assert {b: o for b, o in found.items() if b not in acid} == {b: o for b, o in expected.items() if b not in acid}


@pytest.fixture(scope="module", params=["CARNDQE", "HILKMF", "PSTWYVG"])
def peptide(request):
    return embedded(Chem.MolFromSequence(request.param), iterations=0)


def assert_same_chemistry(found, expected):
    """Same elements and hydrogens on every atom, same aromatic atoms, same bonds."""
    assert [atom.GetAtomicNum() for atom in found.GetAtoms()] == [atom.GetAtomicNum() for atom in expected.GetAtoms()]
    for name in ("GetIsAromatic", "GetFormalCharge"):
        assert [getattr(atom, name)() for atom in found.GetAtoms()] == [
            getattr(atom, name)() for atom in expected.GetAtoms()
        ]
    bonds = [{frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())) for b in m.GetBonds()} for m in (found, expected)]
    assert bonds[0] == bonds[1]


def test_peptides_of_all_residues(peptide, tmp_path):
    path = tmp_path / "peptide.pdb"
    path.write_text(pdb_text(peptide))
    protein = one(path)
    assert_same_chemistry(protein.to_rdkit(), peptide)
    assert flat_smiles(protein.to_rdkit()) == flat_smiles(peptide)
    heavy = one(path, hydrogens=False)
    hydrogens = [atom.GetTotalNumHs(includeNeighbors=True) for atom in peptide.GetAtoms() if atom.GetAtomicNum() != 1]
    assert [atom.GetTotalNumHs() for atom in heavy.to_rdkit().GetAtoms()] == hydrogens
    np.testing.assert_array_equal(heavy.chemistry().hydrogens, hydrogens)
    assert (GninaTyper()(heavy)[0] == GninaTyper()(protein)[0][protein.elements != 1]).all()


def test_a_peptide_without_hydrogens_is_neutral(peptide, tmp_path):
    path = tmp_path / "heavy.pdb"
    path.write_text(pdb_text(Chem.RemoveHs(peptide)))
    protein = one(path).to_rdkit()
    assert Chem.GetFormalCharge(protein) == 0
    assert Chem.rdMolDescriptors.CalcMolFormula(protein) == Chem.rdMolDescriptors.CalcMolFormula(peptide)
    # histidine and arginine have other tautomers that are as good
    same = Chem.MolFromSmarts("[#6,#7,#8,#16]")
    assert len(protein.GetSubstructMatches(same)) == protein.GetNumAtoms()
    aromatic = sorted(atom.GetIdx() for atom in protein.GetAtoms() if atom.GetIsAromatic())
    assert aromatic == sorted(atom.GetIdx() for atom in Chem.RemoveHs(peptide).GetAtoms() if atom.GetIsAromatic())


@pytest.mark.parametrize(
    ("sequence", "pattern", "charges"),
    [
        ("GHG", "c1c[nH]c[nH+]1", 1),
        ("GDG", "CC(=O)[O-]", -1),
        ("GEG", "CCC(=O)[O-]", -1),
        ("GKG", "C[NH3+]", 1),
        ("GRG", "NC(N)=[NH2+]", 1),
        ("GCG", "C[S-]", -1),
    ],
)
def test_hydrogens_of_the_file_decide_on_charges(sequence, pattern, charges, tmp_path):
    molecule = Chem.MolFromSequence(sequence)
    moves = {
        "H": ("[nX2:1]", 1), "D": ("[CH2]C(=O)[OH:1]", -1), "E": ("[CH2][CH2]C(=O)[OH:1]", -1),
        "K": ("[CH2;$(*[CH2][CH2])][NH2:1]", 1), "R": ("[N:1]=C", 1), "C": ("[SH:1]", -1),
    }  # fmt: skip
    query, charge = moves[sequence[1]]
    query = Chem.MolFromSmarts(query)
    (place,) = [atom.GetIdx() for atom in query.GetAtoms() if atom.GetAtomMapNum()]
    atom = molecule.GetAtomWithIdx(molecule.GetSubstructMatch(query)[place])
    atom.SetFormalCharge(charge)
    atom.SetNumExplicitHs(atom.GetTotalNumHs() + charge)
    atom.SetNoImplicit(True)
    Chem.SanitizeMol(molecule)
    molecule = embedded(molecule)
    path = tmp_path / "p.pdb"
    path.write_text(pdb_text(molecule))
    if sequence == "GCG":  # without its hydrogen a thiol is one that the file lacks
        assert Chem.GetFormalCharge(one(path).to_rdkit()) == 0
        return
    found = one(path).to_rdkit()
    assert Chem.GetFormalCharge(found) == charges
    if sequence == "GRG":  # any of three nitrogens may hold the charge
        found, molecule = (next(iter(Chem.ResonanceMolSupplier(m, Chem.KEKULE_ALL))) for m in (found, molecule))
    assert flat_smiles(found) == flat_smiles(molecule)


@pytest.mark.parametrize(
    ("sequence", "smarts", "charge"),
    [("GDG", "[O;$(O=C(O)[CH2][CH])]", -1), ("GDG", "[OH;$(OC[CH2][CH])]", -1), ("GKG", "[NH2;$(N[CH2][CH2])]", 1),
     ("GRG", "[N;$(N=C)]", 1), ("GRG", "[NH2;$(NC(=N)N)]", 1)],
)  # fmt: skip
def test_charges_of_the_file_are_kept(sequence, smarts, charge, tmp_path):
    """Columns 79 and 80 of a PDB file without hydrogens: the double bond is where the charge leaves room for it."""
    molecule = Chem.MolFromSequence(sequence)
    index = molecule.GetSubstructMatch(Chem.MolFromSmarts(smarts))[0]
    lines = pdb_text(embedded_heavy(molecule)).splitlines()
    lines[index] = f"{lines[index]:<78}{'1' + ('-' if charge < 0 else '+')}"
    path = tmp_path / "q.pdb"
    path.write_text("\n".join(lines) + "\n")
    found = one(path).to_rdkit()
    assert found.GetAtomWithIdx(index).GetFormalCharge() == charge == Chem.GetFormalCharge(found)
    group = "[$([O-]C=O),$([NX4+;H3]),$([N+;H2]=C(N)N),$([N+;H]=C(N)N)]"
    assert found.HasSubstructMatch(Chem.MolFromSmarts(group))


def test_the_tautomer_of_histidine_is_that_of_the_file(tmp_path):
    for delta in (True, False):
        molecule = Chem.MolFromSequence("GHG")
        if delta:
            molecule = Chem.AddHs(molecule)
            molecule = Chem.RemoveHs(molecule)
            nd1, ne2 = (next(a for a in molecule.GetAtoms() if a.GetPDBResidueInfo().GetName().strip() == name)
                        for name in ("ND1", "NE2"))  # fmt: skip
            hydrogens = nd1.GetNumExplicitHs(), ne2.GetNumExplicitHs()
            nd1.SetNumExplicitHs(hydrogens[1])
            ne2.SetNumExplicitHs(hydrogens[0])
            Chem.SanitizeMol(molecule)
        molecule = embedded(molecule)
        path = tmp_path / f"{delta}.pdb"
        path.write_text(pdb_text(molecule))
        assert_same_chemistry(one(path).to_rdkit(), molecule)


def test_caps_of_a_chain(tmp_path):
    """ACE is acetaldehyde in the dictionary, and NH2 ammonia."""
    molecule = embedded(Chem.MolFromHELM("PEPTIDE1{[ac].G.P.A.[am]}$$$$"))
    names = {atom.GetPDBResidueInfo().GetResidueName() for atom in molecule.GetAtoms()}
    assert {"ACE", "NH2"} <= names
    for kept in (molecule, Chem.RemoveHs(molecule)):
        path = tmp_path / "caps.pdb"
        path.write_text(pdb_text(kept))
        assert flat_smiles(one(path).to_rdkit()) == flat_smiles(molecule)


@pytest.mark.parametrize("flavor", [2, 6])  # RNA and DNA
def test_nucleic_acids(flavor, tmp_path):
    molecule = embedded(Chem.MolFromSequence("ACGU" if flavor == 2 else "ACGT", flavor=flavor))
    path = tmp_path / "n.pdb"
    path.write_text(pdb_text(molecule))
    assert flat_smiles(one(path).to_rdkit()) == flat_smiles(molecule)
    path.write_text(pdb_text(Chem.RemoveHs(molecule)))
    assert flat_smiles(one(path).to_rdkit()) == flat_smiles(molecule)


def test_a_disulfide_is_a_bond(tmp_path):
    molecule = Chem.MolFromSequence("GCGGGCG")
    sulfurs = [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 16]
    editable = Chem.RWMol(molecule)
    editable.AddBond(*sulfurs, Chem.BondType.SINGLE)
    molecule = editable.GetMol()
    Chem.SanitizeMol(molecule)
    molecule = embedded(molecule)
    for kept in (molecule, Chem.RemoveHs(molecule)):
        path = tmp_path / "ss.pdb"
        path.write_text(pdb_text(kept))
        assert flat_smiles(one(path).to_rdkit()) == flat_smiles(molecule)


def test_names_that_are_not_those_of_the_dictionary(peptide, tmp_path):
    """Other names of atoms: the connections tell which is which."""
    heavy = Chem.RemoveHs(peptide)
    lines = pdb_text(heavy).splitlines(keepends=True)
    renamed = "".join(f"{line[:12]} X{int(line[6:11]):<2d}{line[16:]}" if "ATOM" in line else line for line in lines)
    (tmp_path / "a.pdb").write_text(pdb_text(heavy))
    (tmp_path / "b.pdb").write_text(renamed)
    assert flat_smiles(one(tmp_path / "b.pdb").to_rdkit()) == flat_smiles(one(tmp_path / "a.pdb").to_rdkit())


def test_atoms_that_clash_are_not_bonded(peptide, tmp_path):
    """RDKit bonds by distance and then finds too many bonds; so did gridgrad."""
    heavy = Chem.RemoveHs(peptide)
    text = pdb_text(heavy).replace("END\n", "")
    number = heavy.GetNumAtoms() + 1
    waters = "".join(
        f"HETATM{number + k:5d}  O   HOH W{k + 1:4d}    {x + 0.9:8.3f}{y + 0.7:8.3f}{z:8.3f}  1.00  0.00           O\n"
        for k, (x, y, z) in enumerate(heavy.GetConformer().GetPositions())
    )
    path = tmp_path / "clash.pdb"
    path.write_text(text + waters)
    protein = one(path)
    chemistry = protein.chemistry()
    assert not chemistry.by_element.any()
    assert len(chemistry.bonds) == heavy.GetNumBonds()
    oxygens = chemistry.hydrogens[heavy.GetNumAtoms() :]
    assert (oxygens == 2).all()
