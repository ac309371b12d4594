"""Odd arguments for the public API and its operators, in processes of their own: see support/fuzz.py.

Some hundred calls; ``GRIDGRAD_FUZZ=2000`` makes as many, ``GRIDGRAD_FUZZ=2000:7000`` those from number 7000 on.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import fuzz

import gridgrad as gg

COUNT, _, FIRST = os.environ.get("GRIDGRAD_FUZZ", "400").partition(":")
FIRST, COUNT = int(FIRST or 0), int(COUNT)
CHUNK = 500  # calls of a process
CHUNKS = [(first, min(CHUNK, FIRST + COUNT - first)) for first in range(FIRST, FIRST + COUNT, CHUNK)]


@pytest.mark.parametrize(("first", "count"), CHUNKS)
def test_odd_arguments(first, count, record_property):
    """Every call gives what the oracle gives, or a TypeError, ValueError or MemoryError that names the argument."""
    command = [sys.executable, "-m", "support.fuzz", str(first), str(count)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, timeout=900)
    last = run.stderr.splitlines()[-1:]
    assert run.returncode == 0, f"call {last} ended the interpreter ({run.returncode}): {run.stderr[-2000:]}"
    found = json.loads(run.stdout)
    print(found["endings"], found["compared"])
    assert not found["problems"], "\n".join(found["problems"])
    assert sum(found["endings"].values()) == count
    assert found["compared"] > 0.2 * count and found["endings"]["refused"] > 0.3 * count


def wrong_by(factor):
    return lambda found: found * factor


def raises(error):
    def forward(found):
        raise error

    return forward


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (wrong_by(1.001), "relative error 1.0e-03"),
        (wrong_by(float("nan")), "not finite"),
        (lambda found: found[:-1], "has shape"),
        (lambda found: None, "is None"),
        (raises(ValueError("no")), "message: no"),
        (raises(ValueError("coords: 1\n2; expected 3")), "message: coords"),
        (raises(RuntimeError("coords: 1; expected 2")), "RuntimeError: coords"),
    ],
)
def test_the_fuzz_finds_what_is_wrong(fault, says, monkeypatch):
    """A result that is off, an error without the argument and an exception of another kind are each noticed."""
    forward = gg.GridMaker.forward
    numbers = [number for number in range(150) if fuzz.Case(number).entrance == "forward"]
    good = [number for number in numbers if fuzz.run(number) == ("returned", None)]
    monkeypatch.setattr(gg.GridMaker, "forward", lambda *a, **k: fault(forward(*a, **k)))
    problems = [wrong for _, wrong in map(fuzz.run, good) if wrong]
    assert any(says in wrong for wrong in problems), problems
