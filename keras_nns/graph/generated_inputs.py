"""Inputs to try a model on when the user gave none."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import tree

from keras_nns.engine.tensors import as_tensor, is_tensor
from keras_nns.graph.keras_internals import functional, walk
from keras_nns.graph.tracing import Graph

_OPEN_SIZE = {2: 32, 3: 32, 4: 64, 5: 16}
"""Size put in for dimensions a model leaves open (steps, sides), by the number of axes.

Powers of two, so that what was pooled and is enlarged again fits what it is joined to.
"""

_WORDS = ("", "a", "b", "one", "two words", "1")


def sample_inputs(graph: Graph, count: int, *, seed: int) -> Any:
    """Generate inputs that fit a model: normal numbers, tokens where an Embedding reads, or words.

    Args:
        graph: The traced model.
        count: How many samples, unless the model is built for a fixed number.
        seed: Seed of the random numbers.

    Returns:
        Arrays in the structure the model takes.
    """
    random = np.random.default_rng(seed)
    vocabularies = _vocabularies(graph)
    arrays = []
    model = functional(graph.model)
    for index, tensor in enumerate(model.inputs):
        # A stateful model is built for one batch size and takes no other.
        batch = count if tensor.shape[0] is None else tensor.shape[0]
        side = _OPEN_SIZE.get(len(tensor.shape), 8)
        shape = (batch, *[d if d is not None else side for d in tensor.shape[1:]])
        size = vocabularies.get(index)
        if str(tensor.dtype) == "string":
            arrays.append(as_tensor(random.choice(_WORDS, shape).tolist()))
        elif size is not None:
            arrays.append(random.integers(0, size, shape).astype(tensor.dtype))
        elif "int" in str(tensor.dtype):
            arrays.append(random.integers(0, 2, shape).astype(tensor.dtype))
        elif "bool" in str(tensor.dtype):
            flags = random.random(shape) < 0.5
            # As a mask it leaves something in: a mean over nothing is no number.
            flags[..., :1] = True
            arrays.append(flags)
        else:
            arrays.append(random.normal(size=shape).astype(np.float32))
    if any(map(is_tensor, arrays)):
        # Keras takes tensors or arrays, not some of each.
        arrays = [as_tensor(array) for array in arrays]
    return tree.pack_sequence_as(model._inputs_struct, arrays)


def _vocabularies(graph: Graph) -> dict[int, int]:
    """For each model input that an Embedding reads, the smallest vocabulary that does."""
    found: dict[int, int] = {}

    def visit(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sources: set[int] = set()
        for value in tree.flatten((args, kwargs)):
            if isinstance(value, frozenset):
                sources |= value
        if isinstance(call.operation, keras.layers.Embedding):
            for source in sources:
                size = call.operation.input_dim
                found[source] = min(found.get(source, size), size)
        # Only what is still the input itself counts as tokens.
        moves = isinstance(call.operation, keras.layers.Embedding | keras.layers.Dense)
        passed = frozenset() if moves else frozenset(sources)
        return [passed for _ in call.outputs]

    inputs = functional(graph.model).inputs
    walk(graph.model, [frozenset([i]) for i in range(len(inputs))], visit)
    return found
