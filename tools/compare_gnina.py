"""Compare gnina's networks on gridgrad's grids with the same networks on libmolgrid's.

The four complexes of posebusters, whose receptors have no hydrogens, are read, typed and gridded by libmolgrid 0.5.5.
Its densities go through the five networks of each of gnina's ensembles, and so do

1. gridgrad's densities of the atoms that libmolgrid typed: equal to 1e-4 in CNNscore and CNNaffinity;
2. gridgrad's densities of the atoms that GninaTyper types, with and without ``openbabel=True``: within 0.02 and 0.2.

The exit status tells whether this holds. libmolgrid runs in an environment of its own, made on demand as for
compare_peers.py; the networks are those of the package gninatorch, see examples/score_gnina.py.

    python tools/compare_gnina.py
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

MODELS = ("crossdock_default2018", "general_default2018", "redock_default2018")
SAME, SCORES, AFFINITIES = 1e-4, 0.02, 0.2


def molgrid_answers(questions, answers):
    """Type and grid complexes; in libmolgrid's environment."""
    import molgrid

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Open Babel warns of each molecule
    molgrid.set_gpu_enabled(False)
    gm = molgrid.GridMaker(resolution=0.5, dimension=23.5)
    found = {}
    for number, (receptor, ligand) in enumerate(json.loads(pathlib.Path(questions).read_text())):
        provider = molgrid.ExampleProvider(
            molgrid.defaultGninaReceptorTyper, molgrid.defaultGninaLigandTyper, shuffle=False, default_batch_size=1
        )
        table = pathlib.Path(answers).with_suffix(".types")
        table.write_text(f"1 {receptor} {ligand}\n")
        provider.populate(str(table))
        example = provider.next()
        density = np.zeros(gm.grid_dimensions(example.num_types()), dtype=np.float32)
        gm.forward(example, density)
        center = [float(x) for x in example.coord_sets[-1].center()]
        atoms = example.merge_coordinates()
        arrays = {"coords": atoms.coords, "types": atoms.type_index, "radii": atoms.radii}
        found |= {f"{number}/{name}": np.array(array.tonumpy()) for name, array in arrays.items()}
        found |= {f"{number}/center": np.array(center), f"{number}/density": density}
    np.savez(answers, **found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gridgrad-peers"
    parser.add_argument("--cache", type=pathlib.Path, default=cache, help="folder of libmolgrid's environment")
    options = parser.parse_args()
    import torch
    from compare_peers import environment

    import gridgrad as gg

    sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "examples"))
    from score_gnina import GRID, Ensemble, complexes, density, posebusters

    pairs = posebusters()
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = pathlib.Path(folder, "questions.json"), pathlib.Path(folder, "answers.npz")
        questions.write_text(json.dumps([[str(path) for path in pair] for pair in pairs]))
        python = environment("libmolgrid", options.cache)
        subprocess.run([python, __file__, str(questions), str(answers)], check=True, stdout=subprocess.DEVNULL)
        with np.load(answers) as file:
            theirs = {name: torch.from_numpy(array) for name, array in file.items()}

    numbers = range(len(pairs))
    grids = {"libmolgrid": torch.stack([theirs[f"{i}/density"] for i in numbers])}
    same = []
    for i in numbers:
        center, coords, types, radii = (theirs[f"{i}/{name}"] for name in ("center", "coords", "types", "radii"))
        same.append(gg.coords2grid(GRID, tuple(center.tolist()), coords, types.long(), radii, n_types=28))
    grids["gridgrad, the same atoms"] = torch.stack(same)
    for name, openbabel in {"openbabel=True": True, "chemistry": False}.items():
        data, _ = complexes(pairs, openbabel)
        grids[f"gridgrad, {name}"] = density(data.__getitems__(list(numbers)))

    holds = True
    print(f"{'':<26}{'CNNscore':^32}{'CNNaffinity':^32}{'largest difference':>20}")
    for model in MODELS:
        ensemble = Ensemble(model)
        print(model)
        first = None
        for name, grid in grids.items():
            with torch.no_grad():
                score, affinity = ensemble(grid)
            score = score.exp()
            first = first or (score, affinity)
            differences = [(a - b).abs().max().item() for a, b in zip((score, affinity), first)]
            limits = (SAME, SAME) if name == "gridgrad, the same atoms" else (SCORES, AFFINITIES)
            holds &= all(difference <= limit for difference, limit in zip(differences, limits))
            row = "".join(f"{value:8.4f}" for value in [*score.tolist(), *affinity.tolist()])
            print(f"  {name:<24}{row}  {differences[0]:8.1e} {differences[1]:8.1e}")
    print("all within the limits" if holds else "NOT within the limits")
    return int(not holds)


if __name__ == "__main__":
    if len(sys.argv) == 3 and not sys.argv[1].startswith("-"):
        molgrid_answers(*sys.argv[1:])
    else:
        sys.exit(main())
