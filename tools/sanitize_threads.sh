#!/usr/bin/env bash
# Build the CPU kernels with ThreadSanitizer and call them, without torch, from several threads; a race ends the run:
#   tools/sanitize_threads.sh [NUMBER OF ORDERS]
# OpenMP is that of tests/support/openmp_threads.c, which ThreadSanitizer can see through; it draws another order of the
# work for each of the runs, 3 if not said. Needs gcc and an environment in which gridgrad is installed with its test extra.
# GRIDGRAD_SIMD: the SIMD level, baseline if not set.
. "$(dirname "$0")/build_copy.sh"
build_copy CC=gcc CFLAGS="-g -O1 -fsanitize=thread -fno-omit-frame-pointer" LDSHARED="gcc -shared -fsanitize=thread"
gcc -g -O1 -shared -fPIC -pthread -fsanitize=thread "$root/tests/support/openmp_threads.c" -o "$built/openmp.so"
cd "$root/tests"
python -m support.record "$built/shared.npz" shared
python -m support.record "$built/past-cache.npz" past-cache

replay() { # replay FILE: call the kernels as recorded
    LD_PRELOAD=$(gcc -print-file-name=libtsan.so):$built/openmp.so TSAN_OPTIONS=exitcode=66:halt_on_error=1 \
        python support/replay.py "$1" "$built/source/gridgrad/kernels" "${GRIDGRAD_SIMD:-baseline}"
}

export OMP_NUM_THREADS=3
for fault in chunk number; do # what is done twice, and by two threads in one's memory
    status=0
    OPENMP_FAULT=$fault replay "$built/shared.npz" >"$built/log" 2>&1 || status=$?
    if [ $status -ne 66 ] || ! grep -q 'data race' "$built/log"; then
        cat "$built/log"
        echo "a race was not seen: $fault" >&2
        exit 1
    fi
    echo "seen: $fault"
done
for seed in $(seq "${1:-3}"); do
    for threads in 2 7; do
        export OPENMP_SEED=$seed OMP_NUM_THREADS=$threads
        for calls in shared past-cache; do replay "$built/$calls.npz"; done
    done
done
