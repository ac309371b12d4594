"""gnina's published networks on gridgrad's grids: CNNscore and CNNaffinity of complexes.

The package `gninatorch` carries the weights of gnina's networks (McNutt et al., J. Cheminform. 2021, 13, 43) for
PyTorch; nothing of it is imported. Their grids are 28 channels of 48 x 48 x 48 points around the ligand, which
`GninaTyper` and `GridMaker` make. CNNscore is the probability of a pose to be good, CNNaffinity a pK.

    pip install --no-deps gninatorch==0.0.2
    python examples/score_gnina.py                             the four complexes of the package posebusters
    python examples/score_gnina.py RECEPTOR LIGAND             others; a ligand file may hold many poses

`examples/refine_gnina.py` refines poses by the derivatives of these networks.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

import gridgrad as gg
from gridgrad.data import ComplexDataset, RandomRigid, collate
from gridgrad.mol import GninaTyper, read_molecules, type_atoms

GRID = gg.GridMaker(resolution=0.5, dimension=23.5)
density = gg.Coords2Grid(GRID)


class Default2018(nn.Module):
    """gnina's architecture of 2018; its layers have the names that they have in the files of weights."""

    def __init__(self):
        super().__init__()
        self.unit1_conv = nn.Conv3d(28, 32, 3, padding=1)
        self.unit2_conv = nn.Conv3d(32, 32, 1)
        self.unit3_conv = nn.Conv3d(32, 64, 3, padding=1)
        self.unit4_conv = nn.Conv3d(64, 64, 1)
        self.unit5_conv = nn.Conv3d(64, 128, 3, padding=1)
        self.pose_output = nn.Linear(128 * 6**3, 2)
        self.affinity_output = nn.Linear(128 * 6**3, 1)

    def forward(self, density):
        """Return log CNNscore and CNNaffinity, (B,) each, of (B, 28, 48, 48, 48)."""
        pool, relu = nn.functional.avg_pool3d, torch.relu
        x = relu(self.unit2_conv(relu(self.unit1_conv(pool(density, 2)))))
        x = relu(self.unit4_conv(relu(self.unit3_conv(pool(x, 2)))))
        x = relu(self.unit5_conv(pool(x, 2))).flatten(1)
        return self.pose_output(x).log_softmax(1)[:, 1], self.affinity_output(x)[:, 0]


class Ensemble(nn.Module):
    """Up to five networks that were trained alike: the mean of their scores and of their affinities."""

    def __init__(self, name, size=5):
        super().__init__()
        package = find_spec("gninatorch")
        if package is None:
            raise SystemExit("gninatorch is not installed: pip install --no-deps gninatorch==0.0.2")
        folder = Path(package.submodule_search_locations[0], "weights")
        self.networks = nn.ModuleList(Default2018() for _ in range(size))
        for network, suffix in zip(self.networks, ("", "_1", "_2", "_3", "_4"), strict=False):
            network.load_state_dict(torch.load(folder / f"{name}{suffix}.pt", weights_only=True))
        self.requires_grad_(False)

    def forward(self, density):
        """Return log CNNscore and CNNaffinity, (B,) each."""
        scores, affinities = zip(*(network(density) for network in self.networks), strict=True)
        return torch.stack(scores).exp().mean(0).log(), torch.stack(affinities).mean(0)


def complexes(pairs, openbabel=False):
    """Return the dataset of (receptor, poses) files, with a row for each pose, and the names of the poses."""
    receptors, poses, rows, names = [], [], [], []
    for receptor, ligand in pairs:
        receptors.append(type_atoms(next(read_molecules(receptor)), GninaTyper("receptor", openbabel=openbabel)))
        for pose in read_molecules(ligand, hydrogens=False):
            poses.append(type_atoms(pose, GninaTyper("ligand")))
            rows.append(len(receptors) - 1)
            names.append(pose.name or f"{Path(ligand).stem} {pose.record}")
    stores = {"receptor": collate(receptors), "ligand": collate(poses)}
    rows = {"receptor": rows, "ligand": range(len(poses))}
    return ComplexDataset(stores, rows, grid=GRID, transform=RandomRigid(6.0), apply_transform=False), names


def posebusters():
    """Return the files of the four complexes of the package posebusters."""
    folder = Path(find_spec("posebusters").submodule_search_locations[0], "datasets", "pdb")
    return [
        (path, path.with_name(f"{path.parent.name}_ligand.sdf"))
        for path in sorted(folder.glob("*/*_protein_one_lig_removed.pdb"))
    ]


def main():
    """Score complexes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", metavar="RECEPTOR LIGAND", help="by default those of posebusters")
    parser.add_argument("--model", default="crossdock_default2018", help="or general_default2018, redock_default2018")
    parser.add_argument("--openbabel", action="store_true", help="types of receptors as libmolgrid finds them")
    options = parser.parse_args()
    if len(options.files) % 2:
        parser.error(f"{len(options.files)} files; expected a ligand for each receptor")
    data, names = complexes(
        zip(*[iter(options.files)] * 2, strict=True) if options.files else posebusters(), options.openbabel
    )
    ensemble = Ensemble(options.model)
    print(f"{'pose':<24}{'CNNscore':>10}{'CNNaffinity':>13}")
    for row, name in enumerate(names):
        with torch.no_grad():
            score, affinity = ensemble(density(data[row]))
        print(f"{name:<24}{score.exp().item():>10.4f}{affinity.item():>13.3f}")


if __name__ == "__main__":
    main()
