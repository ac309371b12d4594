"""The dashboard: its front page, its independence of the network, and what a browser draws."""

import functools
import http.server
import itertools
import math
import pathlib
import re
import sys
import threading
import types
import urllib.request

import pytest
from support.browser import browse

pytest.importorskip("asv", reason="asv is not installed")

ROOT = pathlib.Path(__file__).resolve().parents[1]
if not (ROOT / "asv_bench" / "dashboard.py").exists():
    pytest.skip("no benchmarks beside the tests", allow_module_level=True)
sys.path.append(str(ROOT / "asv_bench"))

import dashboard
import front_page
import vendor

PASSES, WORKLOADS = ("density", "double_backward"), ("ligand", "complex")
DTYPES, DEVICES = ("float32", "float64"), ("cpu", "cuda")
needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")


def save_run(folder, machine, commit, date, gpu_over_cpu):
    """Save invented times as asv does; ``gpu_over_cpu`` None stands for benchmarks that were skipped."""
    from asv.machine import Machine
    from asv.results import Results

    known = Machine()
    known.__dict__.update(machine=machine, cpu="Some CPU", num_cpu="2", os="Linux 6", arch="x86_64", ram="8")
    known.save(str(folder))
    values = []
    for name, workload, dtype, device in itertools.product(PASSES, WORKLOADS, DTYPES, DEVICES):
        time = 1e-3 * (1 + PASSES.index(name)) * (1 + WORKLOADS.index(workload)) * (1 + DTYPES.index(dtype))
        values.append(time if device == "cpu" else math.nan if gpu_over_cpu is None else time * gpu_over_cpu)
    params = [[repr(value) for value in values] for values in (PASSES, WORKLOADS, DTYPES, DEVICES)]
    benchmark = {"name": front_page.BENCHMARK, "version": "1", "params": params}
    empty = [None] * len(values)
    result = types.SimpleNamespace(result=values, samples=empty, number=empty, stderr="", errcode=0, profile=None)
    results = Results(dict(known.__dict__), {}, commit, date, "3.12", "existing", {})
    results.add_result(benchmark, result)
    results.save(str(folder))


def save_predictions(folder, commit, date):
    """Save invented predictions as asv does."""
    from asv.results import Results

    params = [[repr("density"), repr("density_backward, coords")], [repr("H100 SXM"), repr("H200")]]
    benchmark = {"name": front_page.PREDICTED, "version": "1", "params": params}
    result = types.SimpleNamespace(
        result=[4e-4, 3e-4, 2e-5, math.nan], samples=[None] * 4, number=[None] * 4, stderr="", errcode=0, profile=None
    )
    results = Results({"machine": "one"}, {}, commit, date, "3.12", "existing", {})
    results.add_result(benchmark, result)
    results.save(str(folder))


def test_predictions_are_shown_and_marked_until_a_gpu_was_measured(tmp_path):
    save_run(tmp_path, "one", "a" * 40, 1_000_000, None)
    assert "<h2>Predictions" not in front_page.front_page(tmp_path)
    save_predictions(tmp_path, "b" * 40, 2_000_000)
    page = front_page.front_page(tmp_path)
    assert "Predicted, not measured." in page and "bbbbbbbb" in page
    assert "<th>density</th><td>400 µs</td><td>300 µs</td>" in page
    assert "<th>density backward, coords</th><td>20 µs</td><td>–</td>" in page
    save_run(tmp_path, "gpu", "c" * 40, 3_000_000, 0.25)
    assert "<h2>Predictions" not in front_page.front_page(tmp_path)


def test_runs_come_in_order_of_commits(tmp_path):
    save_run(tmp_path, "one", "b" * 40, 2_000_000, None)
    save_run(tmp_path, "one", "a" * 40, 1_000_000, None)
    runs = front_page.load_runs(tmp_path)
    assert [run.commit[0] for run in runs] == ["a", "b"]
    assert runs[0].times["double_backward", "complex", "float64", "cpu"] == pytest.approx(8e-3)
    assert not any(key[3] == "cuda" for run in runs for key in run.times)


def test_front_page_says_once_that_there_are_no_gpu_results(tmp_path):
    machines = "one", "two"
    for machine in machines:
        save_run(tmp_path, machine, "a" * 40, 1_000_000, None)
    page = front_page.front_page(tmp_path)
    assert page.count("No GPU results yet") == 1 and "GPU time over CPU time" not in page
    assert page.index("No GPU results yet") < page.index("<h2>one") < page.index("<h2>two")
    assert page.count('<svg class="past"') == len(machines) * len(PASSES) * len(WORKLOADS)


def test_front_page_without_any_result(tmp_path):
    page = front_page.front_page(tmp_path)
    assert "No results yet" in page and "<svg" not in page


def test_front_page_draws_gpu_over_cpu_first(tmp_path):
    save_run(tmp_path, "a-cpu", "a" * 40, 1_000_000, None)
    save_run(tmp_path, "b-gpu", "a" * 40, 1_000_000, 0.25)
    save_run(tmp_path, "b-gpu", "b" * 40, 2_000_000, 0.125)
    newest = front_page.load_runs(tmp_path)[-1]
    assert list(front_page.ratios(newest).values()) == pytest.approx([0.125] * 8)
    page = front_page.front_page(tmp_path)
    assert page.index("<h2>b-gpu") < page.index("<h2>a-cpu")
    assert "No GPU results yet" not in page and page.count("GPU time over CPU time") == 1
    drawn = page[page.index('class="ratio"') : page.index("</svg>")]
    assert drawn.count("<circle") == len(PASSES) * len(WORKLOADS) * len(DTYPES)
    assert drawn.count("0.125</title>") == drawn.count("<circle")
    assert page.count("<polyline") == 2 * len(PASSES) * len(WORKLOADS)


