"""Call the compiled kernels by address, as `record` wrote it down; needs Python and NumPy, neither torch nor gridgrad.

``python replay.py FILE.npz SITE/gridgrad/kernels [LEVEL...]``; ``OMP_NUM_THREADS`` is the number of threads.
"""

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np

N_THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def load(folder, precision, level):
    """Import a compiled module of the folder, whatever its suffix; None where it was not built."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(folder) / "cpu" / f"density_{precision}_{level}{suffix}"
        if path.exists():
            loader = importlib.machinery.ExtensionFileLoader(path.name.partition(".")[0], str(path))
            module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
            loader.exec_module(module)
            return module
    return None


def values(call, arrays, previous):
    """Return the arguments by name and the outputs by name, NaN where nothing is written."""
    given = {}
    for name, value in call["arguments"].items():
        if isinstance(value, dict):
            value = np.ascontiguousarray(arrays[f"arr_{value['array']}"])
        elif isinstance(value, str):
            value = previous[value.partition(" ")[2]]
        given[name] = value
    outputs = {
        name: np.full(arrays[f"arr_{value['array']}"].shape, np.nan, call["precision"])
        for name, value in call["outputs"].items()
    }
    return given, outputs


def arguments(kernel, given, outputs):
    """Return the arguments of a kernel, in order: addresses of arrays, 0 where absent."""
    values = []
    for name in kernel.formats:
        value = outputs.get(name, given.get(name))
        if name == "geometry":
            value = value.tobytes()
        elif value is None:
            value = 0
        elif isinstance(value, np.ndarray):
            value = value.ctypes.data
        values.append(value)
    return values + [N_THREADS] * kernel.visits_atoms


def run(call, module, kernels, arrays, previous):
    """Call a kernel; return its outputs by name."""
    given, outputs = values(call, arrays, previous)
    getattr(module, call["kernel"])(*arguments(kernels[call["kernel"]], given, outputs))
    return outputs


def error(found, expected):
    """Return the relative L2 error, NaN where something is not a number."""
    norm = np.linalg.norm(expected.ravel())
    return float(np.linalg.norm((found.astype(np.float64) - expected).ravel())) / (float(norm) or 1.0)


def main(path, folder, *levels):
    """Return the number of wrong outputs."""
    runpy.run_path(str(Path(folder) / "cpu" / "openmp.py"))["share"]()
    kernels = runpy.run_path(str(Path(folder) / "abi.py"))["KERNELS"]
    arrays = np.load(path)
    calls = json.loads(str(arrays["calls"]))
    arrays = dict(arrays)
    levels = levels or ("baseline", "avx2", "avx512")[: load(folder, "float32", "baseline").n_levels()]
    all_wrong = 0
    for level in levels:
        modules = {precision: load(folder, precision, level) for precision in ("float32", "float64")}
        if None in modules.values():
            continue
        outputs, checked, wrong, worst = {}, 0, 0, dict.fromkeys(modules, 0.0)
        bits = hashlib.sha256()
        for call in calls:
            outputs = run(call, modules[call["precision"]], kernels, arrays, outputs)
            for name in outputs:
                bits.update(outputs[name])
                if name in call["unchecked"]:
                    continue
                found = error(outputs[name], arrays[f"arr_{call['outputs'][name]['array']}"])
                checked += 1
                worst[call["precision"]] = max(worst[call["precision"]], found)
                if not found <= call["bar"]:
                    wrong += 1
                    print(f"{level} {call['precision']} {call['mode']} {call['kernel']} {name}: error {found:.1e}")
        print(f"{level}: {checked} outputs of {len(calls)} calls, {wrong} wrong; largest relative error", end="")
        print(*(f" {value:.0e} in {precision}" for precision, value in worst.items()), sep=",", end="")
        print(f"; bits {bits.hexdigest()[:16]}")
        all_wrong += wrong
    assert "torch" not in sys.modules
    return all_wrong


if __name__ == "__main__":
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, {sys.implementation._multiarch}")
    sys.exit(main(*sys.argv[1:]) > 0)
