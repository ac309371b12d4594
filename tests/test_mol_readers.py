"""Molecule files against RDKit's and gemmi's own readers, and the files that must be refused."""

import gzip
import pickle

import numpy as np
import pytest
from support.mol_data import METHANOL, METHANOL_BONDS, cdk2, egfr, molblock, pdb_atom, posebusters

Chem = pytest.importorskip("rdkit.Chem", reason="rdkit is not installed")
pytest.importorskip("gemmi", reason="gemmi is not installed")

from gridgrad.mol import MoleculeError, count_records, read_molecules

COORDS = np.array([atom[1:] for atom in METHANOL])
ELEMENTS = [6, 8, 1, 1, 1, 1]
SDF = molblock(METHANOL, METHANOL_BONDS)


def mol2(atoms, bonds, title="small"):
    kinds = {"C": "C.3", "O": "O.3", "H": "H"}
    lines = [
        "@<TRIPOS>MOLECULE",
        title,
        f" {len(atoms)} {len(bonds)} 0 0 0",
        "SMALL",
        "NO_CHARGES",
        "",
        "@<TRIPOS>ATOM",
    ]
    lines += [
        f"{i} {s}{i} {x:.4f} {y:.4f} {z:.4f} {kinds[s]} 1 UNK 0.0" for i, (s, x, y, z) in enumerate(atoms, start=1)
    ]
    lines += ["@<TRIPOS>BOND", *(f"{k} {i} {j} 1" for k, (i, j) in enumerate(bonds, start=1)), ""]
    return "\n".join(lines)


def pdb(atoms):
    return "".join(pdb_atom(i, f" {s}{i}", s, x, y, z) for i, (s, x, y, z) in enumerate(atoms, start=1))


def mmcif(atoms):
    keys = [
        "group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id",
        "label_entity_id", "label_seq_id", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy", "B_iso_or_equiv",
        "auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num",
    ]  # fmt: skip
    rows = [f"HETATM {i} {s} {s}{i} . MOL A 1 1 {x} {y} {z} 1.0 0.0 1 A 1" for i, (s, x, y, z) in enumerate(atoms, 1)]
    return "\n".join(["data_METH", "loop_", *(f"_atom_site.{key}" for key in keys), *rows, "#", ""])


TEXTS = {
    "m.sdf": SDF + "$$$$\n", "m.mol": SDF, "m.mol2": mol2(METHANOL, METHANOL_BONDS), "m.pdb": pdb(METHANOL) + "END\n",
    "m.ent": pdb(METHANOL), "m.cif": mmcif(METHANOL),
}  # fmt: skip


def one(path, **options):
    (molecule,) = read_molecules(path, **options)
    return molecule


def refused(path, match, record=1, **options):
    with pytest.raises(MoleculeError, match=match) as caught:
        list(read_molecules(path, **options))
    assert caught.value.path == path and caught.value.record == record
    assert str(path) in str(caught.value) and (record is None or f"record {record}" in str(caught.value))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_format_gives_the_same_atoms(tmp_path, name, zipped):
    path = tmp_path / (name + ".gz" * zipped)
    data = TEXTS[name].encode()
    path.write_bytes(gzip.compress(data) if zipped else data)
    molecule = one(path)
    assert molecule.elements.tolist() == ELEMENTS
    np.testing.assert_allclose(molecule.coords, COORDS, atol=6e-4)
    assert molecule.path == path and molecule.record == 1 and molecule.name
    if molecule.bonds is not None:
        assert sorted(map(sorted, (molecule.bonds + 1).tolist())) == sorted(map(list, METHANOL_BONDS))
    assert count_records(path) == 1
    heavy = one(path, hydrogens=False)
    assert heavy.elements.tolist() == [6, 8]
    np.testing.assert_array_equal(heavy.coords, molecule.coords[:2])
    if heavy.bonds is not None:
        assert heavy.bonds.tolist() == [[0, 1]]


