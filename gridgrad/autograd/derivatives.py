"""Derivatives: density -> density_backward -> density_backward_backward, each the backward of the one before.

Every order is a set of rules from which two `torch.autograd.Function` are made: one for eager mode, and one that
torch.func and forward-mode differentiation understand. The second costs some 25 us more a call, and Dynamo refuses it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from gridgrad.autograd import ops
from gridgrad.autograd._torch import OWN_DERIVATIVE_KEYS, below_autograd, is_transforming
from gridgrad.autograd.batching import Stacked

_ops = torch.ops.gridgrad
_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled

INPUTS = ("coords", "types", "radii", "offsets")
THIRD_ORDER = (
    "gridgrad: a third derivative of the density, with respect to {}, is not available. Second-order gradients can be "
    "differentiated with respect to grad_density and the vectors they were contracted with. Where only the gradients "
    "of a network's parameters are wanted, name them: loss.backward(inputs=list(model.parameters()))"
)


def compute(operator: str, tensors: tuple[Tensor | None, ...], settings: tuple):
    """Run an operator without derivatives, and without dispatch where dispatch would change nothing."""
    if ops.is_plain(*tensors):
        return getattr(ops, operator)(*tensors, *settings)
    with below_autograd():
        return getattr(_ops, operator)(*tensors, *settings)


def _families(rules: type) -> tuple[str, type[Function], type[Function]]:
    """Make the Function for eager mode and the one for transforms, and give the operator its derivative."""
    operator, n_tensors = rules.operator, rules.n_tensors

    def run(*inputs):
        return compute(operator, inputs[:n_tensors], inputs[n_tensors:])

    def forward(ctx, *inputs):
        output = run(*inputs)
        rules.setup_context(ctx, inputs, output)
        return output

    def setup_context(ctx, inputs, output):
        rules.setup_context(ctx, inputs, output)
        ctx.save_for_forward(*inputs[:n_tensors])

    name, doc = rules.__name__.removesuffix("Rules"), {"__doc__": rules.__doc__, "__module__": __name__}
    eager = type(name, (Function,), {"forward": staticmethod(forward), "backward": staticmethod(rules.backward), **doc})
    members = {"forward": run, "setup_context": setup_context}
    members |= {key: getattr(rules, key) for key in ("backward", "jvp", "vmap")}
    transformed = type(name, (Function,), {key: staticmethod(member) for key, member in members.items()} | doc)
    families = operator, eager, transformed
    for key in OWN_DERIVATIVE_KEYS:
        ops.library.impl(operator, lambda *inputs: _apply(families, inputs[:n_tensors], inputs[n_tensors:]), key)
    return families


def _differentiates(tensors: tuple[Tensor | None, ...]) -> bool:
    if _is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def _any(*tensors: Tensor | None) -> bool:
    return any(tensor is not None for tensor in tensors)


def _sum(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right


class Refuse(Function):
    """The identity, whose derivative is the error."""

    @staticmethod
    def forward(tensor, name):
        return tensor.view_as(tensor)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.name = inputs[1]

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(THIRD_ORDER.format(ctx.name))

    @staticmethod
    def jvp(ctx, tangent, _):
        raise RuntimeError(THIRD_ORDER.format(ctx.name))

    @staticmethod
    def vmap(info, in_dims, tensor, name):
        return _refuse_third(tensor, name), in_dims[0]


class DensityRules:
    """Order 0."""

    operator, n_tensors = "density", 4

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.spec, ctx.n_types = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, grad_density):
        gradients = density_backward(*ctx.saved_tensors, grad_density, ctx.spec, ctx.n_types, ctx.needs_input_grad[:3])
        return *gradients, None, None, None

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, *_):
        return density_tangent(*ctx.saved_tensors, t_coords, t_types, t_radii, ctx.spec, ctx.n_types)

    @staticmethod
    def vmap(info, in_dims, coords, types, radii, offsets, spec, n_types):
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, spec, False)
        return stacked.unstack_grid(density(*stacked.atoms, spec, n_types)), 0


class DensityBackwardRules:
    """Order 1; linear in grad_density."""

    operator, n_tensors = "density_backward", 5

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.spec, ctx.n_types, ctx.needs = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(g for g, need in zip(output, ctx.needs, strict=True) if not need))

    @staticmethod
    def backward(ctx, v_coords, v_types, v_radii):
        *atoms, grad_density = ctx.saved_tensors
        tangents = v_coords, v_types, v_radii
        if not _any(*tangents):
            return (None,) * 8
        need_coords, need_types, need_radii, _, need_grad_density = ctx.needs_input_grad[:5]
        needs = need_coords, need_types and atoms[1].is_floating_point(), need_radii
        tangent, gradients = None, (None,) * 3
        if need_grad_density:
            tangent = density_tangent(*atoms, *tangents, ctx.spec, ctx.n_types)
        if any(needs):
            gradients = density_backward_backward(*atoms, grad_density, *tangents, ctx.spec, ctx.n_types, needs)
        return *gradients, None, tangent, None, None, None

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, _, t_grad_density, *__):
        *atoms, grad_density = ctx.saved_tensors
        call = ctx.spec, ctx.n_types, ctx.needs
        linear = moved = (None,) * 3
        if t_grad_density is not None:
            linear = density_backward(*atoms, t_grad_density, *call)
        if _any(t_coords, t_types, t_radii):
            moved = density_backward_backward(*atoms, grad_density, t_coords, t_types, t_radii, *call)
        return tuple(map(_sum, linear, moved))

    @staticmethod
    def vmap(info, in_dims, coords, types, radii, offsets, grad_density, spec, n_types, needs):
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, spec, needs[2])
        grad_density = stacked.grid(grad_density, in_dims[4])
        return stacked.unstack_gradients(density_backward(*stacked.atoms, grad_density, spec, n_types, needs))


class DensityTangentRules:
    """Order 2, the grid: linear in the tangents; in the atoms it is of order 1 again."""

    operator, n_tensors = "density_tangent", 7

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.spec, ctx.n_types = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 9
        *atoms, v_coords, v_types, v_radii = ctx.saved_tensors
        needs, needs_v = ctx.needs_input_grad[:3], ctx.needs_input_grad[4:7]
        gradients = v_gradients = (None,) * 3
        if any(needs):
            gradients = density_backward_backward(
                *atoms, grad, v_coords, v_types, v_radii, ctx.spec, ctx.n_types, needs
            )
        if any(needs_v):
            v_gradients = density_backward(*atoms, grad, ctx.spec, ctx.n_types, needs_v)
        return *gradients, None, *v_gradients, None, None

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, _, t_v_coords, t_v_types, t_v_radii, *__):
        *atoms, v_coords, v_types, v_radii = ctx.saved_tensors
        linear = moved = None
        if _any(t_v_coords, t_v_types, t_v_radii):
            linear = density_tangent(*atoms, t_v_coords, t_v_types, t_v_radii, ctx.spec, ctx.n_types)
        if _any(t_coords, t_types, t_radii):
            moved = density_tangent_tangent(
                *atoms, t_coords, t_types, t_radii, v_coords, v_types, v_radii, ctx.spec, ctx.n_types
            )
        return _sum(linear, moved)

    @staticmethod
    def vmap(info, in_dims, coords, types, radii, offsets, v_coords, v_types, v_radii, spec, n_types):
        own_radii = v_radii is not None and in_dims[6] is not None
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, spec, own_radii)
        tangents = _stack_tangents(stacked, in_dims[4:7], v_coords, v_types, v_radii)
        return stacked.unstack_grid(density_tangent(*stacked.atoms, *tangents, spec, n_types)), 0


class DensityBackwardBackwardRules:
    """Order 2, the atoms: linear in grad_density and, through a symmetric form, in the tangents."""

    operator, n_tensors = "density_backward_backward", 8

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.spec, ctx.n_types, ctx.needs = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(g for g, need in zip(output, ctx.needs, strict=True) if not need))

    @staticmethod
    def backward(ctx, u_coords, u_types, u_radii):
        *atoms, grad_density, v_coords, v_types, v_radii = ctx.saved_tensors
        directions = u_coords, u_types, u_radii
        if not _any(*directions):
            return (None,) * 11
        needs_v = ctx.needs_input_grad[5:8]
        grid, gradients = None, (None,) * 3
        if ctx.needs_input_grad[4]:
            grid = density_tangent_tangent(*atoms, *directions, v_coords, v_types, v_radii, ctx.spec, ctx.n_types)
        if any(needs_v):
            gradients = density_backward_backward(*atoms, grad_density, *directions, ctx.spec, ctx.n_types, needs_v)
        return *(None,) * 4, grid, *gradients, None, None, None

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, _, t_grad_density, t_v_coords, t_v_types, t_v_radii, *__):
        if _any(t_coords, t_types, t_radii):
            raise RuntimeError(THIRD_ORDER.format("coords, types or radii"))
        *atoms, grad_density, v_coords, v_types, v_radii = ctx.saved_tensors
        call = ctx.spec, ctx.n_types, ctx.needs
        by_grid = by_tangents = (None,) * 3
        if t_grad_density is not None:
            by_grid = density_backward_backward(*atoms, t_grad_density, v_coords, v_types, v_radii, *call)
        if _any(t_v_coords, t_v_types, t_v_radii):
            by_tangents = density_backward_backward(*atoms, grad_density, t_v_coords, t_v_types, t_v_radii, *call)
        return tuple(map(_sum, by_grid, by_tangents))

    @staticmethod
    def vmap(
        info, in_dims, coords, types, radii, offsets, grad_density, v_coords, v_types, v_radii, spec, n_types, needs
    ):
        own_radii = needs[2] or (v_radii is not None and in_dims[7] is not None)
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, spec, own_radii)
        grad_density = stacked.grid(grad_density, in_dims[4])
        tangents = _stack_tangents(stacked, in_dims[5:8], v_coords, v_types, v_radii)
        return stacked.unstack_gradients(
            density_backward_backward(*stacked.atoms, grad_density, *tangents, spec, n_types, needs)
        )


class DensityTangentTangentRules:
    """Order 2 along two directions, the grid: a symmetric bilinear form of u and v."""

    operator, n_tensors = "density_tangent_tangent", 10

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.spec, ctx.n_types = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 12
        atoms, u, v = ctx.saved_tensors[:4], ctx.saved_tensors[4:7], ctx.saved_tensors[7:]
        call = ctx.spec, ctx.n_types
        needs_u, needs_v = ctx.needs_input_grad[4:7], ctx.needs_input_grad[7:10]
        u_gradients = v_gradients = (None,) * 3
        if any(needs_u):
            u_gradients = density_backward_backward(*atoms, grad, *v, *call, needs_u)
        if any(needs_v):
            v_gradients = density_backward_backward(*atoms, grad, *u, *call, needs_v)
        return *(None,) * 4, *u_gradients, *v_gradients, None, None

    @staticmethod
    def jvp(ctx, t_coords, t_types, t_radii, _, *tangents):
        if _any(t_coords, t_types, t_radii):
            raise RuntimeError(THIRD_ORDER.format("coords, types or radii"))
        atoms, u, v = ctx.saved_tensors[:4], ctx.saved_tensors[4:7], ctx.saved_tensors[7:]
        t_u, t_v, call = tangents[:3], tangents[3:6], (ctx.spec, ctx.n_types)
        by_u = density_tangent_tangent(*atoms, *t_u, *v, *call) if _any(*t_u) else None
        by_v = density_tangent_tangent(*atoms, *u, *t_v, *call) if _any(*t_v) else None
        return _sum(by_u, by_v)

    @staticmethod
    def vmap(info, in_dims, coords, types, radii, offsets, *rest):
        *directions, spec, n_types = rest
        own_radii = any(directions[i] is not None and in_dims[4 + i] is not None for i in (2, 5))
        stacked = Stacked(info.batch_size, in_dims, coords, types, radii, offsets, spec, own_radii)
        u = _stack_tangents(stacked, in_dims[4:7], *directions[:3])
        v = _stack_tangents(stacked, in_dims[7:10], *directions[3:])
        return stacked.unstack_grid(density_tangent_tangent(*stacked.atoms, *u, *v, spec, n_types)), 0


def _stack_tangents(stacked, dims, v_coords, v_types, v_radii):
    return (
        stacked.per_atom(v_coords, dims[0]),
        stacked.per_atom(v_types, dims[1]),
        stacked.like_radii(v_radii, dims[2]),
    )


Density = _families(DensityRules)
DensityBackward = _families(DensityBackwardRules)
DensityTangent = _families(DensityTangentRules)
DensityBackwardBackward = _families(DensityBackwardBackwardRules)
DensityTangentTangent = _families(DensityTangentTangentRules)


def _density_relevance(*inputs):
    if _differentiates(inputs[:6]):
        raise RuntimeError("gridgrad: density_relevance has no derivative; detach its arguments")
    return compute("density_relevance", inputs[:6], inputs[6:])


class BatchOffsets(Function):
    """Integers of integers: no derivative, but a rule for vmap."""

    @staticmethod
    def forward(batch, batch_size):
        return compute("batch_offsets", (batch,), (batch_size,))

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info, in_dims, batch, batch_size):
        return _batch_offsets(batch.movedim(in_dims[0], 0), batch_size), 0


def _batch_offsets(batch, batch_size):
    if is_transforming():
        return BatchOffsets.apply(batch, batch_size)
    return compute("batch_offsets", (batch,), (batch_size,))


ops.library.impl("density_relevance", _density_relevance, "Autograd")
for _key in OWN_DERIVATIVE_KEYS:
    ops.library.impl("batch_offsets", _batch_offsets, _key)


def _refuse_third(tensor: Tensor | None, name: str) -> Tensor | None:
    if tensor is not None and tensor.is_floating_point() and (is_transforming() or _differentiates((tensor,))):
        return Refuse.apply(tensor, name)
    return tensor


def _apply(families, tensors, settings):
    operator, eager, transformed = families
    if families in (DensityBackwardBackward, DensityTangentTangent):
        tensors = (*map(_refuse_third, tensors[:4], INPUTS), *tensors[4:])
    if is_transforming():
        return transformed.apply(*tensors, *settings)
    if _differentiates(tensors):
        return eager.apply(*tensors, *settings)
    return compute(operator, tensors, settings)


def _only(gradients, needs) -> tuple[Tensor | None, ...]:
    return tuple(g if need else None for g, need in zip(gradients, needs, strict=True))


def density(coords, types, radii, offsets, spec, n_types):
    """Order 0, differentiable."""
    if _is_compiling():
        return _ops.density(coords, types, radii, offsets, spec, n_types)
    return _apply(Density, (coords, types, radii, offsets), (spec, n_types))


def density_backward(coords, types, radii, offsets, grad_density, spec, n_types, needs):
    """Order 1, differentiable; None where `needs` is False."""
    tensors, settings = (coords, types, radii, offsets, grad_density), (spec, n_types, needs)
    if _is_compiling():
        return _only(_ops.density_backward(*tensors, *settings), needs)
    return _only(_apply(DensityBackward, tensors, settings), needs)


def density_tangent(coords, types, radii, offsets, v_coords, v_types, v_radii, spec, n_types):
    """Order 2, the grid: the derivative of the density along v, differentiable."""
    v_types = v_types if types.is_floating_point() else None
    tensors, settings = (coords, types, radii, offsets, v_coords, v_types, v_radii), (spec, n_types)
    if _is_compiling():
        return _ops.density_tangent(*tensors, *settings)
    return _apply(DensityTangent, tensors, settings)


def density_backward_backward(
    coords, types, radii, offsets, grad_density, v_coords, v_types, v_radii, spec, n_types, needs
):
    """Order 2, the atoms; differentiable with respect to grad_density and v, an error with respect to the rest."""
    v_types = v_types if types.is_floating_point() else None
    tensors = (coords, types, radii, offsets, grad_density, v_coords, v_types, v_radii)
    settings = (spec, n_types, needs)
    if _is_compiling():
        return _only(_ops.density_backward_backward(*tensors, *settings), needs)
    return _only(_apply(DensityBackwardBackward, tensors, settings), needs)


def density_tangent_tangent(
    coords, types, radii, offsets, u_coords, u_types, u_radii, v_coords, v_types, v_radii, spec, n_types
):
    """Order 2, the grid: the second derivative of the density along u and v; differentiable with respect to both."""
    if not types.is_floating_point():
        u_types = v_types = None
    tensors = (coords, types, radii, offsets, u_coords, u_types, u_radii, v_coords, v_types, v_radii)
    settings = (spec, n_types)
    if _is_compiling():
        return _ops.density_tangent_tangent(*tensors, *settings)
    return _apply(DensityTangentTangent, tensors, settings)
