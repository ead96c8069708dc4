"""Steps that TensorFlow compiles, once for batches of any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import tree


class Stepper:
    """Runs a function of batches compiled: traced for every kind of batch, not for every size.

    Args:
        function: Takes batches, arrays in any structure, whose first axis counts samples.
        uncompiled: How many batches of a kind are run as they come before it is compiled, which
            takes as long as running many of them. Compiled, sums may round otherwise.
    """

    def __init__(self, function: Callable[..., Any], *, uncompiled: int = 0) -> None:
        self._function = function
        self._uncompiled = uncompiled
        self._ran: Counter[Any] = Counter()
        self._traced: dict[Any, Any] = {}

    def __call__(self, *batches: Any) -> Any:
        """Run it; what is no tensor yet becomes one."""
        # Told apart before anything is converted: this is done for every batch.
        key = tuple((t.dtype, tuple(t.shape[1:])) for t in tree.flatten(batches))
        tensors = tree.map_structure(tf.convert_to_tensor, batches)
        if self._ran[key] < self._uncompiled:
            self._ran[key] += 1
            return self._function(*tensors)
        if key not in self._traced:
            # The last batch is smaller: leave the batch axis open, so that one trace serves all.
            signature = tree.map_structure(
                lambda t: tf.TensorSpec([None, *t.shape[1:]], t.dtype), tensors
            )
            traced = tf.function(self._function, input_signature=signature, autograph=False)
            # As a concrete function: TensorFlow warns where many are traced one after the other.
            self._traced[key] = traced.get_concrete_function()
        return self._traced[key](*tensors)
