"""Build the tf_keras twin of a Keras 3 model: same graph, same weights, for tools of Keras 2.

The graph is walked and every layer made anew from its configuration, nested models inlined.
Whether the twin computes the same is measured, not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tflite_export.errors import ConversionError
from tflite_export.keras_model.source import functional_graph, generated, source

# Keras 2 names of arguments that Keras 3 renamed.
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
_KINDS = ("regularizer", "constraint")
_TOLERANCE = 1e-4
_PROBES = 4


@dataclass(frozen=True)
class Twin:
    """A tf_keras model and the Keras 3 layers that its layers stand for.

    Attributes:
        model: A functional tf_keras model, with flat lists of inputs and outputs.
        layers: Name of every twin layer that has weights, to the Keras 3 layer of its weights.
        names: The same names to those of the layer's variables; tools that wrap layers take
            variables away from them.
    """

    model: Any
    layers: Mapping[str, Any]
    names: Mapping[str, tuple[str, ...]]

    def returned(self, model: Any, weights: Mapping[str, Sequence[Any]]) -> Any:
        """Give back a copy of the Keras 3 model that has the weights of a retrained twin.

        Args:
            model: The Keras 3 model that the twin was made of. It is not changed.
            weights: Arrays of each twin layer, by its name.
        """
        copy = keras.models.clone_model(model)
        # Layers are told apart by their place: names repeat in nested models.
        places = {id(layer): place for place, layer in enumerate(_every_layer(model))}
        theirs = _every_layer(copy)
        copy.set_weights(model.get_weights())
        for name, layer in self.layers.items():
            theirs[places[id(layer)]].set_weights(list(weights[name]))
        return copy


def twin(model: Any, tf_keras: Any) -> Twin:
    """Build the tf_keras twin of a Keras 3 model.

    Args:
        model: A built Sequential or functional model of built-in layers.
        tf_keras: The module `tf_keras`.

    Returns:
        The twin, with the model's weights.

    Raises:
        OptionError: `model` is not a built Keras model.
        ConversionError: A layer has no counterpart in tf_keras, or the twin answers otherwise.
    """
    origin = source(model)
    graph = functional_graph(model)
    if graph is None:
        raise ConversionError(
            f"model {model.name!r} is a subclass of keras.Model without a graph, which "
            "tensorflow-model-optimization cannot work on. Build it as a functional model."
        )
    builder = _Builder(tf_keras)
    inputs = [
        tf_keras.Input(port.shape[1:], dtype=port.dtype, name=_plain(port.name))
        for port in origin.inputs
    ]
    outputs = builder.run(graph, inputs)
    with keras.device("cpu"):
        made = tf_keras.Model(inputs, outputs, name=_plain(model.name))
    for name, layer in builder.layers.items():
        try:
            made.get_layer(name).set_weights(layer.get_weights())
        except ValueError as error:
            raise _unlike(layer, f"its weights have other shapes there: {error}") from error
    _compare(model.name, origin, made)
    weighted = {name: layer for name, layer in builder.layers.items() if layer.weights}
    names = {name: tuple(v.name for v in made.get_layer(name).weights) for name in weighted}
    return Twin(made, weighted, names)


class _Builder:
    """Runs Keras 3 graphs on tf_keras tensors, making each layer once."""

    def __init__(self, tf_keras: Any) -> None:
        self.tf_keras = tf_keras
        self.layers: dict[str, Any] = {}
        self._made: dict[int, Any] = {}

    def run(self, graph: Any, inputs: Sequence[Any]) -> list[Any]:
        """Apply a graph to tensors; gives its outputs as a flat list."""
        tensors = {
            id(theirs): ours
            for theirs, ours in zip(keras.tree.flatten(graph.input), inputs, strict=True)
        }
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                answers = self._call(node, tensors)
                for theirs, ours in zip(node.output_tensors, answers, strict=True):
                    tensors[id(theirs)] = ours
        return [tensors[id(tensor)] for tensor in keras.tree.flatten(graph.output)]

    def _call(self, node: Any, tensors: Mapping[int, Any]) -> list[Any]:
        operation = node.operation
        args, kwargs = node.arguments.args, node.arguments.kwargs
        inner = functional_graph(operation) if isinstance(operation, keras.Model) else None
        if inner is not None:
            return self.run(inner, [tensors[id(t)] for t in node.input_tensors])
        layer = self._layer(operation)
        # `training=False` is what Keras notes of layers that were built outside training.
        given = [name for name, value in kwargs.items() if value is not None and value is not False]
        extra = [value for value in args[1:] if value is not None]
        if given or extra:
            raise _unlike(operation, "it is called with more than its inputs")
        placed = keras.tree.map_structure(lambda t: tensors[id(t)], args[0])
        return list(tf.nest.flatten(layer(placed)))

    def _layer(self, layer: Any) -> Any:
        """Make a layer, or give the one that was made of it before."""
        if id(layer) not in self._made:
            name, number = _plain(layer.name), 1
            while name in self.layers:
                name, number = f"{_plain(layer.name)}_{number}", number + 1
            self._made[id(layer)] = self._new(layer, name)
            self.layers[name] = layer
        return self._made[id(layer)]

    def _new(self, layer: Any, name: str) -> Any:
        kind = type(layer).__name__
        theirs = getattr(self.tf_keras.layers, kind, None)
        if theirs is None or getattr(keras.layers, kind, None) is not type(layer):
            what = "layer" if isinstance(layer, keras.Layer) else "operation"
            raise _unlike(layer, f"tf_keras has no such {what}; use built-in layers")
        if isinstance(layer, (keras.layers.Wrapper, keras.layers.Bidirectional)):
            raise _unlike(
                layer, "tensorflow-model-optimization leaves layers inside wrappers as they are"
            )
        try:
            return theirs.from_config(self._config(layer, theirs, name))
        except (TypeError, ValueError) as error:
            raise _unlike(layer, str(error)) from error

    def _config(self, layer: Any, theirs: Any, name: str) -> dict[str, Any]:
        """Rewrite a Keras 3 configuration in the words of Keras 2."""
        config = {"name": name, "trainable": layer.trainable}
        renamed = _RENAMED.get(type(layer).__name__, {})
        known = _arguments(theirs)
        for key, value in layer.get_config().items():
            own = renamed.get(key, key)
            # Weights are copied: how they would have been drawn does not matter.
            if own not in known or own.endswith("initializer"):
                continue
            if isinstance(value, Mapping):
                family = next((kind for kind in _KINDS if own.endswith(kind)), None)
                if family is None or value.get("registered_name"):
                    raise _unlike(layer, f"its {own} is no built-in one")
                config[own] = getattr(self.tf_keras, f"{family}s").deserialize(
                    {"class_name": value["class_name"], "config": value["config"]}
                )
            else:
                config[own] = value
        return config


def _arguments(kind: Any) -> set[str]:
    """Names that a Keras 2 layer takes, its parents' included."""
    names: set[str] = set()
    for parent in kind.__mro__:
        code = getattr(vars(parent).get("__init__"), "__wrapped__", vars(parent).get("__init__"))
        if code is not None and hasattr(code, "__code__"):
            names |= {*code.__code__.co_varnames[: code.__code__.co_argcount]}
            start = code.__code__.co_argcount
            names |= {*code.__code__.co_varnames[start : start + code.__code__.co_kwonlyargcount]}
    return names - {"self", "name", "trainable", "dtype", "input_shape"}


