"""Import of optional dependencies, with an error that says which extra brings them."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Parameters
    ----------
    module : str
        Module to import, ``"package"`` or ``"package.submodule"``.
    extra : str
        Extra of ``gridgrad`` that installs it.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{package} is needed here and is not usable ({error}): pip install 'gridgrad[{extra}]'"
        ) from error
