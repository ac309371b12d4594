"""Run the benchmarks, publish them as pages that need no network, and open these.

python asv_bench/dashboard.py                 everything, in the interpreter that runs this file
python asv_bench/dashboard.py --no-run        only what asv_bench/results holds already
python asv_bench/dashboard.py --quick --bench 'time_order.*ligand' --results quick/results --html quick/html --no-open
"""

import argparse
import functools
import http.server
import json
import pathlib
import subprocess
import sys
import tempfile
import webbrowser

from asv.machine import Machine, MachineCollection
from asv.util import load_json
from front_page import front_page
from vendor import AssetError, vendor_page

HERE = pathlib.Path(__file__).resolve().parent
NAVIGATION = "</li>\n      </ul>"
LINK_BACK = '<ul class="nav navbar-nav"><li><a href="index.html">GPU against CPU</a></li></ul>'


def asv(config, *arguments):
    """Run an asv command; asv answers 2 where single benchmarks failed, which its own output shows."""
    return subprocess.run([sys.executable, "-m", "asv", "--config", str(config), *arguments], check=False).returncode


def write_config(folder, results, pages):
    """Write asv's configuration with other folders for results and pages; return its path."""
    config = load_json(str(HERE / "asv.conf.json"), js_comments=True)
    config.update(
        version=1,
        repo=str(HERE.parent),
        benchmark_dir=str(HERE / "benchmarks"),
        env_dir=str(HERE / "env"),
        results_dir=str(results.resolve()),
        html_dir=str(pages.resolve()),
    )
    path = pathlib.Path(folder) / "asv.conf.json"
    path.write_text(json.dumps(config))
    return path


def run(config, options):
    """Measure the checked-out commit; its results are kept."""
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=HERE, text=True).strip()
    if subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=HERE, check=False).returncode:
        print(f"dashboard: the working tree differs from {commit[:8]}, under which its times are kept", flush=True)
    arguments = ["run", "--python=same", "--set-commit-hash", commit]
    if options.machine or not pathlib.Path(MachineCollection.get_machine_file_path()).exists():
        facts = Machine.get_defaults()
        name = options.machine or facts["machine"]
        MachineCollection.save(name, facts | {"machine": name})
        arguments += ["--machine", name]
    arguments += ["--quick"] if options.quick else []
    for pattern in options.bench:
        arguments += ["--bench", pattern]
    return asv(config, *arguments)


def publish(config, results, pages):
    """Write the pages: our own first, asv's behind it as ``asv.html``."""
    if not (results / "benchmarks.json").exists():
        raise SystemExit(f"dashboard: nothing was ever measured in {results}; leave --no-run out")
    if asv(config, "publish", "--no-pull"):
        raise SystemExit("dashboard: asv publish failed")
    page = (pages / "index.html").rename(pages / "asv.html")
    page.write_text(page.read_text().replace(NAVIGATION, NAVIGATION + LINK_BACK, 1))
    feed = pages / "regressions.xml"
    if feed.exists():
        feed.write_text(feed.read_text().replace("index.html#", "asv.html#"))
    (pages / "index.html").write_text(front_page(results))
    vendor_page(page)


def serve(pages, port):
    """Serve the pages to this machine only, until interrupted."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(pages))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"dashboard: {address} (Ctrl-C ends it)", flush=True)
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-run", action="store_true", help="publish the results that are there")
    parser.add_argument("--no-open", action="store_true", help="write the pages and stop")
    parser.add_argument("--quick", action="store_true", help="run each benchmark once")
    parser.add_argument("--bench", action="append", default=[], metavar="REGEX", help="run only these; may be repeated")
    parser.add_argument("--machine", help="name under which the results are kept; the host's name if not given")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results", help="default: %(default)s")
    parser.add_argument("--html", type=pathlib.Path, default=HERE / "html", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(folder, options.results, options.html)
        failed = 0 if options.no_run else run(config, options)
        try:
            publish(config, options.results, options.html)
        except AssetError as error:
            raise SystemExit(f"dashboard: {error}\nThe front page is complete: {options.html / 'index.html'}") from None
    print(f"dashboard: {options.html / 'index.html'}")
    if not options.no_open:
        serve(options.html, options.port)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
