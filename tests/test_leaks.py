"""Memory stays flat however often the kernels are called.

``cd tests && python -m support.leaks public 1000`` repeats what users call.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.leaks import POINTER

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts with glibc's mallinfo2")


def grows(*arguments):
    """Whether a round of calls leaves a pointer behind, Python's objects included."""
    result = subprocess.run(
        [sys.executable, "-m", "support.leaks", "kernels", "200", *arguments],
        cwd=Path(__file__).parent, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"at most (\S+) bytes a round", result.stdout)
    assert found, result.stderr
    assert result.returncode == (float(found.group(1)) >= POINTER)
    return bool(result.returncode)


def test_kernels():
    """Every kernel in every mode and precision."""
    assert not grows()


def test_a_leak_is_seen():
    """One pointer lost in every round shows."""
    assert grows("leak")
