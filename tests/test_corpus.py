"""Files of all formats that gridgrad parses itself: good ones, and those that fuzzing has found to be faults."""

import pytest
from support import files

from gridgrad.mol import MoleculeError

for package in ("rdkit", "gemmi", "pyarrow", "mrcfile", "gridData"):
    pytest.importorskip(package, reason=f"{package} is not installed")

FOUND = [(path.parent.name, path.name) for path in sorted(files.CORPUS.glob("*/*"))]


@pytest.mark.parametrize("name", files.TARGETS)
def test_good_files(name):
    """They are read, each with one byte less they are read or refused."""
    target = files.TARGETS[name]
    for data in target.seeds():
        target.parse(data)
        target.parse(data[:-1])
        target.parse(b"")


@pytest.mark.parametrize(("name", "file"), FOUND)
def test_files_that_once_were_faults(name, file):
    """They are read or refused."""
    files.TARGETS[name].parse((files.CORPUS / name / file).read_bytes())


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ValueError("x.xyz: no record"), ValueError),
        (MoleculeError("y.xyz", 1, "says another file"), files.FaultError),
        (MoleculeError("x.xyz", 1, "long " * 1000), files.FaultError),
        (ZeroDivisionError("x.xyz"), ZeroDivisionError),
    ],
)
def test_what_is_a_fault(error, fault):
    """Other exceptions, errors that do not name the file and endless ones are noticed."""
    with pytest.raises(fault), files.refusing("x.xyz", MoleculeError):
        raise error
    with files.refusing("x.xyz", MoleculeError):
        raise MoleculeError("x.xyz", 1, "no atoms")
