"""Any Keras model to the bytes of a TFLite flatbuffer.

The route is SavedModel and `TFLiteConverter.from_saved_model`, the one that is right for
every model, keeps a named signature and can be silenced. The forward pass is traced by
itself, with no Keras object tracked, so the user's model is only read.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tflite_export import _flatbuffer, _packing
from tflite_export._metadata_types import Files, Labels, Metadata, Normalization
from tflite_export._samples import arrays
from tflite_export._silence import captured
from tflite_export._source import Source, source
from tflite_export.errors import ConversionError, OptionError
from tflite_export.variants import Variant, variant

__all__ = ["convert"]

_SIGNATURE = "serving_default"


def convert(
    model: Any,
    *,
    quantize: str | None = None,
    samples: Any = None,
    labels: Labels | None = None,
    batch_size: int | None = 1,
    allow_flex: bool = False,
    unroll: bool = False,
    name: str | None = None,
    description: str = "",
    normalization: Normalization | Mapping[str, Normalization] | None = None,
    files: Files | None = None,
) -> bytes:
    """Convert a Keras model to a TFLite flatbuffer.

    The file uses built-in operators only, has no resource variables, and carries the
    signature ``serving_default`` whose inputs and outputs have the names of the model's
    layers (or the keys of its dicts). Mixed precision models are rebuilt in float32.
    Nothing is printed, and the model is not changed.

    Args:
        model: Any built `keras.Model`: Sequential, functional, nested, with several inputs
            and outputs, or a subclass.
        quantize: The variant, a key of `tflite_export.VARIANTS`; `None` is float32.
        samples: Representative inputs, sample axis first, as for `model.predict` (a list or
            dict of arrays for several inputs). Their range is noted in the metadata; a
            subclassed model takes its input shapes from them.
        labels: One name per position of the output's last axis; for a model with several
            outputs a dict from output name to labels.
        batch_size: Samples per call of the file; `None` leaves the batch open, which costs a
            few shape operators and which recurrent layers cannot have without Flex.
        allow_flex: Let TensorFlow's own operators in where TFLite has none. Such a file needs
            the Flex delegate on the device; the plain LiteRT interpreter cannot run it.
        unroll: Write the loops of recurrent layers out, one copy of the cell per step:
            a larger file that runs a little faster. Needs a fixed number of steps.
        name: The model's name in the metadata; the Keras name by default.
        description: Text for the metadata, for example a model card.
        normalization: How raw values become inputs, for the metadata; a dict by input name
            for several inputs.
        files: Files to pack: name to bytes, text or anything JSON can hold.

    Returns:
        The flatbuffer, associated files included. `tflite_export.save` writes it.

    Raises:
        OptionError: An argument is unknown or does not fit the model.
        ConversionError: The model has no TFLite form; `.log` holds the converter's words.
        MetadataError: Labels, normalization or files do not fit.

    Example:
        >>> flat = convert(model, labels=["cat", "dog"])           # doctest: +SKIP
        >>> save(flat, "pets.tflite").stat().st_size               # doctest: +SKIP
        41288
    """
    row = variant(quantize)
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise OptionError(f"batch_size must be None or at least 1. Received: {batch_size!r}.")
    origin = source(model, samples=samples, unroll=unroll)
    if batch_size is None and origin.recurrent and not allow_flex and not unroll:
        raise OptionError(
            f"layer {origin.recurrent[0]!r} loops over time, which TFLite's own operators only "
            "hold for a fixed batch. Pass batch_size=1 (the default), or unroll=True."
        )
    ranges = None
    if samples is not None:
        checked = arrays(samples, origin.inputs, OptionError)
        ranges = {
            port.name: (float(array.min()), float(array.max()))
            for port, array in zip(origin.inputs, checked, strict=True)
        }
    elif row.needs_samples:
        raise OptionError(
            f"quantize={row.name!r} measures the range of every activation on samples; "
            "pass samples=..., a few hundred inputs as the model sees them."
        )
    flat = _convert(origin, row, batch_size=batch_size, allow_flex=allow_flex)
    model_object = _flatbuffer.parse(flat)
    _rename(model_object, origin)
    metadata = _packing.describe(
        Metadata(name=name or origin.name, description=description, quantize=row.name),
        model_object,
        labels=labels,
        normalization=normalization,
        files=files,
        ranges=ranges,
    )
    return _packing.pack(model_object, metadata)


def _convert(origin: Source, row: Variant, *, batch_size: int | None, allow_flex: bool) -> bytes:
    failure: Exception | None = None
    flat = b""
    with captured() as log, tempfile.TemporaryDirectory(prefix="tflite_export_") as folder:
        try:
            _save(origin, folder, batch_size)
            flat = bytes(_converter(folder, row, allow_flex=allow_flex).convert())
        # Tracing runs the user's own layers: anything can come out of it.
        except Exception as error:
            failure = error
    if failure is not None:
        message = _explain(origin, failure, log.text, allow_flex=allow_flex)
        # The converter raises its log as the error's text and writes little itself.
        raise ConversionError(message, log=f"{failure}\n{log.text}") from failure
    return flat


def _save(origin: Source, folder: str, batch_size: int | None) -> None:
    """Trace the model and write it as a SavedModel that tracks nothing but its variables."""
    specs = [
        tf.TensorSpec((batch_size, *port.shape[1:]), port.dtype, name=_key("in", index))
        for index, port in enumerate(origin.inputs)
    ]

    def serve(*flat: Any) -> dict[str, Any]:
        answers = origin.call(flat)
        # Identity keeps an output that is also an input, or another output, apart from it.
        return {_key("out", index): tf.identity(answer) for index, answer in enumerate(answers)}

    # A GPU would make Keras choose cuDNN's recurrent kernels, which TFLite does not have.
    with tf.device("/CPU:0"):
        function = tf.function(serve, input_signature=specs, autograph=False)
        holder = tf.Module()
        holder.variables_read = list(origin.variables)
        tf.saved_model.save(holder, folder, signatures={_SIGNATURE: function})


def _converter(folder: str, row: Variant, *, allow_flex: bool) -> Any:
    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[_SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.experimental_enable_resource_variables = False
    row.configure(converter, None)
    if allow_flex:
        converter.target_spec.supported_ops = [
            *converter.target_spec.supported_ops,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
    return converter


def _rename(model: Any, origin: Source) -> None:
    """Give the signature, and the tensors behind it, the model's names and order."""
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    for side, prefix, ports in (
        ("inputs", "in", origin.inputs),
        ("outputs", "out", origin.outputs),
    ):
        items = {_flatbuffer.text(item.name): item for item in getattr(signature, side)}
        ordered = [items[_key(prefix, index)] for index in range(len(ports))]
        for item, port in zip(ordered, ports, strict=True):
            item.name = port.name
            graph.tensors[item.tensorIndex].name = port.name
        setattr(signature, side, ordered)
        setattr(graph, side, [item.tensorIndex for item in ordered])


def _key(prefix: str, index: int) -> str:
    return f"{prefix}_{index}"


def _explain(origin: Source, failure: Exception, log: str, *, allow_flex: bool) -> str:
    """Say in one message what could not be converted and what to do."""
    words = f"{failure}\n{log}"
    start = f"model {origin.name!r} cannot be converted to TFLite: "
    end = "The converter's log is in .log."
    missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", words)))
    if not missing:
        lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
        return f"{start}{type(failure).__name__}: {' '.join(lines)[:400]}. {end}"
    flex = (
        "" if allow_flex else " or, where TensorFlow's Flex delegate has them, pass allow_flex=True"
    )
    return (
        f"{start}it needs operators that TFLite does not have ({', '.join(missing)}). "
        f"Replace the layers that use them{flex}. {end}"
    )
