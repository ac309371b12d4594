"""Compare gridgrad's loader with libmolgrid's ExampleProvider, side by side, on the same files.

Batches of 64 complexes, or of 64 ligands, shuffled, as many positive as negative examples, rotated, moved by up to 2 Å:
CDK2 and EGFR ligands in the pockets of four receptors of 1502 to 20 912 atoms, box of 23.5 Å, 0.5 Å. Caches are warm.
libmolgrid works in an environment of its own, made on demand as for compare_peers.py. The packages take turns within
each round; what is printed are medians over rounds, of rates and of the ratios within a round.

First the grids of twelve complexes are compared, which both read from the same .molcache2 and from the same .gninatypes
files: they must agree to 1e-5 of the largest value; the exit status tells.

    python tools/compare_loaders.py                        prints the table, draws docs/_static/loaders.png
    python tools/compare_loaders.py --million              also a store of a million molecules: opened, walked through
"""

import argparse
import importlib
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from compare_peers import Process, conditions, environment
from loaders import BATCH, LOADERS

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIMIT = 1e-5
US, THEM = "gridgrad", "libmolgrid"
ROWS = {  # what is in the table: words, and the pass of each package
    "complexes, as libmolgrid hands them out": ("pointers", "complexes"),
    "complexes: rotated, moved, merged tensors": ("tensors", "complexes"),
    "complexes: on the grid": ("grids", "complexes"),
    "ligands: rotated, moved, merged tensors": ("tensors", "ligands"),
    "ligands: on the grid": ("grids", "ligands"),
}
OURS = {  # what only gridgrad is asked for, by name
    "one worker": ("workers", "complexes", 1),
    "two workers": ("workers", "complexes", 2),
    "one worker, ligands": ("workers", "ligands", 1),
    "two workers, ligands": ("workers", "ligands", 2),
    "zero": ("zeros", "ligands"),
    "new zeros": ("new_zeros", "ligands"),
    "new grids": ("layer", "ligands"),
}


def start(cache, threads):
    """Return the processes; libmolgrid's may be missing, and why."""
    processes, reason = {}, None
    for name in LOADERS:
        try:
            python = environment(THEM, cache) if name == THEM else sys.executable
            processes[name] = Process(name, python, threads, "loaders.py")
            reason = processes[name].reason
        except (RuntimeError, subprocess.CalledProcessError) as error:
            reason = str(error)
        if reason:
            processes.pop(name, None)
            print(f"{name}: not measured: {reason}", flush=True)
    return processes


def compare_grids(processes, folder):
    """Print the largest difference of the grids by source; return whether all are within the limit."""
    import torch

    good = True
    for source in (".molcache2", ".gninatypes"):
        grids = {}
        for name in (THEM, US):
            file = str(folder / "grids.pt")
            reply = processes[name].ask(folder=str(folder), **{"pass": "checked"}, arguments=[source], file=file)
            if "reason" in reply:
                print(f"{name}, {source}: {reply['reason']}")
                return False
            grids[name] = torch.load(file, weights_only=True)
        error = float((grids[US] - grids[THEM]).abs().max() / grids[THEM].abs().max())
        good &= error <= LIMIT
        print(
            f"grids of {len(grids[US])} complexes from {source}: largest difference {error:.1e}, relative", flush=True
        )
    return good


def run_rounds(processes, folder, rounds, budget, clock):
    """Return the seconds of a batch by round, by (pass and arguments, package)."""
    times = {}
    for number in range(rounds):
        names = list(processes)
        names = names[number % len(names) :] + names[: number % len(names)]
        tasks = [(what, name) for what in ROWS.values() for name in names] + [(what, US) for what in OURS.values()]
        for what, name in tasks:
            time.sleep(0.005)  # the threads of the package before stop spinning
            question = {"pass": what[0], "arguments": what[1:], "budget": budget}
            question["clock"] = "perf_counter" if what[0] == "workers" else clock
            reply = processes[name].ask(folder=str(folder), **question)
            if "seconds" in reply:
                times.setdefault((what, name), {})[number] = reply["seconds"]
            elif reply["reason"] != "not offered":
                print(f"{name}, {what}: {reply['reason']}")
        print(f"round {number + 1} of {rounds} done", flush=True)
    return times


def rate(samples):
    """Return the median rate of a package in examples a second."""
    return BATCH / statistics.median(samples.values())


