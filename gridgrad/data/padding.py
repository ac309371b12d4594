"""Ragged atoms, padded."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PaddedAtoms", "padded_atoms"]


class PaddedAtoms(NamedTuple):
    """A batch whose examples are padded to the same number of atoms M, as `coords2grid` takes it.

    Attributes
    ----------
    coords : Tensor
        (B, M, 3); 0 where there is no atom.
    types : Tensor
        (B, M), -1 where there is no atom, or (B, M, T), 0 where there is none.
    radii : Tensor
        (B, M), 1 where there is no atom; (T,) stays as it is.
    mask : Tensor
        (B, M) bool: where there is an atom.
    """

    coords: Tensor
    types: Tensor
    radii: Tensor
    mask: Tensor


def padded_atoms(
    coords: Tensor, types: Tensor, radii: Tensor, offsets: Tensor, batch: Tensor, radius_type_indexed: bool
) -> PaddedAtoms:
    """Pad the examples of a batch to the same number of atoms.

    Parameters
    ----------
    coords, types, radii, offsets, batch, radius_type_indexed
        As for `gridgrad.data.AtomBatch`.

    Returns
    -------
    PaddedAtoms
        The padded atoms.
    """
    n_atoms = offsets[1:] - offsets[:-1]
    size = int(n_atoms.max()) if len(n_atoms) else 0
    place = torch.arange(coords.shape[0], device=coords.device) - offsets[batch]
    mask = torch.arange(size, device=coords.device) < n_atoms[:, None]

    def pad(values: Tensor, filler: float) -> Tensor:
        return values.new_full((*mask.shape, *values.shape[1:]), filler).index_put((batch, place), values)

    padded_types = pad(types, 0 if types.is_floating_point() else -1)
    return PaddedAtoms(pad(coords, 0), padded_types, radii if radius_type_indexed else pad(radii, 1), mask)
