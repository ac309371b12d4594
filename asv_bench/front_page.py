"""The dashboard's front page: the GPU against the CPU, and each against its own past.

The page is one HTML file without scripts, drawn from the results that asv keeps as JSON.
"""

import dataclasses
import datetime
import html
import itertools
import math

from asv.machine import iter_machine_files
from asv.results import iter_results
from asv.util import load_json

BENCHMARK = "orders.Orders.time_order"
PREDICTED = "cuda_text.Predicted.track_predicted_time"
DEVICES = {"cpu": "CPU", "cuda": "GPU"}


@dataclasses.dataclass(frozen=True)
class Run:
    """Times in seconds of one commit on one machine, by (pass, workload, dtype, device); predicted, by (case, device)."""

    machine: str
    commit: str
    date: int
    times: dict


def load_runs(results_dir, benchmark=BENCHMARK):
    """Return the runs that hold any time, oldest commit first; what asv skipped or failed is left out."""
    runs = {}
    for result in iter_results(str(results_dir)):
        if benchmark not in result.get_all_result_keys():
            continue
        params = result.get_result_params(benchmark)
        values = result.get_result_value(benchmark, params)
        times = {
            tuple(name.strip("'") for name in names): value
            for names, value in zip(itertools.product(*params), values, strict=True)
            if value is not None and not math.isnan(value)
        }
        key = result.params["machine"], result.commit_hash
        if times:
            known = runs[key].times if key in runs else {}
            runs[key] = Run(*key, result.date, known | times)
    return sorted(runs.values(), key=lambda run: (run.date, run.commit))


def ratios(run):
    """Return GPU time over CPU time by (pass, workload, dtype)."""
    return {
        key[:3]: time / run.times[(*key[:3], "cpu")]
        for key, time in run.times.items()
        if key[3] == "cuda" and (*key[:3], "cpu") in run.times
    }


