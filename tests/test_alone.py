"""The compiled kernels called by address in a process without torch: what other platforms and Pythons can run too."""

import subprocess
import sys
from pathlib import Path

import gridgrad

HERE = Path(__file__).parent
KERNELS = Path(gridgrad.__file__).parent / "kernels"


def test_kernels_without_torch(tmp_path):
    """Every kernel in every mode, precision and SIMD level against the oracle."""
    calls = tmp_path / "calls.npz"
    subprocess.run([sys.executable, "-m", "support.record", calls], cwd=HERE, check=True)
    replay = subprocess.run(
        [sys.executable, "support/replay.py", calls, KERNELS], cwd=HERE, capture_output=True, text=True
    )
    assert replay.returncode == 0, replay.stdout + replay.stderr
    levels = replay.stdout.splitlines()[1:]
    assert levels
    assert all("864 outputs of 672 calls, 0 wrong" in level for level in levels)
