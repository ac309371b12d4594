"""How well and how fast `fit_atoms` finds the atoms of real molecules in their grids.

    python tools/compare_fit.py table     47 CDK2 and 100 EGFR ligands of RDKit on grids of several kinds
    python tools/compare_fit.py methods   truncated Newton and L-BFGS on the same grids
    python tools/compare_fit.py peers     VoxMol's procedure on PyUUL, one molecule after the other, and fit_atoms

Every molecule is turned by a random rotation and moved by a random part of a voxel; no atoms are given to the fit.
The table counts molecules with the right atoms (number, channel, each within 0.5 A of its own) and gives the largest
and the median RMSD of those. VoxMol's procedure starts from the local maxima above 0.25 of each channel and runs up to
ten times four iterations of torch's L-BFGS on the mean squared difference of 64^3 grids of 0.25 A that PyUUL computes.
PyUUL runs in an environment of its own, as for compare_peers.py.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
CHANNELS = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I", "other")
FAR = 0.5  # angstrom
POINTS, RESOLUTION, RADIUS = 64, 0.25, 0.5  # VoxMol's


def molecules(hydrogens, n_cdk2=47, n_egfr=100):
    """Return the elements' channels and the positions of the ligands."""
    from rdkit import RDConfig, RDLogger

    from gridgrad.mol import ElementTyper, read_molecules, type_atoms

    RDLogger.DisableLog("rdApp.*")
    folder, found = pathlib.Path(RDConfig.RDContribDir), []
    for name, n in (("Fastcluster/testdata/cdk2.sdf", n_cdk2), ("PBF/testData/egfr.sdf", n_egfr)):
        records = read_molecules(folder / name, hydrogens=hydrogens, on_error=lambda error: None)
        atoms = [type_atoms(molecule, ElementTyper()) for molecule in itertools.islice(records, n)]
        found += [(torch.from_numpy(one.types), torch.from_numpy(one.coords)) for one in atoms]
    return found


def posed(coords, generator):
    """Return positions around 0, turned, and moved by up to half a voxel of 0.5 A."""
    w, x, y, z = torch.nn.functional.normalize(torch.randn(4, generator=generator, dtype=torch.float64), dim=0)
    rotation = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    shift = 0.5 * torch.rand(3, generator=generator, dtype=torch.float64) - 0.25
    return (coords - coords.mean(0)) @ rotation.T + shift


def rmsd(found, types, expected, expected_types):
    """Return the RMSD, or None if these are not the same atoms."""
    if len(found) != len(expected):
        return None
    distance = torch.cdist(expected.double(), found.double()) + 1e3 * (expected_types[:, None] != types)
    nearest, partner = distance.min(1)
    if nearest.max() > FAR or len(partner.unique()) < len(partner):
        return None
    return nearest.square().mean().sqrt().item()


def radii_of(kind):
    """Return a radius per channel: 0.5 A, or that of van der Waals (1.8 A for the rest)."""
    from gridgrad.mol import VDW_RADII

    return torch.tensor([0.5 if kind == "0.5" else VDW_RADII.get(channel, 1.8) for channel in CHANNELS])


def fit_all(resolution, kind, hydrogens, noise, method, numbers):
    """Fit every molecule of the lists; return (RMSD or None, seconds, evaluations, products) of each."""
    import gridgrad as gg

    generator, radii, rows = torch.Generator().manual_seed(0), radii_of(kind), []
    for types, coords in molecules(hydrogens, *numbers):
        place = posed(coords, generator).float()
        side = 2 * (float(place.abs().max()) + 3.0)
        gm = gg.GridMaker(resolution, resolution * round(side / resolution))
        density = gg.coords2grid(gm, (0.0, 0.0, 0.0), place, types, radii[types], n_types=len(CHANNELS))
        if noise:
            density += noise * density.max() * torch.randn(density.shape, generator=generator)
        start = time.perf_counter()
        found = gg.fit_atoms(gm, density, radii, method=method)
        seconds = time.perf_counter() - start
        labels = {name: value.item() for name, value in found.labels.items()}
        error = rmsd(found.coords, found.types, place, types)
        rows.append((error, seconds, labels["evaluations"], labels["products"]))
    return rows


