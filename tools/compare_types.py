"""Compare gridgrad's GninaTyper with libmolgrid 0.5.5, which types through its own Open Babel, atom by atom.

Files go through libmolgrid's ExampleProvider, which adds hydrogens before it types. Compared are heavy atoms of

1. ligands: RDKit's cdk2.sdf and egfr.sdf, the four of posebusters;
2. the four receptors of posebusters, PDB files without hydrogens: by GninaTyper(openbabel=True), and by GninaTyper(),
   which follows the chemistry where Open Babel does not;
3. the same receptors with the hydrogens that gridgrad gives them, by GninaTyper();

and the grids of the types that libmolgrid found, in its channels. The exit status tells whether the limits hold: equal
are 99.5 % of the ligands' atoms, 98 % of the receptors' in 2 and 3, 90 % of each type of at least 20 atoms, and grids
to 1e-5 of their largest value.

Printed as well, without libmolgrid: how many types of the ligands follow from elements and positions alone.

libmolgrid runs in an environment of its own, made on demand as for compare_peers.py. Where it cannot be installed,
the comparison is skipped: the reason is printed and the exit status is 0.

    python tools/compare_types.py
"""

import argparse
import collections
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ENTRIES = ("1ia1", "1of6", "1s3v", "1uou")
LIGANDS, RECEPTORS, RECALL, GRIDS = 99.5, 98.0, 90.0, 1e-5
SMALLEST = 20  # atoms of a type whose recall counts
GRIDDED = 24  # ligands whose grids are compared


def molgrid_answers(questions, answers):
    """Type every file of a list, and grid some of them; in libmolgrid's environment."""
    import molgrid

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Open Babel warns of each molecule
    molgrid.set_gpu_enabled(False)
    gm = molgrid.GridMaker(resolution=0.5, dimension=23.5)
    parts = {"ligand": molgrid.defaultGninaLigandTyper, "receptor": molgrid.defaultGninaReceptorTyper}
    found = {"names": np.array(list(molgrid.GninaIndexTyper().get_type_names()))}
    for number, (path, part, gridded) in enumerate(json.loads(pathlib.Path(questions).read_text())):
        for key, typer in (("types", molgrid.GninaIndexTyper()), ("channels", parts[part])):
            provider = molgrid.ExampleProvider(typer, shuffle=False, cache_structs=False, default_batch_size=1)
            table = pathlib.Path(answers).with_suffix(".types")
            table.write_text(f"1 {path}\n")
            provider.populate(str(table))
            atoms = provider.next().coord_sets[0]
            arrays = {"": atoms.type_index, "_coords": atoms.coords, "_radii": atoms.radii}
            found |= {f"{number}/{key}{name}": np.array(array.tonumpy()) for name, array in arrays.items()}
        if gridded:
            center = tuple(float(x) for x in np.asarray(found[f"{number}/channels_coords"]).mean(axis=0))
            density = np.zeros(gm.grid_dimensions(14), dtype=np.float32)
            gm.forward(center, atoms, density)
            found |= {f"{number}/center": np.array(center), f"{number}/density": density}
    np.savez(answers, **found)


# --- what is compared -------------------------------------------------------------------------------------------------


def sources():
    """Return the files by name: sets of ligands, receptors."""
    from rdkit import RDConfig

    contrib = pathlib.Path(RDConfig.RDContribDir)
    ligands = {
        "cdk2.sdf": contrib / "Fastcluster" / "testdata" / "cdk2.sdf",
        "egfr.sdf": contrib / "PBF" / "testData" / "egfr.sdf",
    }
    receptors = {}
    spec = importlib.util.find_spec("posebusters")
    if spec is None:
        print("posebusters, which holds the complexes, is not installed: receptors are skipped")
    else:
        folder = pathlib.Path(spec.submodule_search_locations[0], "datasets", "pdb")
        for entry in ENTRIES:
            ligands[f"{entry} ligand"] = folder / entry / f"{entry}_ligand.sdf"
            receptors[entry] = folder / entry / f"{entry}_protein_one_lig_removed.pdb"
    return ligands, receptors


def write_records(path, folder):
    """Write each record of an SDF file to a file of its own."""
    for number, text in enumerate(path.read_text().split("$$$$\n"), start=1):
        if text.strip():
            record = folder / f"{path.stem}_{number}.sdf"
            record.write_text(f"{text}$$$$\n")
            yield record


