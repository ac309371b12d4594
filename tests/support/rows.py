"""The rows of the table in docs/pytorch.md: what was called, how it ends, and the test that shows it."""

import re

import torch

ROWS = {}
HAS_WORDING = torch.__version__ >= torch.torch_version.TorchVersion("2.13")
"""The tables have the words of torch 2.13; before, torch's own errors say the same in others."""


def row(*calls, outcome="works"):
    """Register the rows that a test covers.

    Parameters
    ----------
    *calls : str
        First column.
    outcome : str
        Second column: ``works``, or the error.
    """

    def register(test):
        place = f"{test.__module__}.py::{test.__name__}"
        for call in calls:
            assert call not in ROWS, f"two tests claim {call}"
            ROWS[call] = outcome, place
        return test

    return register


def refused(error, text):
    """Outcome of a call that raises."""
    return f"`{error.__name__}`: {text}"


def in_the_words_of_torch(text):
    """Return the pattern of an error of torch's own."""
    return re.escape(text) if HAS_WORDING else ""
