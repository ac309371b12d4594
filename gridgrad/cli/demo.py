"""``gridgrad demo``: closed forms, a real molecule, two orders of derivatives, pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from gridgrad.atomic import refuse_existing
from gridgrad.extras import require
from gridgrad.functional import coords2grid
from gridgrad.gridmaker import GridMaker
from gridgrad.mol import Molecule, TypedAtoms, grid_atoms, read_molecules, type_atoms
from gridgrad.plot import draw_gradient, draw_grid, write_page
from gridgrad.plot.scene import principal_axes

__all__ = ["closed_forms", "run"]

_RECORD = 25  # a CDK2 ligand with C, H, N, O, S and Br
_TURN = 12  # degrees in the plane of the ligand
_TOLERANCE = 1e-12
_T = TypeVar("_T")


def run(folder: Path, *, overwrite: bool) -> int:
    """Run the demo; 1 if a number does not come out."""
    pictures = [folder / name for name in ("grid.png", "gradient.png", "grid.html")]
    if not overwrite:
        refuse_existing(pictures)
    require("matplotlib", "plot")
    path = Path(require("rdkit.RDConfig", "mol").RDContribDir) / "Fastcluster" / "testdata" / "cdk2.sdf"
    folder.mkdir(parents=True, exist_ok=True)
    good = _print_closed_forms()
    ligand = next(m for m in read_molecules(path) if m.record == _RECORD)
    atoms = type_atoms(ligand)
    gm = GridMaker()
    grid, seconds = _timed(lambda: grid_atoms(gm, atoms, ligand.coords.mean(axis=0), name=ligand.name))
    print(f"\n{ligand.name}, record {_RECORD} of RDKit's {path.name}, a ligand of CDK2: {len(ligand)} atoms on")
    print(f"{' × '.join(map(str, grid.density.shape))} points (channel, x, y, z), {1e3 * seconds:.1f} ms")
    print("  " + "   ".join(f"{n} {v.sum():.1f}" for n, v in zip(grid.channels, grid.density, strict=True) if v.any()))

    turned, grad_coords, agrees = _differentiate(gm, ligand, atoms)
    print()
    draw_grid(pictures[0], grid, ligand)
    caption = f"the ligand turned by {_TURN}°, and −∂L/∂coords, which turns it back"
    draw_gradient(pictures[1], grid, ligand, turned, grad_coords, caption)
    write_page(pictures[2], grid, ligand)
    for picture in pictures:
        print(f"wrote {picture}")
    if good and agrees:
        return 0
    print("NOT ALL NUMBERS CAME OUT")
    return 1


def _timed(call: Callable[[], _T]) -> tuple[_T, float]:
    """Return what a call returns and the least of five times, in seconds; the first call loads and allocates more."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - start)
    return found, min(times)


# --- closed forms -----------------------------------------------------------------------------------------------------


def closed_forms() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Compute what is known in closed form for one atom: resolution 0.5, dimension 6, one type, radius 1.

    Returns
    -------
    list of (str, ndarray, ndarray)
        What it is, what is expected, what came out.
    """
    half, one = math.exp(-0.5), math.exp(-2)
    line = [0, 0, 0, 0, one, half, 1, half, one, 0, 0, 0, 0]
    density, slope, second = _one_atom(torch.zeros(3, dtype=torch.float64), axis=0, multiple=1.0)
    rows = [
        ("density along x through the atom", np.array(line), density[:, 6, 6].numpy()),
        ("∂ρ/∂x at (1, 0, 0) = 4e⁻²", np.array(4 * math.exp(-2)), slope.numpy()),
        ("∂/∂x (∂ρ/∂x)² at (1, 0, 0) = 96e⁻⁴", np.array(96 * math.exp(-4)), second.numpy()),
    ]
    places = np.arange(-1, 3.125, 0.125)
    d = places - 1
    expected = -128 * d**3 * np.exp(-4 * d**2) + 32 * d * np.exp(-4 * d**2)
    for axis in range(3):
        came_out = []
        for place in places:
            atom = torch.zeros(3, dtype=torch.float64)
            atom[axis] = place
            came_out.append(_one_atom(atom, axis, multiple=-2.0)[2].item())
        label = "xyz"[axis]
        rows.append((f"the same, atom at {label} from −1 to 3, multiple −2", expected, np.array(came_out)))
    return rows


def _one_atom(atom: torch.Tensor, axis: int, multiple: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Density, its slope at 1 angstrom from the centre along `axis`, and the derivative of the squared slope."""
    gm = GridMaker(resolution=0.5, dimension=6, gaussian_radius_multiple=multiple)
    coords = atom[None].requires_grad_()
    types, radii = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    density = coords2grid(gm, (0.0, 0.0, 0.0), coords, types, radii, n_types=1)[0]
    point = [6, 6, 6]
    point[axis] = 8
    (grad_coords,) = torch.autograd.grad(density[tuple(point)], coords, create_graph=True)
    slope = grad_coords[0, axis]
    (second,) = torch.autograd.grad(slope**2, coords)
    return density.detach(), slope.detach(), second[0, axis]


