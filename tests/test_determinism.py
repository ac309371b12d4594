"""The same bits from run to run and for any number of threads; a few ulp between SIMD levels."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.scenes import (
    DTYPES,
    LAYOUTS,
    MODES,
    RADII,
    TYPES,
    all_outputs,
    assert_outputs,
    assert_same_bits,
    evaluate,
    expected_outputs,
    make_scene,
    mode_id,
    relative_error,
)

import gridgrad as gg

HERE = Path(__file__).parent
LEVELS = ("baseline", "avx2", "avx512")
SAVE = """
import sys, torch, gridgrad
from support import scenes
gridgrad.show_config()
torch.save(scenes.all_outputs(), sys.argv[1])
"""


def levels_here():
    """Return the SIMD levels that ``show_config`` lists for this machine."""
    found = re.search(r"SIMD\s+(\w+) \(here: ([^)]*)\)", gg.show_config())
    return found[2].split(", ")


def run_python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        cwd=HERE,
        env={**os.environ, **environment},
        timeout=300,
    )


@functools.cache
def outputs_at(level, folder):
    path = folder / f"{level}.pt"
    result = run_python(SAVE, path, GRIDGRAD_SIMD=level)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"SIMD\s+{level} ", result.stdout), result.stdout
    return torch.load(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("levels")


@pytest.fixture(params=LEVELS)
def level(request):
    if request.param not in levels_here():
        pytest.skip(f"this processor or build has no {request.param}")
    return request.param


def large_scene(type_mode, radius_mode, layout, dtype):
    """Enough atoms and voxels that the work is shared between threads."""
    return make_scene(
        "quadratic", radius_mode, type_mode, layout, dtype=dtype, n_atoms=40, n_types=4, dimension=(7.0, 6.0, 8.0),
        margin=0.0,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=mode_id)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("radius_mode", RADII)
@pytest.mark.parametrize("type_mode", TYPES)
def test_bits_do_not_depend_on_threads_or_runs(type_mode, radius_mode, layout, dtype, threads):
    scene = large_scene(type_mode, radius_mode, layout, dtype)
    maker, cotangents = gg.GridMaker(**scene.settings), scene.cotangents()
    threads(1)
    expected = evaluate(maker, scene, cotangents)
    for count in (1, 2, 2, 3):
        threads(count)
        for name, value in evaluate(maker, scene, cotangents).items():
            if value is not None:
                assert_same_bits(value, expected[name], f"{name} with {count} threads")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode[0] in ("quintic", "binary")], ids=mode_id)
def test_small_scenes_too(mode, threads):
    scene = make_scene(*mode)
    maker = gg.GridMaker(**scene.settings)
    threads(1)
    expected = evaluate(maker, scene)
    threads(2)
    for name, value in evaluate(maker, scene).items():
        if value is not None:
            assert_same_bits(value, expected[name], name)


def test_calls_leave_the_number_of_threads_alone(threads):
    for count in (1, 2):
        threads(count)
        evaluate(gg.GridMaker(0.5, 3.0), make_scene(dimension=(3.0, 3.0, 3.0)))
        assert torch.get_num_threads() == count


def test_another_process_gives_the_same_bits(folder):
    current = re.search(r"SIMD\s+(\w+)", gg.show_config())[1]
    for key, value in outputs_at(current, folder).items():
        assert_same_bits(value, all_outputs_here()[key], str(key))


@functools.cache
def all_outputs_here():
    return all_outputs()


def test_an_unknown_level_is_refused():
    result = run_python("import gridgrad", GRIDGRAD_SIMD="avx1024")
    assert result.returncode != 0
    assert "GRIDGRAD_SIMD" in result.stderr and "avx1024" in result.stderr and "baseline" in result.stderr


def test_every_level_agrees_with_the_oracle(level, folder):
    found = outputs_at(level, folder)
    for dtype in DTYPES:
        for mode in MODES:
            expected = {name: value for name, value in expected_outputs(mode, dtype).items() if value is not None}
            assert_outputs({name: found[dtype, mode, name] for name in expected}, expected, dtype)


def test_levels_agree_to_a_few_ulp(level, folder):
    """Derivatives are sums of terms of both signs, which cancel in part."""
    baseline = outputs_at("baseline", folder)
    for (dtype, mode, name), value in outputs_at(level, folder).items():
        expected = baseline[dtype, mode, name]
        bar = (4 if name == "density" else 32) * torch.finfo(dtype).eps
        assert relative_error(value, expected) <= bar, f"{name} of {mode_id(mode)} in {mode_id(dtype)}"


def test_worker_process_after_threads_were_used():
    """A forked worker computes, with one thread, after the parent used several: it must not hang."""
    code = (
        "import multiprocessing, torch, gridgrad as gg\n"
        "from support import scenes\n"
        "torch.set_num_threads(2)\n"
        "scene = scenes.make_scene(n_atoms=40, dimension=(8.0, 8.0, 8.0), margin=0.0)\n"
        "maker = gg.GridMaker(**scene.settings)\n"
        "def density(_):\n"
        "    torch.set_num_threads(1)\n"
        "    return maker.forward(*scene.inputs).numpy().tobytes()\n"
        "expected = maker.forward(*scene.inputs).numpy().tobytes()\n"
        "with multiprocessing.get_context('fork').Pool(1) as pool:\n"
        "    print(pool.map_async(density, [0]).get(60)[0] == expected)\n"
    )
    result = run_python(code)
    assert result.stdout.strip() == "True", result.stderr
