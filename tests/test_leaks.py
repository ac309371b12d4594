"""Memory stays flat however often the kernels are called; ``GRIDGRAD_LEAKS=2000``: what users call, so many times."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = int(os.environ.get("GRIDGRAD_LEAKS", "0"))
POINTER = 8
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts with glibc's mallinfo2")


def bytes_a_round(*arguments):
    """Count with the C library's malloc, Python's objects included."""
    result = subprocess.run(
        [sys.executable, "-m", "support.leaks", *map(str, arguments)],
        cwd=Path(__file__).parent, env=os.environ | {"PYTHONMALLOC": "malloc"}, capture_output=True, text=True,
    )  # fmt: skip
    print(result.stdout)
    found = re.search(r"at most (\S+) bytes a round", result.stdout)
    assert found, result.stderr
    return float(found.group(1))


def test_kernels():
    """Every kernel in every mode and precision."""
    assert bytes_a_round("kernels", 200) < POINTER


def test_a_leak_is_seen():
    """One pointer lost in every round shows."""
    assert bytes_a_round("kernels", 40, "leak") >= POINTER


@pytest.mark.skipif(not ROUNDS, reason="a long test: GRIDGRAD_LEAKS=2000")
def test_public_calls():
    """Every order in every mode and precision, by itself and through autograd."""
    assert bytes_a_round("public", ROUNDS) < POINTER
