"""Derivatives: density -> density_backward -> density_backward_backward, each the backward of the one before.

Every order is a set of rules, from which `gridgrad.autograd.families` makes what torch records.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from gridgrad.autograd import ops
from gridgrad.autograd._torch import OWN_DERIVATIVE_KEYS, is_transforming
from gridgrad.autograd.batching import Stacked
from gridgrad.autograd.families import THIRD_ORDER, apply, computing, differentiates, families_of

_ops = torch.ops.gridgrad
_is_compiling = torch.compiler.is_compiling


def _any(*tensors: Tensor | None) -> bool:
    return any(tensor is not None for tensor in tensors)


def _sum(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right


class _OfGrid:
    """Orders whose output is a grid and whose cotangents may be absent."""

    @staticmethod
    def setup_context(ctx, tensors, settings, output):
        ctx.grid = settings
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)


class _OfAtoms:
    """Orders whose outputs belong to the atoms; those that `needs` does not ask for are None or empty."""

    @staticmethod
    def setup_context(ctx, tensors, settings, output):
        ctx.grid, ctx.needs = settings[:3], settings[3]
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        spare = (g for g, need in zip(output, ctx.needs, strict=True) if g is not None and not need)
        ctx.mark_non_differentiable(*spare)


class DensityRules:
    """Order 0."""

    operator, n_tensors, is_last = "density", 5, False

    @staticmethod
    def setup_context(ctx, tensors, settings, output):
        ctx.grid = settings
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad_density):
        gradients = density_backward(*ctx.saved_tensors, grad_density, *ctx.grid, ctx.needs_input_grad[:3])
        return *gradients, *(None,) * 5

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, *_):
        return density_tangent(*ctx.saved_tensors, t_coords, t_types, t_radii, *ctx.grid)

    @staticmethod
    def vmap(info, in_dims, coords, types, radii, offsets, centers, spec, center, n_types):
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, centers, spec, False)
        return stacked.unstack_grid(density(*stacked.atoms, spec, center, n_types)), 0


class DensityBackwardRules(_OfAtoms):
    """Order 1; linear in grad_density."""

    operator, n_tensors, is_last = "density_backward", 6, False

    @staticmethod
    def backward(ctx, v_coords, v_types, v_radii):
        *atoms, grad_density = ctx.saved_tensors
        tangents = v_coords, v_types, v_radii
        if not _any(*tangents):
            return (None,) * 10
        need_coords, need_types, need_radii, _, _, need_grad_density = ctx.needs_input_grad[:6]
        needs = need_coords, need_types and atoms[1].is_floating_point(), need_radii
        tangent, gradients = None, (None,) * 3
        if need_grad_density:
            tangent = density_tangent(*atoms, *tangents, *ctx.grid)
        if any(needs):
            gradients = density_backward_backward(*atoms, grad_density, *tangents, *ctx.grid, needs)
        return *gradients, None, None, tangent, *(None,) * 4

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, _, __, t_grad_density, *___):
        *atoms, grad_density = ctx.saved_tensors
        call = *ctx.grid, ctx.needs
        linear = moved = (None,) * 3
        if t_grad_density is not None:
            linear = density_backward(*atoms, t_grad_density, *call)
        if _any(t_coords, t_types, t_radii):
            moved = density_backward_backward(*atoms, grad_density, t_coords, t_types, t_radii, *call)
        return tuple(map(_sum, linear, moved))

    @staticmethod
    def vmap(info, in_dims, coords, types, radii, offsets, centers, grad_density, spec, center, n_types, needs):
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, centers, spec, needs[2])
        grad_density = stacked.grid(grad_density, in_dims[5])
        return stacked.unstack_gradients(density_backward(*stacked.atoms, grad_density, spec, center, n_types, needs))


class DensityTangentRules(_OfGrid):
    """Order 2, the grid: linear in the tangents; in the atoms it is of order 1 again."""

    operator, n_tensors, is_last = "density_tangent", 8, False

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 11
        *atoms, v_coords, v_types, v_radii = ctx.saved_tensors
        needs, needs_v = ctx.needs_input_grad[:3], ctx.needs_input_grad[5:8]
        gradients = v_gradients = (None,) * 3
        if any(needs):
            gradients = density_backward_backward(*atoms, grad, v_coords, v_types, v_radii, *ctx.grid, needs)
        if any(needs_v):
            v_gradients = density_backward(*atoms, grad, *ctx.grid, needs_v)
        return *gradients, None, None, *v_gradients, *(None,) * 3

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, _, __, t_v_coords, t_v_types, t_v_radii, *___):
        *atoms, v_coords, v_types, v_radii = ctx.saved_tensors
        linear = moved = None
        if _any(t_v_coords, t_v_types, t_v_radii):
            linear = density_tangent(*atoms, t_v_coords, t_v_types, t_v_radii, *ctx.grid)
        if _any(t_coords, t_types, t_radii):
            moved = density_tangent_tangent(*atoms, t_coords, t_types, t_radii, v_coords, v_types, v_radii, *ctx.grid)
        return _sum(linear, moved)

    @staticmethod
    def vmap(info, in_dims, coords, types, radii, offsets, centers, v_coords, v_types, v_radii, spec, center, n_types):
        own_radii = v_radii is not None and in_dims[7] is not None
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, centers, spec, own_radii)
        tangents = _stack_tangents(stacked, in_dims[5:8], v_coords, v_types, v_radii)
        return stacked.unstack_grid(density_tangent(*stacked.atoms, *tangents, spec, center, n_types)), 0


class DensityBackwardBackwardRules(_OfAtoms):
    """Order 2, the atoms: linear in grad_density and, through a symmetric form, in the tangents."""

    operator, n_tensors, is_last = "density_backward_backward", 9, True

    @staticmethod
    def backward(ctx, u_coords, u_types, u_radii):
        *atoms, grad_density, v_coords, v_types, v_radii = ctx.saved_tensors
        directions = u_coords, u_types, u_radii
        if not _any(*directions):
            return (None,) * 13
        needs_v = ctx.needs_input_grad[6:9]
        grid, gradients = None, (None,) * 3
        if ctx.needs_input_grad[5]:
            grid = density_tangent_tangent(*atoms, *directions, v_coords, v_types, v_radii, *ctx.grid)
        if any(needs_v):
            gradients = density_backward_backward(*atoms, grad_density, *directions, *ctx.grid, needs_v)
        return *(None,) * 5, grid, *gradients, *(None,) * 4

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, _, __, t_grad_density, t_v_coords, t_v_types, t_v_radii, *___):
        if _any(t_coords, t_types, t_radii):
            raise RuntimeError(THIRD_ORDER.format("coords, types or radii"))
        *atoms, grad_density, v_coords, v_types, v_radii = ctx.saved_tensors
        call = *ctx.grid, ctx.needs
        by_grid = by_tangents = (None,) * 3
        if t_grad_density is not None:
            by_grid = density_backward_backward(*atoms, t_grad_density, v_coords, v_types, v_radii, *call)
        if _any(t_v_coords, t_v_types, t_v_radii):
            by_tangents = density_backward_backward(*atoms, grad_density, t_v_coords, t_v_types, t_v_radii, *call)
        return tuple(map(_sum, by_grid, by_tangents))

    @staticmethod
    def vmap(
        info, in_dims, coords, types, radii, offsets, centers, grad_density, v_coords, v_types, v_radii, spec, center,
        n_types, needs,
    ):  # fmt: skip
        own_radii = needs[2] or (v_radii is not None and in_dims[8] is not None)
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, centers, spec, own_radii)
        grad_density = stacked.grid(grad_density, in_dims[5])
        tangents = _stack_tangents(stacked, in_dims[6:9], v_coords, v_types, v_radii)
        return stacked.unstack_gradients(
            density_backward_backward(*stacked.atoms, grad_density, *tangents, spec, center, n_types, needs)
        )


class DensityTangentTangentRules(_OfGrid):
    """Order 2 along two directions, the grid: a symmetric bilinear form of u and v."""

    operator, n_tensors, is_last = "density_tangent_tangent", 11, True

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 14
        atoms, u, v = ctx.saved_tensors[:5], ctx.saved_tensors[5:8], ctx.saved_tensors[8:]
        call = ctx.grid
        needs_u, needs_v = ctx.needs_input_grad[5:8], ctx.needs_input_grad[8:11]
        u_gradients = v_gradients = (None,) * 3
        if any(needs_u):
            u_gradients = density_backward_backward(*atoms, grad, *v, *call, needs_u)
        if any(needs_v):
            v_gradients = density_backward_backward(*atoms, grad, *u, *call, needs_v)
        return *(None,) * 5, *u_gradients, *v_gradients, *(None,) * 3

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, _, __, *tangents):
        if _any(t_coords, t_types, t_radii):
            raise RuntimeError(THIRD_ORDER.format("coords, types or radii"))
        atoms, u, v = ctx.saved_tensors[:5], ctx.saved_tensors[5:8], ctx.saved_tensors[8:]
        t_u, t_v, call = tangents[:3], tangents[3:6], ctx.grid
        by_u = density_tangent_tangent(*atoms, *t_u, *v, *call) if _any(*t_u) else None
        by_v = density_tangent_tangent(*atoms, *u, *t_v, *call) if _any(*t_v) else None
        return _sum(by_u, by_v)

    @staticmethod
    def vmap(info, in_dims, coords, types, radii, offsets, centers, *rest):
        *directions, spec, center, n_types = rest
        own_radii = any(directions[i] is not None and in_dims[5 + i] is not None for i in (2, 5))
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, centers, spec, own_radii)
        u = _stack_tangents(stacked, in_dims[5:8], *directions[:3])
        v = _stack_tangents(stacked, in_dims[8:11], *directions[3:])
        return stacked.unstack_grid(density_tangent_tangent(*stacked.atoms, *u, *v, spec, center, n_types)), 0


def _stack_tangents(stacked, dims, v_coords, v_types, v_radii):
    return (
        stacked.per_atom(v_coords, dims[0]),
        stacked.per_atom(v_types, dims[1]),
        stacked.like_radii(v_radii, dims[2]),
    )


Density = families_of(DensityRules)
DensityBackward = families_of(DensityBackwardRules)
DensityTangent = families_of(DensityTangentRules)
DensityBackwardBackward = families_of(DensityBackwardBackwardRules)
DensityTangentTangent = families_of(DensityTangentTangentRules)


def _density_relevance(*inputs):
    if differentiates(inputs[:7]):
        raise RuntimeError("gridgrad: density_relevance has no derivative; detach its arguments")
    return computing("density_relevance")(inputs[:7], inputs[7:])


class BatchOffsets(Function):
    """Integers of integers: no derivative, but a rule for vmap."""

    @staticmethod
    def forward(batch, batch_size):
        return computing("batch_offsets")((batch,), (batch_size,))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, batch, batch_size):
        return _batch_offsets(batch.movedim(in_dims[0], 0), batch_size), 0


def _batch_offsets(batch, batch_size):
    if is_transforming():
        return BatchOffsets.apply(batch, batch_size)
    return computing("batch_offsets")((batch,), (batch_size,))


ops.library.impl("density_relevance", _density_relevance, "Autograd")
for _key in OWN_DERIVATIVE_KEYS:
    ops.library.impl("batch_offsets", _batch_offsets, _key)


def _only(gradients, needs) -> tuple[Tensor | None, ...]:
    return tuple(g if need else None for g, need in zip(gradients, needs, strict=True))


def density(coords, types, radii, offsets, centers, spec, center, n_types):
    """Order 0, differentiable."""
    if _is_compiling():
        return _ops.density(coords, types, radii, offsets, centers, spec, center, n_types)
    return apply(Density, (coords, types, radii, offsets, centers), (spec, center, n_types))


def density_backward(coords, types, radii, offsets, centers, grad_density, spec, center, n_types, needs):
    """Order 1, differentiable; None where `needs` is False."""
    tensors, settings = (coords, types, radii, offsets, centers, grad_density), (spec, center, n_types, needs)
    if _is_compiling():
        return _only(_ops.density_backward(*tensors, *settings), needs)
    return _only(apply(DensityBackward, tensors, settings), needs)


def density_tangent(coords, types, radii, offsets, centers, v_coords, v_types, v_radii, spec, center, n_types):
    """Order 2, the grid: the derivative of the density along v, differentiable."""
    v_types = v_types if types.is_floating_point() else None
    tensors, settings = (coords, types, radii, offsets, centers, v_coords, v_types, v_radii), (spec, center, n_types)
    if _is_compiling():
        return _ops.density_tangent(*tensors, *settings)
    return apply(DensityTangent, tensors, settings)


def density_backward_backward(
    coords, types, radii, offsets, centers, grad_density, v_coords, v_types, v_radii, spec, center, n_types, needs
):
    """Order 2, the atoms; differentiable with respect to grad_density and v, an error with respect to the rest."""
    v_types = v_types if types.is_floating_point() else None
    tensors = (coords, types, radii, offsets, centers, grad_density, v_coords, v_types, v_radii)
    settings = (spec, center, n_types, needs)
    if _is_compiling():
        return _only(_ops.density_backward_backward(*tensors, *settings), needs)
    return _only(apply(DensityBackwardBackward, tensors, settings), needs)


def density_tangent_tangent(
    coords, types, radii, offsets, centers, u_coords, u_types, u_radii, v_coords, v_types, v_radii, spec, center,
    n_types,
):  # fmt: skip
    """Order 2, the grid: the second derivative of the density along u and v; differentiable with respect to both."""
    if not types.is_floating_point():
        u_types = v_types = None
    tensors = (coords, types, radii, offsets, centers, u_coords, u_types, u_radii, v_coords, v_types, v_radii)
    settings = (spec, center, n_types)
    if _is_compiling():
        return _ops.density_tangent_tangent(*tensors, *settings)
    return apply(DensityTangentTangent, tensors, settings)
