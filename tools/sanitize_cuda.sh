#!/usr/bin/env bash
# Build the CUDA kernels for the CPU with AddressSanitizer and run tests on them in several orders of their threads; an
# access outside of a buffer ends the run:
#   tools/sanitize_cuda.sh [ARGUMENT OF PYTEST...]
# Needs g++ and an environment in which gridgrad is installed with its test extra. GRIDGRAD_SCHEDULES=1000: that many.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
built=$(mktemp -d "${TMPDIR:-/tmp}/gridgrad-sanitized.XXXXXX")
trap 'rm -rf "$built"' EXIT
export CUDA_ON_CPU=$built PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$root/tests
# the buffers only: AddressSanitizer does not know the stacks of fibers
export CUDA_ON_CPU_FLAGS="-fsanitize=address --param=asan-stack=0 -fno-omit-frame-pointer"
python "$root/tests/cuda_on_cpu/build.py" kernels
export LD_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libstdc++.so.6)"
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:log_path=$built/fault
cd "$root"
if python tests/support/overrun.py --cuda || ! grep -q 'ERROR: AddressSanitizer' "$built"/fault.*; then
    echo 'an overrun was not seen' >&2
    exit 1
fi
rm "$built"/fault.*
python -m pytest -q -p no:cacheprovider "${@-tests/test_cuda_schedules.py}" || { cat "$built"/fault.* || true; exit 1; }