def summary(rows):
    """Return right molecules, all, largest and median RMSD, seconds, evaluations and products a molecule."""
    errors = [row[0] for row in rows if row[0] is not None] or [float("nan")]
    means = [statistics.mean(row[i] for row in rows) for i in (1, 2, 3)]
    return len(errors), len(rows), max(errors), statistics.median(errors), *means


def table(options):
    """Print the table of spacings, radii, atoms and noise."""
    torch.set_num_threads(options.threads)
    print("| spacing | radii | atoms | noise | right | largest RMSD | median RMSD | s a molecule |")
    print("|---|---|---|---|---:|---:|---:|---:|")
    for noise, resolution, kind, hydrogens in itertools.product(
        options.noise, options.spacing, ("0.5", "van der Waals"), (False, True)
    ):
        right, n, largest, median, seconds, *_ = summary(
            fit_all(resolution, kind, hydrogens, noise, options.method, options.numbers)
        )
        atoms = "with hydrogens" if hydrogens else "heavy"
        print(
            f"| {resolution} Å | {kind} | {atoms} | {100 * noise:g} % | {right} of {n} | {largest:.1e} Å "
            f"| {median:.1e} Å | {seconds:.2f} |",
            flush=True,
        )


def methods(options):
    """Print what both methods need on the same grids."""
    print("| method | right | median RMSD | evaluations | products | s a molecule |")
    print("|---|---:|---:|---:|---:|---:|")
    for method in ("newton", "lbfgs"):
        rows = fit_all(0.5, "van der Waals", False, 0.0, method, options.numbers)
        right, n, _, median, seconds, evaluations, products = summary(rows)
        print(
            f"| {method} | {right} of {n} | {median:.1e} Å | {evaluations:.1f} | {products:.1f} | {seconds:.3f} |",
            flush=True,
        )


def small_enough(numbers):
    """Return the heavy atoms of the ligands that fit into VoxMol's box, posed, as (types, coords)."""
    generator = torch.Generator().manual_seed(0)
    half = RESOLUTION * POINTS / 2 - 2.0
    poses = [(types, posed(coords, generator).float()) for types, coords in molecules(False, *numbers)]
    return [(types, coords) for types, coords in poses if coords.abs().max() < half]


