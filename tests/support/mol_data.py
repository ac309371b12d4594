"""Real molecules that ship with dependencies, and small files written for a test."""

import importlib.util
from pathlib import Path

import pytest


def contrib(*parts):
    """Path of a file in RDKit's Contrib folder."""
    config = pytest.importorskip("rdkit.RDConfig", reason="rdkit is not installed")
    path = Path(config.RDContribDir, *parts)
    if not path.exists():
        pytest.skip(f"this RDKit has no {path}")
    return path


def cdk2():
    """47 CDK2 ligands with 3D coordinates and hydrogens."""
    return contrib("Fastcluster", "testdata", "cdk2.sdf")


def egfr():
    """365 EGFR ligands with 3D coordinates."""
    return contrib("PBF", "testData", "egfr.sdf")


def posebusters(entry, name):
    """Path of a file of a complex of the posebusters package, which is only located, never imported."""
    spec = importlib.util.find_spec("posebusters")
    if spec is None:
        pytest.skip("the package posebusters, which holds the complex, is not installed")
    return Path(spec.submodule_search_locations[0], "datasets", "pdb", entry, f"{entry}_{name}")


def molblock(atoms, bonds=(), mark="3D", title="small"):
    """A V2000 MOL block from (symbol, x, y, z) and pairs of atoms counted from 1."""
    lines = [
        title,
        f"  test    0101260000{mark}",
        "",
        f"{len(atoms):3d}{len(bonds):3d}  0  0  0  0            999 V2000",
    ]
    lines += [f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0" for symbol, x, y, z in atoms]
    lines += [f"{i:3d}{j:3d}  1  0" for i, j in bonds]
    return "\n".join([*lines, "M  END", ""])


def pdb_atom(serial, name, element, x, y, z, residue="MOL", altloc=" "):
    """An ATOM line of a PDB file."""
    return (
        f"HETATM{serial:5d} {name:<4}{altloc}{residue:>3} A   1    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          "
        f"{element:>2}\n"
    )


METHANOL = [
    ("C", -0.0187, 1.5256, 0.0104), ("O", 0.0021, -0.0041, 0.0020), ("H", 0.9949, 1.9397, 0.0029),
    ("H", -0.5421, 1.8923, -0.8725), ("H", -0.5252, 1.8901, 0.9000), ("H", 0.9150, -0.3000, 0.1000),
]  # fmt: skip
METHANOL_BONDS = [(1, 2), (1, 3), (1, 4), (1, 5), (2, 6)]
