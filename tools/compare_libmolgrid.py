"""Compare the values of libmolgrid 0.5.5 on the CPU with gridgrad's.

1. The 47 CDK2 ligands of RDKit's cdk2.sdf in float32, same types and radii: density, and first derivatives for a random
   grad_density, must agree to 1e-5 of the largest value. The exit status tells.
2. Six atoms, four types: the errors of both packages against tests/support/reference.py, a dense float64 calculation
   that is differentiated by torch, for all orders.
3. OpenDX: a grid that gridgrad writes and libmolgrid reads, and the other way round, to libmolgrid's five digits. The
   exit status tells.

libmolgrid runs in an environment of its own, made on demand as for compare_peers.py. Where it cannot be installed,
the comparison is skipped: the reason is printed and the exit status is 0.

    python tools/compare_libmolgrid.py
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIMIT = 1e-5
FIRST = ("density", "grad_coords", "grad_types")
SECOND = ("grad_grad_density", "grad_grad_coords_coords", "grad_grad_coords_types")


def molgrid_values(questions, answers):
    """Answer every question of a file; in libmolgrid's environment."""
    import molgrid
    import torch

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its double backward prints every voxel
    molgrid.set_gpu_enabled(False)
    gm = molgrid.GridMaker(resolution=0.5, dimension=23.5)
    found = {}
    with np.load(questions) as file:
        cases = {name: torch.from_numpy(file[name]) for name in file.files}
    for case in range(len({name.partition("/")[0] for name in cases})):
        coords, types, radii, grad_density = (
            cases[f"{case}/{name}"] for name in ("coords", "types", "radii", "grad_density")
        )
        density, grad_coords, grad_types = (torch.zeros_like(like) for like in (grad_density, coords, types))
        gm.forward((0.0, 0.0, 0.0), coords, types, radii, density)
        gm.backward((0.0, 0.0, 0.0), coords, types, radii, grad_density, grad_coords, grad_types)
        results = dict(zip(FIRST, (density, grad_coords, grad_types)))
        if f"{case}/v_coords" in cases:
            v = cases[f"{case}/v_coords"], cases[f"{case}/v_types"]
            outputs = [torch.zeros_like(like) for like in (grad_density, coords, types)]
            gm.backward_gradients((0.0, 0.0, 0.0), coords, types, radii, grad_density, *v, *outputs)
            results |= dict(zip(SECOND, outputs))
        found |= {f"{case}/{name}": value.numpy() for name, value in results.items()}
    opened = molgrid.read_dx(str(pathlib.Path(questions).with_suffix(".dx")))
    volume, center = opened.grid().cpu(), opened.center()
    found["dx"] = np.array([volume[place] for place in np.ndindex(48, 48, 48)])
    found["dx_place"] = np.array([center.x, center.y, center.z, opened.resolution()])
    again = torch.from_numpy(found["dx"].reshape(48, 48, 48).astype(np.float32))
    molgrid.write_dx(str(pathlib.Path(answers).with_suffix(".dx")), molgrid.Grid3f(again), center, 0.5)
    np.savez(answers, **found)


def gridgrad_values(gm, case):
    """Return the same values by gridgrad."""
    arguments = (0.0, 0.0, 0.0), case["coords"], case["types"], case["radii"]
    values = [gm.forward(*arguments), *gm.backward(*arguments, case["grad_density"])[:2]]
    if "v_coords" in case:
        values += gm.backward_gradients(*arguments, case["grad_density"], case["v_coords"], case["v_types"], None)[:3]
    return dict(zip(FIRST + SECOND, values))


