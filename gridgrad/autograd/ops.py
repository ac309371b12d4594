"""The leaf kernels as torch operators, with one implementation per device; none of them records derivatives.

Every operator takes the flat or padded atoms of a call: ``coords`` (N, 3) or (B, N, 3); ``types`` int64 (N,) / (B, N)
or float (N, T) / (B, N, T); ``radii`` (N,) / (B, N), or (T,) / (B, T) by type; ``offsets`` (B + 1,) int64 for ragged
batches, else None; ``centers`` (B, 3) float64, the centre of each grid, or None, and then ``center``, three numbers,
is that of all; ``spec`` describes the grid. Grids are (T, X, Y, Z), with B in front for batches. `needs` says which
outputs to compute; the others are None, of an operator empty, (0,).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gridgrad.autograd import shapes
from gridgrad.autograd._torch import has_storage, is_watched, is_zerotensor
from gridgrad.autograd.grids import grid_shape, new_grid
from gridgrad.grid import Grid
from gridgrad.kernels import cpu

_ATOMS = "Tensor coords, Tensor types, Tensor radii, Tensor? offsets, Tensor? centers"
_TANGENTS = "Tensor? grad_grad_coords, Tensor? grad_grad_types, Tensor? grad_grad_radii"
_PARTS = ("coords", "types", "radii")
_TANGENT_PAIRS = ", ".join(f"Tensor? {v}_{part}" for v in ("u", "v") for part in _PARTS)
_GRID = "str spec, float[] center, int n_types"

library = torch.library.Library("gridgrad", "DEF")
library.define(f"density({_ATOMS}, {_GRID}) -> Tensor")
library.define(f"density_tangent({_ATOMS}, {_TANGENTS}, {_GRID}) -> Tensor")
library.define(f"density_tangent_tangent({_ATOMS}, {_TANGENT_PAIRS}, {_GRID}) -> Tensor")
library.define(f"density_backward({_ATOMS}, Tensor grad_density, {_GRID}, bool[] needs) -> (Tensor, Tensor, Tensor)")
library.define(
    f"density_backward_backward({_ATOMS}, Tensor grad_density, {_TANGENTS}, {_GRID}, bool[] needs)"
    " -> (Tensor, Tensor, Tensor)"
)
library.define(f"density_relevance({_ATOMS}, Tensor density, Tensor relevance, {_GRID}) -> Tensor")
library.define("batch_offsets(Tensor batch, SymInt batch_size) -> Tensor")

_PRECISIONS = {torch.float32: "float32", torch.float64: "float64"}
_grid = Grid.from_spec
_threads = torch.get_num_threads
_TENSORS = (Tensor, torch.nn.Parameter)


def _compute_serially() -> None:
    global _threads
    _threads = _one


def _one() -> int:
    return 1


# OpenMP's threads do not survive a fork, and a team that waits for them waits forever
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compute_serially)


def is_plain(coords: Tensor, *others: Tensor | None) -> bool:
    """Tell whether the implementations here may be called as they are, past torch's dispatcher.

    Parameters
    ----------
    coords : Tensor
        Decides on the device.
    *others : Tensor or None
        The other tensors of the call.

    Returns
    -------
    bool
        False for subclasses and wrappers of tensors, devices without kernels, dispatch modes, tracing and profiling.
    """
    if type(coords) not in _TENSORS or not (coords.is_cpu or coords.is_cuda) or not has_storage(coords):
        return False
    for tensor in others:
        if tensor is not None and (type(tensor) not in _TENSORS or not has_storage(tensor)):
            return False
    return not is_watched()


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def expect(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype, like: Tensor) -> None:
    """Refuse a tensor of which a kernel would read more than there is, or something else.

    Parameters
    ----------
    name : str
        Name of the argument.
    value : Tensor
        What was given.
    shape : tuple of int
        What is expected.
    dtype : torch.dtype
        What is expected: that of coords, or that of indices.
    like : Tensor
        coords, whose device is expected.

    Raises
    ------
    TypeError
        If it has another dtype.
    ValueError
        If it has another shape or lies on another device.
    """
    if value.dtype is not dtype:
        whose = ", that of coords" if dtype is like.dtype else ""
        raise TypeError(f"{name}: dtype {value.dtype}; expected {dtype}{whose}")
    if value.shape != shape:
        raise ValueError(f"{name}: shape {tuple(value.shape)}; expected {tuple(shape)}")
    if value.device != like.device:
        raise ValueError(f"{name}: on {value.device}; expected {like.device}, that of coords")


def _dense(tensor: Tensor) -> Tensor:
    """Return a tensor whose memory holds its elements in order: no strides, no pending sign, no implicit zeros."""
    if tensor.is_contiguous() and not tensor.is_neg() and not is_zerotensor(tensor):
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _examples(offsets: Tensor, coords: Tensor) -> int:
    if coords.dim() != 2:
        raise ValueError(f"coords: shape {tuple(coords.shape)} with offsets; expected (N, 3)")
    if offsets.dim() != 1 or not len(offsets):
        raise ValueError(f"offsets: shape {tuple(offsets.shape)}; expected (B + 1,)")
    expect("offsets", offsets, offsets.shape, torch.int64, coords)
    return len(offsets) - 1


class Call:
    """The atoms of one call as the kernels want them: contiguous, as addresses.

    Whoever calls an operator by its name, as exported graphs do, has had nothing checked before: a kernel reads as much
    as the sizes here say.

    Parameters
    ----------
    coords, types, radii, offsets, centers, spec, center, n_types
        The arguments that all operators share.

    Raises
    ------
    TypeError, ValueError
        If they do not fit one another.
    """

    __slots__ = ("addresses", "gm", "index", "kernels", "n_examples", "scalars", "tensors", "threads")

    def __init__(self, coords, types, radii, offsets, centers, spec, center, n_types):
        self.gm = gm = _grid(spec)
        shape, dtype, index = coords.shape, coords.dtype, types.dtype is torch.int64
        precision, on_gpu = _PRECISIONS.get(dtype), coords.is_cuda
        if precision is None:
            raise TypeError(f"coords: dtype {dtype}; expected torch.float32 or torch.float64")
        if not 2 <= len(shape) <= 3 or shape[-1] != 3:
            raise ValueError(f"coords: shape {tuple(shape)}; expected (N, 3) or (B, N, 3)")
        if n_types < 1:
            raise ValueError(f"n_types: {n_types}; expected an integer >= 1")
        lead: tuple[int, ...]
        types_shape: tuple[int, ...]
        radii_shape: tuple[int, ...]
        if len(shape) == 2:
            lead, n_atoms, n_examples = (shape[0],), shape[0], 1
        else:
            lead, n_atoms, n_examples = (shape[0], shape[1]), shape[0] * shape[1], shape[0]
        if offsets is not None:
            n_examples = _examples(offsets, coords)
            offsets = _dense(offsets)
        if centers is not None:
            expect("centers", centers, (n_examples, 3), torch.float64, coords)
            centers = _dense(centers)
        if len(center) != 3:
            raise ValueError(f"center: {len(center)} numbers; expected three")
        types_shape, radii_shape, stride = lead if index else (*lead, n_types), lead, 0
        if gm.radius_type_indexed:
            stride = n_types if radii.dim() == 2 else 0
            radii_shape = (n_examples, n_types) if stride else (n_types,)
        addresses = coords.data_ptr(), types.data_ptr(), radii.data_ptr()
        if not (
            types.shape == types_shape
            and radii.shape == radii_shape
            and radii.dtype is dtype
            and (index or types.dtype is dtype)
            and (coords.device == types.device == radii.device if on_gpu else types.is_cpu and radii.is_cpu)
            and all(addresses)
            and coords.is_contiguous()
            and types.is_contiguous()
            and radii.is_contiguous()
            and not (coords.is_neg() or types.is_neg() or radii.is_neg())
        ):
            expect("types", types, types_shape, torch.int64 if index else dtype, coords)
            expect("radii", radii, radii_shape, dtype, coords)
            coords, types, radii = _dense(coords), _dense(types), _dense(radii)
            addresses = coords.data_ptr(), types.data_ptr(), radii.data_ptr()
        self.tensors = coords, types, radii, offsets, centers
        self.index, self.n_examples = index, n_examples
        self.addresses = (
            addresses[0],
            addresses[1] if index else 0,
            0 if index else addresses[1],
            addresses[2],
            0 if offsets is None else offsets.data_ptr(),
            0 if centers is None else centers.data_ptr(),
        )
        self.kernels: Any
        self.threads: tuple[int, ...]
        self.scalars = gm.geometry(precision, center), n_examples, n_atoms, n_types, stride
        if on_gpu:
            from gridgrad.kernels.gpu import streams

            self.kernels, self.threads = streams.kernels(precision, coords.device), ()
        else:
            self.kernels, self.threads = cpu.KERNELS[precision], (_threads(),)

    def launch(self, name: str, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor | None]) -> None:
        """Run a kernel.

        Parameters
        ----------
        name : str
            The kernel.
        inputs, outputs : sequence of Tensor or None
            Contiguous; None is absent.
        """
        if self.n_examples:
            getattr(self.kernels, name)(
                *self.addresses, *map(_address, inputs), *self.scalars, *map(_address, outputs), *self.threads
            )
        else:  # atoms of no example
            for output in outputs:
                if output is not None:
                    output.zero_()

    def grid(self, name: str, value: Tensor) -> Tensor:
        """Return a grid that is an input, contiguous, or refuse it."""
        coords, _, _, offsets, _ = self.tensors
        expect(name, value, grid_shape(coords, offsets, self.gm, self.scalars[3]), coords.dtype, coords)
        return _dense(value)

    def tangents(self, *tangents: Tensor | None, of: str = "grad_grad") -> list[Tensor | None]:
        """Return the directions of coords, types and radii, contiguous, or refuse them; None for those of indices."""
        coords = self.tensors[0]
        found: list[Tensor | None] = []
        for part, value, like in zip(_PARTS, tangents, self.tensors[:3], strict=True):
            if value is None or (self.index and part == "types"):
                found.append(None)
            else:
                expect(f"{of}_{part}", value, like.shape, coords.dtype, coords)
                found.append(_dense(value))
        return found

    def new_gradients(self, needs: Sequence[bool]) -> list[Tensor | None]:
        """Allocate grad_coords, grad_types and grad_radii (by type: the partial sums), None where not needed."""
        coords, types, radii, _, _ = self.tensors
        if len(needs) != 3:
            raise ValueError(f"needs: {len(needs)} flags; expected three, for coords, types and radii")
        wants_coords, wants_types, wants_radii = needs
        partial = types if self.gm.radius_type_indexed else radii
        return [
            torch.empty_like(coords) if wants_coords else None,
            torch.empty_like(types) if wants_types and not self.index else None,
            coords.new_empty(partial.shape) if wants_radii else None,
        ]

    def finish(self, gradients: list[Tensor | None]) -> tuple[Tensor | None, ...]:
        """Sum the partial radius gradients where radii are by type."""
        _, _, radii, offsets, _ = self.tensors
        if gradients[2] is not None and self.gm.radius_type_indexed:
            partials, gradients[2] = gradients[2], torch.empty_like(radii)
            self.kernels.radii_sum(
                partials.data_ptr(), self.addresses[1], _address(offsets), *self.scalars[1:4],
                radii.dim() == 2, gradients[2].data_ptr(),
            )  # fmt: skip
        return tuple(gradients)


def density(coords, types, radii, offsets, centers, spec, center, n_types, out=None):
    """Return sum_i w_ik phi(s_ip), or write it into `out`."""
    call = Call(coords, types, radii, offsets, centers, spec, center, n_types)
    grid = new_grid(coords, offsets, call.gm, n_types) if out is None else out
    if call.n_examples:
        call.kernels.density(*call.addresses, *call.scalars, grid.data_ptr(), *call.threads)
    return grid


def density_tangent(
    coords, types, radii, offsets, centers, grad_grad_coords, grad_grad_types, grad_grad_radii, spec, center, n_types
):
    """Return the derivative of the density along (grad_grad_coords, grad_grad_types, grad_grad_radii)."""
    call = Call(coords, types, radii, offsets, centers, spec, center, n_types)
    tangents = call.tangents(grad_grad_coords, grad_grad_types, grad_grad_radii)
    grid = new_grid(coords, offsets, call.gm, n_types)
    call.launch("density_tangent", tangents, (grid,))
    return grid


def density_tangent_tangent(
    coords, types, radii, offsets, centers, u_coords, u_types, u_radii, v_coords, v_types, v_radii, spec, center,
    n_types,
):  # fmt: skip
    """Return the second derivative of the density along u and v, each (coords, types, radii)."""
    call = Call(coords, types, radii, offsets, centers, spec, center, n_types)
    u = call.tangents(u_coords, u_types, u_radii, of="u")
    v = call.tangents(v_coords, v_types, v_radii, of="v")
    grid = new_grid(coords, offsets, call.gm, n_types)
    call.launch("density_tangent_tangent", (*u, *v), (grid,))
    return grid


def density_backward(coords, types, radii, offsets, centers, grad_density, spec, center, n_types, needs):
    """Return (grad_coords, grad_types, grad_radii), None where absent."""
    call = Call(coords, types, radii, offsets, centers, spec, center, n_types)
    grad_density = call.grid("grad_density", grad_density)
    gradients = call.new_gradients(needs)
    call.launch("density_backward", (grad_density,), gradients)
    return call.finish(gradients)


def density_backward_backward(
    coords, types, radii, offsets, centers, grad_density, grad_grad_coords, grad_grad_types, grad_grad_radii, spec,
    center, n_types, needs,
):  # fmt: skip
    """Return the gradients of <grad_grad, density_backward(grad_density)>, as density_backward does."""
    call = Call(coords, types, radii, offsets, centers, spec, center, n_types)
    tangents = call.tangents(grad_grad_coords, grad_grad_types, grad_grad_radii)
    grad_density = call.grid("grad_density", grad_density)
    gradients = call.new_gradients(needs)
    call.launch("density_backward_backward", (grad_density, *tangents), gradients)
    return call.finish(gradients)


def density_relevance(coords, types, radii, offsets, centers, density, relevance, spec, center, n_types):
    """Return each atom's share of `relevance`, which is its share of `density`."""
    call = Call(coords, types, radii, offsets, centers, spec, center, n_types)
    density, relevance = call.grid("density", density), call.grid("relevance", relevance)
    result = coords.new_empty(coords.shape[:-1])
    call.launch("density_relevance", (density, relevance), (result,))
    return result


