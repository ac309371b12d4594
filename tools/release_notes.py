"""Print what CHANGELOG.md says of a version: ``python tools/release_notes.py 0.1.0``."""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def notes(version):
    """Return the section of a version, without its heading."""
    section = re.search(
        rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", CHANGELOG.read_text("utf-8"), re.M | re.S
    )
    if section is None:
        raise SystemExit(f"version: {version}; expected one of the headings of {CHANGELOG.name}")
    return section.group(1).strip()


if __name__ == "__main__":
    print(notes(sys.argv[1]))
