"""How an operator is called: recorded by torch or not, under its transforms, past its dispatcher, or refused.

From the rules of an order, in `gridgrad.autograd.derivatives`, two `torch.autograd.Function` are made: one for eager
mode, and one that torch.func and forward-mode differentiation understand. The second costs some 25 us more a call, and
Dynamo refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from gridgrad.autograd import ops
from gridgrad.autograd._torch import OWN_DERIVATIVE_KEYS, below_autograd, is_transforming

_ops = torch.ops.gridgrad
_is_grad_enabled = torch.is_grad_enabled

INPUTS = ("coords", "types", "radii")
THIRD_ORDER = (
    "gridgrad: a third derivative of the density, with respect to {}, is not available. Second-order gradients can be "
    "differentiated with respect to grad_density and the vectors they were contracted with. Where only the gradients "
    "of a network's parameters are wanted, name them: loss.backward(inputs=list(model.parameters()))"
)
CONSTANT = (
    "gridgrad: centers: a derivative is asked for; expected constants. Subtract what is to be differentiated from "
    "coords, as gridgrad.coords2grid does"
)


@lru_cache
def computing(operator: str) -> Callable:
    """Return how to run an operator without derivatives, and without dispatch where dispatch would change nothing."""
    implementation, dispatched = getattr(ops, operator), getattr(_ops, operator)

    def compute(tensors: tuple[Tensor | None, ...], settings: tuple):
        if ops.is_plain(*tensors):  # type: ignore[arg-type]  # the first one is coords
            return implementation(*tensors, *settings)
        with below_autograd():
            return dispatched(*tensors, *settings)

    return compute


class Families(NamedTuple):
    """How an order is called."""

    compute: Callable
    eager: type[Function]
    transformed: type[Function]
    is_last: bool


def families_of(rules: Any) -> Families:
    """Make the Function for eager mode and the one for transforms, and give the operator its derivative.

    The first takes the settings as one argument: torch charges for each, and for each gradient that is None.
    """
    compute, n_tensors = computing(rules.operator), rules.n_tensors

    def forward(ctx, *inputs):
        tensors, settings = inputs[:n_tensors], inputs[n_tensors]
        output = compute(tensors, settings)
        rules.setup_context(ctx, tensors, settings, output)
        return output

    def backward(ctx, *gradients):
        return rules.backward(ctx, *gradients)[: n_tensors + 1]

    def transformed_forward(*inputs):
        return compute(inputs[:n_tensors], inputs[n_tensors:])

    def setup_context(ctx, inputs, output):
        rules.setup_context(ctx, inputs[:n_tensors], inputs[n_tensors:], output)
        ctx.save_for_forward(*inputs[:n_tensors])

    def function(**members):
        text = {"__doc__": rules.__doc__, "__module__": rules.__module__}
        members = {key: staticmethod(member) for key, member in members.items()} | text
        return type(rules.__name__.removesuffix("Rules"), (Function,), members)

    rest = {key: getattr(rules, key) for key in ("backward", "jvp", "vmap")}
    transformed = function(forward=transformed_forward, setup_context=setup_context, **rest)
    families = Families(compute, function(forward=forward, backward=backward), transformed, rules.is_last)
    dispatched = ops.as_operator(
        rules.operator, lambda *inputs: apply(families, inputs[:n_tensors], inputs[n_tensors:])
    )
    for key in OWN_DERIVATIVE_KEYS:
        ops.library.impl(rules.operator, dispatched, key)
    return families


def differentiates(tensors: tuple[Tensor | None, ...]) -> bool:
    """Tell whether torch wants to record what is computed of these."""
    if _is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def _refusal(name: str) -> RuntimeError:
    return RuntimeError(CONSTANT if name == "centers" else THIRD_ORDER.format(name))


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
        raise _refusal(ctx.name)

    @staticmethod
    def jvp(ctx, tangent, _):
        raise _refusal(ctx.name)

    @staticmethod
    def vmap(info, in_dims, tensor, name):
        return _refuse(tensor, name), in_dims[0]


def _refuse(tensor: Tensor | None, name: str) -> Tensor | None:
    if tensor is not None and tensor.is_floating_point() and (is_transforming() or differentiates((tensor,))):
        return Refuse.apply(tensor, name)
    return tensor


def apply(families: Families, tensors: tuple[Tensor | None, ...], settings: tuple[Any, ...]):
    """Run an order: recorded, transformed, or only computed, as the tensors and what is at work around them want it."""
    compute, eager, transformed, is_last = families
    if is_last:
        tensors = (*map(_refuse, tensors[:3], INPUTS), *tensors[3:])
    if tensors[4] is not None:
        tensors = (*tensors[:4], _refuse(tensors[4], "centers"), *tensors[5:])
    if is_transforming():
        return transformed.apply(*tensors, *settings)
    if differentiates(tensors):
        return eager.apply(*tensors, settings)
    return compute(tensors, settings)
