"""Draw the figures of the pages, from the package itself.

Lines are closed forms, dots are what the kernels return.

    python docs/figures.py [FOLDER]
"""

import importlib.util
import math
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch

import gridgrad as gg
from gridgrad.grid.profile import profile_coefficients
from gridgrad.mol import GninaTyper, grid_atoms, join_atoms, read_molecules, type_atoms

TAILS = ("quadratic", "quintic", "truncated", "binary")
COLORS = {"quadratic": "#0072b2", "quintic": "#d55e00", "truncated": "#009e73", "binary": "#7a5195"}
PART_COLORS = {"receptor": "#0072b2", "ligand": "#d55e00"}
STYLE = {
    "figure.facecolor": "white",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "mathtext.fontset": "cm",
    "svg.hashsalt": "gridgrad",
}


def maker(tail, multiple=1.0):
    """Return a GridMaker with 61 points on a line of 3 angstrom, one plane thick."""
    binary = tail == "binary"
    return gg.GridMaker(
        0.05, (3, 0.01, 0.01), binary=binary, tail="quadratic" if binary else tail, gaussian_radius_multiple=multiple
    )


def closed_form(tail, u, multiple=1.0):
    """Return phi, phi_s and phi_ss at u = sqrt(s), from the core and the tail in t = x_f - u."""
    c = profile_coefficients("quadratic" if tail == "binary" else tail, multiple, tail == "binary", np.dtype("f8"))
    s, t = u**2, c.cutoff - u
    core = np.exp(-c.core_rate * s)
    poly = np.polynomial.Polynomial([0, 0, *c.tail])
    phi_u, phi_uu = -poly.deriv()(t), poly.deriv(2)(t)
    inside = np.where(s <= c.core_end, 1.0, 0.0)
    reached = np.where(s <= c.cutoff_s, 1.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        tails = poly(t), phi_u / (2 * u), (phi_uu - phi_u / u) / (4 * s)
    cores = core, -c.core_rate * core, c.core_rate**2 * core
    return [np.where(inside > 0, a, b) * reached for a, b in zip(cores, tails)]


def from_kernels(tail, multiple=1.0):
    """Return u and phi, phi_s, phi_ss there, from the density and two derivatives along the line."""
    gm = maker(tail, multiple)
    center = torch.tensor([1.5, 0.005, 0.005], dtype=torch.float64)
    coords = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    types, radii = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    line = gg.coords2grid(gm, center, coords, types, radii, n_types=1)[0, :, 0, 0]
    rows = []
    for point in range(2, len(line), 4):
        (first,) = torch.autograd.grad(line[point], coords, create_graph=True)
        (second,) = torch.autograd.grad(first[0, 0], coords, retain_graph=True)
        delta = point * gm.resolution  # d phi / dx = -2 delta phi_s, d2 phi / dx2 = 2 phi_s + 4 delta^2 phi_ss
        slope = -first[0, 0].item() / (2 * delta)
        rows.append((delta, line[point].item(), slope, (second[0, 0].item() - 2 * slope) / (4 * delta**2)))
    return np.array(rows).T


def profiles(path):
    """Draw phi, phi_s and phi_ss of every tail for m = 1."""
    u = np.linspace(0, 1.7, 1701)
    figure, panels = plt.subplots(3, 4, figsize=(11, 7.2), sharex=True, sharey="row", layout="constrained")
    for column, tail in zip(panels.T, TAILS):
        dots, *values = from_kernels(tail)
        for panel, curve, measured in zip(column, closed_form(tail, u), values):
            for part in np.split(
                np.arange(len(u)), np.searchsorted(u, (0.9995 if tail == "binary" else 1.0005, 1.5005))
            ):
                panel.plot(u[part], curve[part], color=COLORS[tail], lw=2)
            panel.plot(dots[dots < 1.7], measured[dots < 1.7], "o", ms=3.4, mfc="white", mec="black", mew=0.8)
            panel.axhline(0, color="0.8", lw=0.8, zorder=0)
            for edge, text in ((1.0, "$m$"), (1.5, "$x_f$")):
                panel.axvline(edge, color="0.75", lw=0.8, ls=":", zorder=0)
                if panel is column[0] and (tail in ("quadratic", "quintic") or (edge == 1.0 and tail == "truncated")):
                    panel.text(edge, 1.02, text, ha="center", va="bottom", transform=panel.get_xaxis_transform())
        column[0].set_title(tail, loc="left")
        column[-1].set_xlabel(r"$u = \sqrt{s} = d / R$")
    for panel, name in zip(panels[:, 0], (r"$\varphi$", r"$\varphi_s$", r"$\varphi_{ss}$")):
        panel.set_ylabel(name, rotation=0, labelpad=14, fontsize=14)
    figure.savefig(path)
    plt.close(figure)


def multiples(path):
    """Draw both smooth tails for several multiples m."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for panel, tail in zip(panels, ("quadratic", "quintic")):
        for m, shade in zip((0.6, 0.8, 1.0, 1.5), (0.35, 0.55, 0.75, 1.0)):
            u = np.linspace(0.5, 1.9, 1401)
            panel.plot(u, closed_form(tail, u, m)[0], color=plt.cm.viridis(1 - shade), lw=2, label=f"$m = {m:g}$")
        panel.set_title(tail)
        panel.set_xlabel(r"$u = d / R$")
        panel.set_ylim(-0.01, 0.31)
    panels[0].set_ylabel(r"$\varphi$", rotation=0, labelpad=12, fontsize=14)
    panels[1].legend(frameon=False)
    figure.savefig(path)
    plt.close(figure)


def one_atom(multiple, tail="quadratic"):
    """Return x, and at (1, 0, 0): the density, its derivative by x, the derivative of that squared."""
    gm = gg.GridMaker(0.5, 6, gaussian_radius_multiple=multiple, tail=tail)
    types, radii = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    places, rows = np.arange(-1, 3.0001, 0.0625), []
    for x in places:
        coords = torch.tensor([[x, 0, 0]], dtype=torch.float64, requires_grad=True)
        density = gg.coords2grid(gm, (0, 0, 0), coords, types, radii, n_types=1)[0, 8, 6, 6]
        (first,) = torch.autograd.grad(density, coords, create_graph=True)
        (second,) = torch.autograd.grad(first[0, 0] ** 2, coords)
        rows.append((density.item(), first[0, 0].item(), second[0, 0].item()))
    return places, *np.array(rows).T


def experiment(path):
    """Draw the one-atom experiment against its closed forms."""
    x = np.linspace(-1, 3, 2001)
    d = x - 1
    gauss = np.exp(-2 * d**2)
    forms = [(gauss, -4 * d * gauss, (32 * d - 128 * d**3) * gauss**2)]
    room, far = 1.5 - np.abs(d), np.abs(d) > 1
    scale = np.where(np.abs(d) < 1.5, 4 * math.exp(-2), 0)
    tail = scale * room**2, -2 * scale * room * np.sign(d), -8 * scale**2 * room * np.sign(d)
    forms.append([np.where(far, a, b) for a, b in zip(tail, forms[0])])
    titles = "Gaussian to two radii (multiple −2)", "quadratic tail (default)", "quintic tail"
    settings = (-2.0, "quadratic"), (1.0, "quadratic"), (1.0, "quintic")
    figure, panels = plt.subplots(3, 3, figsize=(11, 7.4), sharex=True, sharey="row", layout="constrained")
    for column, title, (multiple, kind), color in zip(panels.T, titles, settings, ("#009e73", "#0072b2", "#d55e00")):
        places, *values = one_atom(multiple, kind)
        if kind == "quintic":
            phi, phi_s, phi_ss = closed_form("quintic", np.abs(d))
            slope, bend = 2 * d * phi_s, 2 * phi_s + 4 * d**2 * phi_ss
            curves = phi, slope, 2 * slope * bend
        else:
            curves = forms[multiple > 0]
        for panel, curve, measured in zip(column, curves, values):
            panel.plot(x, curve, color=color, lw=2, label="closed form")
            panel.plot(places, measured, "o", ms=3.2, mfc="white", mec="black", mew=0.7, label="gridgrad")
            panel.axhline(0, color="0.8", lw=0.8, zorder=0)
        column[0].set_title(title)
        column[-1].set_xlabel("position $x$ of the atom (Å)")
    panels[0, 0].legend(frameon=False)
    for panel, name in zip(panels[:, 0], (r"$\rho$", r"$\partial_x\rho$", r"$\partial_x(\partial_x\rho)^2$")):
        panel.set_ylabel(name, fontsize=13)
    figure.savefig(path)
    plt.close(figure)


def channels(path):
    """Draw the 28 channels of gnina of a receptor and its ligand, in a slab that holds the ligand, seen from above."""
    spec = importlib.util.find_spec("posebusters")  # for its data; the package itself is not imported
    folder = Path(spec.submodule_search_locations[0], "datasets", "pdb", "1uou")
    files = {"receptor": "1uou_protein_one_lig_removed.pdb", "ligand": "1uou_ligand.sdf"}
    molecules = {part: next(read_molecules(folder / name)) for part, name in files.items()}
    ligand = molecules["ligand"].without_hydrogens()
    center = ligand.coords.mean(axis=0)
    axes = np.linalg.svd(ligand.coords - center)[2]  # the longest first, the shortest is the line of sight
    axes[2] *= np.linalg.det(axes)
    atoms = join_atoms(**{part: type_atoms(m, GninaTyper(part)) for part, m in molecules.items()})
    atoms = replace(atoms, coords=(atoms.coords - center) @ axes.T)
    grid = grid_atoms(gg.GridMaker(0.125, (18, 18, 5)), atoms, np.zeros(3))
    shown = (np.abs(atoms.coords) <= grid.extent[:, 1]).all(axis=1)
    bonds = ((ligand.coords - center) @ axes.T)[ligand.bonds]
    figure, panels = plt.subplots(4, 7, figsize=(11.5, 8), sharex=True, sharey=True, layout="constrained")
    for index, (panel, name) in enumerate(zip(panels.flat, atoms.channels)):
        part, _, kinds = name.partition(" ")
        shades = mpl.colors.LinearSegmentedColormap.from_list(part, ["white", PART_COLORS[part]])
        extent = grid.extent[:2].ravel()
        panel.imshow(grid.density[index].max(axis=2).T, origin="lower", extent=extent, cmap=shades, vmin=0, vmax=1)
        for pair in bonds:
            panel.plot(pair[:, 0], pair[:, 1], color="black", lw=0.7)
        count = int((shown & (atoms.types == index)).sum())
        panel.text(0.97, 0.03, str(count), transform=panel.transAxes, ha="right", va="bottom", fontsize=8)
        words = kinds.replace("_", " ").replace("CarbonXS", "Carbon XS")
        panel.set_title("\n".join(textwrap.wrap(f"{index}  {words}", 25)), fontsize=7, loc="left")
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set(visible=True, color="0.7")
    for row, part in ((0, "receptor"), (2, "ligand")):
        panels[row, 0].set_ylabel(part, fontsize=11)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw(folder):
    """Draw all figures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        profiles(folder / "profiles.svg")
        multiples(folder / "multiples.svg")
        experiment(folder / "one_atom.svg")
        channels(folder / "channels.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "_static" / "figures")