def reference_values(case):
    """Return the same values by the dense float64 calculation."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.reference import Reference

    oracle = Reference(0.5, 23.5)
    arguments = np.zeros(3), case["coords"], case["types"], case["radii"]
    values = [oracle.forward(*arguments), *oracle.backward(*arguments, case["grad_density"])[:2]]
    values += oracle.backward_gradients(*arguments, case["grad_density"], case["v_coords"], case["v_types"])[:3]
    return {name: value.detach().numpy() for name, value in zip(FIRST + SECOND, values)}


def ligands():
    """Return the cases of the CDK2 ligands, centred."""
    from rdkit import RDConfig

    from gridgrad.mol import read_molecules, type_atoms

    path = pathlib.Path(RDConfig.RDContribDir) / "Fastcluster" / "testdata" / "cdk2.sdf"
    rng = np.random.default_rng(3)
    cases = []
    for molecule in read_molecules(path):
        atoms = type_atoms(molecule)
        grid = len(atoms.channels), 48, 48, 48
        arrays = {
            "coords": atoms.coords - atoms.coords.mean(axis=0),
            "types": atoms.vector_types(),
            "radii": atoms.radii,
            "grad_density": rng.standard_normal(grid),
        }
        cases.append({name: array.astype(np.float32) for name, array in arrays.items()})
    return cases


def ligand_grid():
    """Return the density of the first CDK2 ligand."""
    from rdkit import RDConfig

    import gridgrad as gg
    from gridgrad.mol import grid_atoms, read_molecules, type_atoms

    molecule = next(read_molecules(pathlib.Path(RDConfig.RDContribDir, "Fastcluster", "testdata", "cdk2.sdf")))
    return grid_atoms(gg.GridMaker(), type_atoms(molecule), molecule.coords.mean(axis=0))


def small_case():
    """Return six atoms with four types, some weights zero, and cotangents of the first derivatives."""
    rng = np.random.default_rng(4)
    types = rng.uniform(0.2, 1, (6, 4)) * (rng.random((6, 4)) < 0.6)
    arrays = {
        "coords": rng.uniform(-3, 3, (6, 3)),
        "types": types,
        "radii": rng.uniform(1.2, 2, 6),
        "grad_density": rng.standard_normal((4, 48, 48, 48)),
        "v_coords": rng.standard_normal((6, 3)),
        "v_types": rng.standard_normal((6, 4)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def opendx_errors(grid, answers):
    """Yield the largest differences of values and places: of what libmolgrid read, of what it wrote."""
    from gridgrad.io import read

    center = grid.origin + grid.resolution * (np.array(grid.density.shape[1:]) - 1) / 2
    again = read(answers.with_suffix(".dx"))
    with np.load(answers) as file:
        yield "libmolgrid reads: values", np.abs(file["dx"] - grid.total().ravel()).max()
        yield "centre, resolution", np.abs(file["dx_place"] - [*center, grid.resolution]).max()
    yield "gridgrad reads: values", np.abs(again.total() - grid.total()).max()
    yield "origin, resolution", np.abs([*(again.origin - grid.origin), again.resolution - grid.resolution]).max()


def error(value, expected):
    """Return the largest difference, relative to the largest value expected."""
    return float(np.abs(np.asarray(value, float) - expected).max() / np.abs(expected).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gridgrad-peers"
    parser.add_argument("--cache", type=pathlib.Path, default=cache, help="folder of libmolgrid's environment")
    options = parser.parse_args()
    from compare_peers import environment

    import gridgrad as gg
    from gridgrad.io import write

    try:
        python = environment("libmolgrid", options.cache)
    except RuntimeError as reason:
        print(f"skipped: {reason}")
        return 0
    cases = [*ligands(), small_case()]
    with tempfile.TemporaryDirectory() as folder:
        questions, answers = (pathlib.Path(folder, name) for name in ("questions.npz", "answers.npz"))
        grid = ligand_grid()
        write(questions.with_suffix(".dx"), grid)
        np.savez(questions, **{f"{i}/{name}": array for i, case in enumerate(cases) for name, array in case.items()})
        run = subprocess.run([python, __file__, str(questions), str(answers)], check=False, stdout=subprocess.DEVNULL)
        if run.returncode:
            print(f"skipped: libmolgrid's process ended with status {run.returncode}")
            return 0
        with np.load(answers) as file:
            theirs = [
                {name: file[f"{i}/{name}"] for name in FIRST + SECOND if f"{i}/{name}" in file}
                for i in range(len(cases))
            ]
        opendx = list(opendx_errors(grid, answers))
    gm = gg.GridMaker(0.5, 23.5)
    ours = [gridgrad_values(gm, case) for case in cases]

    print(f"{len(cases) - 1} CDK2 ligands, float32: largest difference between gridgrad and libmolgrid, relative")
    worst = {name: max(error(ours[i][name], theirs[i][name]) for i in range(len(cases) - 1)) for name in FIRST}
    for name, value in worst.items():
        print(f"  {name:<28} {value:.1e}  {'ok' if value <= LIMIT else f'MORE THAN {LIMIT:g}'}")
    print("six atoms, four types, float32: error against the dense float64 calculation, relative")
    print(f"  {'':<28} {'gridgrad':>9} {'libmolgrid':>11}")
    expected = reference_values(cases[-1])
    titles = dict(zip(SECOND, ("second order: grid", "second order: coordinates", "second order: types")))
    for name in FIRST + SECOND:
        errors = (error(found[-1][name], expected[name]) for found in (ours, theirs))
        print("  {:<28} {:>9.1e} {:>11.1e}".format(titles.get(name, name), *errors))
    print("OpenDX, a CDK2 ligand: largest difference between what one of them wrote and the other read")
    for name, value in opendx:
        print(f"  {name:<28} {value:.1e}  {'ok' if value <= LIMIT else f'MORE THAN {LIMIT:g}'}")
    return int(max(*worst.values(), *(value for _, value in opendx)) > LIMIT)


if __name__ == "__main__":
    if len(sys.argv) == 3 and not sys.argv[1].startswith("-"):
        molgrid_values(*sys.argv[1:])
    else:
        sys.exit(main())
