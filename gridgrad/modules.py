"""torch.nn modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from gridgrad.autograd import validate
from gridgrad.autograd._torch import KeepsBuffers
from gridgrad.functional import coords2grid
from gridgrad.gridmaker import GridMaker


class Atoms(Protocol):
    """What a layer asks of an `gridgrad.data.AtomBatch`."""

    coords: Tensor
    types: Tensor
    radii: Tensor
    center: Tensor | None
    fixed: Tensor | None

    @property
    def batch(self) -> Tensor:
        """(N,): the example of each atom."""

    @property
    def batch_size(self) -> int:
        """The number B of examples."""

    @property
    def n_types(self) -> int | None:
        """The number T of channels, where it is known."""


class Coords2Grid(KeepsBuffers):
    """Layer that turns atoms into their density grid.

    Parameters
    ----------
    gm : GridMaker
        The grid.
    center : sequence of float or Tensor, default (0, 0, 0)
        (3,) centre of the grid in angstrom. It moves with the module to another device, but stays float64 whatever
        dtype the module is converted to, and is no part of the state, which is empty. A `torch.nn.Parameter` becomes a
        parameter of the module, a centre to be learnt, which is converted as all of them are.
    n_types : int, optional
        Channels; required for integer types, unless the batches name their channels.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was seen and what is expected.
    """

    center: Tensor

    def __init__(
        self, gm: GridMaker, center: Tensor | Sequence[Any] = (0.0, 0.0, 0.0), n_types: int | None = None
    ) -> None:
        super().__init__()
        if not isinstance(gm, GridMaker):
            raise TypeError(f"gm: {type(gm).__name__}; expected a GridMaker")
        if not isinstance(center, torch.nn.Parameter):
            device = center.device if isinstance(center, Tensor) else None
            center = validate.center_tensor(center, torch.empty(0, dtype=torch.float64, device=device)).clone()
        if center.shape != (3,):
            raise ValueError(f"center: shape {tuple(center.shape)}; expected (3,)")
        self.gm = gm
        self.n_types = n_types
        if isinstance(center, torch.nn.Parameter):
            self.center = center
        else:
            self.register_buffer("center", center, persistent=False)

    def forward(
        self,
        coords: Tensor | Atoms,
        types: Tensor | None = None,
        radii: Tensor | None = None,
        batch: Tensor | None = None,
        batch_size: int | None = None,
        center: Tensor | Sequence[Any] | None = None,
    ) -> Tensor:
        """Return ``coords2grid(gm, center, coords, types, radii, n_types, batch, batch_size)``.

        Parameters
        ----------
        coords : Tensor or AtomBatch
            As for `gridgrad.coords2grid`; or a `gridgrad.data.AtomBatch` alone, whose ``fixed`` atoms cost nothing in
            the backward passes.
        types, radii, batch, batch_size
            As for `gridgrad.coords2grid`.
        center : Tensor or sequence of float, optional
            As for `gridgrad.coords2grid`, also one per example; by default that of the batch, else that of the layer.

        Returns
        -------
        Tensor
            (T, X, Y, Z), or (B, T, X, Y, Z) for batches.
        """
        n_types, fixed = self.n_types, None
        given: tuple[Any, Any, Any] = coords, types, radii  # whatever they are: coords2grid says what is wrong
        if types is None and hasattr(coords, "coords"):
            atoms: Any = coords
            given, batch, batch_size = (atoms.coords, atoms.types, atoms.radii), atoms.batch, atoms.batch_size
            center = atoms.center if center is None else center
            fixed, n_types = atoms.fixed, self.n_types or atoms.n_types
            if atoms.n_types not in (None, n_types):
                raise ValueError(f"n_types: {n_types}; expected {atoms.n_types}, the channels of the batch")
        if center is None:
            center = self.center
            if isinstance(given[0], Tensor):
                center = center.to(given[0].device, torch.float64)
        return coords2grid(self.gm, center, *given, n_types, batch, batch_size, fixed)

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"{self.gm}, center={self.center.tolist()}, n_types={self.n_types}"