def _print_closed_forms() -> bool:
    print("One atom of radius 1 on a grid of spacing 0.5: closed form and what came out, in float64")
    good = True
    for label, expected, came_out in closed_forms():
        error = float(np.abs(came_out - expected).max())
        right = error <= _TOLERANCE
        good &= right
        numbers = f"{expected:.10f}  {came_out:.10f}" if expected.ndim == 0 else f"{expected.size} numbers"
        print(f"  {'ok ' if right else 'NO '} {label:<48} {numbers:<26} error {error:.0e}")
        if expected.size == 13:
            print("      " + " ".join(f"{value:.4g}" for value in came_out))
    return good


# --- two orders of derivatives on a molecule --------------------------------------------------------------------------


def _differentiate(gm: GridMaker, ligand: Molecule, atoms: TypedAtoms) -> tuple[np.ndarray, np.ndarray, bool]:
    """Differentiate the loss of the turned molecule twice; compare the second order with finite differences."""
    center = torch.from_numpy(ligand.coords.mean(axis=0))
    types, radii = torch.from_numpy(atoms.types), torch.from_numpy(atoms.radii)

    def density(coords: torch.Tensor) -> torch.Tensor:
        return coords2grid(gm, center, coords, types, radii, n_types=len(atoms.channels))

    target = density(torch.from_numpy(ligand.coords))
    coords = torch.from_numpy(_turned(ligand.coords)).requires_grad_()

    def penalty(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loss = 0.5 * gm.resolution**3 * (density(at) - target).square().sum()
        (grad_coords,) = torch.autograd.grad(loss, at, create_graph=True)
        return loss, grad_coords, 0.5 * grad_coords.square().sum()

    def both_orders() -> tuple[torch.Tensor, ...]:
        found = penalty(coords)
        return *found, *torch.autograd.grad(found[2], coords)

    (loss, grad_coords, force_penalty, grad_of_grad), seconds = _timed(both_orders)
    direction = torch.randn(coords.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    direction /= direction.norm()
    step = 1e-5
    ahead, behind = (penalty((coords.detach() + s * direction).requires_grad_())[2] for s in (step, -step))
    difference = (ahead - behind).item() / (2 * step)
    exact = (grad_of_grad * direction).sum().item()
    agrees = abs(difference - exact) <= 1e-6 * float(grad_of_grad.norm())
    print(f"\nTurned by {_TURN}° in its plane; L = ½ ∫ (density − true density)², P = ½ |∂L/∂coords|²")
    values = [value.detach().norm().item() for value in (loss, grad_coords, force_penalty, grad_of_grad)]
    names = ("L", "|∂L/∂coords|", "P", "|∂P/∂coords|")
    numbers = "   ".join(f"{name} {value:.4f}" for name, value in zip(names, values, strict=True))
    print(f"  {numbers}   ({1e3 * seconds:.1f} ms)")
    mark = "ok " if agrees else "NO "
    print(f"  {mark} ∂P/∂coords along a random direction: {exact:.8f}, by finite differences {difference:.8f}")
    return coords.detach().numpy(), grad_coords.detach().numpy(), agrees


def _turned(coords: np.ndarray) -> np.ndarray:
    """Turn a molecule about the axis that its picture looks along."""
    axes, center, angle = principal_axes(coords), coords.mean(axis=0), math.radians(_TURN)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    return center + (coords - center) @ axes.T @ turn.T @ axes