def write_with_hydrogens(receptor, path):
    """Write a receptor with hydrogens as a PDB file, each residue whole."""
    from rdkit import Chem

    protonated = receptor.with_hydrogens()
    block = Chem.MolToPDBBlock(protonated.to_rdkit(), flavor=2 + 8)
    lines = [line for line in block.splitlines() if line[:6] in ("ATOM  ", "HETATM")]
    order = np.argsort(protonated.sites.residues, kind="stable")
    path.write_text("".join(f"{lines[index]}\n" for index in order) + "END\n")


class Comparison:
    """Types of one set of molecules, theirs and ours."""

    def __init__(self, name, limit=None):
        self.name, self.limit = name, limit
        self.pairs, self.places = collections.Counter(), collections.defaultdict(collections.Counter)

    def add(self, molecule, theirs, ours):
        heavy = molecule.elements != 1
        for index in np.flatnonzero(heavy).tolist():
            pair = int(theirs[index]), int(ours[index])
            self.pairs[pair] += 1
            if pair[0] != pair[1] and molecule.sites is not None:
                self.places[pair][f"{molecule.sites.residue_names[index]} {molecule.sites.atom_names[index]}"] += 1

    @property
    def percent(self):
        return 100 * sum(n for (a, b), n in self.pairs.items() if a == b) / sum(self.pairs.values())

    def recalls(self):
        """Return atoms and the percentage found, by type."""
        total, found = collections.Counter(), collections.Counter()
        for (theirs, ours), n in self.pairs.items():
            total[theirs] += n
            found[theirs] += n * (theirs == ours)
        return {kind: (n, 100 * found[kind] / n) for kind, n in sorted(total.items())}

    def fails(self):
        recalls = [percent for n, percent in self.recalls().values() if n >= SMALLEST]
        return self.limit is not None and (self.percent < self.limit or min(recalls, default=100) < RECALL)


def match_atoms(molecule, coords, types):
    """Return the type that libmolgrid gave to each atom of a molecule, which it may have in another order."""
    keys = {tuple(place): kind for place, kind in zip(np.round(coords, 3).tolist(), types.astype(int).tolist())}
    places = np.round(molecule.coords.astype(np.float32), 3).tolist()
    return np.array([keys[tuple(place)] for place in places])


def grid_difference(gm, answers, number):
    """Return the largest difference between both grids of libmolgrid's types, relative to the largest value."""
    coords, types, radii = (answers[f"{number}/channels{name}"] for name in ("_coords", "", "_radii"))
    density = gm.forward(tuple(answers[f"{number}/center"]), coords, types.astype(np.int64), radii, n_types=14)
    theirs = answers[f"{number}/density"]
    return float(np.abs(np.asarray(density) - theirs).max() / np.abs(theirs).max())


# --- tables -----------------------------------------------------------------------------------------------------------


def print_comparison(comparisons):
    print(f"{'':<44} {'heavy atoms':>11} {'equal':>9}")
    for one in comparisons:
        limit = "" if one.limit is None else f"  at least {one.limit:g} %: {'NO' if one.percent < one.limit else 'yes'}"
        print(f"{one.name:<44} {sum(one.pairs.values()):>11} {one.percent:>7.2f} %{limit}")


def print_positions_alone(ligands):
    """Say how many heavy atoms have the same type when bonds and orders have to be found by geometry."""
    from gridgrad.mol import GninaTyper, Molecule, read_molecules

    typer = GninaTyper()
    for hydrogens in (True, False):
        count = equal = 0
        for path in (path for name, path in ligands.items() if name.endswith(".sdf")):
            for ligand in read_molecules(path, hydrogens=hydrogens):
                bare = Molecule(ligand.elements, ligand.coords, None, ligand.name, path, ligand.record)
                heavy = ligand.elements != 1
                count += int(heavy.sum())
                equal += int((typer(bare)[0] == typer(ligand)[0])[heavy].sum())
        title = f"types from elements and positions alone, {'with' if hydrogens else 'without'} hydrogens"
        print(f"{title}: {100 * equal / count:.2f} % of {count} heavy atoms")


def print_recalls(title, comparison, names):
    print(f"\n{title}: recall by type")
    for kind, (n, percent) in comparison.recalls().items():
        print(f"  {names[kind]:<32} {n:>6} {percent:>7.1f} %" + ("  LOW" if n >= SMALLEST and percent < RECALL else ""))


