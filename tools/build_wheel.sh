#!/usr/bin/env bash
# Leave in dist/ the sdist and, made from it, the wheel of this platform for every Python from 3.11 on:
#   pip install -c constraints.txt '.[wheel]' && tools/build_wheel.sh
# Needs a C compiler; its arguments go to `python -m build`, as --no-isolation does where there is no network.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(mktemp -d "${TMPDIR:-/tmp}/gridgrad-wheel.XXXXXX")
trap 'rm -rf "$built"' EXIT

python -m build --outdir "$built" "$@"
abi3audit --strict "$built"/*.whl # no function beyond the limited API that the name promises
mkdir "$built/finished"
if [ "$(uname -s)" = Linux ]; then # the kernels need nothing but libc; OpenMP is torch's
    auditwheel repair --strip --only-plat --plat "manylinux_2_28_$(uname -m)" --wheel-dir "$built/finished" "$built"/*.whl
else
    mv "$built"/*.whl "$built/finished"
fi
for wheel in "$built"/finished/*.whl; do
    bytes=$(wc -c <"$wheel")
    [ "$bytes" -lt 3000000 ] || { echo "${wheel##*/}: $bytes bytes; expected less than 3 MB" >&2; exit 1; }
done
mkdir -p dist
mv "$built"/*.tar.gz "$built"/finished/*.whl dist/
ls -l dist
