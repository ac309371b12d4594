"""Bonds, orders, charges and hydrogens of structures, against RDKit's own molecules of the same atoms."""

import numpy as np
import pytest
from support.mol_data import cdk2, egfr, molblock, posebusters

Chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
gemmi = pytest.importorskip("gemmi", reason="gemmi is not installed")
from rdkit.Chem.MolStandardize import rdMolStandardize
from support.chemistry import embedded, flat_smiles, one, pdb_text

from gridgrad.mol import GninaTyper, Molecule, MoleculeError, read_molecules
from gridgrad.mol.geometry import bonds_by_distance, close_pairs
from gridgrad.mol.protonation import charge_groups

# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "side"), [(1, 1.0), (2, 1.0), (200, 6.0), (400, 30.0), (40, 1e30)])
def test_close_pairs_are_all_pairs(n, side):
    coords = np.random.default_rng(n).uniform(-side, side, (n, 3))
    i, j, distance = close_pairs(coords, 2.5)
    dense = np.sqrt(((coords[:, None] - coords[None]) ** 2).sum(-1))
    expected = np.argwhere(np.triu(dense < 2.5, 1))
    assert sorted(zip(i.tolist(), j.tolist(), strict=True)) == list(map(tuple, expected.tolist()))
    np.testing.assert_allclose(distance, dense[i, j])


@pytest.mark.parametrize("hydrogens", [True, False])
def test_distances_tell_the_bonds_of_ligands(hydrogens):
    for ligand in read_molecules(cdk2(), hydrogens=hydrogens):
        found = {tuple(sorted(pair)) for pair in bonds_by_distance(ligand.elements, ligand.coords).tolist()}
        assert found == {tuple(sorted(pair)) for pair in ligand.bonds.tolist()}


def test_hydrogens_stay_with_their_residue(tmp_path):
    """Of two molecules on top of one another each keeps its hydrogens; CONECT is stronger than both."""
    atoms = [
        ("C", "ONE", 1, 0, 0, 0),
        ("H", "ONE", 1, 0.9, 0.3, 0),
        ("C", "TWO", 2, 1.0, 0, 0),
        ("H", "TWO", 2, 0.1, 1.0, 0.2),
    ]
    text = "".join(
        f"HETATM{i:5d}  {z:<3} {residue} A{number:4d}    {x:8.3f}{y:8.3f}{w:8.3f}  1.00  0.00{z:>12}\n"
        for i, (z, residue, number, x, y, w) in enumerate(atoms, 1)
    )
    path = tmp_path / "h.pdb"
    for conect, expected in (("", {(0, 1), (2, 3)}), ("CONECT    2    3\n", {(1, 2), (2, 3)})):
        path.write_text(text + conect)
        bonds = {tuple(sorted(pair)) for pair in one(path).chemistry().bonds.tolist()}
        assert bonds - {(0, 2)} == expected


def test_metals_and_doubled_atoms_have_no_bonds_by_distance():
    coords = np.array([[0.0, 0, 0], [2.0, 0, 0], [2.1, 0, 0], [8.0, 0, 0], [8.7, 0, 0]])
    assert bonds_by_distance(np.array([30, 7, 7, 1, 1]), coords).size == 0


# --- orders by geometry -----------------------------------------------------------------------------------------------


def without_bonds(molecule):
    return Molecule(molecule.elements, molecule.coords, None, molecule.name, molecule.path, molecule.record)


@pytest.mark.parametrize("path", [cdk2, egfr])
def test_positions_and_hydrogens_tell_bond_orders(path):
    for ligand in list(read_molecules(path()))[::3]:
        bare = without_bonds(ligand)
        assert flat_smiles(bare.to_rdkit()) == flat_smiles(ligand.to_rdkit())


def test_positions_of_heavy_atoms_tell_most_types():
    typer, equal, total = GninaTyper(), 0, 0
    for path in (cdk2(), egfr()):
        for ligand in list(read_molecules(path, hydrogens=False))[::3]:
            equal += int((typer(ligand)[0] == typer(without_bonds(ligand))[0]).sum())
            total += len(ligand)
    assert total > 3000 and equal / total > 0.98


