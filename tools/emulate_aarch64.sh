#!/usr/bin/env bash
# Compile the CPU kernels for aarch64 and call them by address, without torch, in an emulated Debian; as root:
#   apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static debootstrap
#   tools/emulate_aarch64.sh [DEBIAN MIRROR]
# Needs an environment in which gridgrad is installed with its test extra.
. "$(dirname "$0")/build_copy.sh"

# Python, NumPy and OpenMP of Debian for aarch64, unpacked and not set up: enough to run
debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,python3-numpy,libgomp1 stable "$built/debian" "$@" \
    >"$built/log" 2>&1 || { cat "$built/log" >&2; exit 1; }
for package in "$built"/debian/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$built/debian"; done

build_copy _PYTHON_HOST_PLATFORM=linux-aarch64 CC=aarch64-linux-gnu-gcc LDSHARED='aarch64-linux-gnu-gcc -shared'
(cd "$root/tests" && python -m support.record "$built/calls.npz")
blas=/usr/lib/aarch64-linux-gnu/blas:/usr/lib/aarch64-linux-gnu/lapack # in its place only once the package is set up
qemu-aarch64-static -E LD_LIBRARY_PATH=$blas -L "$built/debian" "$built/debian/usr/bin/python3" "$root/tests/support/replay.py" \
    "$built/calls.npz" "$built/source/gridgrad/kernels"
