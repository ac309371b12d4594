"""From the grid of a ligand back to its atoms: Adam, L-BFGS and truncated Newton from the same start.

The heavy atoms of a ligand of CDK2 (RDKit's cdk2.sdf) are gridded, a channel per element, van der Waals radii. First
`fit_atoms` finds them with nothing but the grid. Then each method moves the atoms back from places up to 0.4 A off. A
picture shows how far they are off, and the norm of the gradient, against what was computed and against the time, and
the way that the atoms took.

    python examples/fit_atoms.py [--picture FILE]
"""

import argparse
import time
from pathlib import Path

import torch

import gridgrad as gg
from gridgrad.data import AtomBatch

COLORS = {"Adam": "#999999", "L-BFGS": "#d55e00", "Newton-CG": "#0072b2"}


def ligand():
    """Return coords (N, 3) around 0, types (N,), radii (N,) and radii by channel of the first ligand's heavy atoms."""
    from rdkit import RDConfig

    from gridgrad.mol import VDW_RADII, ElementTyper, read_molecules, type_atoms

    path = Path(RDConfig.RDContribDir) / "Fastcluster" / "testdata" / "cdk2.sdf"
    typer = ElementTyper(("C", "N", "O"), other=None)
    atoms = type_atoms(next(read_molecules(path, hydrogens=False)), typer)
    coords = torch.from_numpy(atoms.coords - atoms.coords.mean(0)).float()
    radii = torch.tensor([VDW_RADII[element] for element in typer.elements])
    types = torch.from_numpy(atoms.types)
    return coords, types, radii[types], radii


class Run:
    """What a method did: positions, number of densities and products computed, and seconds, after each iteration."""

    def __init__(self):
        self.coords, self.computed, self.seconds = [], [], []
        self.start = time.perf_counter()

    def note(self, coords, computed):
        """Add an iteration."""
        self.seconds.append(time.perf_counter() - self.start)
        self.computed.append(computed)
        self.coords.append(coords.detach().clone())


def adam(energy, start, steps=300, rate=0.02):
    """Run torch's Adam on the positions."""
    run, coords = Run(), start.clone().requires_grad_()
    optimizer = torch.optim.Adam([coords], rate)
    for step in range(steps):
        optimizer.zero_grad()
        energy(coords).backward()
        optimizer.step()
        run.note(coords, step + 1)
    return run


def fitted(gm, density, radii, start, method):
    """Run a method of `fit_atoms` from given atoms."""
    run = Run()

    def trace(atoms):
        run.note(atoms.coords, (atoms.labels["evaluations"] + atoms.labels["products"]).item())

    gg.fit_atoms(gm, density, radii, initial=start, method=method, trace=trace)
    return run


def draw(runs, energy, truth, start, path):
    """Draw the convergence of all runs and the way of the atoms under Newton's method."""
    import matplotlib.pyplot as plt

    layout = [["rmsd computed", "rmsd seconds", "way"], ["slope computed", "slope seconds", "way"]]
    figure, panels = plt.subplot_mosaic(layout, figsize=(12, 6), width_ratios=(1, 1, 1.3), layout="constrained")
    for name, run in runs.items():
        rmsd = [(coords - truth).square().sum(1).mean().sqrt().item() for coords in run.coords]
        slopes = []
        for coords in run.coords:
            coords = coords.clone().requires_grad_()
            slopes.append(torch.autograd.grad(energy(coords), coords)[0].norm().item())
        style = {"color": COLORS[name], "label": name, "marker": None if name == "Adam" else "o", "ms": 3}
        for what, values in (("rmsd", rmsd), ("slope", slopes)):
            panels[f"{what} computed"].loglog(run.computed, values, **style)
            panels[f"{what} seconds"].loglog(run.seconds, values, **style)
    for name, panel in panels.items():
        if name != "way":
            against = "densities and H v products" if name.endswith("computed") else "seconds"
            panel.set(xlabel=against, ylabel="RMSD (Å)" if name.startswith("rmsd") else "norm of the gradient")
        panel.spines[["top", "right"]].set_visible(False)
    panels["rmsd computed"].legend(frameon=False)
    way = torch.stack([start, *runs["Newton-CG"].coords])[..., :2]
    panels["way"].plot(*way.permute(2, 0, 1), color=COLORS["Newton-CG"], lw=1)
    panels["way"].plot(*start.T[:2], "o", color="#d55e00", ms=4, label="start")
    panels["way"].plot(*truth.T[:2], "o", mfc="none", mec="black", ms=8, label="atoms")
    panels["way"].set(xlabel="x (Å)", ylabel="y (Å)", aspect="equal")
    panels["way"].legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    figure.savefig(path, dpi=80)


def main():
    """Fit, print what it took, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--picture", metavar="FILE", help="draw convergence and way (.png, .svg)")
    options = parser.parse_args()
    coords, types, radii, channel_radii = ligand()
    gm = gg.GridMaker(resolution=0.5, dimension=19.5)
    density = gg.coords2grid(gm, (0.0, 0.0, 0.0), coords, types, radii, n_types=len(channel_radii))

    start = time.perf_counter()
    found = gg.fit_atoms(gm, density, channel_radii)
    seconds = time.perf_counter() - start
    off = torch.cdist(coords, found.coords).min(1).values.square().mean().sqrt()
    print(f"from the grid alone: {len(found.types)} of {len(types)} atoms, RMSD {off:.1e} Å, {seconds:.2f} s")

    def energy(coords):
        grid = gg.coords2grid(gm, (0.0, 0.0, 0.0), coords, types, radii, n_types=len(channel_radii))
        return 0.5 * (grid - density).square().sum()

    begin = coords + 0.8 * torch.rand(coords.shape, generator=torch.Generator().manual_seed(0)) - 0.4
    initial = AtomBatch(begin, types, radii, torch.tensor([0, len(types)]))
    runs = {
        "Adam": adam(energy, begin),
        "L-BFGS": fitted(gm, density, channel_radii, initial, "lbfgs"),
        "Newton-CG": fitted(gm, density, channel_radii, initial, "newton"),
    }
    print(f"{'method':<12}{'iterations':>12}{'computed':>10}{'seconds':>9}{'RMSD (Å)':>10}")
    for name, run in runs.items():
        rmsd = (run.coords[-1] - coords).square().sum(1).mean().sqrt()
        print(f"{name:<12}{len(run.coords):>12}{run.computed[-1]:>10}{run.seconds[-1]:>9.2f}{rmsd:>10.1e}")
    if options.picture:
        draw(runs, energy, coords, begin, options.picture)


if __name__ == "__main__":
    main()