@pytest.mark.parametrize(
    "smiles",
    ["CC#N", "C#CCO", "C=C=CC", "CN=[N+]=[N-]", "C[N+](=O)[O-]", "CS(=O)(=O)C", "CS(=O)C", "COP(=O)(O)O",
     "C[N+](C)(C)C", "CC(=O)[O-]", "CC(=O)OC", "O=C=O", "C1=CC=CC=CC=C1", "c1ccc2[nH]ccc2c1", "c1ccncc1",
     "O=c1cc[nH]cc1", "C[n+]1ccccc1", "c1cc[n+]([O-])cc1", "CC(N)=[NH2+]", "NC(=S)N", "C1CC1",
     "c1ccc2ccccc2c1", "CB(O)O", "CSSC", "NN", "C=[N+](C)C",
     "O=S(=O)(O)O", "CC(C)=NO", "c1cscc1", "c1cocc1", "FC(F)(F)Cl", "OCl(=O)(=O)=O", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C"],
)  # fmt: skip
def test_orders_of_groups_with_hydrogens(smiles):
    molecule = embedded(Chem.MolFromSmiles(smiles))
    elements = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    bare = Molecule(elements, molecule.GetConformer().GetPositions(), None, smiles, "made.xyz", 1)
    expected = flat_smiles(molecule)
    assert flat_smiles(bare.to_rdkit()) == expected


# --- bonds that a file tells ------------------------------------------------------------------------------------------


def ligand_as(path, ligand, conect):
    """Write heavy atoms of a ligand as a PDB file of a residue that no table knows."""
    lines = [
        f"HETATM{i + 1:5d} {symbol + str(i):<4} LIG A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00{symbol:>12}\n"
        for i, (symbol, (x, y, z)) in enumerate(
            (atom.GetSymbol(), ligand.GetConformer().GetAtomPosition(atom.GetIdx())) for atom in ligand.GetAtoms()
        )
    ]
    for bond in ligand.GetBonds() if conect else ():
        pair = bond.GetBeginAtomIdx() + 1, bond.GetEndAtomIdx() + 1
        order = int(bond.GetBondTypeAsDouble())
        lines += [f"CONECT{i:5d}{f'{j:5d}' * order}\n" for i, j in (pair, pair[::-1])]
    path.write_text("".join(lines))


def test_conect_records_with_orders_are_taken(tmp_path):
    for ligand in read_molecules(cdk2(), hydrogens=False):
        expected = ligand.to_rdkit()
        kekulized = Chem.Mol(expected)
        Chem.Kekulize(kekulized, clearAromaticFlags=True)
        ligand_as(tmp_path / "l.pdb", kekulized, conect=True)
        found = one(tmp_path / "l.pdb").to_rdkit()
        neutral = rdMolStandardize.Uncharger(force=True)
        assert flat_smiles(neutral.uncharge(found)) == flat_smiles(neutral.uncharge(expected)), ligand.record


def test_chem_comp_bond_tells_the_bonds_of_a_residue(tmp_path):
    rows = [("C1", "C", 0, 0, 0), ("C2", "C", 1.5, 0, 0), ("O1", "O", 2.1, 1.05, 0), ("N1", "N", 2.2, -1.2, 0.2)]
    keys = (
        "group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id",
        "label_entity_id", "label_seq_id", "Cartn_x", "Cartn_y", "Cartn_z", "auth_seq_id", "auth_asym_id",
    )  # fmt: skip
    text = "data_X\nloop_\n" + "".join(f"_atom_site.{key}\n" for key in keys)
    text += "".join(
        f"HETATM {i} {z} {name} . QQQ A 1 . {x} {y} {w} 1 A\n" for i, (name, z, x, y, w) in enumerate(rows, 1)
    )
    keys = ("comp_id", "atom_id_1", "atom_id_2", "value_order")
    bonds = "#\nloop_\n" + "".join(f"_chem_comp_bond.{key}\n" for key in keys)
    path = tmp_path / "x.cif"
    for order, smiles in (("SING", "CC(N)O"), ("DOUB", "CC(N)=O")):
        path.write_text(f"{text}{bonds}QQQ C1 C2 SING\nQQQ C2 O1 {order}\nQQQ C2 N1 SING\nQQQ N1 HN1 SING\n")
        assert flat_smiles(one(path).to_rdkit()) == smiles
    path.write_text(f"{text}{bonds}QQQ C1 C2 AROM\nQQQ C2 O1 AROM\nQQQ C2 N1 AROM\n")  # the orders are perceived
    assert flat_smiles(one(path).to_rdkit()) == "CC(N)=O"


def test_a_link_record_is_a_bond_and_metals_have_none(tmp_path):
    link = "LINK         ND2 ASN A   1                 C1  NAG A   2     1555   1555  2.60\n"
    lines = [
        f"ATOM  {i:5d}  {name:<3} {residue} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00{element:>12}\n"
        for i, (name, residue, number, x, y, z, element) in enumerate(
            [("CG", "ASN", 1, 0, 0, 0, "C"), ("ND2", "ASN", 1, 1.33, 0, 0, "N"), ("C1", "NAG", 2, 2.0, 2.5, 0, "C"),
             ("O5", "NAG", 2, 3.3, 2.6, 0.3, "O"), ("ZN", " ZN", 3, 2.4, -1.6, 0, "ZN")], 1)
    ]  # fmt: skip
    path = tmp_path / "l.pdb"
    path.write_text("".join(lines))
    assert Chem.MolToSmiles(one(path).to_rdkit()).count(".") == 2
    path.write_text(link + "".join(lines))
    molecule = one(path).to_rdkit()
    assert molecule.GetBondBetweenAtoms(1, 2) is not None and Chem.MolToSmiles(molecule).count(".") == 1
    assert molecule.GetAtomWithIdx(4).GetDegree() == 0 and molecule.GetAtomWithIdx(4).GetFormalCharge() == 2


@pytest.mark.parametrize("entry", ["1ia1", "1of6", "1s3v", "1uou"])
def test_receptors_are_the_same_from_pdb_and_from_mmcif(entry, tmp_path):
    source = posebusters(entry, "protein_one_lig_removed.pdb")
    structure = gemmi.read_structure(str(source))
    structure.setup_entities()
    path = tmp_path / f"{entry}.cif"
    structure.make_mmcif_document().write_file(str(path))
    types = []
    for receptor in (one(source), one(path)):
        assert not receptor.chemistry().by_element.any()
        assert entry == "1of6" or receptor.to_rdkit().GetNumAtoms() == len(receptor)
        kinds = GninaTyper()(receptor)[0]
        types.append({tuple(place): kind for place, kind in zip(receptor.coords.round(3), kinds, strict=True)})
    assert types[0] == types[1] and len(types[0]) == len(receptor)
    names = [GninaTyper().channels[kind] for kind in types[0].values()]
    assert "GenericMetal" not in names


# --- RDKit's own records ----------------------------------------------------------------------------------------------


def test_stereochemistry_is_that_of_rdkit():
    expected = Chem.SDMolSupplier(str(cdk2()), removeHs=False)
    for ligand, other in zip(read_molecules(cdk2()), expected, strict=True):
        assert Chem.MolToSmiles(ligand.to_rdkit()) == Chem.MolToSmiles(other)


def test_what_cannot_be_understood_is_known_by_its_element(tmp_path):
    atoms = [("C", 0, 0, 0), ("C", 1.5, 0, 0), ("C", 0, 1.5, 0), ("C", 0, 0, 1.5), ("C", -1.5, 0, 0), ("C", 0, -1.5, 0),
             ("O", 0, -2.0, 1.4), ("N", 3.0, 0, 0)]  # fmt: skip
    bonds = [(1, 2), (1, 3), (1, 4), (1, 5), (1, 6), (6, 7), (2, 8)]
    path = tmp_path / "m.sdf"
    path.write_text(molblock(atoms, bonds) + "$$$$\n")
    molecule = one(path)
    with pytest.raises(MoleculeError, match=r"m.sdf, record 1: RDKit cannot sanitize it: .*atom # 0 C, 5"):
        molecule.to_rdkit()
    assert molecule.chemistry().by_element.tolist() == [True] + [False] * 7
    types, _, channels = GninaTyper()(molecule)
    c, h = "AliphaticCarbonXSNonHydrophobe", "AliphaticCarbonXSHydrophobe"
    assert [channels[t] for t in types] == [h, c, h, h, h, c, "OxygenXSDonorAcceptor", "NitrogenXSDonorAcceptor"]
    broken = tmp_path / "aromatic.mol"
    ring = [("C", np.cos(a), np.sin(a), 0.1) for a in np.linspace(0, 2 * np.pi, 6)[:5]]
    text = molblock([*ring, ("O", 2.4, 0, 0.1)], [(1, 2), (2, 3), (3, 4), (4, 5), (5, 1), (1, 6)])
    broken.write_text("\n".join(line[:8] + "4" + line[9:] if line[6:9] == "  1" and i < 15 and len(line) < 14
                                else line for i, line in enumerate(text.split("\n"))))  # fmt: skip
    chemistry = one(broken).chemistry()
    assert chemistry.by_element.tolist() == [True] * 5 + [False] and not chemistry.aromatic.any()


# --- hydrogens as atoms -----------------------------------------------------------------------------------------------


def test_added_hydrogens_change_no_type():
    typer = GninaTyper()
    for path in (posebusters("1uou", "protein_one_lig_removed.pdb"), posebusters("1uou", "ligand.sdf")):
        bare = one(path, hydrogens=False)
        full = bare.with_hydrogens()
        assert len(full) == len(bare) + bare.chemistry().hydrogens.sum()
        assert (full.elements[len(bare) :] == 1).all() and np.array_equal(full.coords[: len(bare)], bare.coords)
        np.testing.assert_array_equal(typer(full)[0][: len(bare)], typer(bare)[0])
        length = np.linalg.norm(full.coords[full.bonds[:, 0]] - full.coords[full.bonds[:, 1]], axis=1)
        assert (length[full.bonds[:, 1] >= len(bare)] < 1.5).all()
        assert full.notes[-1] == f"{len(full) - len(bare)} hydrogens added" and "hydrogens" not in full.left_out
        if bare.sites is not None:
            parent = dict(full.bonds[:, ::-1].tolist())
            for index in range(len(bare), len(full)):
                assert full.sites.residues[index] == full.sites.residues[parent[index]]


def test_acids_and_bases_are_charged_where_asked(tmp_path):
    molecule = embedded(Chem.MolFromSequence("ADEKRH"), iterations=0)
    path = tmp_path / "p.pdb"
    path.write_text(pdb_text(Chem.RemoveHs(molecule)))
    protein = one(path)
    assert Chem.GetFormalCharge(protein.with_hydrogens().to_rdkit()) == 0
    charged = protein.with_hydrogens(charged=True)
    found = {
        f"{charged.sites.residue_names[i]} {charged.sites.atom_names[i]}": charge
        for i, charge in enumerate(charged.chemistry().charges.tolist())
        if charge
    }
    assert found.pop("ALA N") == found.pop("LYS NZ") == found.pop("ARG NE") == 1
    assert (
        sorted(name[:6] for name in found) == ["ASP OD", "GLU OE", "HIS O", "HIS OX"][: len(found)] or len(found) == 3
    )
    assert set(found.values()) == {-1} and sum(charged.chemistry().charges) == 0
    # what has hydrogens stays as it is
    path.write_text(pdb_text(molecule))
    assert Chem.GetFormalCharge(one(path).with_hydrogens(charged=True).to_rdkit()) == 0


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CC(=O)O", "CC(=O)[O-]"), ("CC(=O)OC", "CC(=O)OC"), ("CN", "C[NH3+]"), ("CNC", "C[NH2+]C"),
        ("CN(C)C", "C[NH+](C)C"), ("CC(=O)N", "CC(N)=O"), ("c1ccccc1N", "Nc1ccccc1"), ("CC(N)=N", "CC(N)=[NH2+]"),
        ("CN=C(N)N", "C[NH+]=C(N)N"), ("COP(=O)(O)O", "COP(=O)([O-])[O-]"), ("CS(=O)(=O)O", "CS(=O)(=O)[O-]"),
        ("CS(=O)(=O)N", "CS(N)(=O)=O"), ("Oc1ccccc1", "Oc1ccccc1"), ("C#N", "C#N"), ("CNO", "CNO"),
        ("c1c[nH]cn1", "c1c[nH]cn1"), ("CSC(=N)N", "CSC(=N)N"),
    ],
)  # fmt: skip
def test_groups_that_are_charged(smiles, expected):
    molecule = Chem.MolFromSmiles(smiles)
    charge_groups(molecule)
    assert Chem.MolToSmiles(molecule) == Chem.CanonSmiles(expected)
