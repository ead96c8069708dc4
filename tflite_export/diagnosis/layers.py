"""Where in a file the answers leave the model's: layer by layer, in LiteRT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tflite_export.flatbuffer.container import parse, text
from tflite_export.keras_model.source import functional_graph
from tflite_export.running.interpreter import slots
from tflite_export.running.silence import captured

Array = np.ndarray[Any, Any]
_SAMPLES = 16


@dataclass(frozen=True)
class Departure:
    """The layer behind which a file's answers are suddenly further from its model's.

    Attributes:
        layer: Its name.
        rms: Root mean square difference behind it, as a share of each unit's scale: a wide unit
            hides what its neighbours lose.
        before: The largest such difference of the layers before it.
    """

    layer: str
    rms: float
    before: float


def departure(flat: bytes, model: Any, values: Sequence[Array]) -> Departure | None:
    """Find the layer at which the difference grows most, or `None` where layers cannot be told.

    Only functional models have layers with outputs of their own, and only files of this package or
    of TensorFlow's converter name their tensors after them.

    Args:
        flat: The flatbuffer.
        model: The Keras model.
        values: Real inputs in the order of both.
    """
    graph = functional_graph(model)
    if graph is None:
        return None
    some = [array[:_SAMPLES] for array in values]
    inside = _inside(flat, some, [layer.name for layer in graph.layers])
    if not inside:
        return None
    outputs = {
        layer.name: layer.output
        for layer in graph.layers
        if layer.name in inside and isinstance(getattr(layer, "output", None), keras.KerasTensor)
    }
    expected = keras.Model(graph.inputs, outputs)(some, training=False)
    return _largest_step(
        {name: np.asarray(array, np.float64) for name, array in expected.items()}, inside
    )


def _largest_step(expected: Mapping[str, Array], inside: Mapping[str, Array]) -> Departure | None:
    found: Departure | None = None
    before = 0.0
    for name, answer in inside.items():
        wanted = expected.get(name)
        if wanted is None or wanted.shape != answer.shape:
            continue
        rms = _apart(wanted, answer)
        if found is None or rms - before > found.rms - found.before:
            found = Departure(name, rms, before)
        before = max(before, rms)
    return found


def _apart(wanted: Array, answer: Array) -> float:
    axes = tuple(range(wanted.ndim - 1))
    scales = np.abs(wanted).max(axis=axes, initial=0.0)
    # A unit that is silent throughout counts on its layer's scale.
    scales = np.where(scales > 0, scales, scales.max(initial=0.0) or 1.0)
    return float(np.sqrt(np.mean(((wanted - answer) / scales) ** 2)))


def _inside(flat: bytes, values: Sequence[Array], layers: Sequence[str]) -> dict[str, Array]:
    """Real values of what each layer returns, in the order in which they are computed."""
    model = parse(flat)
    graph = model.subgraphs[0]
    names = "|".join(sorted(map(re.escape, layers), key=len, reverse=True))
    # Keras opens a layer's scope once to build and once per call: `conv` appears as `conv_1`.
    scope = re.compile(rf"(?:^|/)({names})(?:_\d+)?/[^/]*$")
    places: dict[str, int] = {}
    for operator in graph.operators or ():
        for index in operator.outputs:
            # Operators fused into one are all named, the last first.
            name = text(graph.tensors[index].name).split(";")[0]
            match = scope.search(name)
            layer = match[1] if match else name
            if layer in layers:
                places.pop(layer, None)
                places[layer] = int(index)
    with captured():
        interpreter = Interpreter(
            model_content=flat,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    signature = (model.signatureDefs or [None])[0]
    ends = slots(interpreter.get_input_details(), getattr(signature, "inputs", None))
    if any(slot.shape[0] != 1 for slot in ends):
        return {}
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    kept = dict(zip(places, slots([details[i] for i in places.values()], None), strict=True))
    rows: dict[str, list[Array]] = {layer: [] for layer in places}
    for number in range(len(values[0])):
        for slot, array in zip(ends, values, strict=True):
            interpreter.set_tensor(slot.index, slot.encode(array[number : number + 1]))
        interpreter.invoke()
        for layer, slot in kept.items():
            rows[layer].append(slot.decode(interpreter.get_tensor(slot.index)))
    return {layer: np.concatenate(found) for layer, found in rows.items()}
