"""GridMaker: the plain orders of the density on a grid, without autograd."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from gridgrad.autograd import arguments, grids, ops, validate
from gridgrad.autograd._torch import is_transformed, is_zerotensor
from gridgrad.autograd.families import computing
from gridgrad.grid import Grid

Array = TypeVar("Array", Tensor, np.ndarray)
"""What `coords` are decides what the methods return."""

_Class = TypeVar("_Class", bound=type)

Center = Tensor | np.ndarray | Sequence[Any]

_is_compiling = torch.compiler.is_compiling


def _to_torch(name: str, value: object) -> Tensor | None:
    if value is None:
        return None
    if isinstance(value, Tensor):
        if not _is_compiling() and is_transformed(value):
            raise RuntimeError(
                f"{name}: inside of a transform of torch.func; expected one outside. GridMaker's methods have neither "
                "derivatives nor a rule for vmap; gridgrad.coords2grid has both"
            )
        return value.detach() if value.requires_grad else value
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: {type(value).__name__}; expected a torch.Tensor or a numpy.ndarray")
    if not value.flags.writeable or any(stride < 0 for stride in value.strides) or not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(value)
    except TypeError:
        raise TypeError(f"{name}: dtype {value.dtype}; expected one that torch has as well") from None


def _as(like: Array, value: Tensor) -> Array:
    found: Any = value if isinstance(like, Tensor) else value.numpy()
    return found


def _gradients(
    coords: Array, gradients: tuple[Tensor, Tensor, Tensor], vectors: bool
) -> tuple[Array, Array | None, Array]:
    grad_coords, grad_types, grad_radii = gradients
    return _as(coords, grad_coords), _as(coords, grad_types) if vectors else None, _as(coords, grad_radii)


def _extent(tensor: Tensor) -> tuple[int, int]:
    # addresses from the first element to the end of the last
    begin = tensor.data_ptr()
    if tensor.is_contiguous() or not tensor.numel():
        return begin, begin + tensor.nbytes
    n_elements = 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + n_elements * tensor.itemsize


def _compute(operator: str, tensors: tuple[Tensor | None, ...], settings: tuple[Any, ...]) -> Any:
    if _is_compiling():
        return getattr(torch.ops.gridgrad, operator)(*tensors, *settings)
    return computing(operator)(tensors, settings)


def _check_out(out: Tensor | np.ndarray, grid: Tensor, is_plain: bool, **atoms: object) -> None:
    if not grid.is_contiguous() or (isinstance(out, np.ndarray) and grid.data_ptr() != out.ctypes.data):
        raise ValueError("out: not a contiguous, writeable array; expected one")
    if isinstance(out, Tensor) and out.requires_grad:
        raise ValueError("out: requires grad; expected a tensor that does not, for this writes without derivatives")
    if _is_compiling():
        return  # the graph computes first and copies then
    if grid.is_neg() or is_zerotensor(grid):
        raise ValueError("out: a view with a sign to come, or zeros without memory; expected a tensor of its own")
    if is_plain or grids.has_memory(grid):
        begin, end = _extent(grid)
        for name, value in atoms.items():
            tensor = _to_torch(name, value) if isinstance(value, np.ndarray) else value
            if isinstance(tensor, Tensor):
                atoms_begin, atoms_end = _extent(tensor)
                if begin < atoms_end and atoms_begin < end and begin < end and atoms_begin < atoms_end:
                    raise ValueError(f"out: shares memory with {name}; expected memory of its own")


if TYPE_CHECKING:  # its arguments are those of Grid, not those that its fields suggest

    def _frozen(cls: _Class) -> _Class: ...

else:
    _frozen = dataclass(frozen=True)


@_frozen
class GridMaker(Grid):  # noqa: D101
    __doc__ = Grid.__doc__

    def _atoms(
        self,
        center: object,
        coords: object,
        types: object,
        radii: object,
        n_types: int | None,
        batch: object,
        batch_size: int | None = None,
    ) -> validate.Atoms:
        if isinstance(center, (Tensor, np.ndarray)):
            center = _to_torch("center", center)
        if isinstance(radii, Tensor) or not isinstance(radii, numbers.Real):
            radii = _to_torch("radii", radii)
        atoms: tuple[Any, Any, Any] = _to_torch("coords", coords), _to_torch("types", types), radii
        return validate.atoms(self, center, *atoms, n_types, _to_torch("batch", batch), batch_size)

    def _call(
        self, operator: str, atoms: validate.Atoms, *more: Tensor | None, needs: tuple[bool, bool, bool] | None = None
    ) -> Any:
        *tensors, center, n_types = atoms
        settings = self.spec, center, n_types
        return _compute(operator, (*tensors, *more), settings if needs is None else (*settings, needs))

    def _grid_like(self, name: str, value: Tensor | None, atoms: validate.Atoms) -> Tensor:
        shape = grids.grid_shape(atoms.coords, atoms.offsets, self, atoms.n_types)
        return arguments.shaped_like(name, value, shape, atoms.coords)

    def forward(
        self,
        center: Center,
        coords: Array,
        types: Array,
        radii: Array | float,
        n_types: int | None = None,
        out: Array | None = None,
        batch: Array | None = None,
        batch_size: int | None = None,
    ) -> Array:
        r"""Compute the density :math:`\rho_k(x_p) = \sum_i w_{ik}\, \varphi(s_{ip})`.

        Parameters
        ----------
        center, coords, types, radii, n_types, batch, batch_size
            As for `gridgrad.coords2grid`; NumPy arrays as well.
        out : Tensor or ndarray, optional
            Contiguous grid of the right shape, dtype and device to write into, which shares no memory with the atoms.
            A tensor must not require grad; its version is counted up, as by any operator of torch that writes.

        Returns
        -------
        Tensor or ndarray
            (T, X, Y, Z), or (B, T, X, Y, Z) for batches; of the kind of `coords`.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, what was seen and what is expected.
        MemoryError
            If the grid does not fit.
        """
        given: Any = coords, types, radii, batch, out
        is_plain = type(center) is tuple and not _is_compiling() and ops.is_plain(*given)
        check: Any = validate.atoms if is_plain else GridMaker._atoms  # what is plain needs no conversion
        atoms: validate.Atoms = check(self, center, coords, types, radii, n_types, batch, batch_size)
        grid: Any = given[4] if is_plain else _to_torch("out", out)
        if grid is not None:
            grid = self._grid_like("out", grid, atoms)
        if not is_plain or atoms.coords is not coords or atoms.centers is not None:
            is_plain = not _is_compiling() and ops.is_plain(*atoms[:5], grid)
        if out is not None:
            _check_out(out, grid, is_plain, coords=coords, types=types, radii=radii)
        if is_plain:
            density = ops.density(*atoms[:5], self.spec, atoms.center, atoms.n_types, out=grid)
        else:
            density = self._call("density", atoms)
        if out is None:
            return _as(coords, density)
        if is_plain:
            torch.autograd.graph.increment_version(grid)
        else:
            grid.copy_(density)
        return out

    def backward(
        self,
        center: Center,
        coords: Array,
        types: Array,
        radii: Array | float,
        grad_density: Array,
        batch: Array | None = None,
    ) -> tuple[Array, Array | None, Array]:
        r"""Compute the first-order gradients :math:`\sum_p G\, \partial\rho(x_p)/\partial(r, w, R)`.

        Parameters
        ----------
        center, coords, types, radii, batch
            As for `forward`.
        grad_density : Tensor or ndarray
            (T, X, Y, Z) or (B, T, X, Y, Z): G, the derivative of the loss with respect to the density.

        Returns
        -------
        grad_coords : Tensor or ndarray
            Shaped like `coords`.
        grad_types : Tensor, ndarray or None
            Shaped like `types`; None for type indices.
        grad_radii : Tensor or ndarray
            Shaped like `radii`.
        """
        atoms, grid = self._with_grid(center, coords, types, radii, batch, grad_density=grad_density)
        vectors = atoms.types.is_floating_point()
        gradients = self._call("density_backward", atoms, grid, needs=(True, vectors, True))
        return _gradients(coords, gradients, vectors)

    def backward_gradients(
        self,
        center: Center,
        coords: Array,
        types: Array,
        radii: Array | float,
        grad_density: Array,
        grad_grad_coords: Array | None,
        grad_grad_types: Array | None,
        grad_grad_radii: Array | None,
        batch: Array | None = None,
    ) -> tuple[Array, Array, Array | None, Array]:
        """Compute the second order: the gradients of <grad_grad, backward(grad_density)>.

        Parameters
        ----------
        center, coords, types, radii, grad_density, batch
            As for `backward`.
        grad_grad_coords, grad_grad_types, grad_grad_radii : Tensor, ndarray or None
            Derivatives of the loss with respect to what `backward` returns; None is zero.

        Returns
        -------
        grad_grad_density : Tensor or ndarray
            Shaped like `grad_density`; also the derivative of the density along (grad_grad_coords, ...).
        grad_coords, grad_types, grad_radii : Tensor, ndarray or None
            As for `backward`.
        """
        atoms, grid = self._with_grid(center, coords, types, radii, batch, grad_density=grad_density)
        vectors = atoms.types.is_floating_point()
        if not vectors and grad_grad_types is not None:
            raise ValueError("grad_grad_types: given with type indices; expected None")
        tangents: list[Tensor | None] = []
        for name, value, like in (
            ("grad_grad_coords", grad_grad_coords, atoms.coords),
            ("grad_grad_types", grad_grad_types, atoms.types),
            ("grad_grad_radii", grad_grad_radii, atoms.radii),
        ):
            tangent = _to_torch(name, value)
            tangents.append(None if tangent is None else arguments.shaped_like(name, tangent, like.shape, atoms.coords))
        grad_grad_density = self._call("density_tangent", atoms, *tangents)
        gradients = self._call("density_backward_backward", atoms, grid, *tangents, needs=(True, vectors, True))
        grad_coords, grad_types, grad_radii = _gradients(coords, gradients, vectors)
        return _as(coords, grad_grad_density), grad_coords, grad_types, grad_radii

    def backward_relevance(
        self,
        center: Center,
        coords: Array,
        types: Array,
        radii: Array | float,
        density: Array,
        relevance: Array,
        batch: Array | None = None,
    ) -> Array:
        r"""Share the relevance of voxels among atoms, as in layer-wise relevance propagation.

        Atom i receives :math:`\sum_{p,k} \mathrm{relevance}_k(x_p)\, w_{ik}\varphi(s_{ip}) / \rho_k(x_p)`, where the
        density is not zero (Bach et al., PLoS ONE 2015, 10, e0130140).

        Parameters
        ----------
        center, coords, types, radii, batch
            As for `forward`.
        density, relevance : Tensor or ndarray
            (T, X, Y, Z) or (B, T, X, Y, Z): what `forward` returned, and the relevance of each of its voxels.

        Returns
        -------
        Tensor or ndarray
            (N,) or (B, N).
        """
        atoms, grid = self._with_grid(center, coords, types, radii, batch, density=density)
        relevances = self._grid_like("relevance", _to_torch("relevance", relevance), atoms)
        return _as(coords, self._call("density_relevance", atoms, grid, relevances))

    def _with_grid(
        self, center: object, coords: object, types: object, radii: object, batch: object, **grid: object
    ) -> tuple[validate.Atoms, Tensor]:
        ((name, value),) = grid.items()
        value, types = _to_torch(name, value), _to_torch("types", types)
        value = value if value is None else arguments.tensor(name, value)
        if value is None or value.dim() not in ((5,) if batch is not None else (4, 5)) or not value.shape[-4]:
            shape = None if value is None else tuple(value.shape)
            raise ValueError(f"{name}: shape {shape}; expected (T, X, Y, Z), or (B, T, X, Y, Z) for batches")
        batch_size = value.shape[0] if batch is not None else None
        indices = types is not None and not types.is_floating_point()
        atoms = self._atoms(center, coords, types, radii, value.shape[-4] if indices else None, batch, batch_size)
        return atoms, self._grid_like(name, value, atoms)
