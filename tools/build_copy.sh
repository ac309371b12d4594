#!/usr/bin/env bash
# For the scripts beside it to source: `root`, `built`, a temporary folder, and what builds the CPU kernels in it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
built=$(mktemp -d "${TMPDIR:-/tmp}/gridgrad-built.XXXXXX")
trap 'rm -rf "$built"' EXIT

build_copy() ( # build_copy NAME=VALUE...: in $built/source, a copy of the sources, with these variables set
    mkdir "$built/source"
    cp -r "$root"/{gridgrad,cuda,pyx,setup.py,pyproject.toml,README.md,LICENSE} "$built/source"
    find "$built/source" -name '*.so' -delete
    cd "$built/source"
    env "$@" python setup.py -q build_ext --inplace >"$built/log" 2>&1 || { cat "$built/log" >&2; exit 1; }
)
