"""Compare what an atom costs in boxes of 24 to 192 Å with libmolgrid and with setting the grid to zero.

The boxes hold 0.03 atoms per Å³, as a hydrated protein does, on 4 channels with points 0.5 Å apart; one thread,
float32, index types. Packages, environments and turns are those of ``compare_peers.py``.

    python tools/compare_boxes.py           prints the table, draws docs/_static/boxes.png
"""

import argparse
import pathlib
import statistics

from compare_peers import PASSES, ROOT, US, conditions, run_rounds, start
from peers import Workload

BOXES = (24, 48, 96, 192)
NAMES = (US, "libmolgrid", "memset")
SHOWN = {name: PASSES[name] for name in ("density", "backward_coords")}
OF_ZEROS, ALLOWED = 1.3, 200  # what an atom may cost more in the largest box: so many times what zeros do, and ns


def crowded(box):
    """Return a box, in Å, with as many atoms per volume as a hydrated protein has."""
    return Workload(round(0.03 * box**3), 4, 2 * box + 1, 0.5)


def nanoseconds(times):
    """Return ns per atom by (pass, package) and box: medians over rounds."""
    found = {}
    for (workload, name, peer), samples in times.items():
        box = round(workload.dimension)
        found.setdefault((name, peer), {})[box] = 1e9 * statistics.median(samples.values()) / workload.atoms
    return found


def allowed(zeros):
    """Return how many ns more an atom may cost in the largest box than in the smallest."""
    return ALLOWED + OF_ZEROS * (zeros[BOXES[-1]] - zeros[BOXES[0]])


def table(found):
    """Return a Markdown table: ns per atom, and how much more in the largest box than in the smallest."""
    lines = ["| ns per atom | " + " | ".join(f"{box} Å" for box in BOXES) + " | more |", "|---|" + "---:|" * 5]
    for (name, peer), curve in found.items():
        cells = [f"{curve[box]:.0f}" if box in curve else "–" for box in BOXES]
        more = f"{curve[BOXES[-1]] - curve[BOXES[0]]:.0f}" if curve.keys() >= {BOXES[0], BOXES[-1]} else "–"
        what = "setting the grid to zero" if peer == "memset" else f"{SHOWN[name]}, {peer}"
        lines.append(f"| {what} | " + " | ".join([*cells, more]) + " |")
    zeros = found.get(("density", "memset"), {})
    if zeros.keys() >= {BOXES[0], BOXES[-1]}:
        lines += ["", f"Allowed: {ALLOWED} ns and {OF_ZEROS} times what zeros cost more, {allowed(zeros):.0f} ns."]
    return "\n".join(lines)


def picture(found, path):
    """Draw ns per atom against the box, one panel for each pass, with the line below which the figure is met."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    styles = {
        US: {"color": "#c8501e", "marker": "o"},
        "libmolgrid": {"color": "#2a6fbb", "marker": "s"},
        "memset": {"color": "#8a939c", "ls": "--"},
    }
    zeros = found["density", "memset"]
    figure, panels = plt.subplots(1, len(SHOWN), figsize=(9, 4), sharey=True, layout="constrained")
    for panel, (name, words) in zip(panels, SHOWN.items(), strict=True):
        ours = found[name, US]
        bar = {box: ours[BOXES[0]] + ALLOWED + OF_ZEROS * (zeros[box] - zeros[BOXES[0]]) for box in BOXES[1:]}
        panel.plot(list(bar), list(bar.values()), color="black", ls=":", lw=1.2, label="figure set")
        for peer, style in styles.items():
            curve = zeros if peer == "memset" else found.get((name, peer), {})
            label = "setting the grid to zero" if peer == "memset" else peer
            panel.plot(list(curve), list(curve.values()), label=label, lw=1.8, ms=5, **style)
        panel.set(title=words, xlabel="box, Å", xscale="log", yscale="log")
        panel.set_xticks(BOXES, [str(box) for box in BOXES])
        panel.minorticks_off()
        panel.grid(True, which="major", color="#d9dee3", lw=0.7)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("time of an atom, ns")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--budget", type=float, default=0.3, help="seconds for each package, pass and round")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("~/.cache/gridgrad-peers").expanduser())
    parser.add_argument("--picture", type=pathlib.Path, default=ROOT / "docs" / "_static" / "boxes.png")
    options = parser.parse_args()
    how = conditions(1, options.rounds, "ns per atom")
    processes, missing = start(NAMES, options.cache, 1)
    for name, reason in missing.items():
        print(f"{name}: not measured: {reason}", flush=True)
    try:
        tasks = [(crowded(box), name) for box in BOXES for name in SHOWN]
        times, _ = run_rounds(processes, tasks, options.rounds, options.budget, "boxes")
    finally:
        for process in processes.values():
            process.close()
    found = nanoseconds(times)
    print(f"\n{table(found)}\n\n{how}")
    if "memset" in processes and US in processes:
        picture(found, options.picture)
        print(f"picture: {options.picture}")


if __name__ == "__main__":
    main()
