"""Complexes of atoms at random, in the files that tools/make_poses.py writes."""

import numpy as np

from gridgrad.data import write_store
from gridgrad.mol import GninaTyper, TypedAtoms


def write_poses(folder):
    """Write 8 receptors, 2 ligands each, 3 poses of each: the best one, and 1.5 and 6 angstrom from it; 48 rows."""
    rng, lines = np.random.default_rng(0), []
    receptors, ligands = [], []

    def atoms(part, n, spread):
        channels = GninaTyper(part).channels
        return TypedAtoms(rng.normal(size=(n, 3)) * spread, rng.integers(0, 14, n), np.full(n, 1.8), channels)

    for receptor in "ABCDEFGH":
        receptors.append((receptor, atoms("receptor", 200, 7.0)))
        for ligand in "xy":
            best = atoms("ligand", 9 if ligand == "x" else 12, 2.0)
            for rank, rmsd in enumerate((0.0, 1.5, 6.0), start=1):
                name = f"{receptor}_{ligand}_{rank}"
                moved = TypedAtoms(best.coords + np.array([rmsd, 0, 0]), best.types, best.radii, best.channels)
                ligands.append((name, moved))
                lines.append(f"{int(rmsd < 2)} -7.0 {rmsd:.3f} {receptor} {name}")
    write_store(folder / "receptors.store", receptors)
    write_store(folder / "ligands.store", ligands)
    (folder / "poses.types").write_text("\n".join(lines) + "\n")
    return folder
