"""Compare gridgrad on the CPU with libmolgrid, molvoxel, PyUUL and dense torch, side by side.

Each package works in a process and a virtual environment of its own. The environments are created on demand under
``--cache``, with torch pinned and installed first; pip's own settings (``PIP_INDEX_URL`` and others) apply. gridgrad
and dense torch use the interpreter that runs this file. One package works at a time, and the packages take turns within
each round, so that a machine which slows down does so for all; what is printed are medians over rounds, of times and of
the ratios within a round.

    python tools/compare_peers.py                           prints the table, draws docs/_static/peers.png
    python tools/compare_peers.py --rounds 1 --no-picture   a quick look
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

from peers import PEERS, Workload

ROOT = pathlib.Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"
REQUIREMENTS = {  # what pip installs, call by call
    "libmolgrid": [[TORCH], ["numpy<2", "molgrid==0.5.5"]],
    "molvoxel": [[TORCH], ["molvoxel==0.2.0", "numba"]],
    "PyUUL": [[TORCH], ["numpy", "scipy", "pyuul==0.4.2"]],
    "dockstring": [["--no-deps", "dockstring==0.3.4", "openbabel-wheel==3.1.1.23"]],
}
WORKLOADS = {
    "ligand (40 atoms, 14 channels, 48³)": Workload(40, 14),
    "complex (400 atoms, 28 channels, 48³)": Workload(400, 28),
    "fine (2000 atoms, 14 channels, 97³)": Workload(2000, 14, 97, 1.0 / 3.0),
}
PASSES = {
    "density": "density",
    "backward_coords": "backward to coordinates",
    "backward_coords_types": "backward to coordinates and types",
    "double_backward": "double backward",
}
PICTURE_PASSES = ("density", "backward_coords_types", "double_backward")
PICTURE_ATOMS = (10, 100, 1000, 10_000, 100_000)
LONG = 2.0  # seconds; what takes longer is measured in the first round only
LIMIT = 1.0  # seconds; after a call this long the picture does not go on to more atoms
US = "gridgrad"


def environment(name, cache):
    """Return the interpreter of a package's environment, created if it is not there.

    Raises
    ------
    RuntimeError
        If pip cannot install the package; the message is pip's.
    """
    if name not in REQUIREMENTS:
        return sys.executable
    folder = cache / name.lower()
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        print(f"creating {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in REQUIREMENTS[name]:
            install = subprocess.run(
                [str(python), "-m", "pip", "install", "--quiet", *packages], check=False, capture_output=True, text=True
            )
            if install.returncode:
                errors = [line for line in install.stderr.splitlines() if line.startswith("ERROR")]
                raise RuntimeError(f"pip install {' '.join(packages)}: {' '.join(errors)[:300]}")
        done.touch()
    return str(python)


class Process:
    """A package in its process, which runs ``peers.py`` or another file that serves in the same way."""

    def __init__(self, name, python, threads, script="peers.py"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        self.popen = subprocess.Popen(
            [python, str(pathlib.Path(__file__).with_name(script)), name, str(threads)],
            env=os.environ | dict.fromkeys(names, str(threads)),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.reason = self._read().get("reason")

    def _read(self):
        line = self.popen.stdout.readline()
        return json.loads(line) if line else {"reason": f"its process ended with status {self.popen.wait()}"}

    def ask(self, **question):
        if self.popen.poll() is not None:
            return {"reason": f"its process ended with status {self.popen.returncode}"}
        self.popen.stdin.write(json.dumps(question) + "\n")
        self.popen.stdin.flush()
        return self._read()

    def close(self):
        self.popen.stdin.close()
        self.popen.wait()


def start(names, cache, threads):
    """Return the processes that run and, for the others, why not."""
    processes, missing = {}, {}
    for name in names:
        try:
            process = Process(name, environment(name, cache), threads)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            missing[name] = str(error)
            continue
        if process.reason:
            missing[name] = process.reason
        else:
            processes[name] = process
    return processes, missing


def run_rounds(processes, tasks, rounds, budget, label="table", skip=frozenset()):
    """Let the packages take turns; ``skip`` holds the (pass, package) that are left out.

    Returns
    -------
    times : dict
        Seconds by round, by (workload, pass) and package.
    reasons : dict
        Why a package has no time, by the same keys.
    """
    times, reasons, long = {}, {}, set()
    for number in range(rounds):
        names = list(processes)
        names = names[number % len(names) :] + names[: number % len(names)]
        for workload, name in tasks:
            for peer in names:
                key = (workload, name, peer)
                if key in reasons or key in long or key[1:] in skip:
                    continue
                time.sleep(0.005)  # the threads of the package before stop spinning
                question = {"workload": dataclasses.asdict(workload), "pass": name, "budget": budget}
                reply = processes[peer].ask(**question)
                if "reason" in reply:
                    reasons[key] = reply["reason"]
                    continue
                times.setdefault(key, {})[number] = reply["seconds"]
                if reply["seconds"] > LONG:
                    long.add(key)
        print(f"{label}: round {number + 1} of {rounds} done", flush=True)
    return times, reasons


def run_sizes(processes, channels, rounds, budget):
    """Return the seconds by (pass, package) and number of atoms; a package stops after a call longer than ``LIMIT``."""
    curves, stopped = {}, set()
    for atoms in PICTURE_ATOMS:
        tasks = [(Workload(atoms, channels), name) for name in PICTURE_PASSES]
        times, reasons = run_rounds(processes, tasks, rounds, budget, f"{atoms} atoms", stopped)
        for (_, name, peer), samples in times.items():
            curves.setdefault((name, peer), {})[atoms] = statistics.median(samples.values())
            if curves[name, peer][atoms] > LIMIT:
                stopped.add((name, peer))
        stopped |= {(name, peer) for _, name, peer in reasons}
    return curves


def table(times, reasons, names, missing):
    """Return a Markdown table: milliseconds, and in brackets the median over rounds of the time over gridgrad's."""
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    notes = {f"{peer}: not measured: {reason}" for peer, reason in missing.items()}
    for title, workload in WORKLOADS.items():
        lines.append(f"| **{title}** |" + " |" * len(names))
        for name, words in PASSES.items():
            ours = times.get((workload, name, US), {})
            cells = []
            for peer in names:
                samples = times.get((workload, name, peer))
                if samples is None:
                    reason = reasons.get((workload, name, peer))
                    if reason and reason != "not offered":
                        notes.add(f"{peer}, {title}: {reason}")
                    cells.append("–")
                    continue
                cell = f"{1e3 * statistics.median(samples.values()):.3g}"
                if peer != US and samples.keys() & ours.keys():
                    ratio = statistics.median(samples[n] / ours[n] for n in samples.keys() & ours.keys())
                    cell += f" ({ratio:.2g}×)" if ratio < 100 else f" ({ratio:.0f}×)"
                cells.append(cell)
            lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in sorted(notes))])


