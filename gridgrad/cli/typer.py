"""The typer that the options of a command name."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from gridgrad.mol import ElementTyper, GninaTyper, Typer

__all__ = ["make_typer"]


def make_typer(options: argparse.Namespace, part: str) -> Typer:
    """Return the typer of a part.

    Parameters
    ----------
    options : Namespace
        `typer`, `elements` and `hydrogens` as `gridgrad.cli.main` adds them.
    part : {"ligand", "receptor"}
        The part.

    Returns
    -------
    callable
        The typer.

    Raises
    ------
    TypeError, ValueError, ImportError
        If the options do not name one.
    """
    if options.typer is None:
        typer = ElementTyper(tuple(options.elements.split(","))) if options.elements else ElementTyper()
        return typer if options.hydrogens else typer.without_hydrogen()
    if options.elements:
        raise ValueError("--elements: is for the element typer, expected it without --typer")
    if options.typer in ("gnina", "gnina-openbabel"):
        return GninaTyper(part, openbabel=options.typer == "gnina-openbabel")
    module, colon, name = options.typer.partition(":")
    if not (module and colon and name):
        raise ValueError(f"--typer: got {options.typer!r}, expected gnina, gnina-openbabel or MODULE:NAME")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"--typer: {module} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise TypeError(f"--typer: {name} of {module} is {found!r}, expected a callable")
    return found