def peers(options):
    """Print seconds and RMSD of both procedures, molecules alternating."""
    from compare_peers import environment

    import gridgrad as gg

    torch.set_num_threads(options.threads)
    python = environment("PyUUL", options.cache)
    cases = small_enough(options.numbers)[:: options.every]
    with tempfile.NamedTemporaryFile(suffix=".json", mode="w") as file:
        json.dump([(types.tolist(), coords.tolist()) for types, coords in cases], file)
        file.flush()
        command = [str(python), __file__, "voxmol", file.name, "--threads", str(options.threads)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()  # ready
            gm = gg.GridMaker(RESOLUTION, RESOLUTION * (POINTS - 1), tail="truncated", gaussian_radius_multiple=3.0)
            radius = 2**0.5 * 0.93 * RADIUS  # of our Gaussian, where PyUUL's is exp(-d^2 / (0.93 r)^2)
            rows = []
            for types, coords in cases:
                process.stdin.write("next\n")
                process.stdin.flush()
                places, channels, theirs = json.loads(process.stdout.readline())
                their_error = rmsd(torch.tensor(places).reshape(-1, 3), torch.tensor(channels), coords, types)
                density = gg.coords2grid(
                    gm, (0.0, 0.0, 0.0), coords, types, torch.full((len(types),), radius), len(CHANNELS)
                )
                start = time.perf_counter()
                found = gg.fit_atoms(gm, density, radius)
                ours = time.perf_counter() - start
                rows.append((their_error, theirs, rmsd(found.coords, found.types, coords, types), ours))
    print(f"{len(rows)} molecules, {options.threads} thread(s)")
    print("| procedure | right | median RMSD | largest RMSD | median s a molecule |")
    print("|---|---:|---:|---:|---:|")
    for name, at in (("VoxMol's on PyUUL", 0), ("fit_atoms", 2)):
        errors = [row[at] for row in rows if row[at] is not None] or [float("nan")]
        seconds = statistics.median(row[at + 1] for row in rows)
        print(
            f"| {name} | {len(errors)} of {len(rows)} | {statistics.median(errors):.1e} Å | {max(errors):.1e} Å "
            f"| {seconds:.3f} |"
        )
    print(f"times, molecule by molecule: {statistics.median(row[1] / row[3] for row in rows):.1f}")


def voxmol(options):
    """Answer a line with the positions, channels and seconds of the next molecule; in PyUUL's environment."""
    from pyuul import VolumeMaker
    from scipy.ndimage import maximum_filter

    torch.set_num_threads(options.threads)
    maker = VolumeMaker.Voxels(device="cpu", sparse=False)
    corners = torch.tensor([[-15.0] * 3, [15.0] * 3])  # fix the box, whatever the molecule

    def voxels(coords, channels):
        n = len(coords) + 2
        grid = maker(
            torch.cat([coords, corners])[None], torch.full((1, n), RADIUS),
            torch.cat([channels.float(), torch.zeros(2)])[None], resolution=RESOLUTION, cubes_around_atoms_dim=5,
            function="gaussian", numberchannels=len(CHANNELS),
        )  # fmt: skip
        low = grid.shape[-1] // 2 - POINTS // 2
        box = slice(low, low + POINTS)
        return grid[0, :, box, box, box]

    print("ready", flush=True)
    for types, places in json.loads(pathlib.Path(options.file).read_text()):
        sys.stdin.readline()
        target = voxels(torch.tensor(places), torch.tensor(types)).detach()
        start = time.perf_counter()
        volume = np.where(target.numpy() < 0.25, 0, target.numpy())
        footprint = np.ones((1, 3, 3, 3), bool)
        footprint[0, 1, 1, 1] = False
        peaks = torch.from_numpy(np.argwhere(volume > maximum_filter(volume, footprint=footprint)))
        channels = peaks[:, 0]
        coords = (peaks[:, 1:].float() - POINTS / 2) * RESOLUTION
        coords = (coords - coords.mean(0)).contiguous().requires_grad_()
        optimizer = torch.optim.LBFGS([coords], history_size=10, max_iter=4, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()  # noqa: B023
            loss = torch.nn.functional.mse_loss(target, voxels(coords, channels))  # noqa: B023
            loss.backward()
            return loss

        before = 1e10
        for _ in range(10):
            loss = optimizer.step(closure).item()
            if abs(loss - before) < 1e-6:
                break
            before = loss
        print(json.dumps((coords.tolist(), channels.tolist(), time.perf_counter() - start)), flush=True)


def main():
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=("table", "methods", "peers", "voxmol"))
    parser.add_argument("file", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--numbers", nargs=2, type=int, default=(47, 100), metavar="N", help="CDK2 and EGFR ligands")
    parser.add_argument("--noise", nargs="+", type=float, default=(0.0, 0.05), help="of the maximum, for `table`")
    parser.add_argument("--spacing", nargs="+", type=float, default=(0.25, 0.5), help="in angstrom, for `table`")
    parser.add_argument("--every", type=int, default=1, help="only every so many molecules, for `peers`")
    parser.add_argument("--method", default="newton", choices=("newton", "lbfgs"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("~/.cache/gridgrad-peers").expanduser())
    options = parser.parse_args()
    globals()[options.part](options)


if __name__ == "__main__":
    main()
