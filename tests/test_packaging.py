"""What the sdist, the wheel and an editable installation contain, and what importing the package costs."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

import gridgrad

ROOT = Path(__file__).resolve().parents[1]
LEVELS = ("baseline", "avx2", "avx512") if os.uname().machine == "x86_64" else ("baseline",)
KERNELS = {f"density_{precision}_{level}" for precision in ("float32", "float64") for level in LEVELS}
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "gridgrad").rglob("*.py"))
FOREIGN = ("pycuda", "rdkit", "matplotlib", "gemmi", "gridData", "mrcfile", "tqdm", "pyarrow", "ray")

BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


def build(what, source, target):
    """Call the build backend; return the file that it wrote."""
    pytest.importorskip("Cython", reason="building needs Cython (extra test)")
    if what == "build_wheel" and not shutil.which((os.environ.get("CC") or "gcc").split()[0]):
        pytest.skip("no C compiler")
    run = subprocess.run([sys.executable, "-c", BUILD, what, target], cwd=source, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    return target / run.stdout.split()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Build the sdist from a copy of the tree, whatever lies around in it."""
    copy = tmp_path_factory.mktemp("tree") / "gridgrad"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "env", "html"))
    return build("build_sdist", copy, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Build the wheel from nothing but the sdist."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return build("build_wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """Unpack the wheel beside links to torch, numpy and what these require; nothing else."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    names, found = ["torch", "numpy"], {}
    while names:
        name = names.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        requirements = map(Requirement, found[name].requires or [])
        names += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    for dist in found.values():
        for top in {file.parts[0] for file in dist.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(dist.locate_file(top))
    return site


def in_bare(site, code):
    """Run code with nothing but the standard library and a folder on the path."""
    start = f"import sys; sys.path.append({str(site)!r})\n"
    run = subprocess.run([sys.executable, "-I", "-S", "-c", start + code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    return run.stdout


def test_sdist(sdist):
    with tarfile.open(sdist) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]).as_posix() for name in archive.getnames()}
    wanted = {"pyproject.toml", "setup.py", "constraints.txt", "LICENSE", "README.md", "CHANGELOG.md", *SOURCES}
    for folder in ("pyx", "cuda", "tests", "docs"):
        suffixes = (".pyx", ".pxd", ".cu", ".cuh", ".py", ".md")
        wanted |= {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir() if path.suffix in suffixes}
    assert not wanted - names
    built = {name for name in names if re.search(r"\.so$|\.pyc$|(^|/)build/|^\.\w", name)}
    assert not built


def test_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {*SOURCES, "gridgrad/py.typed"}
    wanted |= {f"gridgrad/cuda/{path.name}" for path in (ROOT / "cuda").iterdir() if path.suffix in (".cu", ".cuh")}
    wanted |= {
        f"gridgrad/plot/{path.name}" for path in (ROOT / "gridgrad/plot").iterdir() if path.suffix in (".js", ".html")
    }
    wanted.add("gridgrad/mol/residues.tsv")
    assert len([name for name in wanted if name.endswith((".cu", ".cuh"))]) >= 2
    assert not wanted - names
    assert {Path(name).name for name in names if name.endswith(".so")} == {f"{kernel}.abi3.so" for kernel in KERNELS}
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"gridgrad"}, "nothing beside the package"
    assert "gridgrad/cuda/__init__.py" not in names, "it would shadow NVIDIA's namespace package"
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    assert "gridgrad = gridgrad.cli:main" in zipfile.ZipFile(wheel).read(entry_points).decode()


def test_wheel_serves_every_python_and_openmp(wheel):
    """The tag is that of the limited API; the kernels require libc alone, so they take the OpenMP that torch brings."""
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]
    archive = zipfile.ZipFile(wheel)
    for name in (name for name in archive.namelist() if name.endswith(".so")):
        required = set(re.findall(rb"\0(lib[\w.+-]+\.so[\w.]*)(?=\0)", archive.read(name)))
        assert required <= {b"libc.so.6", b"libm.so.6"}, (name, required)


FREE_THREADED = """
import runpy, sys, sysconfig
real = sysconfig.get_config_var
sysconfig.get_config_var = lambda name: 1 if name == "Py_GIL_DISABLED" else real(name)
sys.argv[0] = "setup.py"
runpy.run_path("setup.py", run_name="__main__")
"""


def test_a_free_threaded_python_is_refused(tmp_path):
    """A stand-in: the interpreter claims to have no GIL."""
    build = subprocess.run(
        [sys.executable, "-c", FREE_THREADED, "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert build.returncode
    assert re.search(r"error: python: 3\.\d+\.\d+, free-threaded; expected one with the GIL", build.stderr)
    assert not list(tmp_path.iterdir())


def test_no_init_beside_the_kernels():
    assert not list((ROOT / "cuda").glob("__init__*"))
    assert not list((ROOT / "pyx").glob("__init__*"))


def test_editable():
    text = distribution("gridgrad").read_text("direct_url.json")
    if not text or not json.loads(text).get("dir_info", {}).get("editable"):
        pytest.skip("gridgrad is not installed in editable mode")
    from gridgrad.kernels import cpu
    from gridgrad.kernels.gpu import cubins

    package = Path(gridgrad.__file__).parent
    assert package == ROOT / "gridgrad"
    assert {path.name.partition(".")[0] for path in (package / "kernels" / "cpu").glob("*.so")} >= KERNELS
    assert cpu.available_levels()[0] == "baseline"
    assert cubins.folder() == ROOT / "cuda"


def test_with_torch_and_numpy_only(bare):
    """The wheel alone grids an atom, differentiates it twice and finds its CUDA sources."""
    code = f"""
import importlib.util, math, pathlib, sys
for name in {FOREIGN}:
    assert importlib.util.find_spec(name) is None, name
import torch, gridgrad as gg
assert pathlib.Path(gg.__file__).is_relative_to({str(bare)!r}), gg.__file__
coords = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
types, radii = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
density = gg.coords2grid(gg.GridMaker(0.5, 6), (0, 0, 0), coords, types, radii, n_types=1)
(first,) = torch.autograd.grad(density[0, 8, 6, 6], coords, create_graph=True)
(second,) = torch.autograd.grad(first[0, 0] ** 2, coords)
assert abs(second[0, 0].item() - 96 * math.exp(-4)) < 1e-12
from gridgrad.kernels.gpu import cubins
assert cubins.folder() == pathlib.Path(gg.__file__).parent / "cuda"
print(gg.show_config())
"""
    assert "not usable" in in_bare(bare, code).split("CUDA", 1)[1]


def test_checkout_without_kernels_says_what_to_do(tmp_path):
    """Python started in a clone before anything is compiled finds the sources first."""
    shutil.copytree(ROOT / "gridgrad", tmp_path / "gridgrad", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    run = subprocess.run([sys.executable, "-c", "import gridgrad"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode
    last = run.stderr.splitlines()[-1]
    assert re.match(r"ImportError: the kernels of gridgrad are not compiled in .*pip install -e \.", last), run.stderr


def test_missing_extra_is_named(bare):
    """A command that needs an extra says which one, and ends with status 2."""
    code = """
import contextlib, io
from gridgrad.cli import main
errors = io.StringIO()
with contextlib.redirect_stderr(errors):
    print(main(["demo", "-o", "/nonexistent/gridgrad"]), errors.getvalue())
"""
    assert re.match(r"2 .*pip install 'gridgrad\[plot\]'", in_bare(bare, code))


def test_import_takes_nothing_else():
    """Optional packages, where installed, stay out; torch may take what it likes."""
    code = f"import sys, torch; torch_takes = set(sys.modules); import gridgrad; print([name for name in {FOREIGN} "
    code += "if name in set(sys.modules) - torch_takes])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_import_time():
    """No more than 0.2 s beyond torch's own import: median of five processes, each timing both imports."""
    code = (
        "import time; start = time.perf_counter(); import torch; middle = time.perf_counter(); import gridgrad\n"
        "print(middle - start, time.perf_counter() - middle)"
    )
    beyond = []
    for _ in range(5):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        beyond.append(float(run.stdout.split()[1]))
    assert statistics.median(beyond) <= 0.2, beyond


def test_version():
    """The version is told once; the changelog's first entry is about it, but for what is unreleased."""
    declared = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    newest = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    assert gridgrad.__version__ == declared == newest


def test_one_floor():
    """The oldest Python and the oldest torch are the same wherever they are named."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "README.md", ".ci/run")}
    texts |= {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
    project = texts["pyproject.toml"]
    python = re.search(r'^requires-python = ">=(3\.\d+)"', project, re.M).group(1)
    assert f'target-version = "py{python.replace(".", "")}"' in project
    assert re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)[0] == python
    named = [found for text in texts.values() for found in re.findall(r"Python (3\.\d+)\s(?:or\snewer|on)", text)]
    assert len(named) >= 3 and set(named) == {python}
    torch = re.search(r'"torch>=([\d.]+)"', project).group(1)
    assert f"PyTorch {torch} or newer" in texts["start.md"] and f"with torch {torch} but" in texts["pytorch.md"]


def test_readme_commands_pin_torch():
    """Whoever follows the README never resolves an unpinned torch."""
    commands = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("pip install")]
    assert len(commands) == 2
    assert all("-c constraints.txt" in line for line in commands)
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in pinned
    assert all(re.fullmatch(r"#.*|[\w.-]+==\S+", line) for line in pinned)
    requires = re.search(r"^requires = (\[.+\])", (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    assert "torch" not in requires