def batch_offsets(batch, batch_size):
    """Return (..., B + 1) of (..., N): atoms of example b are [offsets[b], offsets[b + 1])."""
    if batch.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"batch: dtype {batch.dtype}; expected torch.int64")
    if not batch.dim():
        raise ValueError("batch: shape (); expected (N,), one example per atom")
    if batch_size < 0:
        raise ValueError(f"batch_size: {batch_size}; expected an integer >= 0")
    if batch.numel() and (batch.is_cpu or os.environ.get("GRIDGRAD_CHECK") == "1"):
        is_sorted, low, high = bool((batch[..., 1:] >= batch[..., :-1]).all()), int(batch.min()), int(batch.max())
        if not (is_sorted and low >= 0 and high < batch_size):
            raise ValueError(
                f"batch: values from {low} to {high}, {'sorted' if is_sorted else 'not sorted'}; "
                f"expected sorted values from 0 to batch_size - 1 = {batch_size - 1}"
            )
    bounds = torch.arange(batch_size + 1, device=batch.device, dtype=batch.dtype).expand(*batch.shape[:-1], -1)
    return torch.searchsorted(batch.contiguous(), bounds.contiguous())


def as_operator(name: str, function: Callable) -> Callable:
    """Return what computes an operator as its schema has it.

    Parameters
    ----------
    name : str
        The operator.
    function : callable
        Returns None where a gradient is absent.

    Returns
    -------
    callable
        Returns (0,) there.
    """
    if name not in ("density_backward", "density_backward_backward"):
        return function

    def filled(coords, *rest):
        return tuple(coords.new_empty(0) if gradient is None else gradient for gradient in function(coords, *rest))

    return filled


for _kernel in (
    density, density_tangent, density_tangent_tangent, density_backward, density_backward_backward, density_relevance,
    batch_offsets,
):  # fmt: skip
    _name = _kernel.__name__
    for _device in ("CPU", "CUDA"):
        library.impl(_name, as_operator(_name, _kernel), _device)
    torch.library.register_fake(f"gridgrad::{_name}", shapes.on_one_device(getattr(shapes, _name)), lib=library)
