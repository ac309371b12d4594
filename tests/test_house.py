"""The house: imports go down only, kernels/ knows no torch, and both texts keep to the contract of kernels/abi.py."""

import ast
import re
import shutil
import struct
import subprocess
import sysconfig
from pathlib import Path

import pytest

from gridgrad.kernels import abi

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "gridgrad"
STOREYS = (
    "cli", "fit", "data", "plot", "mol", "io", ("functional", "modules", "gridmaker"), "autograd", "grid", "kernels",
)  # fmt: skip
"""From the top; a module may import what stands below it, and its neighbours on the same storey."""
HALLS = {
    "__init__": "functional",  # what users see of it
    "config": "functional",
    "gpu": "kernels",  # the door of kernels/gpu
    "atomic": "kernels",  # these two import nothing of ours
    "extras": "kernels",
}
"""Modules of the package itself, and the storey whose rules they follow."""


def storey(module):
    """Return the storey of ``gridgrad.X.Y``, 0 for the highest."""
    first = module.split(".")[1] if "." in module else "__init__"
    first = HALLS.get(first, first)
    for number, names in enumerate(STOREYS):
        if first in ((names,) if isinstance(names, str) else names):
            return number
    raise AssertionError(f"{module}: on no storey; expected one of {STOREYS} or {tuple(HALLS)}")


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Return what a file imports, at any depth, as absolute module names."""
    found = set()
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, (base, node.module)))
            found |= {f"{name}.{alias.name}" if is_module(f"{name}.{alias.name}") else name for alias in node.names}
    return found


def is_module(name):
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path):
    here = module_of(path)
    for name in imports(path):
        if name.split(".")[0] == "gridgrad":
            assert storey(name) >= storey(here), f"{here} imports {name}, which stands above it"


def test_no_circle():
    graph = {module_of(path): {name for name in imports(path) if is_module(name)} for path in FILES}
    done, open_now = set(), []

    def visit(module):
        assert module not in open_now, f"a circle: {' -> '.join([*open_now, module])}"
        if module in done:
            return
        open_now.append(module)
        for name in graph.get(module, ()):
            if name.startswith("gridgrad"):
                visit(name)
        open_now.pop()
        done.add(module)

    for module in graph:
        visit(module)


def test_only_the_streams_know_torch():
    knowing = [
        module_of(path)
        for path in FILES
        if storey(module_of(path)) == len(STOREYS) - 1 and any(name.split(".")[0] == "torch" for name in imports(path))
    ]
    assert knowing == ["gridgrad.kernels.gpu.streams"]
    assert not any(name.split(".")[0] == "torch" for path in (PACKAGE / "grid").glob("*.py") for name in imports(path))


# ---- the contract ---------------------------------------------------------------------------------------------------

PYX = (ROOT / "pyx" / "density.pyx").read_text(encoding="utf-8")
CU = (ROOT / "cuda" / "density.cu").read_text(encoding="utf-8")
GEOMETRY = abi.KERNELS["density"].formats["geometry"]
CUDA_TYPES = {"P": "*", "q": "long long", "i": "int", GEOMETRY: "const __grid_constant__ Geometry"}
PYX_TYPES = {"P": "Address", "q": "long long", "i": "bint", GEOMETRY: "bytes"}


def declared(text, start):
    """Return (type, name) of the arguments of the function whose declaration begins with `start`; * for a pointer."""
    (arguments,) = re.findall(re.escape(start) + r"(?:, )?\(([^)]*)\)", text)
    pairs = (re.fullmatch(r"(.*?)(\s\*|\s)(\w+)", argument.strip(), re.S) for argument in arguments.split(","))
    return [(pair[2].strip() or pair[1], pair[3]) for pair in pairs]


@pytest.mark.parametrize("kernel", abi.KERNELS.values(), ids=list(abi.KERNELS))
def test_arguments(kernel):
    pyx, cuda = declared(PYX, f"\ndef {kernel.name}"), declared(CU, f"\n{kernel.name}")
    if kernel.visits_atoms:
        assert pyx.pop() == ("int", "n_threads")
        assert cuda.pop() == ("*", "fault")
        if kernel.block == abi.TILE:
            prepared = [(CUDA_TYPES[form], name) for name, form in abi.PREPARED.items()]
            assert [cuda.pop() for _ in prepared][::-1] == prepared
        cuda = [(kind, "geometry" if name == "grid" else name) for kind, name in cuda]
    assert pyx == [(PYX_TYPES[form], name) for name, form in kernel.formats.items()]
    assert cuda == [(CUDA_TYPES[form], name) for name, form in kernel.formats.items()]


@pytest.mark.parametrize("name", ["weight_bits", "list_cells"])
def test_arguments_of_what_the_gpu_does_before(name):
    kernel = abi.GPU_KERNELS[name]
    expected = [(CUDA_TYPES[form], {"geometry": "grid"}.get(name, name)) for name, form in kernel.formats.items()]
    assert declared(CU, f"\n{kernel.name}") == expected + [("*", "fault")] * kernel.visits_atoms


def compile_pyx(contract, folder):
    translated = ROOT / "build" / "cython" / "pyx" / "density.c"
    if not translated.exists():
        pytest.skip("pyx/ was not translated here: python setup.py build_ext --inplace")
    source = folder / "density.c"
    source.write_text(f'{contract}#include "{translated}"\n')
    include = sysconfig.get_path("include")
    return ["gcc", "-fsyntax-only", "-w", "-std=gnu11", "-DREAL=float", f"-I{include}", source]


def compile_cuda(contract, folder):
    (folder / "abi.h").write_text(contract)
    flags = ["-fsyntax-only", "-w", "-std=c++20", "-DREAL=float", "-include", folder / "abi.h"]
    return ["g++", *flags, ROOT / "tests" / "cuda_on_cpu" / "kernels.cpp"]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (None, None),
        (("cutoff, 80", "cutoff, 88", "cutoff_s, 88", "cutoff_s, 80"), "Geometry: cutoff"),
        (("cutoff, 2", "cutoff, 3", "cutoff_s, 3", "cutoff_s, 2"), "Profile: cutoff"),
        (("GEOMETRY_BYTES 216", "GEOMETRY_BYTES 224"), "Geometry: size"),
    ],
    ids=["as it is", "fields swapped", "fields of the profile swapped", "another size"],
)
@pytest.mark.parametrize("compiler", [compile_pyx, compile_cuda])
def test_a_text_that_differs_does_not_compile(compiler, changed, complaint, tmp_path):
    contract = abi.c_text()
    for before, after in zip((changed or ())[::2], (changed or ())[1::2], strict=True):
        assert f"({before})" in contract or f" {before}\n" in contract
        contract = contract.replace(f"({before})", f"({after})").replace(f" {before}\n", f" {after}\n")
    command = compiler(contract, tmp_path)
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == (complaint is None), done.stderr
    if complaint:
        assert complaint in done.stderr


def test_pack_geometry():
    fields = {name: 1 if length == 1 else range(length) for name, length in abi.FIELDS.items()}
    packed = abi.pack_geometry(**fields)
    numbers = 1, 0, 1, 2, 1, 1, 1, 1, 1, 0, 1, 2, 3
    assert struct.unpack("=16d4q13f4x", packed) == (0, 1, 2, *numbers, 0, 1, 2, 1, *numbers)
    moved = struct.unpack("=16d4q13f4x", abi.moved_to((7, 8, 9), packed))
    assert moved == (7, 8, 9, *struct.unpack("=16d4q13f4x", packed)[3:])
    wide = struct.unpack("=16d4q13f4x", abi.pack_geometry(**fields | {"resolution": 1e39}))
    assert (wide[3], wide[20]) == (1e39, float("inf"))
    with pytest.raises(TypeError, match="tail: 2 numbers; expected 4"):
        abi.pack_geometry(**fields | {"tail": (1, 2)})
    with pytest.raises(TypeError, match="fields: resolution; expected center, resolution, origin"):
        abi.pack_geometry(resolution=1)


def test_contributing_names_what_there_is():
    """Every file that CONTRIBUTING.md tells to touch is there, in the folder named or in one of those below."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w*]+/)*[\w*]+\.(?:py|pyx|pxd|cuh?|cpp|md|sh))`", text))
    assert len(named) > 40
    folders = (".", "gridgrad", "gridgrad/autograd", "gridgrad/mol", "gridgrad/io", "tests", "pyx", "cuda", "docs")
    missing = {name for name in named if not any(list((ROOT / folder).glob(name)) for folder in folders)}
    assert not missing