def picture(curves, names, path):
    """Draw time against the number of atoms, both on logarithmic axes, one panel for each pass."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colors = dict(zip(PEERS, ("#c8501e", "#2a6fbb", "#2e8b57", "#8a5fbf", "#7a6a4f", "#8a939c")))
    markers = dict(zip(PEERS, "osD^v"))
    figure, panels = plt.subplots(1, len(PICTURE_PASSES), figsize=(12, 4.2), sharey=True, layout="constrained")
    for panel, name in zip(panels, PICTURE_PASSES):
        for peer in names:
            curve = curves.get((name, peer))
            if curve:
                style = {"ls": "--", "lw": 1.2} if peer == "memset" else {"marker": markers[peer], "ms": 5, "lw": 1.8}
                panel.loglog(
                    list(curve), [1e3 * time for time in curve.values()], color=colors[peer], label=peer, **style
                )
        panel.set_title(PASSES[name], fontsize=11)
        panel.set_xlabel("atoms")
        panel.grid(True, which="major", color="#d9dee3", lw=0.7)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("time, ms")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def conditions(threads, rounds, cells="milliseconds; in brackets how many times as long as gridgrad"):
    """Return one line that says when, where and how the table came about, and what its cells are."""
    with open("/proc/cpuinfo") as info:
        cpu = next(
            (line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), platform.machine()
        )
    return (
        f"{datetime.date.today()}, {cpu}, {threads} thread{'s' * (threads > 1)}, float32, median of {rounds} rounds, "
        f"{cells}. Load of the machine before the run: {os.getloadavg()[0]:.2f}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--budget", type=float, default=0.1, help="seconds for each package, pass and round")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("~/.cache/gridgrad-peers").expanduser())
    parser.add_argument("--picture", type=pathlib.Path, default=ROOT / "docs" / "_static" / "peers.png")
    parser.add_argument("--no-picture", action="store_true")
    options = parser.parse_args()
    asked = options.peers.split(",")
    unknown = sorted(set(asked) - PEERS.keys())
    if unknown:
        parser.error(f"--peers: {', '.join(unknown)} unknown; known are {', '.join(PEERS)}")
    how = conditions(options.threads, options.rounds)
    processes, missing = start(asked, options.cache, options.threads)
    for name, reason in missing.items():
        print(f"{name}: not measured: {reason}", flush=True)
    try:
        tasks = [(workload, name) for workload in WORKLOADS.values() for name in PASSES]
        times, reasons = run_rounds(processes, tasks, options.rounds, options.budget)
        print(f"\n{table(times, reasons, list(processes), missing)}\n\n{how}", flush=True)
        if not options.no_picture:
            picture(run_sizes(processes, 14, 3, options.budget), list(processes), options.picture)
            print(f"picture: {options.picture}")
    finally:
        for process in processes.values():
            process.close()


if __name__ == "__main__":
    main()