def print_differences(title, comparison, names, most=30):
    print(f"\n{title}: differences")
    differences = [(n, pair) for pair, n in comparison.pairs.items() if pair[0] != pair[1]]
    for n, (theirs, ours) in sorted(differences, reverse=True)[:most]:
        places = ", ".join(f"{place} ({k})" for place, k in comparison.places[theirs, ours].most_common(5))
        print(f"  {n:>5}  {names[theirs]:<32} -> {names[ours]:<32} {places}")
    if not differences:
        print("  none")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gridgrad-peers"
    parser.add_argument("--cache", type=pathlib.Path, default=cache, help="folder of libmolgrid's environment")
    options = parser.parse_args()
    from compare_peers import environment

    import gridgrad as gg
    from gridgrad.mol import GNINA_TYPES, GninaTyper, read_molecules

    ligands, receptors = sources()
    print_positions_alone(ligands)
    try:
        python = environment("libmolgrid", options.cache)
    except RuntimeError as reason:
        print(f"skipped: {reason}")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        questions, jobs = [], []  # path and part; what is compared, the molecule as we read it, our typer

        def ask(path, part, typers):
            questions.append((str(path), part, part == "receptor" or len(questions) < GRIDDED))
            jobs.append((next(read_molecules(path)), typers))

        sets = {}
        for title, path in ligands.items():
            title = title if title.endswith(".sdf") else "four ligands of posebusters"
            one = sets.setdefault(title, Comparison(title, LIGANDS))
            for record in write_records(path, folder):
                ask(record, "ligand", [(one, GninaTyper())])
        kinds = {"openbabel": GninaTyper(openbabel=True), "chemistry": GninaTyper()}
        for entry, path in receptors.items():
            bare = [Comparison(f"{entry}, {kind}", RECEPTORS if kind == "openbabel" else None) for kind in kinds]
            sets |= {one.name: one for one in bare}
            ask(path, "receptor", list(zip(bare, kinds.values())))
            one = sets[f"{entry} with hydrogens, chemistry"] = Comparison(
                f"{entry} with hydrogens, chemistry", RECEPTORS
            )
            write_with_hydrogens(jobs[-1][0], folder / f"{entry}_h.pdb")
            ask(folder / f"{entry}_h.pdb", "receptor", [(one, GninaTyper())])
        (folder / "questions.json").write_text(json.dumps(questions))
        run = subprocess.run(
            [python, __file__, str(folder / "questions.json"), str(folder / "answers.npz")],
            check=False, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        if run.returncode:
            print(f"skipped: libmolgrid's process ended with status {run.returncode}")
            return 0
        answers = np.load(folder / "answers.npz")
        names = answers["names"].tolist()
        assert names == [kind.name for kind in GNINA_TYPES], "libmolgrid has other types"
        gm, worst, mapped = gg.GridMaker(0.5, 23.5), 0.0, True
        totals = {name: Comparison(name) for name in ("ligands", "receptors, openbabel", "receptors, chemistry",
                                                      "receptors with hydrogens, chemistry")}  # fmt: skip
        for number, ((molecule, typers), (_, part, _)) in enumerate(zip(jobs, questions)):
            raw = answers[f"{number}/types"].astype(np.int64)
            theirs = match_atoms(molecule, answers[f"{number}/types_coords"], raw)
            for one, typer in typers:
                ours = typer(molecule)[0]
                total = "ligands" if part == "ligand" else one.name.replace(one.name[:4], "receptors", 1)
                for comparison in (one, totals[total]):
                    comparison.add(molecule, theirs, ours)
            channels, radii, _ = GninaTyper(part).from_types(raw)
            mapped &= np.array_equal(channels[channels >= 0], answers[f"{number}/channels"].astype(np.int64))
            mapped &= np.allclose(radii[channels >= 0], answers[f"{number}/channels_radii"])
            if f"{number}/density" in answers:
                worst = max(worst, grid_difference(gm, answers, number))

    for name in ("ligands", "receptors, openbabel", "receptors with hydrogens, chemistry"):
        totals[name].limit = LIGANDS if name == "ligands" else RECEPTORS
    used = [one for one in totals.values() if one.pairs]
    print_comparison([*sets.values(), *used])
    for one in used:
        if one.limit is not None:
            print_recalls(one.name, one, names)
        print_differences(one.name, one, names)
    print(f"\nchannels and radii of its types, all files: {'equal' if mapped else 'DIFFERENT'}")
    print(f"grids of its types, largest difference, relative: {worst:.1e}{'' if worst <= GRIDS else '  TOO LARGE'}")
    return int(any(one.fails() for one in [*sets.values(), *used] if len(one.pairs)) or worst > GRIDS or not mapped)


if __name__ == "__main__":
    if len(sys.argv) == 3 and not sys.argv[1].startswith("-"):
        molgrid_answers(*sys.argv[1:])
    else:
        sys.exit(main())
