"""PNG pictures of density grids by matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gridgrad.atomic import atomic_files
from gridgrad.extras import require
from gridgrad.io.density import DensityGrid
from gridgrad.mol.elements import SYMBOLS
from gridgrad.mol.molecule import Molecule
from gridgrad.plot.projection import Projection, project, project_axis
from gridgrad.plot.scene import Sticks, atom_colors, bonds_of, channel_color, principal_axes, sticks

__all__ = ["draw_gradient", "draw_grid"]

_INK = "#22272b"
_FAINT = "#8a9299"
_ARROW = "#b5179e"
_CONTOUR = 0.7  # angstrom: integral of a channel along the ray at its outline
_CROWD = 150  # more atoms than this are drawn thin and without symbols
_MARGIN = 2.2  # angstrom around the ligand in the main panel


def draw_grid(path: str | Path, grid: DensityGrid, ligand: Molecule, receptor: Molecule | None = None) -> None:
    """Draw the grid of a molecule: the density in the colours of its channels, the molecule as sticks over it.

    The large panel looks along the shortest principal axis of the ligand and adds up the density through the depth of
    the ligand. The small panels add up the whole grid along x, y and z.

    Parameters
    ----------
    path : str or Path
        The PNG file.
    grid : DensityGrid
        The grid.
    ligand : Molecule
        The molecule that was gridded.
    receptor : Molecule, optional
        Its surroundings; channels named "receptor ..." are drawn pale.
    """
    figure = _figure(11.0, 7.0)
    spec = figure.add_gridspec(
        3, 2, width_ratios=[3.3, 1], left=0.03, right=0.985, top=0.87, bottom=0.16, hspace=0.55, wspace=0.10
    )
    main = figure.add_subplot(spec[:, 0])
    view = _view(grid, ligand)
    _draw_view(main, grid, view, ligand, receptor)
    for row, axis in enumerate("zyx"):
        _draw_axis(figure.add_subplot(spec[row, 1]), grid, axis, ligand)
    shape = " × ".join(map(str, grid.density.shape[1:]))
    _title(
        figure, f"Density of {grid.name}" + (f" in {_short(receptor.name)}" if receptor else ""),
        f"{len(ligand)} atoms" + (f" + {len(receptor)} around" if receptor else "")
        + f"; {shape} points, {grid.resolution:g} Å apart. Left: along the ligand's shortest axis; right: whole grid.",
    )  # fmt: skip
    _legend(figure, grid)
    _save(figure, path)


def draw_gradient(
    path: str | Path, grid: DensityGrid, ligand: Molecule, moved: np.ndarray, grad_coords: np.ndarray, caption: str
) -> None:
    """Draw the density of a molecule beside the pull of a loss on its moved atoms.

    Parameters
    ----------
    path : str or Path
        The PNG file.
    grid : DensityGrid
        Density of `ligand`, the target.
    ligand : Molecule
        The molecule.
    moved : ndarray, shape (N, 3)
        Other positions of its atoms in angstrom, at which the gradient was taken.
    grad_coords : ndarray, shape (N, 3)
        Gradient of the loss; the arrows point against it.
    caption : str
        What the loss is, for the title of the right panel.
    """
    figure = _figure(12.0, 5.4)
    spec = figure.add_gridspec(1, 2, left=0.02, right=0.98, top=0.83, bottom=0.13, wspace=0.04)
    left, right = (figure.add_subplot(spec[0, column]) for column in range(2))
    view = _view(grid, ligand)
    _draw_view(left, grid, view, ligand, None)
    left.set_title("density, one colour per element channel", fontsize=11, color=_INK)

    _draw_image(right, view, alpha=0.35)
    _draw_sticks(right, view, Sticks(ligand.elements, moved, bonds_of(ligand)), width=3.4, fade=0.25, labels=False)
    start, pull = view.rotate(moved)[:, :2], view.rotate(-grad_coords)[:, :2]
    length = np.linalg.norm(pull, axis=1)
    seen = length > 0.12 * length.max()
    pull *= 2.2 / length.max()
    right.quiver(
        *start[seen].T, *pull[seen].T, angles="xy", scale_units="xy", scale=1, color=_ARROW, width=0.006, headwidth=3.6,
        headlength=3.8, headaxislength=3.4, zorder=30,
    )  # fmt: skip
    _frame(right, view)
    right.set_title(caption, fontsize=11, color=_INK)
    points = " × ".join(map(str, grid.density.shape[1:]))
    subtitle = (
        f"{len(ligand)} atoms on {points} points, {grid.resolution:g} Å apart. "
        "L: half the squared difference between the two densities."
    )
    _title(figure, f"{grid.name}: its density, and the gradient through it", subtitle)
    _legend(figure, grid)
    _save(figure, path)


# --- panels -----------------------------------------------------------------------------------------------------------


def _view(grid: DensityGrid, ligand: Molecule) -> Projection:
    inside = sticks(ligand, grid.extent)
    coords = inside.coords if len(inside.coords) else grid.extent.mean(axis=1)[None]
    axes = principal_axes(coords)
    flat = coords @ axes.T
    low, high = flat.min(axis=0) - _MARGIN, flat.max(axis=0) + _MARGIN
    return project(grid, axes, low, high)


def _draw_view(ax, grid: DensityGrid, view: Projection, ligand: Molecule, receptor: Molecule | None) -> None:
    _draw_image(ax, view)
    if receptor is not None:
        near = sticks(receptor, grid.extent)
        depth = view.rotate(near.coords)[:, 2]
        slab = near.subset((depth > view.low[2]) & (depth < view.high[2]))
        _draw_sticks(ax, view, slab, width=1.3, fade=0.45, labels=False)
    shown = sticks(ligand, grid.extent)
    crowded = len(shown.elements) > _CROWD
    _draw_sticks(ax, view, shown, width=1.8 if crowded else 4.0, labels=not crowded)
    _frame(ax, view)


def _draw_image(ax, view: Projection, alpha: float = 1.0) -> None:
    box = (view.low[0], view.high[0], view.low[1], view.high[1])
    ax.imshow(view.image(), origin="lower", extent=box, interpolation="bicubic", alpha=alpha, zorder=0)
    for index, (name, column) in enumerate(zip(view.channels, view.columns, strict=True)):
        if not name.startswith("receptor ") and column.max() > _CONTOUR:
            ax.contour(
                column, [_CONTOUR], extent=box, colors=channel_color(name, index), linewidths=1.1, alpha=0.6 * alpha,
                zorder=1,
            )  # fmt: skip


def _draw_sticks(ax, view: Projection, shown: Sticks, width: float, fade: float = 0.0, labels: bool = True) -> None:
    collections = require("matplotlib.collections", "plot")
    effects = require("matplotlib.patheffects", "plot")
    flat = view.rotate(shown.coords)
    colors = np.array([_rgb(color) for color in atom_colors(shown.elements)]).reshape(-1, 3)
    colors = colors + fade * (1 - colors)
    ends = flat[shown.bonds]
    middle = ends.mean(axis=1)
    halves = np.concatenate([np.stack([ends[:, side], middle], axis=1) for side in range(2)])
    tint = np.concatenate([colors[shown.bonds[:, side]] for side in range(2)])
    thin = np.tile((shown.elements[shown.bonds] == 1).any(axis=1), 2)
    order = np.argsort(halves[:, :, 2].mean(axis=1))
    widths = np.where(thin, 0.45, 1.0) * width
    for outline in (True, False):
        ax.add_collection(
            collections.LineCollection(
                halves[order, :, :2], colors="white" if outline else tint[order],
                linewidths=np.where(thin, 0, widths + 0.35 * width)[order] if outline else widths[order],
                capstyle="round", zorder=10 + (not outline),
            )
        )  # fmt: skip
    bonded = np.zeros(len(flat), dtype=bool)
    bonded[shown.bonds] = True
    alone = ~bonded
    ax.scatter(*flat[alone, :2].T, s=8 * width, c=colors[alone], edgecolors="white", linewidths=0.6, zorder=12)
    for index in np.flatnonzero(~np.isin(shown.elements, (1, 6))) if labels else ():
        ax.text(
            *flat[index, :2], SYMBOLS[shown.elements[index]], color=colors[index], fontsize=9, fontweight="bold",
            ha="center", va="center", zorder=20, clip_on=True,
            path_effects=[effects.withStroke(linewidth=3.2, foreground="white")],
        )  # fmt: skip


def _frame(ax, view: Projection) -> None:
    ax.set(xlim=(view.low[0], view.high[0]), ylim=(view.low[1], view.high[1]), xticks=[], yticks=[], aspect="equal")
    for spine in ax.spines.values():
        spine.set_visible(False)
    span = view.high[0] - view.low[0]
    length = 5.0 if span > 14 else 2.0
    x, y = view.low[0] + 0.03 * span, view.low[1] + 0.035 * span
    effects = require("matplotlib.patheffects", "plot")
    halo = [effects.withStroke(linewidth=4, foreground="white")]
    ax.plot([x, x + length], [y, y], color=_INK, linewidth=3, solid_capstyle="butt", zorder=40)
    ax.text(
        x + length / 2, y + 0.012 * span, f"{length:g} Å", ha="center", va="bottom", fontsize=10, color=_INK, zorder=41,
        path_effects=halo,
    )  # fmt: skip


def _draw_axis(ax, grid: DensityGrid, axis: str, ligand: Molecule) -> None:
    image, box, (across, up) = project_axis(grid, axis)
    ax.imshow(image, origin="lower", extent=box, interpolation="bilinear")
    inside = sticks(ligand, grid.extent).coords
    ax.scatter(inside[:, "xyz".index(across)], inside[:, "xyz".index(up)], s=0.8, color=_INK, linewidths=0)
    ax.set_xlabel(f"{across} (Å)", fontsize=8, labelpad=1, color=_INK)
    ax.set_ylabel(f"{up} (Å)", fontsize=8, labelpad=3, color=_INK)
    ax.tick_params(labelsize=7, length=2, color=_FAINT, labelcolor=_INK)
    ax.set_title(f"summed along {axis}", fontsize=8, color=_INK, pad=3)
    for spine in ax.spines.values():
        spine.set_color(_FAINT)


# --- figure -----------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float):
    require("matplotlib.backends.backend_agg", "plot")
    figure = require("matplotlib.figure", "plot").Figure(figsize=(width, height), dpi=150, facecolor="white")
    require("matplotlib.backends.backend_agg", "plot").FigureCanvasAgg(figure)
    return figure


def _title(figure, title: str, subtitle: str) -> None:
    figure.text(0.03, 0.955, _plain(title), fontsize=15, fontweight="bold", color=_INK, va="center")
    figure.text(0.03, 0.905, subtitle, fontsize=9.5, color=_FAINT, va="center")


def _legend(figure, grid: DensityGrid) -> None:
    patches = require("matplotlib.patches", "plot")
    shown = [(index, name) for index, name in enumerate(grid.channels) if grid.density[index].any()]
    ligand_only = [(index, name) for index, name in shown if not name.startswith("receptor ")]
    handles = [patches.Patch(color=channel_color(name, index), label=_plain(name)) for index, name in ligand_only]
    if len(ligand_only) < len(shown):
        handles.append(patches.Patch(color="#d8d3c8", label="receptor (all channels)"))
    if not handles:
        figure.text(0.5, 0.05, "no density in this box", ha="center", fontsize=10, color=_INK)
        return
    figure.legend(
        handles=handles, loc="lower center", ncol=min(len(handles), 8), frameon=False, fontsize=10, title="channels",
        title_fontsize=9, handlelength=1.1, handleheight=1.1, columnspacing=1.4, bbox_to_anchor=(0.5, 0.005),
    )  # fmt: skip


def _save(figure, path: str | Path) -> None:
    with atomic_files([Path(path)]) as (temporary,):
        figure.savefig(temporary, format="png")


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))


def _plain(text: str) -> str:
    """Return a text that matplotlib draws as it is: no mathematics between dollars, no characters without a glyph."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text).replace("$", r"\$")


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"
