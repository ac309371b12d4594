"""Train a network on Hessian-vector products: on the curvature of its energy, not only on its forces.

A network reads the density of five atoms. It is to learn a reference energy, a sum of Morse potentials, from the
gradient of the reference and from the products H(x) v of its Hessian with random directions v, at random conformations
x. Such a loss holds two derivatives with respect to the atoms. Its gradient with respect to the parameters needs the
derivative of those with respect to the cotangent of the density, which is the kernel `density_tangent_tangent`.

A second network of the same kind is trained for as many steps on the gradients alone. Both are measured on
conformations and directions that neither has seen. An error of 1 is that of predicting zero.

    python examples/train_hessian.py [--steps N] [--picture FILE]
"""

import argparse
import time

import torch

import gridgrad as gg

GRID = gg.GridMaker(resolution=0.5, dimension=7.5, tail="quintic")  # a tail with a continuous second derivative
IDEAL = torch.tensor([[0.0, 0, 0.7], [0, 0, -0.7], [1.1, 0, 1.2], [-1.1, 0.6, -1.2], [-0.6, -1.1, 1.2]])  # angstrom
TYPES, RADII = torch.tensor([0, 0, 1, 1, 1]), torch.full((5,), 1.2)
FIRST, SECOND = torch.triu_indices(5, 5, 1)
REST = (IDEAL[FIRST] - IDEAL[SECOND]).norm(dim=-1)


def reference_energy(coords):
    """Sum of Morse potentials over all pairs of atoms, (B, N, 3) -> (B,)."""
    distance = (coords[:, FIRST] - coords[:, SECOND]).norm(dim=-1)
    return (1 - torch.exp(REST.to(coords) - distance)).square().sum(-1)


class Energy(torch.nn.Module):
    """Density, then three layers; smooth, so that the Hessian says something."""

    def __init__(self, width=64):
        super().__init__()
        self.grid = gg.Coords2Grid(GRID, n_types=2)
        x, y, z = GRID.spatial_grid_dimensions()
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(2 * x * y * z, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, 1, bias=False),  # derivatives do not know a constant
        )

    def forward(self, coords):
        """Return (B,) energies of (B, N, 3) positions."""
        types, radii = TYPES.expand(len(coords), -1), RADII.to(coords).expand(len(coords), -1)
        return self.layers(self.grid(coords, types, radii))[:, 0]


def derivatives(energy, coords, v):
    """Return the gradient of an energy in the positions and the product of its Hessian with v, both with a graph."""
    coords = coords.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(coords).sum(), coords, create_graph=True)
    (product,) = torch.autograd.grad(gradient, coords, v, create_graph=True)
    return gradient, product


def errors(energy, coords, v):
    """Return the squared errors of the gradient and of the product, relative to predicting zero."""
    pairs = zip(derivatives(energy, coords, v), derivatives(reference_energy, coords, v), strict=True)
    return [(found - target).square().sum() / target.square().sum() for found, target in pairs]


def draw(n, generator):
    """Return n conformations around the ideal one, and n directions."""
    return IDEAL + 0.15 * torch.randn(n, 5, 3, generator=generator), torch.randn(n, 5, 3, generator=generator)


def train(with_products, steps, held_out, batch_size=16, every=10):
    """Train a network on gradients, with or without products; return rows (step, both errors on held-out data)."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    energy = Energy()
    parameters = list(energy.parameters())
    optimizer = torch.optim.Adam(parameters)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    curve = []
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            curve.append((step, *(error.item() for error in errors(energy, *held_out))))
        if step < steps:
            optimizer.zero_grad()
            gradient, product = errors(energy, *draw(batch_size, generator))
            # not the positions: their gradient would be a third derivative
            (gradient + product if with_products else gradient).backward(inputs=parameters)
            optimizer.step()
            schedule.step()
    return curve


def draw_picture(curves, path):
    """Draw the error of Hessian-vector products on held-out data against the step."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for (name, curve), color in zip(curves.items(), ("#d55e00", "#0072b2"), strict=True):
        axes.semilogy([row[0] for row in curve], [row[2] for row in curve], color=color, label=f"trained on {name}")
    axes.set(xlabel="step", ylabel="error of H v, held out", title="Hessian-vector products, predicting zero = 1")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def main():
    """Train both networks, print their errors, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--picture", metavar="FILE", help="draw the learning curves (.png, .svg)")
    options = parser.parse_args()
    held_out = draw(64, torch.Generator().manual_seed(2))
    curves = {}
    print(f"{'trained on':<24}{'gradient':>10}{'H v':>10}{'seconds':>10}   errors on held-out data")
    for name in ("gradients", "gradients and H v"):
        start = time.perf_counter()
        curves[name] = train("H v" in name, options.steps, held_out)
        _, gradient, product = curves[name][-1]
        print(f"{name:<24}{gradient:>10.4f}{product:>10.4f}{time.perf_counter() - start:>10.1f}")
    if options.picture:
        draw_picture(curves, options.picture)


if __name__ == "__main__":
    main()
