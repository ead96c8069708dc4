"""The calls of a model's layers, and what a call leaves behind in them.

It is Keras that keeps both, in fields which are not public, whichever backend computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from keras.src.backend.common.masking import get_keras_mask, set_keras_mask


@contextmanager
def losses_kept(model: Any) -> Iterator[None]:
    """Give every layer back the losses that its last call by the user left in it."""
    before = [(layer, [*layer._losses], {*layer._loss_ids}) for layer in model._flatten_layers()]
    try:
        yield
    finally:
        for layer, losses, ids in before:
            layer._losses[:] = losses
            layer._loss_ids.clear()
            layer._loss_ids.update(ids)


def calls_of(model: Any) -> Iterator[tuple[Any, Sequence[Any], Sequence[Any]]]:
    """Iterate over the calls in a model's own graph, from its inputs to its outputs.

    Args:
        model: A built functional or Sequential model. Models inside it are one call each.

    Yields:
        The layer or operation, and the symbolic tensors that the call takes and gives.
    """
    graph = getattr(model, "_functional", None) or model
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input:
                yield node.operation, node.input_tensors, node.output_tensors


def mask_of(tensor: Any) -> Any:
    """Return the mask that a layer left on what it gave; None where there is none."""
    return get_keras_mask(tensor)


def with_mask(tensor: Any, mask: Any = None) -> Any:
    """Leave a mask on a tensor, unless it is None, as a layer does; return the tensor."""
    if mask is not None:
        set_keras_mask(tensor, mask)
    return tensor