def test_gzip_is_told_by_content_and_line_ends_do_not_matter(tmp_path):
    path = tmp_path / "m.sdf"
    path.write_bytes(gzip.compress(SDF.replace("\n", "\r\n").encode()))
    np.testing.assert_allclose(one(path).coords, COORDS, atol=6e-4)


def test_cdk2_ligands_are_those_of_rdkit():
    from rdkit import Chem

    expected = list(Chem.SDMolSupplier(str(cdk2()), removeHs=False))
    molecules = list(read_molecules(cdk2()))
    assert len(molecules) == len(expected) == count_records(cdk2()) == 47
    for number, (molecule, other) in enumerate(zip(molecules, expected, strict=True), start=1):
        assert molecule.record == number and molecule.name == other.GetProp("_Name")
        assert molecule.elements.tolist() == [atom.GetAtomicNum() for atom in other.GetAtoms()]
        np.testing.assert_array_equal(molecule.coords, other.GetConformer().GetPositions())
        assert len(molecule.bonds) == other.GetNumBonds()


def test_all_egfr_ligands_are_read():
    molecules = list(read_molecules(egfr(), hydrogens=False))
    assert len(molecules) == 365
    assert all((molecule.elements > 1).all() and len(molecule) > 10 for molecule in molecules)


@pytest.mark.parametrize(("entry", "atoms"), [("1ia1", 3243), ("1of6", 20912)])
def test_a_protein_that_rdkits_reader_refuses(entry, atoms):
    path = posebusters(entry, "protein_one_lig_removed.pdb")
    protein = one(path)
    lines = [line for line in path.read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    assert len(protein) == len(lines) == atoms
    expected = [[float(line[start : start + 8]) for start in (30, 38, 46)] for line in lines]
    np.testing.assert_array_equal(protein.coords, np.array(expected))
    assert Chem.MolFromPDBFile(str(path)) is None
    assert not protein.chemistry().by_element.any()


def test_gemmi_and_rdkit_agree_on_a_protein_that_both_take():
    protein = one(posebusters("1s3v", "protein_one_lig_removed.pdb"))
    molecule = protein.to_rdkit()
    assert [atom.GetAtomicNum() for atom in molecule.GetAtoms()] == protein.elements.tolist()
    np.testing.assert_allclose(molecule.GetConformer().GetPositions(), protein.coords, atol=1e-9)


def test_a_protein_as_mmcif_has_the_atoms_of_the_pdb_file(tmp_path):
    import gemmi

    source = posebusters("1ia1", "protein_one_lig_removed.pdb")
    structure = gemmi.read_structure(str(source))
    structure.setup_entities()
    path = tmp_path / "1ia1.cif.gz"
    path.write_bytes(gzip.compress(structure.make_mmcif_document().as_string().encode()))
    protein, expected = one(path), one(source)
    order, expected_order = (np.lexsort(molecule.coords.T) for molecule in (protein, expected))
    np.testing.assert_array_equal(protein.coords[order], expected.coords[expected_order])
    np.testing.assert_array_equal(protein.elements[order], expected.elements[expected_order])


def test_models_are_records_and_the_first_alternative_stays(tmp_path):
    first, second = METHANOL, [(s, x + 10, y, z) for s, x, y, z in METHANOL]
    path = tmp_path / "models.pdb"
    path.write_text(f"MODEL        1\n{pdb(first)}ENDMDL\nMODEL        2\n{pdb(second)}ENDMDL\nEND\n")
    molecules = list(read_molecules(path))
    assert [molecule.record for molecule in molecules] == [1, 2]
    np.testing.assert_allclose(molecules[1].coords, molecules[0].coords + np.array([10, 0, 0]), atol=1e-9)
    np.testing.assert_allclose(molecules[1].to_rdkit().GetConformer().GetPositions(), molecules[1].coords, atol=1e-9)
    path.write_text(
        pdb_atom(1, " C1 ", "C", 0, 0, 1) + pdb_atom(2, " O1 ", "O", 1, 0, 1, altloc="B")
        + pdb_atom(3, " O1 ", "O", 2, 0, 1, altloc="C")
    )  # fmt: skip
    np.testing.assert_array_equal(one(path).coords, [[0, 0, 1], [1, 0, 1]])


def test_chemical_component_of_the_pdb_is_one_record(tmp_path):
    keys = [
        "comp_id", "atom_id", "type_symbol", "model_Cartn_x", "model_Cartn_y", "model_Cartn_z",
        "pdbx_model_Cartn_x_ideal", "pdbx_model_Cartn_y_ideal", "pdbx_model_Cartn_z_ideal",
    ]  # fmt: skip
    rows = [f"MOH {s}{i} {s} {x} {y} {z} {x + 1} {y} {z}" for i, (s, x, y, z) in enumerate(METHANOL, start=1)]
    lines = ["data_MOH", "_chem_comp.id MOH", "loop_", *(f"_chem_comp_atom.{key}" for key in keys), *rows]
    path = tmp_path / "MOH.cif"
    path.write_text("\n".join([*lines, "#", ""]))
    molecule = one(path)
    np.testing.assert_allclose(molecule.coords, COORDS, atol=1e-6)
    assert molecule.elements.tolist() == ELEMENTS


def test_to_rdkit_keeps_order_with_and_without_hydrogens():
    with_h = next(read_molecules(cdk2()))
    without_h = next(read_molecules(cdk2(), hydrogens=False))
    for molecule in (with_h, without_h):
        other = molecule.to_rdkit()
        assert [atom.GetAtomicNum() for atom in other.GetAtoms()] == molecule.elements.tolist()
        np.testing.assert_allclose(other.GetConformer().GetPositions(), molecule.coords)
        assert any(atom.GetIsAromatic() for atom in other.GetAtoms())


def test_strange_valence_is_no_reason_to_lose_a_molecule(tmp_path):
    path = tmp_path / "valence.sdf"
    atoms = [("C", 0, 0, 0)] + [("F", x, y, z) for x, y, z in np.eye(3).tolist() + (-np.eye(3)).tolist()]
    path.write_text(molblock(atoms, [(1, i) for i in range(2, 8)]))
    molecule = one(path)
    assert len(molecule) == 7
    with pytest.raises(MoleculeError, match="sanitize"):
        molecule.to_rdkit()


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["m.sdf", "m.mol2", "m.pdb", "m.cif", "m.sdf.gz"])
def test_missing_and_empty_files(tmp_path, name):
    path = tmp_path / name
    refused(path, "no such file", record=None)
    path.write_bytes(b"")
    refused(path, "empty", record=None)
    path.write_text("\n\n")
    with pytest.raises(MoleculeError, match="no molecule"):
        list(read_molecules(path))
    assert count_records(path) == 0


