"""Files that readers stumble over: every atom comes out or is counted, or the record is refused with its reason."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.traps import TRAPS, atoms, pdb

pytest.importorskip("rdkit", reason="rdkit is not installed")
pytest.importorskip("gemmi", reason="gemmi is not installed")

from gridgrad.mol import SYMBOLS, count_records, read_molecules


def read(tmp_path, name, text=None, **options):
    path = tmp_path / name
    path.write_text(TRAPS[name].text if text is None else text, newline="")
    errors = []
    return list(read_molecules(path, on_error=errors.append, **options)), errors, path


@pytest.mark.parametrize("name", TRAPS)
def test_every_atom_comes_out_or_is_counted(tmp_path, name):
    trap = TRAPS[name]
    molecules, errors, path = read(tmp_path, name, skip_unknown=True)
    assert tuple(map(len, molecules)) == trap.atoms
    left_out = trap.left_out or ({},) * len(molecules)
    assert tuple(dict(molecule.left_out) for molecule in molecules) == left_out
    assert [error.record for error in errors] == list(trap.refused)
    for error, reason in zip(errors, trap.refused.values(), strict=True):
        assert re.search(reason, error.reason), error
    if trap.elements:
        assert [SYMBOLS[number] for number in molecules[0].elements] == trap.elements.split()
    assert count_records(path) == len(molecules) + len([error for error in errors if error.record])


def test_the_conformer_that_stays_is_the_right_one(tmp_path):
    """The places of the atoms follow from their serial numbers in the file."""

    def serials(name):
        (molecule,), _, _ = read(tmp_path, name)
        return np.rint((molecule.coords[:, 2] - 1) * 100).astype(int).tolist()

    assert serials("higher_occupancy.pdb") == [1, 2, 3, 4, 6, 8]
    assert serials("first_among_equals.pdb") == [1, 2, 3, 4, 5, 7]
    assert serials("as_a_whole.pdb") == [1, 2, 3, 4, 6, 8]  # B: 0.6 on average, A: 0.5
    assert serials("unequal_conformers.pdb") == [1, 2, 3, 4, 5, 6]
    assert serials("block_after_block.pdb") == [4, 5, 6]
    assert serials("far_apart.pdb") == [1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert serials("first_without_a_label.pdb") == [1, 2, 3, 4, 5]
    assert serials("two_groups_in_a_residue.pdb") == [1, 2, 3, 4, 6, 7]
    assert serials("two_residues_at_one_place.pdb") == [2, 4, 6]
    assert serials("one_residue_after_the_other.pdb") == [1, 2, 3]
    assert serials("deuterium.pdb") == [1, 2, 3, 4, 6]
    assert serials("interleaved_chains.pdb") == [1, 2, 3, 4, 5, 6]  # the order of the file


def test_sites_tell_residues_apart(tmp_path):
    (molecule,), _, _ = read(tmp_path, "ligand_with_a_number_of_its_protein.pdb")
    assert molecule.sites.residues.tolist() == [0] * 6 + [1] * 5
    assert molecule.sites.residue_names.tolist() == ["SER"] * 6 + ["LIG"] * 5
    assert molecule.sites.atom_names[:4].tolist() == ["N", "CA", "C", "O"]
    (molecule,), _, _ = read(tmp_path, "wrapped_waters.pdb")
    assert len(set(molecule.sites.residues.tolist())) == 10_050
    (molecule,), _, _ = read(tmp_path, "chains_without_a_name.pdb")
    assert molecule.sites.residues.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    (molecule,), _, _ = read(tmp_path, "hydrogens_of_one_name.pdb")
    assert molecule.sites.residues.tolist() == [0] * 7
    (molecule,), _, _ = read(tmp_path, "waters_of_one_number.pdb")
    assert molecule.sites.residues.tolist() == [number for number in range(9) for _ in range(3)]


def test_connections_after_the_models_hold_for_all(tmp_path):
    conect = "CONECT    1    2\nCONECT    2    1    3    3\nCONECT    3    2    2   99\n"
    path = tmp_path / "models.pdb"
    model = pdb(*atoms("C1 C2 O1", residue="LIG"))
    models = "".join(f"MODEL     {number:4d}\n{model}ENDMDL\n" for number in (1, 2, 3))
    path.write_text(f"{models}{conect}END\n{model}END\n{model}{conect.replace('    3', '    9')}END\n")
    links = [molecule.sites.links.tolist() for molecule in read_molecules(path)]
    assert links == [[[0, 1], [1, 2], [1, 2]]] * 3 + [[], [[0, 1]]]
    path.write_text(models * 2000 + conect)  # too many to wait
    counts = [len(molecule.sites.links) for molecule in read_molecules(path)]
    assert len(counts) == 6000 and counts[0] == 0 and counts[-1] == 3


def test_memory_does_not_grow_with_the_number_of_records(tmp_path):
    """The same with a million records: docs/molecules.md has the numbers."""
    for name in ("plain.sdf", "types.mol2", "extended.xyz", "segments.pdb", "poses.pdbqt", "alternatives.cif"):
        suffix, text = Path(name).suffix, TRAPS[name].text
        if suffix == ".pdb":
            text = f"MODEL        1\n{text}ENDMDL\n"
        path = tmp_path / f"many{suffix}"
        path.write_text(text * 200)
        tracemalloc.start()
        sizes, records = [], 0
        for records, _ in enumerate(read_molecules(path, skip_unknown=True, flat=True), start=1):
            if records % 100 == 0:
                sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert records >= 200
        assert sizes[-1] - sizes[0] < 30_000, suffix  # the arrays of 100 molecules take more than 60 000 bytes
