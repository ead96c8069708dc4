"""Inputs to try a model on when the user gave none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.engine.tensors import as_tensor, is_tensor
from keras_nns.graph.keras_internals import at_rest, functional, walk
from keras_nns.graph.tracing import Graph

_OPEN_SIZE = {2: 32, 3: 32, 4: 64, 5: 16}
"""Size put in for dimensions a model leaves open (steps, sides), by the number of axes.

Powers of two, so that what was pooled and is enlarged again fits what it is joined to.
"""

_MOST_TIMES = 4096

_WORDS = ("", "a", "b", "one", "two words", "1")


_SCALES = (1.0, 10.0, 100.0, 1000.0)
"""Of normal numbers, in the order they are tried: some models divide by 255 first."""

_TELLING = 0.1
"""How far answers differ between samples, relative to their scale, where no other draw is tried."""


def telling_inputs(graph: Graph, model: Any, count: int, *, seed: int) -> Any:
    """Generate inputs for which a model's answers differ, so that a comparison can fail.

    Args:
        graph: The traced model that says what inputs fit.
        model: The model whose answers shall differ: it, or one with the same inputs.
        count: How many samples, unless the model is built for a fixed number.
        seed: Seed of the random numbers.

    Returns:
        As of `sample_inputs`: of a few draws of growing scale the first that tells enough of every
        output, or else the one that tells most.
    """
    inputs = sample_inputs(graph, count, seed=seed)
    found = variations(answers_of(model, inputs))
    most = _told(found)
    for number, scale in enumerate(_SCALES[1:], start=1):
        if not any(one < _TELLING for one in found):  # Told enough, or answers are no numbers.
            return inputs
        drawn = sample_inputs(graph, count, seed=seed + number, scale=scale)
        found = variations(answers_of(model, drawn))
        if _told(found) > most:
            most, inputs = _told(found), drawn
    return inputs


def _told(found: Sequence[float]) -> tuple[int, float]:
    """Return how much is told by how far outputs vary: of how many something, and how much."""
    return sum(one > 0 for one in found), sum(min(one, _TELLING) for one in found)


def answers_of(model: Any, inputs: Any) -> list[NDArray[np.float64]]:
    """Return what a model answers at rest, an array for each output."""
    with at_rest(model):
        found = model(inputs, training=False)
    return [np.asarray(one, np.float64) for one in tree.flatten(found)]


def variations(answers: Sequence[NDArray[np.float64]]) -> list[float]:
    """Return how far answers differ between samples, relative to the largest of their output.

    Args:
        answers: For each output, an array `(samples, …)`.

    Returns:
        A number for each output: 0 where it does not vary, NaN where an answer is no number.
    """
    found = []
    for one in answers:
        scale = np.abs(one).max(initial=0.0)
        with np.errstate(invalid="ignore"):
            spread = np.ptp(one, axis=0).max(initial=0.0) if len(one) else 0.0
        found.append(0.0 if scale == 0 else float(spread / scale))
    return found


def sample_inputs(graph: Graph, count: int, *, seed: int, scale: float = 1.0) -> Any:
    """Generate inputs that fit a model: normal numbers, tokens where an Embedding reads, or words.

    Args:
        graph: The traced model.
        count: How many samples, unless the model is built for a fixed number.
        seed: Seed of the random numbers.
        scale: Standard deviation of the normal numbers.

    Returns:
        Arrays in the structure the model takes.
    """
    random = np.random.default_rng(seed)
    sizes = vocabularies(graph)
    arrays = []
    model = functional(graph.model)
    # A layer with one vector for each position (KerasHub's) takes no longer sequence.
    held = [getattr(layer, "sequence_length", None) for layer in graph.model._flatten_layers()]
    steps = min((length for length in held if isinstance(length, int)), default=None)
    # Longer where that is too short for what the model crops off or looks at once.
    times = _times(graph.model, count) if steps is None else 1
    for index, tensor in enumerate(model.inputs):
        # A stateful model is built for one batch size and takes no other.
        batch = count if tensor.shape[0] is None else tensor.shape[0]
        side = _OPEN_SIZE.get(len(tensor.shape), 8) * times
        side = side if steps is None else min(side, steps)
        shape = (batch, *[d if d is not None else side for d in tensor.shape[1:]])
        size = sizes.get(index)
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
            arrays.append(random.normal(scale=scale, size=shape).astype(np.float32))
    if any(map(is_tensor, arrays)):
        # Keras takes tensors or arrays, not some of each.
        arrays = [as_tensor(array) for array in arrays]
    return tree.pack_sequence_as(model._inputs_struct, arrays)


def _times(model: Any, count: int) -> int:
    """Return by how much open sizes are longer than usual, so that an answer is left of them."""
    if all(d is not None for tensor in functional(model).inputs for d in tensor.shape[1:]):
        return 1
    most = 1
    while not _leaves_an_answer(model, count, most):
        most *= 2
        if most > _MOST_TIMES:
            return 1  # It fails for another reason.
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        if _leaves_an_answer(model, count, middle):
            most = middle
        else:
            least = middle
    return most if most == 1 else most + 1


def _leaves_an_answer(model: Any, count: int, times: int) -> bool:
    graph = functional(model)
    inputs = [
        keras.KerasTensor(
            [
                (d if d is not None else _OPEN_SIZE.get(len(tensor.shape), 8) * times)
                for d in (tensor.shape[0] or count, *tensor.shape[1:])
            ],
            tensor.dtype,
        )
        for tensor in graph.inputs
    ]
    try:
        found = graph.compute_output_spec(tree.pack_sequence_as(graph._inputs_struct, inputs))
    except Exception:  # Layers say in their own ways that a sequence is too short for them.
        return False
    return all(d is None or d > 0 for one in tree.flatten(found) for d in one.shape)


def vocabularies(graph: Graph) -> dict[int, int]:
    """For each model input that an Embedding reads, the smallest vocabulary that does."""
    found: dict[int, int] = {}

    def visit(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        sources: set[int] = set()
        for value in tree.flatten((args, kwargs)):
            if isinstance(value, frozenset):
                sources |= value
        # Scoring tokens is no looking them up; a mask may have come as far as that.
        scores = kwargs.get("reverse") or any(value is True for value in args)
        table = call.operation
        if hasattr(table, "position_embedding"):
            # Layers of KerasHub hold a table of tokens beside one of positions.
            table = getattr(table, "token_embedding", table)
        looks_up = isinstance(table, keras.layers.Embedding)
        if looks_up and not scores:
            for source in sources:
                found[source] = min(found.get(source, table.input_dim), table.input_dim)
        # Only what is still the input itself counts as tokens.
        moves = looks_up or isinstance(call.operation, keras.layers.Dense)
        passed = frozenset() if moves else frozenset(sources)
        return [passed for _ in call.outputs]

    inputs = functional(graph.model).inputs
    walk(graph.model, [frozenset([i]) for i in range(len(inputs))], visit)
    return found
