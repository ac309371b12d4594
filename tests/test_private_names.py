"""Private names of torch stand in one file of the package, and each that stands there is used."""

import ast
from pathlib import Path

import pytest
import torch
import torch.autograd.forward_ad
import torch.autograd.graph
import torch.autograd.profiler
import torch.utils._python_dispatch

PACKAGE = Path(__file__).resolve().parents[1] / "gridgrad"
HOME = PACKAGE / "autograd" / "_torch.py"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != HOME)
NAMESPACES = (
    torch, torch.Tensor, torch._C, torch._C._functorch, torch.autograd, torch.autograd.Function,
    torch.autograd.forward_ad, torch.autograd.graph, torch.autograd.profiler, torch.compiler, torch.cuda, torch.func,
    torch.library.Library, torch.nn.Module, torch.nn.Parameter, torch.utils,
)  # fmt: skip


OF_NAMED_TUPLES = ("_asdict", "_fields", "_make", "_replace")


def is_private(name):
    return name.startswith("_") and not name.endswith("__") and name not in OF_NAMED_TUPLES


def is_torchs(name):
    """Whether some object of torch has this private name."""
    return is_private(name) and any(hasattr(space, name) for space in NAMESPACES)


def private_names(tree):
    """Yield (line, name) for imports, attributes of anything but ``self``, overridden methods, and dispatch keys."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [part for alias in node.names for part in alias.name.split(".")]
            found = [part for part in found if is_private(part)] if node.names[0].name.startswith("torch") else []
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            found = filter(is_private, [*node.module.split("."), *(alias.name for alias in node.names)])
        elif isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            found = [node.attr] if is_torchs(node.attr) else []
        elif isinstance(node, ast.ClassDef):
            methods = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
            found = [name for name in methods if is_private(name) and hasattr(torch.nn.Module, name)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = [node.value] if node.value.startswith(("FuncTorch", "Python", "PreDispatch")) else []
        else:
            found = []
        for name in found:
            yield getattr(node, "lineno", 0), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_other_file_uses_one(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [f"{path.name}:{line}: {name}" for line, name in private_names(tree)]


SAMPLES = {
    "import torch._dynamo": "_dynamo",
    "from torch._C import _has_storage": "_C",
    "from torch.autograd.profiler import _is_profiler_enabled": "_is_profiler_enabled",
    "from torch.autograd import forward_ad\nforward_ad._current_level": "_current_level",
    "tensor._is_zerotensor()": "_is_zerotensor",
    "torch._C._len_torch_dispatch_stack()": "_len_torch_dispatch_stack",
    "class M(Module):\n    def _apply(self, fn): ...": "_apply",
    'library.impl("density", f, "FuncTorchDynamicLayerFrontMode")': "FuncTorchDynamicLayerFrontMode",
}


@pytest.mark.parametrize("text", SAMPLES)
def test_it_would_be_found(text):
    assert SAMPLES[text] in [name for _, name in private_names(ast.parse(text))]


def test_each_is_used_and_has_its_reason():
    """What the file offers is imported elsewhere, and a text stands with it."""
    body = ast.parse(HOME.read_text(encoding="utf-8")).body
    offered, explained = set(), set()
    for node, following in zip(body, [*body[1:], None]):
        if isinstance(node, ast.Assign):
            offered |= {target.id for target in node.targets}
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                explained |= {target.id for target in node.targets}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            offered.add(node.name)
            explained |= {node.name} if ast.get_docstring(node) else set()
    imported = {
        alias.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "gridgrad.autograd._torch"
        for alias in node.names
    }
    assert offered == explained == imported
