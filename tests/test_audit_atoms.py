"""The audit of tools/audit_atoms.py on more than a hundred files, and that it finds what is missing."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.traps import TRAPS

for package in ("rdkit", "gemmi", "posebusters"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
SCRIPT = Path(__file__).parents[1] / "tools" / "audit_atoms.py"
if not SCRIPT.exists():
    pytest.skip("needs tools/ beside tests/", allow_module_level=True)

spec = importlib.util.spec_from_file_location("audit_atoms", SCRIPT)
audit_atoms = importlib.util.module_from_spec(spec)
spec.loader.exec_module(audit_atoms)

import gridgrad.mol


def test_every_atom_of_a_hundred_files_is_accounted_for(tmp_path):
    paths = [*audit_atoms.package_files([]), *audit_atoms.trap_files(tmp_path)]
    audits = [audit_atoms.Audit(path) for path in paths]
    assert len({path.name for path in paths}) >= 100
    assert [str(audit) for audit in audits if audit.problems] == []
    assert sum(audit.inside for audit in audits) > 150_000
    formats = {audit_atoms.suffix(path) for path in paths}
    assert formats >= {".sdf", ".mol", ".mol2", ".pdb", ".pdbqt", ".cif", ".xyz"}


def test_a_receptor_written_as_mmcif(tmp_path):
    receptor = next(path for path in audit_atoms.package_files([]) if path.name.startswith("1s3v_protein"))
    (path,) = audit_atoms.mmcif_files([receptor], tmp_path)
    audit = audit_atoms.Audit(path)
    assert audit.problems == [] and audit.inside == audit.out == audit_atoms.Audit(receptor).out == 1502


@pytest.mark.parametrize("name", ["plain.sdf", "types.mol2", "two_records.xyz", "types.pdbqt", "as_a_whole.pdb",
                                  "alternatives.cif"])  # fmt: skip
def test_the_audit_finds_what_is_missing(tmp_path, monkeypatch, name):
    path = tmp_path / name
    path.write_text(TRAPS[name].text)
    assert audit_atoms.Audit(path).problems == []
    read = gridgrad.mol.read_molecules

    def altered(change):
        def reader(*arguments, **options):
            first, *others = read(*arguments, **options)
            return [*change(first), *others]

        monkeypatch.setattr(gridgrad.mol, "read_molecules", reader)
        return audit_atoms.Audit(path).problems

    every = np.arange(len(next(read(path))))
    assert "atoms do not add up" in altered(lambda m: [replace(m, elements=m.elements[1:], coords=m.coords[1:])])
    assert altered(lambda m: [replace(m, coords=m.coords[::-1])]) == ["record 1: atoms at other places"]
    assert altered(lambda m: [replace(m, coords=m.coords + 0.001 * (every == 1)[:, None])])
    assert altered(lambda m: [replace(m, left_out={"hydrogens": 1})])[:1] == ["atoms do not add up"]
    assert any("records" in problem for problem in altered(lambda m: []))
