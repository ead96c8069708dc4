"""Read a Keras model as a pure function of named tensors.

The one place that looks inside Keras. Nothing here changes the user's model: the forward
pass runs in a `keras.StatelessScope`, which keeps losses, metrics and layer state out of
the layers, and whatever must be different (precision, recurrent loops) is done on a
rebuilt copy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from tflite_export.errors import ConversionError, OptionError
from tflite_export.keras_model.ports import Kernel, Port

Array = np.ndarray[Any, Any]

# Layers whose loop over time turns into TensorFlow-only list operations unless the
# batch size is known.
_RECURRENT = ("RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_BATCH = 64
_OPEN = 32
NOT_FLOAT32 = ("float16", "bfloat16", "float64")
_POLICY = re.compile(r"^(mixed_)?(float16|bfloat16|float64)$")


@dataclass(frozen=True)
class Source:
    """A Keras model, ready to be traced.

    Attributes:
        name: The model's name.
        inputs: In the order `call` takes them.
        outputs: In the order `call` gives them.
        call: The inference pass over flat lists of tensors.
        variables: The TensorFlow variables that `call` reads.
        weights: The Keras variables behind them.
        call_with: The pass with other values for some of those: pairs of variable and value.
        recurrent: Names of the layers that loop over time.
        layers: Names of all layers, nested ones included.
        tables: How many rows each table has that an Embedding looks up.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    call: Callable[[Sequence[Any]], list[Any]]
    variables: tuple[Any, ...]
    recurrent: tuple[str, ...]
    layers: tuple[str, ...]
    weights: tuple[Any, ...]
    call_with: Callable[[Sequence[Any], Sequence[tuple[Any, Any]]], list[Any]]
    tables: tuple[int, ...] = ()

    @property
    def vocabulary(self) -> int | None:
        """Rows of the smallest table that an Embedding looks up; `None` without one."""
        return min(self.tables, default=None)


def source(model: Any, *, samples: Any = None, unroll: bool = False) -> Source:
    """Check that a model can be exported and describe it.

    Args:
        model: Any `keras.Model`.
        samples: Only looked at for a subclassed model, which has no shapes of its own.
        unroll: Rebuild recurrent layers without their loop.

    Raises:
        OptionError: `model` is not a Keras model, or its input shapes are unknown.
        ConversionError: The model is of a kind that has no TFLite form.
    """
    if not isinstance(model, keras.Model):
        raise OptionError(
            f"expected a keras.Model. Received: {type(model).__module__}."
            f"{type(model).__qualname__}. Load a file with keras.models.load_model first."
        )
    if keras.config.backend() != "tensorflow":
        raise ConversionError(
            f"Keras runs on the {keras.config.backend()!r} backend here. Save the model as "
            ".keras and export it in a process with KERAS_BACKEND=tensorflow."
        )
    if not model.built:
        raise OptionError(
            f"model {model.name!r} is not built, so it has no shapes or weights. Call it on "
            "one batch, add a keras.Input, or call build() first."
        )
    layers = list(_layers(model))
    for layer in layers:
        if getattr(layer, "quantization_mode", None) is not None:
            raise ConversionError(
                f"layer {layer.name!r} was quantized by Keras ({layer.quantization_mode}); "
                "TFLite cannot hold that form. Export the float model with quantize=... instead."
            )
        if isinstance(layer, keras.layers.Conv3D) and layer.groups > 1:
            raise ConversionError(
                f"layer {layer.name!r} is a Conv3D in {layer.groups} groups, which TFLite does not "
                "have. Build it of one Conv3D for each group, on its share of the channels, and a "
                "Concatenate."
            )
        if getattr(layer, "stateful", False) and is_recurrent(layer):
            raise ConversionError(
                f"layer {layer.name!r} keeps its state between calls (stateful=True), which a "
                "stateless TFLite signature cannot. Rebuild the model with stateful=False."
            )
    # A copy has tensors, and so inputs, of other names and types than the user's model.
    named, _ = _inputs(model, samples)
    model = _rebuilt(model, layers, unroll=unroll)
    inputs, pack = _inputs(model, samples)
    inputs = tuple(replace(port, name=own.name) for port, own in zip(inputs, named, strict=True))
    texts = [port.name for port in inputs if port.dtype == "string"]
    if texts:
        raise ConversionError(
            f"input {texts[0]!r} takes text, which TFLite's operators cannot look up. Export the "
            "part of the model behind its TextVectorization or StringLookup, and prepare the "
            "numbers on the device."
        )
    outputs = _outputs(model)

    def answer(flat: Sequence[Any], values: Sequence[tuple[Any, Any]] = ()) -> Any:
        with keras.StatelessScope(state_mapping=values):
            return model(pack(list(flat)), training=False)

    def call(flat: Sequence[Any]) -> list[Any]:
        return list(keras.tree.flatten(answer(flat)))

    def call_with(flat: Sequence[Any], values: Sequence[tuple[Any, Any]]) -> list[Any]:
        return list(keras.tree.flatten(answer(flat, values)))

    if outputs is None:
        outputs = _traced_outputs(answer, inputs)
    return Source(
        name=model.name,
        inputs=inputs,
        outputs=outputs,
        call=call,
        variables=tuple(variable.value for variable in model.variables),
        recurrent=tuple(layer.name for layer in _layers(model) if is_recurrent(layer)),
        layers=tuple(dict.fromkeys(layer.name for layer in layers)),
        weights=tuple(model.variables),
        call_with=call_with,
        tables=tuple(
            int(layer.input_dim) for layer in layers if isinstance(layer, keras.layers.Embedding)
        ),
    )


