"""Dock small ligands into the receptors that the package `dockstring` carries: real complexes to train with.

Each receptor gets ligands of its own: one of RDKit's cdk2.sdf, one of its egfr.sdf, the others out of the NCI's
molecules that RDKit ships as SMILES (embedded by RDKit), all small and drug-like. AutoDock Vina 1.1.2, which is in
dockstring, docks them into the box that dockstring gives, with Open Babel's PDBQT. The folder holds in the end

    receptors/NAME.pdbqt          the receptors, with hydrogens
    ligands/NAME_LIGAND.sdf       the poses of a ligand, best first, heavy atoms
    poses.types                   a line a pose: label, energy, RMSD, receptor, ligand
    receptors.store, ligands.store    the same, typed by GninaTyper, for gridgrad.data.AtomStore

The label is 1 up to an RMSD of 2 A from the best pose, else 0; the energy is Vina's, in kcal/mol; the RMSD is that of
the heavy atoms, the smallest over the symmetries of the ligand. Poses of a run that was ended stay, and the same
command goes on with those that are missing; the result does not depend on that, nor on the number of workers. After
--minutes the table and the stores are written of what is there.

dockstring and Open Babel are installed into an environment of their own, made on demand as for compare_peers.py.

    python tools/make_poses.py            into the folder poses: 58 receptors, 4 ligands each
    python tools/make_poses.py --quick    2 receptors, 2 ligands each
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from compare_peers import environment
from rdkit import Chem, RDConfig, RDLogger
from rdkit.Chem import QED, AllChem, Descriptors, rdMolAlign
from tqdm import tqdm

from gridgrad.data import write_store
from gridgrad.io.writers import atomic_files
from gridgrad.mol import GninaTyper, read_molecules, type_atoms

POSES = 9
NEAR = 2.0  # angstrom from the best pose: label 1
ELEMENTS = {"C", "N", "O", "S", "F", "Cl", "Br"}


# --- what is docked ---------------------------------------------------------------------------------------------------


def is_small(molecule, heavy, rotatable):
    """Tell whether a molecule is in one piece, of common elements, has a ring and is drug-like (QED)."""
    return (
        heavy[0] <= molecule.GetNumHeavyAtoms() <= heavy[1]
        and Descriptors.NumRotatableBonds(molecule) <= rotatable
        and molecule.GetRingInfo().NumRings() > 0
        and len(Chem.GetMolFrags(molecule)) == 1
        and {atom.GetSymbol() for atom in molecule.GetAtoms()} <= ELEMENTS | {"H"}
        and not any(atom.GetFormalCharge() or atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
        and QED.qed(Chem.RemoveHs(molecule)) > 0.5
    )


def ligands():
    """Return the small ligands by source: dicts from names to molecules, from files with hydrogens and positions."""
    contrib, found = pathlib.Path(RDConfig.RDContribDir), {}
    for name, path in {"cdk2": "Fastcluster/testdata/cdk2.sdf", "egfr": "PBF/testData/egfr.sdf"}.items():
        records = enumerate(Chem.SDMolSupplier(str(contrib / path), removeHs=False), start=1)
        found[name] = {f"{name}-{number}": each for number, each in records if each and is_small(each, (12, 22), 4)}
    nci = Chem.SmilesMolSupplier(str(pathlib.Path(RDConfig.RDDataDir, "NCI", "first_5K.smi")), "\t", 0, 1, False)
    found["nci"] = {f"nci-{each.GetProp('_Name')}": each for each in nci if each and is_small(each, (11, 17), 3)}
    return found


def embedded(molecule, seed):
    """Return a molecule with hydrogens and positions, of a SMILES by distance geometry and MMFF94."""
    if molecule.GetNumConformers():
        return molecule
    molecule = Chem.AddHs(molecule)
    if AllChem.EmbedMolecule(molecule, randomSeed=seed):
        raise ValueError("no conformation found")
    AllChem.MMFFOptimizeMolecule(molecule)
    return molecule


def chosen(receptor, pools, n):
    """Return n ligands of a receptor, one of each file among them; the same ones in every run."""
    rng = np.random.default_rng(zlib.crc32(receptor.encode()))
    sources = ["nci", "egfr", "nci", "cdk2", *["nci"] * n][:n]
    names = {source: rng.permutation(sorted(pool)).tolist() for source, pool in pools.items()}
    return [(name, pools[source][name]) for source in sources for name in [names[source].pop()]]


# --- docking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tools:
    """Where things are: Vina and obabel, the folder of dockstring's targets."""

    vina: pathlib.Path
    obabel: pathlib.Path
    targets: pathlib.Path

    @classmethod
    def installed(cls, cache):
        """Return those of the environment that is made on demand."""
        python = pathlib.Path(environment("dockstring", cache))
        where = "import importlib.util as i; print(i.find_spec('dockstring').submodule_search_locations[0])"
        package = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
        resources = pathlib.Path(package, "resources")
        return cls(resources / "bin" / "vina_linux", python.with_name("obabel"), resources / "targets")

    def receptors(self):
        return sorted(path.name.removesuffix("_target.pdbqt") for path in self.targets.glob("*_target.pdbqt"))


