"""Refine poses by derivatives of gnina's networks: gradient descent, Newton-CG on exact Hessian-vector products.

The ligands of four crystal structures (package posebusters) are displaced by up to 1 A and 20 degrees. Then they move
as rigid bodies to larger CNNscores of a single network, see `examples/score_gnina.py`. The products of the Hessian in
the six unknowns come from the second derivatives of the grid.

    python examples/refine_gnina.py [--picture FILE]
"""

import argparse

import torch
from score_gnina import Ensemble, complexes, density, posebusters

from gridgrad.data import RandomRigid, Rigid
from gridgrad.fit.solvers import newton

COLORS = {"gradient descent": "#d55e00", "Newton-CG": "#0072b2"}


def moved(batch, rigid):
    """Move the ligands of a batch, and only those."""
    ligand = batch.mask("ligand")
    coords = torch.where(ligand[:, None], rigid(batch).coords, batch.coords)
    return batch.changed(coords=coords, fixed=~ligand)


def mean_square(vectors, batch):
    """Return the mean over the ligand's atoms of the square of vectors (N, 3), (B,)."""
    ligand = batch.mask("ligand")
    square, ones = vectors.square().sum(1)[ligand], torch.ones_like(vectors[ligand, 0])
    sums = (ones.new_zeros(len(batch)).index_add(0, batch.batch[ligand], values) for values in (square, ones))
    return torch.div(*sums)


class PoseEnergy:
    """-log CNNscore of ligands that move as rigid bodies, as `newton` wants it: unknowns are (B, 6), an example each.

    The first three unknowns are a rotation vector times the ligand's radius, the others a translation: all in angstrom.
    """

    def __init__(self, network, batch):
        self.network, self.batch = network, batch
        self.atoms = self  # whose `example` says which rows of the unknowns are whose
        self.example = torch.arange(len(batch))
        arms = (batch.coords - batch.center[batch.batch]).to(batch.dtype)
        self.radius = mean_square(arms, batch).sqrt()
        self.curve = []  # the energies at each gradient

    def rigid(self, unknowns):
        """Return the motions of some unknowns."""
        turn = unknowns[:, :3] / self.radius[:, None]
        cross = torch.linalg.cross(turn[:, :, None], torch.eye(3).to(turn).expand(len(turn), 3, 3), dim=1)
        return Rigid(torch.linalg.matrix_exp(cross), unknowns[:, 3:], self.batch.center)

    def energies(self, unknowns):
        """Return the energies (B,), with a graph."""
        return -self.network(density(moved(self.batch, self.rigid(unknowns))))[0]

    def values(self, unknowns):
        """Return the energies (B,)."""
        with torch.no_grad():
            return self.energies(unknowns)

    def gradient(self, unknowns, differentiable=False):
        """Return the energies, their gradient (B, 6), and what `product` takes."""
        unknowns = unknowns.detach().requires_grad_()
        values = self.energies(unknowns)
        (gradient,) = torch.autograd.grad(values.sum(), unknowns, create_graph=differentiable)
        self.curve.append(values.detach())
        return values.detach(), gradient.detach(), (gradient, unknowns)

    def product(self, at, direction):
        """Return the product of the Hessian with a direction (B, 6), exactly."""
        return torch.autograd.grad(*at, direction, retain_graph=True)[0]

    def dot(self, first, second):
        """Return the scalar products of the examples, (B,)."""
        return (first * second).sum(1)

    def largest_step(self, gradient):
        """Return what is to fall below the tolerance: the largest element of the gradient, (B,)."""
        return gradient.abs().amax(1)


def descend(energy, unknowns, n_steps, rate=0.1):
    """Minimise by gradient descent: a step that helps makes the next one longer, another is taken back and halved."""
    rates = torch.full((len(unknowns), 1), rate)
    values, gradient, _ = energy.gradient(unknowns)
    for _ in range(n_steps):
        trial = unknowns - rates * gradient
        helps = (energy.values(trial) < values)[:, None]
        unknowns, rates = torch.where(helps, trial, unknowns), torch.where(helps, 1.5 * rates, 0.5 * rates)
        values, gradient, _ = energy.gradient(unknowns)
    return unknowns


def refine(network, batch, n_steps):
    """Displace ligands by up to 1 A and 20 degrees, let them find back; return energies by method, print a table."""
    generator = torch.Generator().manual_seed(0)
    start = moved(batch, RandomRigid(1.0, angle=20.0, generator=generator).draw_for(batch))
    curves = {}
    print(f"{'':<18}{'CNNscore':>10}{'RMSD':>8}   means of {len(batch)} poses")
    for name, pose in {"as they are": batch, "displaced": start}.items():
        values, off = PoseEnergy(network, pose).values(torch.zeros(len(batch), 6)), pose.coords - batch.coords
        print(f"{name:<18}{(-values).exp().mean():>10.4f}{mean_square(off, batch).sqrt().mean():>8.2f}")
    for name in COLORS:
        energy, unknowns = PoseEnergy(network, start), torch.zeros(len(batch), 6)
        if name == "Newton-CG":
            unknowns = newton(energy, unknowns, torch.full((len(batch),), 0.3), n_steps, 1e-5).unknowns
        else:
            unknowns = descend(energy, unknowns, n_steps)
        off = moved(start, energy.rigid(unknowns)).coords - batch.coords
        score = (-energy.values(unknowns)).exp().mean()
        print(f"{name:<18}{score:>10.4f}{mean_square(off, batch).sqrt().mean():>8.2f}")
        curves[name] = torch.stack(energy.curve)
    return curves


def draw(curves, path):
    """Draw 1 - CNNscore against the iterations, the geometric mean over the poses."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, energies in curves.items():
        axes.semilogy((-torch.expm1(-energies)).log().mean(1).exp(), color=COLORS[name], label=name, marker=".")
    axes.set(xlabel="iteration", ylabel="1 − CNNscore")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main():
    """Refine, print what came of it, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="crossdock_default2018", help="or general_default2018, redock_default2018")
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--picture", metavar="FILE", help="draw the scores (.png, .svg)")
    options = parser.parse_args()
    data, _ = complexes(posebusters())
    curves = refine(Ensemble(options.model, size=1), data.__getitems__(range(len(data))), options.iterations)
    if options.picture:
        draw(curves, options.picture)


if __name__ == "__main__":
    main()
