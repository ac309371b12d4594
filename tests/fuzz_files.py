"""Fuzz the parsers of files, guided by what each input reaches in them: ``python tests/fuzz_files.py [TARGET ...]``.

Atheris (libFuzzer) changes good files and keeps what reaches new code; each target has a process of its own. An input
that ends the process, raises what the format does not raise, takes 10 s or 2 GiB is kept, and the target has failed.
"""

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import atheris
import pyarrow  # noqa: F401  what is imported here is not instrumented
import torch

with (
    contextlib.redirect_stderr(io.StringIO()),  # a line for each module
    atheris.instrument_imports(include=["gridgrad", "mrcfile"], exclude=["gridgrad.kernels", "gridgrad.autograd"]),
):
    from support.files import CORPUS, TARGETS


def fuzz(name, options, log):
    """Fuzz a target in this process, which ends."""
    for stream in (1, 2):
        os.dup2(log, stream)
    torch.set_num_threads(1)
    target, inputs = TARGETS[name], Path(tempfile.mkdtemp())
    for number, seed in enumerate([*target.seeds(), *(path.read_bytes() for path in CORPUS.glob(f"{name}/*"))]):
        Path(inputs, str(number)).write_bytes(seed)
    atheris.Setup(["fuzz_files", str(inputs), *options], lambda data: target.parse(bytes(data)))
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default all: {', '.join(TARGETS)}")
    parser.add_argument("--runs", type=int, default=-1, help="inputs of each target (default: no limit)")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the changes (default: %(default)s)")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="folder for inputs that are faults")
    arguments = parser.parse_args()
    arguments.found.mkdir(exist_ok=True)
    failed = 0
    for name in arguments.targets or TARGETS:
        options = [
            f"-runs={arguments.runs}", f"-max_total_time={arguments.seconds}", f"-seed={arguments.seed}",
            "-timeout=10", "-rss_limit_mb=2048", "-max_len=8192", f"-artifact_prefix={arguments.found}/{name}-",
        ]  # fmt: skip
        start = time.perf_counter()
        with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory(prefix="gridgrad-fuzz.") as folder:
            child = os.fork()
            if child == 0:
                tempfile.tempdir = folder
                fuzz(name, options, log.fileno())
            _, status = os.waitpid(child, 0)
            log.seek(0)
            output = log.read().decode(errors="replace")
        inputs, reached = (re.findall(form, output, re.M) or ["0"] for form in (r"^#(\d+)\s", r"\bft: (\d+)"))
        seconds = time.perf_counter() - start
        print(f"{name:<12} {inputs[-1]:>9} inputs {reached[-1]:>6} features {seconds:>6.1f} s", flush=True)
        if status or "DONE" not in output:
            failed = 1
            print(output[-3000:])
    return failed


if __name__ == "__main__":
    sys.exit(main())
