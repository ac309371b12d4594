#!/usr/bin/env bash
# Run the tests on the oldest torch that pyproject.toml takes, on the one that constraints.txt pins, and on a newer one.
#
#   tools/check_versions.sh [--keep FOLDER] [VERSION ...]         by default: the floor, the pinned one, 2.14.1
#
# Every version gets an environment and a copy of the sources of its own, in a temporary folder; with --keep they stay in
# FOLDER and are used again. The CUDA builds of torch that the package index has take 6 GB each. The tests of the CUDA
# kernels compile with the NVRTC that torch brings, or with that of .ci/run where it brings none of CUDA 13. Prints how long
# each took and how it ended; exit status 1 if a test failed. No part of .ci/run, whose torch is the pinned one.
set -euo pipefail
cd "$(dirname "$0")/.."
NEWER=2.14.1

if [ "${1:-}" = --keep ] && [ $# -ge 2 ]; then
    mkdir -p "$2"
    FOLDER=$(cd "$2" && pwd)
    shift 2
elif [ "${1:-}" = --help ] || [ "${1:-}" = --keep ]; then
    sed -n '2,9p' "$0"
    exit 2
else
    FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/gridgrad-versions.XXXXXX")
    trap 'rm -rf "$FOLDER"' EXIT
fi
if [ $# -eq 0 ]; then
    set -- "$(sed -n 's/.*"torch>=\([0-9.]*\)".*/\1/p' pyproject.toml).*" "$(sed -n 's/^torch==//p' constraints.txt)" $NEWER
fi
NVRTC=$(grep -o 'nvidia-cuda-nvrtc==[0-9.]*' .ci/run)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off PYTHONDONTWRITEBYTECODE=1 MPLBACKEND=Agg

install() { # install VERSION HOME: torch, then what the tests need, at the pinned versions where torch does not have its own
    local version=$1 home=$2 python=$2/venv/bin/python
    python3 -m venv "$home/venv"
    "$python" -m pip install -q "torch==$version"
    "$python" - >"$home/constraints.txt" <<'PYTHON'
import importlib.metadata
import re

def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()

there = {normal(distribution.metadata["Name"]) for distribution in importlib.metadata.distributions()}
with open("constraints.txt") as file:
    print(*(line for line in file if normal(line.partition("==")[0]) not in there), sep="", end="")
PYTHON
    "$python" -m pip install -q -c "$home/constraints.txt" -e "$home/source[test]"
    if ! ls "$home"/venv/lib/python*/site-packages/nvidia/cu13/lib/libnvrtc.so.* >/dev/null 2>&1; then
        "$python" -m pip install -q "$NVRTC"
    fi
}

failed=0
for version in "$@"; do
    home=$FOLDER/${version%.\*}
    start=$SECONDS
    rm -rf "$home/source"
    mkdir -p "$home/source"
    git ls-files -coz --exclude-standard | tar -c --null -T - | tar -x -C "$home/source"
    [ -f "$home/constraints.txt" ] || install "$version" "$home"
    "$home/venv/bin/python" -m pip install -q --no-deps -e "$home/source"
    installed=$((SECONDS - start))
    start=$SECONDS
    (cd "$home/source" && "$home/venv/bin/python" -m pytest -q -rfEs >"$home/tests.log" 2>&1) || failed=1
    printf 'torch %s: installed in %d s; tests took %d s: %s\n' \
        "$("$home/venv/bin/python" -c 'import torch; print(torch.__version__)')" "$installed" $((SECONDS - start)) \
        "$(tail -n 1 "$home/tests.log")"
    grep -E '^(FAILED|ERROR)' "$home/tests.log" || true
done
exit $failed
