"""Values as error messages show them."""

import reprlib


def shown(value: object) -> str:
    """Return what a value is, short and on one line.

    Parameters
    ----------
    value : object
        Anything, however large.

    Returns
    -------
    str
        Its representation, abbreviated; only its type if it has none.
    """
    try:
        return " ".join(reprlib.repr(value).split())
    except Exception:  # whatever a foreign __repr__ raises; integers of more than 4300 digits
        return f"<{type(value).__name__}>"
