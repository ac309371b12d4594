"""Memory stays flat however often the kernels are called.

``cd tests && PYTHONMALLOC=malloc python -m support.leaks public 2000`` repeats what users call.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

POINTER = 8
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts with glibc's mallinfo2")


def bytes_a_round(*arguments):
    """Count with the C library's malloc, Python's objects included."""
    result = subprocess.run(
        [sys.executable, "-m", "support.leaks", "kernels", "200", *arguments],
        cwd=Path(__file__).parent, env=os.environ | {"PYTHONMALLOC": "malloc"}, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"at most (\S+) bytes a round", result.stdout)
    assert found, result.stderr
    return float(found.group(1))


def test_kernels():
    """Every kernel in every mode and precision."""
    assert bytes_a_round() < POINTER


def test_a_leak_is_seen():
    """One pointer lost in every round shows."""
    assert bytes_a_round("leak") >= POINTER