def predict(origin: Source, values: Sequence[Array]) -> list[Array]:
    """The model's own answers, in batches: one array of shape (samples, ...) per output.

    Traced, as `model.predict` and the converter see the model: called directly, Keras's Resizing
    rounds images of uint8, and traced it does not.

    Raises:
        OptionError: The model fails on them, as on tokens that its Embedding does not have.
    """
    run = predictor(origin, [array.shape for array in values])
    parts = [
        run([array[start : start + _BATCH] for array in values])
        for start in range(0, len(values[0]), _BATCH)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def predictor(
    origin: Source, shapes: Sequence[tuple[int, ...]]
) -> Callable[[Sequence[Array]], list[Array]]:
    """Trace a model once, as `predict` asks it, for batches of any size.

    Args:
        origin: The model.
        shapes: Of each input, the batch first.

    Returns:
        Gives the answers to a batch; raises `OptionError` where the model fails on it.
    """
    import tensorflow as tf  # noqa: PLC0415  (elsewhere Keras may run on another backend)

    specs = [
        tf.TensorSpec((None, *shape[1:]), port.dtype)
        for shape, port in zip(shapes, origin.inputs, strict=True)
    ]
    traced = tf.function(lambda *flat: origin.call(flat), input_signature=specs, autograph=False)
    # As a concrete function, or TensorFlow warns once a few models have been asked.
    run = traced.get_concrete_function()

    def ask(batch: Sequence[Array]) -> list[Array]:
        try:
            answers = run(*map(tf.constant, batch))
        except tf.errors.OpError as error:
            said = " ".join(str(error.message).split())[:200]
            raise OptionError(
                f"model {origin.name!r} itself fails on the samples: {said}"
            ) from error
        return [keras.ops.convert_to_numpy(answer) for answer in answers]

    return ask


def generated(origin: Source, count: int) -> list[Array]:
    """Make inputs up: normal numbers, and whole numbers that every Embedding can look up.

    Args:
        origin: The model.
        count: How many samples.

    Returns:
        One array of shape (samples, ...) per input, always the same ones.
    """
    rng = np.random.default_rng(0)
    whole = [np.dtype(port.dtype).kind in "iub" for port in origin.inputs]
    if origin.vocabulary is not None and not any(whole):
        # Token ids in an input that was never told to be of whole numbers.
        whole = [len(port.shape) == 2 for port in origin.inputs]
    arrays = []
    for port, tokens in zip(origin.inputs, whole, strict=True):
        # Open sizes, such as a number of steps, must be large enough for every window.
        shape = (count, *(size or _OPEN for size in port.shape[1:]))
        drawn = rng.integers(0, origin.vocabulary or 2, shape) if tokens else rng.normal(size=shape)
        arrays.append(drawn.astype(port.dtype))
    return arrays


def kernels(model: Any) -> dict[str, Kernel]:
    """The kernels of a model whose form in a file is known, by layer: Dense and convolutions."""
    found = {}
    for layer in _layers(model):
        if type(layer) in (keras.layers.Dense, keras.layers.Conv2D):
            found[layer.name] = Kernel(np.moveaxis(np.asarray(layer.kernel), -1, 0), 0)
        elif type(layer) is keras.layers.DepthwiseConv2D and layer.depth_multiplier == 1:
            found[layer.name] = Kernel(np.moveaxis(np.asarray(layer.kernel), -1, 0), 3)
    return found


def is_recurrent(layer: Any) -> bool:
    """Tell whether a layer loops over time, subclasses included."""
    return any(kind.__name__ in _RECURRENT for kind in type(layer).__mro__)


def _layers(model: Any) -> Iterator[Any]:
    """Every layer once, nested models and wrapped layers included."""
    yield from model._flatten_layers(include_self=False, recursive=True)


def _inputs(model: Any, samples: Any) -> tuple[tuple[Port, ...], Callable[[list[Any]], Any]]:
    """Describe the inputs, and say how a flat list becomes what the model's call takes."""
    graph = functional_graph(model)
    if graph is not None:
        structure = graph.input
        tensors = keras.tree.flatten(structure)
        # The input layer's name; the tensor's own is a running number unless it was given.
        names = _names(structure, [tensor._keras_history.operation.name for tensor in tensors])
        ports = tuple(
            Port(name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype))
            for name, tensor in zip(names, tensors, strict=True)
        )
        return ports, lambda flat: keras.tree.pack_sequence_as(structure, flat)
    if samples is not None:
        arrays = keras.tree.map_structure(np.asarray, samples)
        flat = keras.tree.flatten(arrays)
        names = _names(arrays, [f"input_{index}" for index in range(len(flat))])
        ports = tuple(
            Port(name, (None, *array.shape[1:]), _sample_dtype(array))
            for name, array in zip(names, flat, strict=True)
        )
        return ports, lambda flat: keras.tree.pack_sequence_as(arrays, flat)
    shape = _recorded_shape(model)
    if shape is None:
        raise OptionError(
            f"model {model.name!r} is a subclass of keras.Model ({type(model).__name__}) whose "
            "input shapes are not recorded. Pass samples=..., one batch of its inputs."
        )
    port = Port("input_0", (None, *shape[1:]), str(model.input_dtype))
    return (port,), lambda flat: flat[0]


