#!/usr/bin/env bash
# Build the CPU kernels with AddressSanitizer and UndefinedBehaviorSanitizer and run tests on them at every SIMD level of
# this processor; the first fault ends the run:
#   tools/sanitize.sh [ARGUMENT OF PYTEST...]
# Paths are relative to tests/. Needs gcc and an environment in which gridgrad is installed with its test extra.
# GRIDGRAD_SIMD: these levels only.
. "$(dirname "$0")/build_copy.sh"
checks=-fsanitize=address,undefined
build_copy CC=gcc CFLAGS="-g -O1 $checks -fno-sanitize-recover=all -fno-omit-frame-pointer" LDSHARED="gcc -shared $checks"
# libstdc++ beside libasan: torch throws exceptions, which libasan has to know before it starts
preload=$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libstdc++.so.6)
export PYTHONPATH="$built/source" PYTHONDONTWRITEBYTECODE=1
export ASAN_OPTIONS=detect_leaks=0:log_path=$built/fault UBSAN_OPTIONS=print_stacktrace=1:log_path=$built/fault
cd "$root/tests" # not $root, whose gridgrad/ would be imported
tests=(test_density.py test_nonfinite.py test_relevance.py test_closed_forms.py)
levels=${GRIDGRAD_SIMD-$(LD_PRELOAD=$preload python -c 'from gridgrad.kernels import cpu; print(*cpu.available_levels())')}
for level in $levels; do
    export GRIDGRAD_SIMD=$level
    echo "--- $level"
    if LD_PRELOAD=$preload python support/overrun.py || ! grep -q 'ERROR: AddressSanitizer' "$built"/fault.*; then
        echo 'an overrun was not seen' >&2
        exit 1
    fi
    rm "$built"/fault.*
    LD_PRELOAD=$preload python -m pytest -q -p no:cacheprovider "${@-"${tests[@]}"}" || { cat "$built"/fault.*; exit 1; }
done
