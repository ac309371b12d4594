#!/usr/bin/env bash
# Install a wheel in a fresh environment in which no compiler is to be found, run the demo and the tests:
#   tools/try_wheel.sh dist/gridgrad-*.whl [ARGUMENT OF PYTEST...]
# PYTHON names the interpreter, python3 if not set. Tests that compile something skip. Paths are relative to tests/.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(realpath "$1")
shift
fresh=$(mktemp -d "${TMPDIR:-/tmp}/gridgrad-fresh.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3}" -m venv "$fresh/venv"
(
    export PATH="$fresh/venv/bin" MPLBACKEND=Agg PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off
    unset CC CXX
    cd "$fresh"
    for compiler in cc gcc clang; do
        if command -v "$compiler"; then exit 1; fi
    done
    pip install -q -c "$root/constraints.txt" "$wheel[mol,plot,test]"
    gridgrad info
    gridgrad demo
    python -c 'import gridgrad.kernels.cpu as cpu; print(*(k.__file__ for k in cpu.KERNELS.values()), sep="\n")'
    cd "$root/tests" # not $root, whose gridgrad/ would be imported
    pytest -p no:cacheprovider "$@"
)
