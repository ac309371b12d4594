"""The examples of the README and of the documentation run."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/start.md", "docs/one_atom.md", "docs/fit.md")


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
    ("page", "needs"), [(page, ["rdkit", "gemmi", "posebusters"]) for page in ("molecules.md", "data.md")]
)
def test_pages_from_top_to_bottom(page, needs):
    """Their blocks run one after the other."""
    for package in needs:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    names = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
