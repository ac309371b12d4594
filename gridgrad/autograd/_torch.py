"""The private names of torch that gridgrad uses, each with its reason. No other file uses one; a test sees to it.

All are there in torch 2.4.1, 2.5.1, 2.6.0 and 2.13.0; ``tools/check_versions.sh`` runs the tests on other versions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active, _get_tracing_state, _len_torch_dispatch_stack
from torch.autograd import forward_ad, profiler

is_autocasting = torch._C._is_any_autocast_enabled
"""Whether autocast is on for some device; the public question is about one device and takes longer."""

below_autograd = torch._C._AutoDispatchBelowAutograd
"""Context in which the dispatcher passes over autograd: a `Function` of ours calls an operator from its forward, which
must not record a second derivative. torch's own code generator emits the same guard; there is no public one."""

has_storage = torch._C._has_storage
"""False for what only wraps a tensor (under torch.func, or in sparse formats) and has no address."""

is_transformed = torch._C._functorch.is_functorch_wrapped_tensor
"""Whether a tensor is an argument of a transform of torch.func at work."""

is_zerotensor = Tensor._is_zerotensor
"""Whether a tensor is zeros without memory, as autograd makes for what does not matter; the address is 0."""

OWN_DERIVATIVE_KEYS = ("Autograd", "FuncTorchDynamicLayerFrontMode")
"""Dispatch keys under which our operators have their derivatives. The first is public. Under torch.func the second one
comes before all others, and a `Function` with rules is itself an operator that starts there: met only later, under
Autograd, while torch takes transforms apart, it ends in "could not find kernel for custom_function_call"."""


def is_transforming() -> bool:
    """Return whether torch.func or forward mode (``_current_level``) is at work, which want a `Function` with rules.

    Returns
    -------
    bool
        Also inside of a transform that does not concern the tensors at hand.
    """
    return _are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_watched() -> bool:
    """Return whether someone wants to see every operator: a dispatch mode, the profiler or the tracer of torch.jit.

    Returns
    -------
    bool
        True: an operator must go through the dispatcher.
    """
    return bool(_len_torch_dispatch_stack() or profiler._is_profiler_enabled or _get_tracing_state())


class KeepsBuffers(torch.nn.Module):
    """A module whose buffers follow it to another device and keep their dtype, whatever the module is converted to."""

    def _apply(self, fn, recurse=True):
        # what `to`, `half`, `cuda`, ... of a module and of those around it have in common
        buffers = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in buffers.items():
            if not buffer.is_meta:
                setattr(self, name, buffer.to(getattr(self, name).device))
        return self
