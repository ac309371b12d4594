#!/bin/bash
# Run everything that needs a GPU on a machine without a network, in at most 9 minutes.
#
#   tools/gpu_check.sh --prepare FOLDER        on a networked machine: wheels and sources into FOLDER
#   FOLDER/source/tools/gpu_check.sh FOLDER RESULTS     on the GPU machine: Python, torch with CUDA and nvcc are there
#
# PYTHON (default python3.12) is the interpreter; --prepare has to use the version of the GPU machine. RESULTS gets one
# log per step and summary.txt: step, seconds, and pass, fail or absent. Both drivers are tried, PyCUDA and cuda.bindings,
# and three compilers: nvcc, the NVRTC of the machine's torch, the newest. Without a GPU the same steps run and the tests
# skip, which is how the script is rehearsed. Exit status 1 if a step failed. docs/gpu.md says which files are kept.
set -uo pipefail
PYTHON=${PYTHON:-python3.12}
BUDGET=530 # seconds for all steps

prepare() {
    set -e
    local folder repository
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
    repository=$(cd "$(dirname "$0")/.." && pwd)
    mkdir -p "$folder/wheels" "$folder/newest" "$folder/source"
    git -C "$repository" archive HEAD | tar -x -C "$folder/source"
    "$PYTHON" -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet setuptools wheel
    CUDA_ON_CPU="$folder/build" "$folder/venv/bin/python" "$folder/source/tests/cuda_on_cpu/build.py" pycuda
    cp "$folder"/build/wheels-*/pycuda-*.whl "$folder/wheels"
    "$folder/venv/bin/pip" wheel --quiet --no-deps -w "$folder/wheels" "$folder/source"
    "$folder/venv/bin/pip" download --quiet -d "$folder/wheels" pytest hypothesis pytools mako platformdirs numpy
    "$folder/venv/bin/pip" download --quiet --no-deps -d "$folder/newest" nvidia-cuda-nvrtc cuda-bindings cuda-pathfinder
    "$folder/venv/bin/pip" download --quiet --no-deps -d "$folder/wheels" molgrid ||
        echo "no molgrid wheel for this Python: the benchmark runs without it"
    rm -rf "$folder/venv" "$folder/build"
    du -sh "$folder"
}

step() {    # NAME SECONDS COMMAND...: run it with a time limit, keep its output, note how it went
    local name=$1 limit=$2 start=$SECONDS status verdict=pass
    shift 2
    if [ $SECONDS -ge $BUDGET ]; then
        absent "$name" "no time was left"
        failed=1
        return
    fi
    limit=$((limit < BUDGET - SECONDS ? limit : BUDGET - SECONDS))
    timeout --kill-after=10 "$limit" "$@" >"$RESULTS/$name.log" 2>&1
    status=$?
    if [ $status -ne 0 ]; then
        verdict="fail ($status)"
        failed=1
    fi
    printf '%-24s %4d s  %s\n' "$name" $((SECONDS - start)) "$verdict" | tee -a "$RESULTS/summary.txt"
}

absent() {
    printf '%-24s         absent: %s\n' "$1" "$2" | tee -a "$RESULTS/summary.txt"
}

if [ "${1:-}" = --prepare ] && [ $# -eq 2 ]; then
    prepare "$2"
    exit
fi
if [ $# -ne 2 ]; then
    sed -n '2,10p' "$0"
    exit 2
fi
FOLDER=$(cd "$1" && pwd)
mkdir -p "$2"
RESULTS=$(cd "$2" && pwd)
SOURCE=$FOLDER/source
SITE=$RESULTS/site
NEWEST=$RESULTS/newest
failed=0
: >"$RESULTS/summary.txt"
export PYTHONPATH=$SITE${PYTHONPATH:+:$PYTHONPATH} GRIDGRAD_CACHE_DIR=$RESULTS/cache PYTHONDONTWRITEBYTECODE=1

packages=$(find "$FOLDER/wheels" -name '*.whl' ! -name 'numpy-*' ! -name 'molgrid-*')
# shellcheck disable=SC2086
step install 60 "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$SITE" $packages
"$PYTHON" -c 'import numpy' 2>/dev/null ||
    step install-numpy 30 "$PYTHON" -m pip install --quiet --no-index --target "$SITE" "$FOLDER"/wheels/numpy-*.whl
# beside, so that torch's own are found first where it brings them
step install-newest 40 "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$NEWEST" "$FOLDER"/newest/*.whl
cd "$RESULTS" || exit 1

newest() { # COMMAND...: with the newest NVRTC and cuda.bindings
    PYTHONPATH=$NEWEST:$PYTHONPATH "$@"
}

hardware() { # NAME SECONDS PYTEST-ARGUMENTS...: the tests marked cuda
    local name=$1 limit=$2
    shift 2
    step "$name" "$limit" "$PYTHON" -m pytest -q -rs -p no:cacheprovider -m cuda -c "$SOURCE/pyproject.toml" \
        --rootdir "$SOURCE" "$@" "$SOURCE/tests/test_gpu_hardware.py"
}

step machine 30 bash -c 'nvidia-smi; nvcc --version; "$0" -c "import gridgrad; gridgrad.show_config()"' "$PYTHON"
GRIDGRAD_CUDA_DRIVER=pycuda hardware tests 150
if "$PYTHON" -c 'import cuda.bindings.driver' 2>/dev/null; then # torch >= 2.10 with CUDA
    export GRIDGRAD_CUDA_COMPILER=nvrtc GRIDGRAD_CUDA_DRIVER=cuda.bindings
    hardware tests-of-torch-alone 100 -k 'not leak'
    unset GRIDGRAD_CUDA_COMPILER GRIDGRAD_CUDA_DRIVER
else
    absent tests-of-torch-alone "this torch brings no cuda.bindings"
    GRIDGRAD_CUDA_DRIVER=cuda.bindings newest hardware tests-bindings 100 -k 'not leak'
fi
GRIDGRAD_CUDA_COMPILER=nvrtc newest hardware tests-newest-nvrtc 40 -k 'large_grid or graph'
molgrid=$(find "$FOLDER/wheels" -name 'molgrid-*.whl' | head -1)
if [ -n "$molgrid" ]; then
    step install-molgrid 40 "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$RESULTS/molgrid" "$molgrid"
    export MOLGRID_SITE=$RESULTS/molgrid
else
    absent molgrid "its wheel was not carried along"
fi
step benchmark 60 "$PYTHON" "$SOURCE/tools/gpu_benchmark.py" --json "$RESULTS/benchmark.json"
for driver in pycuda cuda.bindings; do
    GRIDGRAD_CUDA_DRIVER=$driver newest step "host-$driver" 20 "$PYTHON" "$SOURCE/tools/gpu_benchmark.py" --host
done
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
for tool in memcheck racecheck initcheck synccheck; do
    if [ -n "$sanitizer" ]; then
        step "$tool" 45 "$sanitizer" --tool $tool --error-exitcode 9 "$PYTHON" "$SOURCE/tools/gpu_benchmark.py" --exercise
    else
        absent "$tool" "compute-sanitizer is not installed"
    fi
done
step registers-torch 90 "$PYTHON" "$SOURCE/tools/ptxas_table.py" --markdown
newest step registers-newest 90 "$PYTHON" "$SOURCE/tools/ptxas_table.py" --markdown
rm -rf "$SITE" "$NEWEST" "$RESULTS/molgrid"
exit $failed
