"""TensorFlow's part: trace a model into a SavedModel and run its converter on it."""

from __future__ import annotations

import gc
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tflite_export.keras_model.source import Source
from tflite_export.variants import Variant
from tflite_export.writing.temporary import held_folder

Array = np.ndarray[Any, Any]
SIGNATURE = "serving_default"
# Operators that TFLite has wherever it can tell the sizes of what they read.
_NEED_SHAPES = frozenset(
    {"AvgPool", "Conv2D", "Conv3D", "DepthwiseConv2dNative", "MatMul", "MaxPool", "Softmax"}
)
_LENGTH = "For tokens or steps pass sequence_length=, such as 128."
_HINTS = {"BitwiseAnd": "keras.ops.argmax asks for BitwiseAnd: take the largest on the device."}


def convert(
    origin: Source,
    row: Variant,
    *,
    batches: Sequence[dict[str, Array]] | None,
    batch_size: int | None,
    allow_flex: bool,
) -> bytes:
    """Convert a traced model; its inputs are named in_0, in_1, …, its outputs out_0, …."""
    with held_folder(Path(tempfile.gettempdir()), "tflite_export") as held:
        folder = str(held)
        _save(origin, folder, batch_size)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        converter.experimental_enable_resource_variables = False
        _configure(converter, row, origin, batches)
        if allow_flex:
            converter.target_spec.supported_ops = [
                *converter.target_spec.supported_ops,
                tf.lite.OpsSet.SELECT_TF_OPS,
            ]
        with _old_objects_left_out():
            return bytes(converter.convert())


Function = tuple[Callable[..., dict[str, Any]], dict[str, Any]]
"""What is traced, from tensors by name to tensors by name, and the shapes that it is given."""


def convert_functions(functions: Mapping[str, Function], origin: Source, row: Variant) -> bytes:
    """Convert several functions of one model's weights, a signature each.

    Args:
        functions: By the names of their signatures.
        origin: The model whose weights they read.
        row: A variant that needs no samples.
    """
    with held_folder(Path(tempfile.gettempdir()), "tflite_export") as held, tf.device("/CPU:0"):
        traced = {
            name: tf.function(serve, autograph=False).get_concrete_function(**specs)
            for name, (serve, specs) in functions.items()
        }
        holder = tf.Module()
        holder.variables_read = list(origin.variables)
        tf.saved_model.save(holder, str(held), signatures=traced)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(held), signature_keys=list(functions)
        )
        converter.experimental_enable_resource_variables = False
        _configure(converter, row, origin, None)
        with _old_objects_left_out():
            return bytes(converter.convert())


@contextmanager
def _old_objects_left_out() -> Iterator[None]:
    """Spare the objects of the process a collection of garbage, which TFLite's converter begins.

    It takes as long as the process is large. Where someone froze objects, all stays as it is.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def key(prefix: str, index: int) -> str:
    """Name of an input or output while it passes through TensorFlow, safe whatever the layer's."""
    return f"{prefix}_{index}"


def _configure(
    converter: Any, row: Variant, origin: Source, batches: Sequence[dict[str, Array]] | None
) -> None:
    """Tell the converter what a row of the table says."""
    operators = tf.lite.OpsSet
    converter.target_spec.supported_ops = [operators.TFLITE_BUILTINS]
    if row.weights == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if row.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if not row.needs_samples:
        return
    if batches is not None:
        converter.representative_dataset = lambda: iter(batches)
        converter.target_spec.supported_ops = [
            operators.TFLITE_BUILTINS_INT8
            if row.activations == "int8"
            else operators.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    # Without batches, a pass that was trained with rounding holds its own ranges.
    # Token ids stay whole numbers: the converter can only change the type of floats.
    if row.ends == "int8":
        if all(port.dtype == "float32" for port in origin.inputs):
            converter.inference_input_type = tf.int8
        if all(port.dtype == "float32" for port in origin.outputs):
            converter.inference_output_type = tf.int8


def _save(origin: Source, folder: str, batch_size: int | None) -> None:
    """Trace the model and write it as a SavedModel that tracks nothing but its variables."""
    specs = [
        tf.TensorSpec((batch_size, *port.shape[1:]), port.dtype, name=key("in", index))
        for index, port in enumerate(origin.inputs)
    ]

    def serve(*flat: Any) -> dict[str, Any]:
        answers = origin.call(flat)
        # Identity keeps an output that is also an input, or another output, apart from it.
        return {key("out", index): tf.identity(answer) for index, answer in enumerate(answers)}

    # A GPU would make Keras choose cuDNN's recurrent kernels, which TFLite does not have.
    with tf.device("/CPU:0"):
        function = tf.function(serve, input_signature=specs, autograph=False)
        holder = tf.Module()
        holder.variables_read = list(origin.variables)
        tf.saved_model.save(holder, folder, signatures={SIGNATURE: function})


def explain(
    origin: Source, stamp: str, failure: Exception | None, log: str, *, allow_flex: bool = False
) -> str:
    """Say in one message what could not be converted and what to do."""
    words = f"{failure}\n{log}"
    start = f"model {origin.name!r} cannot be converted to TFLite ({stamp}): "
    end = "The converter's log is in .log."
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", words)))
    shapeless = [name for name in missing if name in _NEED_SHAPES]
    if shapeless:
        return (
            f"{start}TFLite has {', '.join(shapeless)}, but not for tensors of unknown sizes. "
            f"{_fixed(origin)} {end}"
        )
    if missing:
        flex = (
            ""
            if allow_flex
            else " or, where TensorFlow's Flex delegate has them, pass allow_flex=True"
        )
        return (
            f"{start}it needs operators that TFLite does not have ({', '.join(missing)}). "
            f"{_lengths(origin)}Replace the layers that use them{flex}.{_hint(missing)} {end}"
        )
    whole = re.search(r"Empty min/max for tensor serving_default_in_(\d+)", words)
    if whole:
        port = origin.inputs[int(whole[1])]
        return (
            f"{start}TensorFlow's quantizer takes no input of whole numbers here ({port.name!r}, "
            f"{port.dtype}). The recipe {{'*': {stamp!r}}}, of ai-edge-quantizer, may. {end}"
        )
    lacking = sorted(set(re.findall(r"not yet supported for op: '(\w+)'", words)))
    if lacking:
        return (
            f"{start}TFLite has no kernels of that type for {', '.join(lacking)}. Choose another "
            f"variant, or a recipe for ai-edge-quantizer, such as {{'*': {stamp!r}}}. {end}"
        )
    said = " ".join(re.sub(r"\x1b\[\d*m", "", str(failure)).split())[:400].rstrip(".")
    advice = f" {_fixed(origin)}" if _open(origin) else ""
    return f"{start}{type(failure).__name__}: {said}.{advice} {end}"


def _hint(missing: Sequence[str]) -> str:
    return "".join(f" {_HINTS[name]}" for name in missing if name in _HINTS)


def _open(origin: Source) -> list[str]:
    return [f"{port.name!r} {port.shape}" for port in origin.inputs if None in port.shape[1:]]


def _fixed(origin: Source) -> str:
    way = f" {_LENGTH}" if any(port.shape[1:2] == (None,) for port in origin.inputs) else ""
    return (
        f"Give the inputs fixed sizes ({', '.join(_open(origin)) or 'they depend on values'}).{way}"
    )


def _lengths(origin: Source) -> str:
    """Say that open sizes may be all that stands in the way."""
    return f"It may have them for inputs of fixed sizes. {_fixed(origin)} " if _open(origin) else ""