def test_a_folder_and_an_unknown_format(tmp_path):
    folder = tmp_path / "folder.sdf"
    folder.mkdir()
    refused(folder, "cannot be read", record=None)
    refused(tmp_path / "m.foo", "unknown molecule format '.foo'", record=None)
    refused(tmp_path / "m", "unknown molecule format", record=None)


@pytest.mark.parametrize("lines", [2, 3, 7, 11, 14])
def test_truncated_sdf(tmp_path, lines):
    path = tmp_path / "m.sdf"
    path.write_text("\n".join(SDF.split("\n")[:lines]))
    refused(path, "truncated")


def test_truncated_mol2_pdb_mmcif_and_gzip(tmp_path):
    path = tmp_path / "m.mol2"
    text = TEXTS["m.mol2"]
    for mark in ("@<TRIPOS>ATOM", "4 H4", "@<TRIPOS>BOND", "4 1 5"):
        path.write_text(text[: text.index(mark)])
        refused(path, "truncated")
    path = tmp_path / "m.pdb"
    path.write_text(TEXTS["m.pdb"][:40])
    refused(path, "atom 1: cut off")
    path = tmp_path / "m.cif"
    path.write_text(TEXTS["m.cif"][:-40])
    refused(path, "gemmi")


def test_truncated_gzip_gives_the_records_before_the_cut(tmp_path):
    path = tmp_path / "m.sdf.gz"
    rng = np.random.default_rng(5)
    records = [molblock([(s, *rng.uniform(-5, 5, 3)) for s, *_ in METHANOL]) + "$$$$\n" for _ in range(200)]
    path.write_bytes(gzip.compress("".join(records).encode())[:-30])
    refused(path, "cannot be read", record=None)
    errors = []
    molecules = list(read_molecules(path, on_error=errors.append))
    assert 0 < len(molecules) == count_records(path) < 200
    assert len(errors) == 1 and errors[0].record is None


