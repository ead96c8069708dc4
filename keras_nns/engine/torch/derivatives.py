"""Gradients by tensors that require them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

Watch = Callable[[Hashable, Any], Any]


def differentiated(
    function: Callable[[Watch], tuple[Any, Sequence[Any]]],
) -> tuple[dict[Any, Any], list[Any]]:
    """Return the gradient of a number by each of some tensors, once; see `engine.derivatives`."""
    watched: dict[Hashable, Any] = {}
    leaves: list[Any] = []

    def watch(key: Hashable, tensor: Any) -> Any:
        if tensor.dtype.is_floating_point:
            if not tensor.requires_grad:
                leaves.append(tensor.requires_grad_())
            watched[key] = tensor
        return tensor

    with torch.enable_grad():
        value, others = function(watch)
    tensors = list(watched.values())
    found: Sequence[Any] = [None] * len(tensors)
    if value.requires_grad:
        found = torch.autograd.grad(value, tensors, allow_unused=True)
    for leaf in leaves:
        leaf.requires_grad_(False)
    gradients = [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(tensors, found, strict=True)
    ]
    return dict(zip(watched, gradients, strict=True)), [one.detach() for one in others]
