"""vmap: the mapped dimension and the examples of a call become the examples of one call."""

from __future__ import annotations

import torch
from torch import Tensor

from gridgrad.grid import Grid


class Stacked:
    """The atoms of a call under vmap, as the atoms of one larger call.

    Unmapped arguments are expanded. Radii by type stay shared while nothing needs one row per example.

    Parameters
    ----------
    size : int
        V, the size of the mapped dimension.
    dims : sequence of int or None
        Mapped dimensions of `coords`, `types`, `radii`, `offsets` and `centers`.
    coords, types, radii, offsets, centers
        The arguments that all operators share, the mapped ones with one dimension more.
    spec : str
        The ``spec`` of the grid.
    own_radii : bool
        Give each example its own radii even if they are shared.
    """

    __slots__ = ("atoms", "by_type", "n_examples", "n_rows", "own_radii", "shared_radii", "size")

    def __init__(self, size, dims, coords, types, radii, offsets, centers, spec, own_radii):
        self.size = size
        self.by_type = Grid.from_spec(spec).radius_type_indexed
        self.shared_radii = radii.dim() - (dims[2] is not None) == 1
        self.own_radii = own_radii or dims[2] is not None or not self.shared_radii
        lead = self._lead(coords, dims[0])
        self.n_rows = lead.shape[1]  # N or B
        if offsets is not None:
            offsets = self._lead(offsets, dims[3])
            self.n_examples = offsets.shape[1] - 1
        else:
            self.n_examples = lead.shape[1] if lead.dim() == 4 else None
        self.atoms = (
            self.per_atom(coords, dims[0]),
            self.per_atom(types, dims[1]),
            self.like_radii(radii, dims[2]),
            None if offsets is None else self._offsets(offsets, lead.shape[1]),
            None if centers is None else self._lead(centers, dims[4]).flatten(0, 1),
        )

    def _lead(self, tensor: Tensor, dim: int | None) -> Tensor:
        return tensor.expand(self.size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

    def _offsets(self, offsets: Tensor, n_atoms: int) -> Tensor:
        starts = offsets[:, :-1] + torch.arange(self.size, device=offsets.device)[:, None] * n_atoms
        return torch.cat([starts.flatten(), starts.new_full((1,), self.size * n_atoms)])

    def per_atom(self, tensor: Tensor | None, dim: int | None) -> Tensor | None:
        """Stack an argument that has one element per atom.

        Parameters
        ----------
        tensor : Tensor or None
            (N, ...) or (B, N, ...), and the mapped dimension.
        dim : int or None
            The mapped dimension.

        Returns
        -------
        Tensor or None
            (V, N, ...), (V B, N, ...) or, ragged, (V N, ...).
        """
        if tensor is None:
            return None
        tensor = self._lead(tensor, dim)
        return tensor if self.n_examples is None else tensor.flatten(0, 1)

    def like_radii(self, tensor: Tensor | None, dim: int | None) -> Tensor | None:
        """Stack radii or an argument of their layout.

        Parameters
        ----------
        tensor : Tensor or None
            As `radii`, and the mapped dimension.
        dim : int or None
            The mapped dimension.

        Returns
        -------
        Tensor or None
            As `per_atom`; by type: (V, T) or (V B, T), or (T,) if shared.
        """
        if tensor is None or not self.by_type:
            return self.per_atom(tensor, dim)
        if not self.own_radii:
            return tensor
        tensor = self._lead(tensor, dim)
        if self.n_examples is None:
            return tensor
        if self.shared_radii:
            tensor = tensor.unsqueeze(1).expand(-1, self.n_examples, -1)
        return tensor.flatten(0, 1)

    def grid(self, tensor: Tensor, dim: int | None) -> Tensor:
        """Stack a grid.

        Parameters
        ----------
        tensor : Tensor
            (T, X, Y, Z) or (B, T, X, Y, Z), and the mapped dimension.
        dim : int or None
            The mapped dimension.

        Returns
        -------
        Tensor
            (V, T, X, Y, Z) or (V B, T, X, Y, Z).
        """
        tensor = self._lead(tensor, dim)
        return tensor if self.n_examples is None else tensor.flatten(0, 1)

    def unstack_grid(self, tensor: Tensor) -> Tensor:
        """Undo `grid`; the mapped dimension is the first."""
        return tensor if self.n_examples is None else tensor.unflatten(0, (self.size, self.n_examples))

    def unstack_gradients(
        self, gradients: tuple[Tensor | None, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[int | None, ...]]:
        """Undo `per_atom` and `like_radii` for the gradients of coords, types and radii.

        Parameters
        ----------
        gradients : tuple of (Tensor or None)
            What the operators return; None where it was not asked for.

        Returns
        -------
        gradients : tuple of Tensor
            Empty where it was not asked for.
        dims : tuple of (int or None)
            Their mapped dimensions.
        """
        coords = self.atoms[0]
        assert coords is not None
        absent = coords.new_empty(0)
        return (
            tuple(absent if g is None else self._unstack(g, i == 2) for i, g in enumerate(gradients)),
            tuple(None if g is None else 0 for g in gradients),
        )

    def _unstack(self, gradient: Tensor, is_radii: bool) -> Tensor:
        if self.n_examples is None:
            return gradient
        if is_radii and self.by_type:
            gradient = gradient.unflatten(0, (self.size, self.n_examples))
            return gradient.sum(1) if self.shared_radii else gradient
        return gradient.unflatten(0, (self.size, self.n_rows))