@pytest.mark.parametrize("name", ["m.mol2", "m.pdb", "m.cif"])
def test_molecules_in_the_plane_are_drawings(tmp_path, name):
    flat = [(s, x, y, 0.0) for s, x, y, _ in METHANOL]
    path = tmp_path / name
    path.write_text({"m.mol2": mol2(flat, METHANOL_BONDS), "m.pdb": pdb(flat), "m.cif": mmcif(flat)}[name])
    refused(path, "no 3D coordinates")
    assert len(one(path, flat=True)) == 6


@pytest.mark.parametrize(("mark", "accepted"), [("2D", False), ("  ", False), ("3D", True)])
def test_drawings_in_sdf(tmp_path, mark, accepted):
    path = tmp_path / "m.sdf"
    path.write_text(molblock([(s, x, y, 0.0) for s, x, y, _ in METHANOL], METHANOL_BONDS, mark))
    if accepted:
        assert len(one(path)) == 6
    else:
        refused(path, "no 3D coordinates")
        assert len(one(path, flat=True)) == 6


def test_drawing_by_rdkit_is_refused(tmp_path):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    path = tmp_path / "drawing.sdf"
    molecule = Chem.MolFromSmiles("CCO")
    AllChem.Compute2DCoords(molecule)
    path.write_text(Chem.MolToMolBlock(molecule))
    refused(path, "no 3D coordinates")


def test_useless_positions_and_no_atoms(tmp_path):
    path = tmp_path / "m.sdf"
    path.write_text(molblock([(s, 1.0, 2.0, 3.0) for s, *_ in METHANOL], METHANOL_BONDS))
    refused(path, "all atoms lie at one point")
    path.write_text(molblock([]))
    refused(path, "no atoms")
    path.write_text(molblock([("H", 0, 0, 0), ("H", 0, 0, 0.74)], [(1, 2)]))
    refused(path, "no atoms but hydrogens", hydrogens=False)
    path = tmp_path / "m.mol2"
    path.write_text(TEXTS["m.mol2"].replace("-0.0187", "nan"))
    refused(path, "atom 1 is .*nan")


def test_bad_records_are_skipped_and_reported(tmp_path):
    path = tmp_path / "mixed.sdf"
    drawing = molblock([(s, x, y, 0.0) for s, x, y, _ in METHANOL], METHANOL_BONDS, "2D")
    records = [SDF, drawing, "", SDF, "junk\n" * 9, SDF[:200]]
    path.write_text("".join(record + "$$$$\n" for record in records))
    errors = []
    assert [molecule.record for molecule in read_molecules(path, on_error=errors.append)] == [1, 4]
    assert [error.record for error in errors] == [2, 3, 5, 6]
    assert all(error.path == path for error in errors)
    assert count_records(path) == 6
    errors.clear()
    assert list(read_molecules(tmp_path / "none.sdf", on_error=errors.append)) == []
    assert len(errors) == 1 and errors[0].record is None


def test_errors_survive_pickling(tmp_path):
    error = pickle.loads(pickle.dumps(MoleculeError(tmp_path / "a.sdf", 3, "bad")))
    assert str(error) == f"{tmp_path / 'a.sdf'}, record 3: bad" and error.record == 3
