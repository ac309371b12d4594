"""Text for the terminal."""

from __future__ import annotations

from typing import TextIO

from gridgrad.extras import require

__all__ = ["printable", "say"]


def printable(text: object) -> str:
    """Return a text with escapes for what a terminal would obey or cannot show: names in files may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def say(text: object = "", file: TextIO | None = None) -> None:
    """Print one line, above the progress bar if there is one."""
    require("tqdm", "mol").tqdm.write(printable(text), file=file)
