"""Gradients of a number by tensors that came up on the way to it.

Another backend brings a `Tape`: in torch `watch` asks a tensor to require its gradient and
`gradients` is `torch.autograd.grad(…, allow_unused=True)`; in jax `watch` adds a zero, by which the
whole is differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_nns.engine.backend import tf


class Tape:
    """Records what is computed while in the context, from watched tensors on."""

    def __init__(self) -> None:
        self._tape = tf.GradientTape(watch_accessed_variables=False)

    def __enter__(self) -> Tape:
        self._tape.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._tape.__exit__(*error)

    def watch(self, tensor: Any) -> None:
        """Record what follows from a tensor of floating-point numbers."""
        self._tape.watch(tensor)

    def gradients(self, value: Any, tensors: Sequence[Any]) -> list[Any]:
        """Return the gradient of a number by each of some tensors, once.

        Args:
            value: What was computed, a scalar.
            tensors: Watched, or computed from what was watched.

        Returns:
            Tensors of the shapes of `tensors`; None for one that nothing leads from to the value.
        """
        found = self._tape.gradient(value, list(tensors))
        return [None if gradient is None else tf.convert_to_tensor(gradient) for gradient in found]
