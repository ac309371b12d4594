"""Molecule files cut into chunks of records: the same molecules and errors as from the whole file."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.mol_data import METHANOL, METHANOL_BONDS, cdk2, molblock, pdb_atom

from gridgrad.mol import MoleculeError, chunks, count_records, read_molecules
from gridgrad.mol.chunks import split_records

pytest.importorskip("rdkit", reason="rdkit is not installed")
pytest.importorskip("gemmi", reason="gemmi is not installed")

BLOCK = molblock(METHANOL, METHANOL_BONDS)
MOL2 = "@<TRIPOS>MOLECULE\nname\n 1 0\nSMALL\nNO_CHARGES\n\n@<TRIPOS>ATOM\n1 C 1.0 2.0 3.0 C.3 1 M 0.0\n"


def read(path, every=None):
    """Return (record, name, atoms) of what can be read and (record, reason) of what cannot."""
    found, errors = [], []
    pieces = [None] if every is None else split_records(path, every)
    for chunk in pieces:
        if chunk is not None and chunk.error is not None:
            errors.append(chunk.error)
            continue
        some = {} if chunk is None else {"records": chunk.records, "data": chunk.data}
        found += [(m.record, m.name, len(m)) for m in read_molecules(path, on_error=errors.append, **some)]
    return found, [(error.record, error.reason) for error in errors]


PIECES = {
    ".sdf": [BLOCK, "$$$$\n", "$$$$ more\r\n", "\n", "  \n", "junk\n", " $$$$\n", "x$$$$", BLOCK.replace("\n", "\r\n")],
    ".mol2": [MOL2, "@<TRIPOS>MOLECULE\n", "\n", "# comment\n", " @<TRIPOS>MOLECULE\n", "x@<TRIPOS>MOLECULE", "junk\n"],
}


@pytest.mark.parametrize("suffix", PIECES)
@given(data=st.data())
def test_any_mess_reads_the_same_in_chunks(suffix, data, tmp_path_factory):
    text = "".join(data.draw(st.lists(st.sampled_from(PIECES[suffix]), max_size=12)))
    every = data.draw(st.integers(1, 5))
    path = tmp_path_factory.getbasetemp() / f"mess{suffix}"
    path.write_bytes(text.encode())
    block, chunks._BLOCK = chunks._BLOCK, data.draw(st.sampled_from([1, 7, 64, 1 << 20]))
    try:
        assert read(path, every) == read(path)
        last = list(split_records(path, every))[-1]
        assert last.records.stop - 1 == max(1, count_records(path))
    finally:
        chunks._BLOCK = block


@pytest.mark.parametrize("compressed", [False, True])
def test_a_chunk_is_found_again_at_its_offset(tmp_path, compressed):
    path = tmp_path / ("x.sdf.gz" if compressed else "x.sdf")
    path.write_bytes(gzip.compress(cdk2().read_bytes()) if compressed else cdk2().read_bytes())
    first, second, *_, last = split_records(path, 10)
    assert (first.offset, last.records) == (0, range(41, 48))
    again = list(split_records(path, 4, first=11, stop=21, offset=second.offset))
    assert [chunk.records for chunk in again] == [range(11, 15), range(15, 19), range(19, 21)]
    assert b"".join(chunk.data for chunk in again) == second.data


def test_models_of_a_pdb_file_are_read_by_number(tmp_path):
    path = tmp_path / "models.pdb"
    atoms = [pdb_atom(1, "C", "C", i, 1, 2) + pdb_atom(2, "O", "O", i, 2, 3) for i in range(5)]
    path.write_text("".join(f"MODEL     {i + 1:4d}\n{atom}ENDMDL\n" for i, atom in enumerate(atoms)) + "END\n")
    assert read(path, 2) == read(path) and len(read(path)[0]) == 5
    assert [chunk.records for chunk in split_records(path, 2)] == [range(1, 3), range(3, 5), range(5, 6)]


@pytest.mark.parametrize("name", ["absent.sdf", "empty.sdf", "blank.mol2", "folder.sdf", "text.txt", "bad.pdb"])
def test_a_file_without_records_says_why(tmp_path, name):
    path = tmp_path / name
    if name == "folder.sdf":
        path.mkdir()
    elif name != "absent.sdf":
        path.write_text({"empty.sdf": "", "blank.mol2": "\n\n"}.get(name, "nothing\n"))
    assert read(path, 3) == read(path)
    assert len(read(path)[1]) == 1 and not read(path)[0]


def test_a_truncated_gzip_file_loses_only_what_is_cut_off(tmp_path):
    path = tmp_path / "cut.sdf.gz"
    data = gzip.compress(cdk2().read_bytes() * 3)
    path.write_bytes(data[: len(data) // 2])
    found, errors = read(path, 10)
    assert (found, errors) == read(path) and len(found) > 40
    assert errors == [(None, "cannot be read: Compressed file ended before the end-of-stream marker was reached")]


def test_an_endless_record_ends_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "_BLOCK", 1 << 12)
    path = tmp_path / "long.sdf"
    path.write_text(f"{BLOCK}$$$$\n" + "x" * (1 << 17))
    good, bad = split_records(path, 10, limit=1 << 16)
    assert good.records == range(1, 2) and isinstance(bad.error, MoleculeError)
    assert "longer than 65536 bytes" in str(bad.error)