def _recorded_shape(model: Any) -> tuple[int | None, ...] | None:
    """The shape a subclassed model was built with, where it has a single input."""
    shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    if len(shapes) != 1 or not isinstance(shapes[0], (tuple, list)):
        return None
    shape = tuple(shapes[0])
    return shape if all(size is None or isinstance(size, int) for size in shape) else None


def _sample_dtype(array: np.ndarray[Any, Any]) -> str:
    # Keras casts floats to float32 on the way in; integer inputs (token ids) keep their kind.
    return "float32" if array.dtype.kind == "f" else str(array.dtype)


def _outputs(model: Any) -> tuple[Port, ...] | None:
    graph = functional_graph(model)
    if graph is None:
        return None
    names = _names(graph.output, list(graph.output_names))
    tensors = keras.tree.flatten(graph.output)
    return tuple(
        Port(name, tuple(tensor.shape), keras.backend.standardize_dtype(tensor.dtype), layer)
        for name, tensor, layer in zip(names, tensors, graph.output_names, strict=True)
    )


def _traced_outputs(
    answer: Callable[[Sequence[Any]], Any], inputs: tuple[Port, ...]
) -> tuple[Port, ...]:
    """Find a subclassed model's outputs by tracing it once."""
    import tensorflow as tf  # noqa: PLC0415

    specs = [tf.TensorSpec(port.shape, port.dtype) for port in inputs]
    traced = tf.function(lambda *flat: answer(flat), autograph=False).get_concrete_function(*specs)
    tensors = keras.tree.flatten(traced.structured_outputs)
    fallback = [f"output_{index}" for index in range(len(tensors))]
    return tuple(
        Port(name, tuple(tensor.shape), tensor.dtype.name)
        for name, tensor in zip(_names(traced.structured_outputs, fallback), tensors, strict=True)
    )


def functional_graph(model: Any) -> Any:
    """The functional graph of a model: a Sequential holds one, a subclass has none."""
    graph = getattr(model, "_functional", model)
    return graph if hasattr(graph, "output_names") else None


def _names(structure: Any, fallback: list[str]) -> list[str]:
    """Dict keys where the structure is a dict, otherwise the layers' names; never one twice."""
    paths = [path for path, _ in keras.tree.flatten_with_path(structure)]
    if isinstance(structure, dict) and all(len(path) == 1 for path in paths):
        names = [str(path[0]) for path in paths]
    else:
        names = fallback
    unique: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in unique:
            candidate, number = f"{name}_{number}", number + 1
        unique.append(candidate)
    return unique


def _rebuilt(model: Any, layers: list[Any], *, unroll: bool) -> Any:
    """Copy the model with float32 computation and unrolled loops, where either is needed."""
    narrow = [layer.name for layer in layers if layer.compute_dtype in NOT_FLOAT32]
    loops = [layer.name for layer in layers if unroll and is_recurrent(layer)]
    if not narrow and not loops:
        return model
    why = f"computes layer {narrow[0]!r} outside float32" if narrow else "is to be unrolled"

    def edit(layer: Any) -> Any:
        config = _float32(layer.get_config()) if narrow else layer.get_config()
        if loops:
            config = _unrolled(config)
        config.pop("build_config", None)
        return type(layer).from_config(config)

    try:
        copy = keras.models.clone_model(model, clone_function=edit, recursive=True)
        if not copy.built:
            copy.build(model.input_shape)
        copy.set_weights(model.get_weights())
    except Exception as error:
        raise ConversionError(
            f"model {model.name!r} {why} and must be rebuilt for TFLite, which failed: {error}. "
            "Rebuild it under keras.config.set_dtype_policy('float32') and load its weights."
        ) from error
    return copy


def _float32(config: Any) -> Any:
    """Rewrite every dtype policy of a layer's configuration, those of wrapped layers too."""
    if isinstance(config, dict):
        if config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy"):
            return "float32" if _POLICY.match(config["config"]["name"]) else config
        return {
            key: "float32"
            if key == "dtype" and isinstance(value, str) and _POLICY.match(value)
            else _float32(value)
            for key, value in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_float32(value) for value in config)
    return config


def _unrolled(config: Any) -> Any:
    """Switch every recurrent layer of a configuration, wrapped ones too, to a flat graph."""
    if isinstance(config, dict):
        return {key: True if key == "unroll" else _unrolled(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_unrolled(value) for value in config)
    return config