def run(*command):
    """Run a program; raise what it said if it fails."""
    done = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ValueError(f"{pathlib.Path(command[0]).name}: status {done.returncode}: {said[-1] if said else ''}")


def pdbqt_models(text):
    """Return of each model the energy (None in a file that was not docked) and the positions of its atoms, (N, 3)."""
    models = []
    for part in text.split("ENDMDL"):
        lines = part.splitlines()
        atoms = [line for line in lines if line.startswith(("ATOM", "HETATM"))]
        energies = [float(line.split()[3]) for line in lines if line.startswith("REMARK VINA RESULT")]
        if atoms:
            coords = np.array([[float(line[i : i + 8]) for i in (30, 38, 46)] for line in atoms])
            models.append((energies[0] if energies else None, coords))
    return models


def dock(tools, receptor, molecule, path):
    """Dock a ligand and write its poses. Vina keeps the order of atoms of its input, which is matched by position."""
    seed = zlib.crc32(path.stem.encode()) % 2**31
    molecule = embedded(molecule, seed)
    with tempfile.TemporaryDirectory() as folder:
        sdf, ligand, docked = (pathlib.Path(folder, file) for file in ("ligand.sdf", "ligand.pdbqt", "docked.pdbqt"))
        sdf.write_text(Chem.MolToMolBlock(molecule) + "$$$$\n")
        run(tools.obabel, "-isdf", sdf, "-opdbqt", "-O", ligand, "--partialcharge", "gasteiger")
        run(
            tools.vina, "--receptor", tools.targets / f"{receptor}_target.pdbqt",
            "--config", tools.targets / f"{receptor}_conf.txt", "--ligand", ligand, "--out", docked,
            "--exhaustiveness", 1, "--cpu", 1, "--seed", seed, "--num_modes", POSES, "--energy_range", 10,
        )  # fmt: skip
        poses = pdbqt_models(docked.read_text())
        ((_, start),) = pdbqt_models(ligand.read_text())
    heavy = np.array([atom.GetAtomicNum() > 1 for atom in molecule.GetAtoms()])
    distances = np.linalg.norm(molecule.GetConformer().GetPositions()[heavy, None] - start, axis=-1)
    place = distances.argmin(1)
    if not poses or distances.min(1).max() > 0.01 or len(set(place)) < len(place):
        raise ValueError(
            f"{len(poses)} poses, atoms within {distances.min(1).max():.3f} A; expected poses of all atoms"
        )
    write_poses(path, Chem.RemoveHs(molecule), [(energy, coords[place]) for energy, coords in poses])


def write_poses(path, molecule, poses):
    """Write poses (energy, (N, 3) positions of heavy atoms) as an SDF file, best first, with RMSDs from the first."""
    best, molecule = None, Chem.Mol(molecule)
    with atomic_files([path]) as (temporary,), Chem.SDWriter(str(temporary)) as writer:
        for rank, (energy, coords) in enumerate(poses, start=1):
            molecule.GetConformer().SetPositions(coords)
            best = best or Chem.Mol(molecule)
            molecule.SetProp("_Name", f"{path.stem}_{rank}")
            molecule.SetProp("energy", f"{energy:.1f}")
            molecule.SetProp("rmsd", f"{rdMolAlign.CalcRMS(Chem.Mol(molecule), best):.3f}")
            writer.write(molecule)