def _every_layer(model: Any) -> list[Any]:
    return list(model._flatten_layers(include_self=False, recursive=True))


def _plain(name: str) -> str:
    """A name that TensorFlow's scopes take."""
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in name)


def _unlike(layer: Any, why: str) -> ConversionError:
    return ConversionError(
        f"layer {layer.name!r} ({type(layer).__name__}) cannot be taken over into tf_keras, which "
        f"tensorflow-model-optimization works on: {why}."
    )


def _compare(name: str, origin: Any, made: Any) -> None:
    """Hold the twin to the model on random inputs."""
    inputs = [keras.ops.convert_to_tensor(array) for array in generated(origin, _PROBES)]
    expected = [np.asarray(answer) for answer in origin.call(inputs)]
    found = made(inputs if len(inputs) > 1 else inputs[0], training=False)
    for port, left, right in zip(
        origin.outputs,
        expected,
        found if isinstance(found, (list, tuple)) else [found],
        strict=True,
    ):
        apart = float(np.abs(left - np.asarray(right)).max(initial=0.0))
        scale = float(np.abs(left).max(initial=0.0)) or 1.0
        if not apart <= _TOLERANCE * scale:
            raise ConversionError(
                f"output {port.name!r} of model {name!r} differs by {apart / scale:.2g} of its "
                "scale when its layers are rebuilt in tf_keras: one of them means something else "
                "in Keras 2 (hard_sigmoid does). Replace it before using "
                "tensorflow-model-optimization."
            )
