"""Right calls of any order of magnitude, within what rounding of the inputs can move the result: see support/wide.py.

Some hundred calls; ``GRIDGRAD_WIDE=10000`` makes as many.
"""

import os

import pytest
import torch
from support.wide import BAR, Call

import gridgrad as gg

COUNT = int(os.environ.get("GRIDGRAD_WIDE", "200"))


@pytest.mark.parametrize("first", range(0, COUNT, 50))
def test_values_of_any_size(first):
    """All outputs of orders 0, 1 and 2, by the methods, the function and the layer."""
    for number in range(first, min(first + 50, COUNT)):
        errors = Call(number).errors()
        assert max(errors.values()) < BAR, f"call {number}: {errors}"


def test_the_calls_are_about_something():
    """Most points count, and most densities are not zero."""
    calls = [Call(number) for number in range(40)]
    assert sum(float(call.smooth.double().mean()) for call in calls) > 0.8 * len(calls)
    assert sum(bool(call.expected()["density"].any()) for call in calls) > 0.8 * len(calls)


@pytest.mark.parametrize("method", ["forward", "backward", "backward_gradients"])
def test_errors_are_seen(method, monkeypatch):
    """A result that is off by a thousand roundings is beyond the bar in most calls."""
    right = getattr(gg.GridMaker, method)
    calls = [call for call in map(Call, range(40)) if call.entrance == "methods"]

    def wrong(maker, *arguments, **keywords):
        found = right(maker, *arguments, **keywords)
        off = 1 + 1000 * torch.finfo(arguments[1].dtype).eps
        return found * off if isinstance(found, torch.Tensor) else [x if x is None else x * off for x in found]

    monkeypatch.setattr(gg.GridMaker, method, wrong)
    seen = [max(call.errors().values()) > BAR for call in calls]
    assert sum(seen) > 0.5 * len(seen)
