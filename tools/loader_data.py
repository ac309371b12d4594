"""The molecules that ``compare_loaders.py`` loads: CDK2 and EGFR ligands beside the receptors of four complexes."""

import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECEPTORS = ("1ia1", "1of6", "1s3v", "1uou")
CHECKED = 3  # complexes of each receptor whose grids are compared


def write(folder):
    """Write what both packages read: caches, ``.types`` tables, ``.gninatypes`` files, and stores.

    Every ligand lies in the pocket of every receptor: 412 ligands, 1648 complexes. CDK2's are the positive examples.
    """
    sys.path.insert(0, str(ROOT / "tests"))
    from support.mol_data import cdk2, egfr, posebusters

    from gridgrad.data import write_gninatypes, write_molcache2, write_store
    from gridgrad.mol import GninaTyper, TypedAtoms, read_molecules, type_atoms

    raw = GninaTyper()

    def read(path):
        return [type_atoms(molecule, raw) for molecule in read_molecules(path, hydrogens=False)]

    def moved(atoms, shift):
        return TypedAtoms(atoms.coords + shift, atoms.types, atoms.radii, atoms.channels)

    def in_channels(molecules, typer):
        for name, atoms in molecules.items():
            types, radii, channels = typer.from_types(atoms.types)
            there = types >= 0
            yield name, TypedAtoms(atoms.coords[there], types[there], radii[there], channels)

    receptors, ligands, lines = {}, {}, []
    found = [(1, atoms) for atoms in read(cdk2())] + [(0, atoms) for atoms in read(egfr())]
    for entry in RECEPTORS:
        (receptor,) = read(posebusters(entry, "protein_one_lig_removed.pdb"))
        (bound,) = read(posebusters(entry, "ligand.sdf"))
        receptors[f"{entry}.gninatypes"] = receptor
        for number, (label, atoms) in enumerate(found):
            name = f"{entry}_{number}.gninatypes"
            ligands[name] = moved(atoms, bound.coords.mean(axis=0) - atoms.coords.mean(axis=0))
            lines.append(f"{label} {entry}.gninatypes {name}")
    write_molcache2(folder / "receptors.molcache2", receptors.items())
    write_molcache2(folder / "ligands.molcache2", ligands.items())
    write_store(folder / "receptors", in_channels(receptors, GninaTyper("receptor")))
    write_store(folder / "ligands", in_channels(ligands, GninaTyper("ligand")))
    (folder / "complexes.types").write_text("\n".join(lines) + "\n")
    alone = [f"{line.split()[0]} {line.split()[2]}" for line in lines]
    (folder / "ligands.types").write_text("\n".join(alone) + "\n")
    checked = [lines[len(found) * i + 100 * j] for i in range(len(RECEPTORS)) for j in range(CHECKED)]
    (folder / "checked.types").write_text("\n".join(checked) + "\n")
    for name in {word for line in checked for word in line.split()[1:]}:
        write_gninatypes(folder / name, (receptors | ligands)[name])
    return {
        "complexes": len(lines),
        "ligands": len(ligands),
        "receptor_atoms": [len(atoms) for atoms in receptors.values()],
        "ligand_atoms": float(np.mean([len(atoms) for atoms in ligands.values()])),
    }
