"""The examples of the README and of the documentation run."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from gridgrad.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/start.md", "docs/one_atom.md", "docs/hessians.md", "docs/fit.md", "docs/gradients.md")


@pytest.mark.parametrize("page", PAGES)
def test_examples(page):
    """Their assertions, where they have some, hold."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    for block in blocks:
        names = {}
        exec(compile(block, page, "exec"), names)
        assert "second" in names or names["coords"].grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("page", "needs"),
    [
        ("molecules.md", ["rdkit", "gemmi", "posebusters"]),
        ("data.md", ["rdkit", "gemmi", "posebusters", "pyarrow", "tqdm"]),
        ("gnina.md", ["rdkit", "gemmi", "posebusters"]),
    ],
)
def test_pages_from_top_to_bottom(page, needs, tmp_path, monkeypatch):
    """Their blocks run one after the other, in Python and, where they show ``gridgrad``, on the command line."""
    for package in needs:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|console)\n(.*?)^```", text, re.M | re.S)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names = {}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, page, "exec"), names)
            continue
        for command in re.findall(r"^\$ gridgrad (.*)", block, re.M):
            assert main(shlex.split(command)) == 0, command