def readable(seconds):
    """Return a time with three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _unique(values):
    return list(dict.fromkeys(values))


def _words(name):
    return html.escape(name.replace("_", " "))


def ratio_chart(values):
    """Draw GPU time over CPU time as points on a logarithmic axis, one row for each pass and workload."""
    rows = _unique(key[:2] for key in values)
    low = min(math.floor(math.log10(min(values.values()))), -1)
    high = max(math.ceil(math.log10(max(values.values()))), 1)
    left, width, top, step = 300, 560, 34, 22

    def x(ratio):
        return left + width * (math.log10(ratio) - low) / (high - low)

    bottom = top + step * len(rows)
    parts = [f'<svg class="ratio" viewBox="0 0 {left + width + 30} {bottom + 30}" role="img">']
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(
            f'<line class="{"one" if power == 0 else "grid"}" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 8}" y2="{bottom}"/>'
        )
        parts.append(f'<text class="tick" x="{at:.1f}" y="{bottom + 18}">{10.0**power:g}</text>')
    parts.append(f'<text class="side" x="{x(1) - 8:.1f}" y="14" text-anchor="end">GPU faster</text>')
    parts.append(f'<text class="side" x="{x(1) + 8:.1f}" y="14">CPU faster</text>')
    for number, row in enumerate(rows):
        y = top + step * (number + 0.5)
        parts.append(f'<text class="label" x="{left - 12}" y="{y + 4:.1f}">{_words(row[0])}, {_words(row[1])}</text>')
        for dtype, css in (("float64", "hollow"), ("float32", "gpu")):
            ratio = values.get((*row, dtype))
            if ratio is not None:
                title = f"{row[0]}, {row[1]}, {dtype}: {ratio:.3g}"
                parts.append(
                    f'<circle class="{css}" cx="{x(ratio):.1f}" cy="{y:.1f}" r="5"><title>{title}</title></circle>'
                )
    return "".join([*parts, "</svg>"])


def history_chart(series, title):
    """Draw, for each device, time over its own first time against the commit, on a logarithmic axis."""
    width, height, margin = 190, 72, 8
    curves = {
        device: [(number, math.log(time / points[0][1])) for number, time in points]
        for device, points in series.items()
    }
    reach = max(math.log(1.5), *(abs(change) for curve in curves.values() for _, change in curve))
    last = max(number for curve in curves.values() for number, _ in curve)

    def place(number, change):
        x = margin + (width - 2 * margin) * (number / last if last else 0.5)
        return x, height / 2 - (height / 2 - margin) * change / reach

    parts = [f'<svg class="past" viewBox="0 0 {width} {height}" role="img"><title>{html.escape(title)}</title>']
    parts.append(f'<rect class="frame" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}"/>')
    parts.append(f'<line class="grid" x1="1" x2="{width - 1}" y1="{height / 2}" y2="{height / 2}"/>')
    for device, curve in curves.items():
        css = "gpu" if device == "cuda" else "cpu"
        placed = [place(*point) for point in curve]
        if len(placed) > 1:
            parts.append(f'<polyline class="{css}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>')
        for (x, y), (_, time) in zip(placed, series[device]):
            parts.append(
                f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{readable(time)}</title></circle>'
            )
    return "".join([*parts, "</svg>"])


def _now(device, points):
    change = "" if len(points) == 1 else f", {points[-1][1] / points[0][1]:.2f} × the first"
    return f"<small>{DEVICES[device]} {readable(points[-1][1])}{change}</small>"


def _history(runs):
    keys = _unique(key[:2] for run in runs for key in run.times if key[2] == "float32")
    workloads = _unique(key[1] for key in keys)
    rows = []
    for name in _unique(key[0] for key in keys):
        cells = []
        for workload in workloads:
            series = {}
            for device in DEVICES:
                key = (name, workload, "float32", device)
                points = [(number, run.times[key]) for number, run in enumerate(runs) if key in run.times]
                if points:
                    series[device] = points
            drawn = history_chart(series, f"{name}, {workload}") if series else ""
            cells.append(f"<td>{drawn}{''.join(_now(*item) for item in series.items())}</td>")
        rows.append(f"<tr><th>{_words(name)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th>{_words(workload)}</th>" for workload in workloads)
    return f'<table class="past"><tr><th></th>{head}</tr>{"".join(rows)}</table>'


def _no_gpu(by_machine):
    """Return a box that says so, or nothing once any machine has measured a GPU."""
    if not by_machine or any(ratios(run) for runs in by_machine.values() for run in runs):
        return ""
    return (
        '<p class="none">No GPU results yet. Only CPUs were measured: the benchmarks skip the device <code>cuda</code> where '
        "none can be used. Run <code>python asv_bench/dashboard.py</code> on a machine with an NVIDIA GPU, and the ratios "
        "appear here.</p>"
    )


def _predictions(results_dir):
    """Return the newest predicted times as a table, or nothing; once a GPU was measured, nobody asks for them."""
    runs = load_runs(results_dir, PREDICTED)
    if not runs or any(map(ratios, load_runs(results_dir))):
        return ""
    newest = runs[-1]
    devices = _unique(device for _, device in newest.times)
    head = "".join(f"<th>{html.escape(device)}</th>" for device in devices)
    rows = []
    for case in _unique(case for case, _ in newest.times):
        times = (newest.times.get((case, device)) for device in devices)
        cells = "".join(f"<td>{'–' if time is None else readable(time)}</td>" for time in times)
        rows.append(f"<tr><th>{_words(case)}</th>{cells}</tr>")
    return (
        '<section class="predicted"><h2>Predictions</h2><p class="none"><b>Predicted, not measured.</b> No GPU was at hand. '
        f"Commit {newest.commit[:8]}: float32, 64 complexes of 400 atoms, 28 channels, 48 points along each axis; from the "
        "compiled instructions, how often the loops run, the bytes, and the devices' data sheets (tools/gpu_prediction.py)."
        f'</p><table class="predicted"><tr><th></th>{head}</tr>{"".join(rows)}</table></section>'
    )


def _section(machine, runs, facts):
    newest = runs[-1]
    measured = next((run for run in reversed(runs) if ratios(run)), None)
    day = datetime.datetime.fromtimestamp(newest.date / 1000, datetime.UTC).date()
    parts = [f"<section><h2>{html.escape(machine)}</h2><p>"]
    known = [facts[name] for name in ("cpu", "os", "arch") if facts.get(name)]
    known += [f"{facts['num_cpu']} cores"] if facts.get("num_cpu") else []
    parts.append(html.escape(", ".join([*known, f"newest commit {newest.commit[:8]} of {day}"])) + "</p>")
    if measured is not None:
        parts.append(
            f"<h3>GPU time over CPU time</h3><p>Commit {measured.commit[:8]}. Left of the line at 1 the GPU is faster. "
            '<span class="key gpu">●</span> float32 <span class="key gpu">○</span> float64</p>'
        )
        parts.append(ratio_chart(ratios(measured)))
    commits = "one commit so far" if len(runs) == 1 else f"{len(runs)} commits, oldest left"
    parts.append(
        f"<h3>Each against its own past</h3><p>float32, time over that of the oldest commit, {commits}; below the line "
        'is faster. <span class="key cpu">●</span> CPU <span class="key gpu">●</span> GPU</p>'
    )
    return "".join([*parts, _history(runs), "</section>"])


STYLE = """
:root { --ink: #1b1f24; --soft: #5b6570; --line: #d9dee3; --paper: #fff; --panel: #f6f8fa; --cpu: #2a6fbb; --gpu: #c8501e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa5b1; --line: #39424c; --paper: #14181c; --panel: #1c2228; --cpu: #6aa9ea; --gpu: #f0885a; }
}
body { margin: 0 auto; max-width: 1240px; padding: 24px; color: var(--ink); background: var(--paper);
  font: 15px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
nav a { margin-right: 18px; color: var(--cpu); }
h1 { margin: 12px 0 4px; font-size: 26px; } h2 { margin: 32px 0 0; font-size: 20px; } h3 { margin: 20px 0 4px; font-size: 16px; }
p { margin: 4px 0; color: var(--soft); } small { color: var(--soft); display: block; font-size: 12px; }
.none { padding: 14px 18px; margin: 8px 0; border-left: 4px solid var(--gpu); background: var(--panel); color: var(--ink); }
.key.cpu { color: var(--cpu); } .key.gpu { color: var(--gpu); }
table.past { border-collapse: collapse; width: 100%; table-layout: fixed; } table.past th { font-weight: 600; text-align: left; }
table.past th:first-child { width: 150px; } table.past th, table.past td { padding: 4px 6px; vertical-align: top; }
table.predicted { border-collapse: collapse; } table.predicted th, table.predicted td { padding: 3px 14px 3px 0; text-align: left; }
svg { display: block; width: 100%; } svg.ratio { max-width: 900px; } svg.past { max-width: 240px; }
svg text { fill: var(--soft); font-size: 13px; } svg .tick { text-anchor: middle; } svg .label { text-anchor: end; fill: var(--ink); }
svg .grid { stroke: var(--line); } svg .one { stroke: var(--ink); stroke-width: 1.5; } svg .frame { fill: var(--panel); stroke: var(--line); }
circle.cpu { fill: var(--cpu); } circle.gpu { fill: var(--gpu); } circle.hollow { fill: var(--paper); stroke: var(--gpu); stroke-width: 2; }
polyline { fill: none; stroke-width: 2; } polyline.cpu { stroke: var(--cpu); } polyline.gpu { stroke: var(--gpu); }
"""


def front_page(results_dir, asv_page="asv.html"):
    """Return the page as HTML text; machines with GPU results come first, then those with most commits."""
    facts = {load_json(path)["machine"]: load_json(path) for path in iter_machine_files(str(results_dir))}
    by_machine = {}
    for run in load_runs(results_dir):
        by_machine.setdefault(run.machine, []).append(run)
    order = sorted(
        by_machine,
        key=lambda machine: (not any(map(ratios, by_machine[machine])), -len(by_machine[machine]), machine),
    )
    sections = [_section(machine, by_machine[machine], facts.get(machine, {})) for machine in order]
    empty = '<p class="none">No results yet. <code>python asv_bench/dashboard.py</code> measures them.</p>'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>gridgrad: GPU against CPU</title><style>{STYLE}</style></head><body>
<nav><b>GPU against CPU</b> &nbsp; <a href="{asv_page}#/">All benchmarks</a><a href="{asv_page}#/summarylist">List</a>
<a href="{asv_page}#/regressions">Regressions</a></nav>
<h1>gridgrad: GPU against CPU</h1>
<p>Density grids and their derivatives: one small ligand, one complex, a fine grid, a padded and a ragged batch.</p>
{_no_gpu(by_machine)}
{_predictions(results_dir)}
{"".join(sections) or empty}</body></html>
"""
