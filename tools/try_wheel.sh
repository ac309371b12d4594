#!/usr/bin/env bash
# Install a wheel in a fresh environment in which no compiler is to be found, run the demo and the tests:
#   tools/try_wheel.sh dist/gridgrad-*.whl [ARGUMENT OF PYTEST...]
# PYTHON names the interpreter, python3 if not set. Tests that compile something skip. Paths are relative to tests/.
# All other commands of this machine stay on the path.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
wheel=$(realpath "$1")
shift
fresh=$(mktemp -d "${TMPDIR:-/tmp}/gridgrad-fresh.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
"${PYTHON:-python3}" -m venv "$fresh/venv"
mkdir "$fresh/bin"
IFS=: read -ra folders <<<"$PATH"
for folder in "${folders[@]}"; do
    find -H "$folder" -maxdepth 1 ! -type d ! -name '*cc' ! -name '*gcc-*' ! -name '*++*' ! -name '*clang*' ! -name 'c[89]9*' \
        -exec ln -s -t "$fresh/bin" {} + 2>/dev/null || true # the first of a name counts
done
(
    export PATH="$fresh/venv/bin:$fresh/bin" MPLBACKEND=Agg PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_PROGRESS_BAR=off
    unset CC CXX
    cd "$fresh"
    for compiler in cc gcc c++ g++ clang nvcc; do
        if command -v "$compiler"; then exit 1; fi
    done
    pip install -q -c "$root/constraints.txt" "$wheel[mol,plot,test]"
    gridgrad info
    gridgrad demo
    python -c 'import gridgrad.kernels.cpu as cpu; print(*(k.__file__ for k in cpu.KERNELS.values()), sep="\n")'
    cd "$root/tests" # not $root, whose gridgrad/ would be imported
    pytest -p no:cacheprovider "$@"
)
