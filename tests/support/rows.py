"""The rows of the table in docs/pytorch.md: what was called, how it ends, and the test that shows it."""

ROWS = {}


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
