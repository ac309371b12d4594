"""What the names of channels say of their atoms."""

from __future__ import annotations

from gridgrad.mol.elements import SYMBOLS, VDW_RADII
from gridgrad.mol.gnina import GNINA_TYPES

__all__ = ["element_of_channel"]

_GNINA = {kind.name: kind for kind in GNINA_TYPES}


def element_of_channel(name: str) -> tuple[str, float | None] | None:
    """Return the element and the radius of the atoms of a channel of `ElementTyper` or `GninaTyper`.

    Parameters
    ----------
    name : str
        Name of the channel, with or without a part in front of it: "C", "ligand C", "Bromine_Iodine".

    Returns
    -------
    tuple of str and (float or None), or None
        Symbol, and radius in angstrom where there is one: van der Waals for elements, XS for gnina's types. Of a
        channel with several elements it is the first. None for a name that says nothing.
    """
    last = name.rpartition(" ")[2]
    if last in SYMBOLS[1:]:
        return last, VDW_RADII.get(last)
    kind = _GNINA.get(last.partition("_")[0])
    if kind is None or kind.element == 0:
        return None
    return SYMBOLS[kind.element], kind.xs_radius
