"""Ctrl-C ends a long call within a second and leaves everything usable."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(os.name != "posix", reason="sends itself SIGINT")
def test_interrupt():
    """Every kernel, in one thread and in two; a handler that does not raise changes nothing."""
    result = subprocess.run(
        [sys.executable, "-m", "support.interrupt"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    seconds = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in result.stdout.splitlines()}
    assert len(seconds) == 10
    assert max(seconds.values()) < 1, seconds