# --- what comes of it -------------------------------------------------------------------------------------------------


def typed(path, part, names):
    """Yield names and typed heavy atoms of the records of a file."""
    for name, molecule in zip(names, read_molecules(path), strict=True):
        atoms = type_atoms(molecule, GninaTyper(part))
        seen = atoms.types >= 0  # without hydrogens, which have no channel
        yield name, replace(atoms, coords=atoms.coords[seen], types=atoms.types[seen], radii=atoms.radii[seen])


def write_tables(folder, docked):
    """Write the table and the stores of what was docked: files of poses by receptor."""
    lines, names = [], {}
    for receptor, paths in docked.items():
        for path in paths:
            names[path] = [pose.GetProp("_Name") for pose in Chem.SDMolSupplier(str(path))]
            for pose in Chem.SDMolSupplier(str(path)):
                rmsd = pose.GetDoubleProp("rmsd")
                words = int(rmsd <= NEAR), pose.GetProp("energy"), pose.GetProp("rmsd"), receptor, pose.GetProp("_Name")
                lines.append(" ".join(map(str, words)))
    receptors = ((name, folder / "receptors" / f"{name}.pdbqt") for name in docked)
    stores = {
        "receptors": (pair for name, path in receptors for pair in typed(path, "receptor", [name])),
        "ligands": (pair for path, own in names.items() for pair in typed(path, "ligand", own)),
    }
    for name, molecules in stores.items():
        shutil.rmtree(folder / f"{name}.store", ignore_errors=True)
        write_store(folder / f"{name}.store", molecules)
    with atomic_files([folder / "poses.types"]) as (temporary,):
        temporary.write_text("\n".join(lines) + "\n")
    print(f"{folder}: {len(docked)} receptors, {len(names)} ligands, {len(lines)} poses")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gridgrad-peers"
    parser.add_argument("folder", type=pathlib.Path, nargs="?", default="poses", help="where everything is written")
    parser.add_argument("--receptors", type=int, default=58, help="number of receptors, 58 at most")
    parser.add_argument("--ligands", type=int, default=4, help="number of ligands for each receptor")
    parser.add_argument("--quick", action="store_true", help="2 receptors, 2 ligands each")
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no docking after so many minutes")
    parser.add_argument("--workers", type=int, default=1, help="dockings at a time, each on one core")
    parser.add_argument("--cache", type=pathlib.Path, default=cache, help="folder of the environment")
    options = parser.parse_args()
    if options.quick:
        options.receptors = options.ligands = 2
    RDLogger.DisableLog("rdApp.*")
    tools = Tools.installed(options.cache)
    targets = tools.receptors()[: options.receptors]
    for name in ("receptors", "ligands"):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    pools = ligands()
    for receptor in targets:
        shutil.copyfile(tools.targets / f"{receptor}_target.pdbqt", options.folder / "receptors" / f"{receptor}.pdbqt")
    rounds = zip(*(chosen(receptor, pools, options.ligands) for receptor in targets))  # the first of each, the second
    jobs = [
        (receptor, molecule, options.folder / "ligands" / f"{receptor}_{name}.sdf")
        for ligands_of_all in rounds
        for receptor, (name, molecule) in zip(targets, ligands_of_all)
    ]
    todo = [job for job in jobs if not job[-1].exists()]
    end = time.monotonic() + 60 * options.minutes

    def attempt(job):
        try:
            if time.monotonic() < end:
                dock(tools, *job)
        except ValueError as error:
            return f"{job[-1].stem}: {error}"
        return None

    bar = tqdm(total=len(jobs), initial=len(jobs) - len(todo), unit="ligand", disable=None)
    with bar, ThreadPoolExecutor(options.workers) as pool:
        failures = []
        for failure in pool.map(attempt, todo):
            failures += [failure] if failure else []
            bar.update()
    print(*failures, sep="\n", end="\n" if failures else "", file=sys.stderr)
    docked = {}
    for receptor, path in sorted((receptor, path) for receptor, _, path in jobs if path.exists()):
        docked.setdefault(receptor, []).append(path)
    if not docked:
        sys.exit(f"{options.folder}: no ligand was docked")
    write_tables(options.folder, docked)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
