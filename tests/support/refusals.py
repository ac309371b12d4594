"""What an error says of a bad argument: its name, what was seen and what is expected, in one line."""

import pytest
import torch

ERRORS = (TypeError, ValueError)


def message(call, *arguments, errors=ERRORS, **keywords):
    with pytest.raises(errors) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


def assert_says(text, name, *seen):
    """The message starts with the argument and contains what was seen and what is expected."""
    assert text.startswith(f"{name}:"), text
    for part in seen:
        assert str(part) in text, f"{part!r} is not in {text!r}"
    assert "; expected" in text and "\n" not in text, text


def zeros(*shape, dtype=torch.float64, **kwargs):
    return torch.zeros(shape, dtype=dtype, **kwargs)


def ones(*shape, dtype=torch.float64):
    return torch.ones(shape, dtype=dtype)