def test_front_page_draws_the_longest_history_first(tmp_path):
    save_run(tmp_path, "a", "a" * 40, 1_000_000, None)
    save_run(tmp_path, "b", "a" * 40, 1_000_000, None)
    save_run(tmp_path, "b", "b" * 40, 2_000_000, None)
    page = front_page.front_page(tmp_path)
    assert page.index("<h2>b") < page.index("<h2>a")
    assert "2 commits, oldest left" in page


def test_nothing_to_publish_is_said(tmp_path):
    with pytest.raises(SystemExit, match="nothing was ever measured"):
        dashboard.main(["--no-run", "--no-open", "--results", str(tmp_path), "--html", str(tmp_path / "html")])


def test_no_remote_reference_on_the_front_page(tmp_path):
    save_run(tmp_path, "one", "a" * 40, 1_000_000, 0.5)
    assert not re.search(r'(src|href)="(https?:)?//', front_page.front_page(tmp_path))


def test_page_is_rewritten_to_local_files(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in vendor.FILES:
        (cache / name).write_text(name)
    page = tmp_path / "page.html"
    page.write_text(
        '<script src="https://x.org/flot/0.8.3/jquery.flot.min.js" integrity="sha512-x" onerror="f()"></script>'
        '<link rel="stylesheet" href="//y.org/bootstrap.min.css" integrity="sha256-y"><script src="asv.js"></script>'
        '<a href="https://example.org/">a link</a>'
    )
    vendor.vendor_page(page, cache)
    text = page.read_text()
    assert '<script src="vendor/jquery.flot.js"' in text and 'href="vendor/bootstrap.css"' in text
    assert "integrity" not in text and '<script src="asv.js">' in text and 'href="https://example.org/"' in text
    assert (tmp_path / "vendor" / "jquery.flot.js").read_text() == "jquery.flot.js"


def test_unknown_library_is_refused(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in vendor.FILES:
        (cache / name).touch()
    page = tmp_path / "page.html"
    page.write_text('<script src="https://x.org/other-1.0.min.js"></script>')
    with pytest.raises(vendor.AssetError, match=r"other-1\.0"):
        vendor.vendor_page(page, cache)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Pages of one quick run of one benchmark, made by the dashboard command itself."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    pytest.importorskip("gridgrad")
    try:
        vendor.fetch_assets()
    except vendor.AssetError as error:
        pytest.skip(f"the libraries of asv's pages cannot be had: {error}")
    folder = tmp_path_factory.mktemp("dashboard")
    options = [
        "--quick",
        "--no-open",
        "--machine",
        "test",
        "--bench",
        r"time_order\('density', 'ligand', 'float32', 'cpu'",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        done = dashboard.main([*options, "--results", str(folder / "results"), "--html", str(folder / "html")])
    assert done == 0
    return folder / "html"


@pytest.fixture
def address(published):
    """Address of a server of the published pages."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(published))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = f"http://127.0.0.1:{server.server_port}"
        try:
            urllib.request.urlopen(there, timeout=30).close()
        except OSError as error:
            server.shutdown()
            pytest.skip(f"127.0.0.1 cannot be reached here: {error}")
        yield there
        server.shutdown()


def load(address, *options):
    """Return the DOM and what the browser logged."""
    done = browse(address, "--disable-gpu", "--virtual-time-budget=8000", "--window-size=1280,900", *options)
    return done.stdout, done.stderr


def test_published_pages_hold_no_remote_script(published):
    text = (published / "asv.html").read_text()
    assert not vendor.REMOTE_TAG.search(text)
    for name in re.findall(r'(?:src|href)="(vendor/[^"]+)"', text):
        assert (published / name).stat().st_size > 1000


def test_published_front_page_shows_the_run(published):
    text = (published / "index.html").read_text()
    assert "GPU against CPU" in text and "<h2>test</h2>" in text and text.count('<svg class="past"') == 1
    assert " cores, newest commit " in text
    assert '<a href="index.html">GPU against CPU</a>' in (published / "asv.html").read_text()


@pytest.mark.usefixtures("chromium")
def test_browser_draws_the_front_page(address):
    dom, _ = load(f"{address}/", "--dump-dom")
    assert "<svg" in dom and "<circle" in dom


@pytest.mark.usefixtures("chromium")
def test_browser_draws_a_graph_without_network(address, tmp_path):
    matplotlib_image = pytest.importorskip("matplotlib.image")
    graph = f"{address}/asv.html#{front_page.BENCHMARK}"
    dom, log = load(graph, "--dump-dom")
    assert "Uncaught" not in log
    assert "flot-base" in dom and "flot-tick-label" in dom
    picture = tmp_path / "graph.png"
    load(graph, f"--screenshot={picture}")
    pixels = matplotlib_image.imread(str(picture))[70:780, 240:1260, :3]
    coloured = pixels.max(-1) - pixels.min(-1) > 0.2
    assert coloured.sum() > 20, "nothing is drawn in the graph's area"
