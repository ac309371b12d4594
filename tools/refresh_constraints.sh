#!/usr/bin/env bash
# Pin the newest versions of everything that the extras ask for, but for torch, and keep them if the tests pass:
#   tools/refresh_constraints.sh [ARGUMENT OF PYTEST...]
# What the environment does not get (pycuda, what only another platform needs) keeps its pin. Then run .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=$(mktemp -d "${TMPDIR:-/tmp}/gridgrad-constraints.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
python3 -m venv "$fresh/venv"
export PATH="$fresh/venv/bin:$PATH" MPLBACKEND=Agg PIP_DISABLE_PIP_VERSION_CHECK=1

grep '^torch==' constraints.txt >"$fresh/torch.txt"
extras=$(python -c 'import tomllib
print(",".join(set(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]) - {"cuda"}))')
pip install -q -c "$fresh/torch.txt" -e ".[$extras]"
pip list --format=freeze --exclude-editable --exclude pip >"$fresh/new.txt"
python - "$fresh/new.txt" >"$fresh/constraints.txt" <<'PYTHON'
import re
import sys
from pathlib import Path


def pins(lines):
    """Return the pins by normalised name; a local version, as torch's +cpu, is nobody else's."""
    found = dict(line.split("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): f"{name}=={version.partition('+')[0]}" for name, version in found.items()}


old = Path("constraints.txt").read_text().splitlines()
merged = pins(old) | pins(Path(sys.argv[1]).read_text().splitlines())
print(*(line for line in old if line.startswith("#")), *(merged[name] for name in sorted(merged)), sep="\n")
PYTHON
diff constraints.txt "$fresh/constraints.txt" && { echo 'nothing is newer'; exit 0; }
python -m pytest -q "$@"
cp "$fresh/constraints.txt" constraints.txt