def table(times, names):
    """Return a Markdown table: examples a second, in brackets the median of the ratio to libmolgrid within a round."""
    lines = ["| examples a second | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for words, what in ROWS.items():
        cells = []
        for name in names:
            samples, theirs = times.get((what, name)), times.get((what, THEM), {})
            if samples is None:
                cells.append("–")
                continue
            cell = f"{rate(samples):,.0f}".replace(",", " ")
            if name != THEM and theirs:
                cell += f" ({ratio(theirs, samples):.1f}×)"
            cells.append(cell)
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(slow, fast):
    """Return the median over rounds of the time of one over that of the other."""
    return statistics.median(slow[n] / fast[n] for n in slow.keys() & fast.keys())


def notes(times, kept, data):
    """Return lines that say what the table does not."""

    def against(what, floor):
        return f"{ratio(times[what, US], times[OURS[floor], US]):.2f}"

    def workers(kind):
        return f"{ratio(*(times[('workers', kind, n), US] for n in (1, 2))):.2f}"

    receptors = ", ".join(f"{n:,}".replace(",", " ") for n in sorted(data["receptor_atoms"]))
    grids = "ligands on the grid, with the loader"
    floors = against(("grids", "ligands"), "zero"), against(OURS["new grids"], "new zeros")
    return [
        f"- atoms of a complex that are kept: {kept:.0f} of {receptors}, and {data['ligand_atoms']:.0f} of the ligand",
        f"- two workers against one: {workers('complexes')} times (complexes), {workers('ligands')} times (ligands)",
        f"- {grids}: {floors[0]} times the time of setting them to zero; new ones {floors[1]} times that of new zeros",
    ]


def million(folder):
    """Write a store of a million molecules; return lines about opening it and walking through it."""
    from gridgrad.data import AtomStore, BalancedSampler, ComplexDataset, DataLoader, RandomRigid, write_store
    from gridgrad.mol import TypedAtoms

    n_molecules, rng = 1_000_000, np.random.default_rng(7)
    channels = tuple(f"channel {i}" for i in range(14))

    def molecules():
        for number in range(n_molecules):
            n = 20 + number % 30
            yield (
                f"molecule {number}",
                TypedAtoms(
                    rng.standard_normal((n, 3), np.float32) * 4, rng.integers(0, 14, n), np.full(n, 1.7), channels
                ),
            )

    write_store(folder / "million", molecules())
    importlib.import_module("pyarrow.ipc")  # its import is no part of the figure

    opened = []
    for _ in range(5):
        start = time.perf_counter()
        store = AtomStore(folder / "million")
        opened.append(time.perf_counter() - start)
    dataset = ComplexDataset({"ligand": store}, transform=RandomRigid(2.0))
    sampler = BalancedSampler(np.arange(n_molecules) % 2, seed=7)
    loader = DataLoader(dataset, batch_size=1024, sampler=sampler)
    own, start, seen = [], time.perf_counter(), 0
    for number, batch in enumerate(loader):
        seen += len(batch)
        if number % 100 == 99:
            own.append(memory())
    seconds = time.perf_counter() - start
    ms = 1e3 * statistics.median(opened)
    walk = f"{seen:,} molecules in random order, {seen / seconds:,.0f} a second"
    own = f"{own[0]:.0f} MiB after 100 batches of 1024, at most {max(own):.0f} MiB, {own[-1]:.0f} MiB at the end"
    return [
        f"- a store of {n_molecules:,} molecules, {store.n_atoms:,} atoms, opens in {ms:.0f} ms",
        f"- {walk}; memory of the process: {own}",
    ]


def memory():
    """Return the memory in MiB that is this process's own: without pages of files, which the system may take back."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


def picture(times, names, unit, path):
    """Draw the rates of the table, one group of bars for each row."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colors = dict(zip(LOADERS, ("#2a6fbb", "#c8501e", "#e0a080")))
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    height = 0.8 / len(names)
    for place, name in enumerate(names):
        rates = {row: rate(times[what, name]) for row, what in enumerate(ROWS.values()) if (what, name) in times}
        places = [row + height * place for row in rates]
        bars = axes.barh(places, list(rates.values()), height * 0.92, color=colors[name], label=name)
        axes.bar_label(bars, [f"{value:,.0f}".replace(",", " ") for value in rates.values()], padding=3, fontsize=8)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(ROWS))], ROWS, fontsize=9)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 2.5)
    axes.set_xlabel(f"examples {unit}, one core")
    axes.grid(True, axis="x", which="major", color="#d9dee3", lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each package, pass and round")
    parser.add_argument("--processor-time", action="store_true", help="leave out what other processes took")
    parser.add_argument("--million", action="store_true", help="a store of a million molecules as well")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("~/.cache/gridgrad-peers").expanduser())
    parser.add_argument("--picture", type=pathlib.Path, default=ROOT / "docs" / "_static" / "loaders.png")
    parser.add_argument("--no-picture", action="store_true")
    options = parser.parse_args()
    from loader_data import write

    how = conditions(options.threads, options.rounds).partition(", milliseconds")[0]
    clock, load = ("process_time" if options.processor_time else "perf_counter"), os.getloadavg()[0]
    processes = start(options.cache, options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        data = write(folder)
        try:
            good = THEM not in processes or compare_grids(processes, folder)
            times = run_rounds(processes, folder, options.rounds, options.budget, clock)
            kept = processes[US].ask(folder=name, **{"pass": "kept"}, arguments=["complexes"])["value"]
        finally:
            for process in processes.values():
                process.close()
        lines = notes(times, kept, data) + (million(folder) if options.million else [])
    print(f"\n{table(times, list(processes))}\n\n" + "\n".join(lines))
    unit = "a second of processor time" if options.processor_time else "a second"
    print(f"\n{how}; {unit}; in brackets how many times as many as libmolgrid. Load before the run: {load:.2f}.")
    if not options.no_picture:
        picture(times, list(processes), unit, options.picture)
        print(f"picture: {options.picture}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
