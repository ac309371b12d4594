"""docs/pytorch.md lists exactly the rows that tests show, with their outcome and the test."""

import importlib
from pathlib import Path

import pytest
from support.rows import ROWS

PAGE = Path(__file__).parents[1] / "docs" / "pytorch.md"
MODULES = (
    "test_func_transforms", "test_func_vmap", "test_forward_ad", "test_compile", "test_export", "test_autocast",
    "test_modules", "test_threads", "test_plain_orders", "test_out", "test_operator_arguments", "test_races",
    "test_tangent_tangent", "test_center", "test_points",
)  # fmt: skip


def rows_of_the_page():
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] != "call":
            call, outcome, place = cells
            assert call not in rows, f"twice in the table: {call}"
            rows[call] = outcome, place.strip("`")
    return rows


@pytest.mark.skipif(not PAGE.exists(), reason="needs the documentation beside the tests")
def test_every_row_is_a_test_and_every_test_a_row():
    for module in MODULES:
        importlib.import_module(module)
    assert rows_of_the_page() == ROWS
