"""Any Keras model to the bytes of a TFLite flatbuffer.

The route is SavedModel and `TFLiteConverter.from_saved_model`, the one that is right for
every model, keeps a named signature and can be silenced. The forward pass is traced by
itself, with no Keras object tracked, so the user's model is only read.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from tflite_export import recipes
from tflite_export.conversion import calibration, saved_model
from tflite_export.conversion.known_samples import check_known
from tflite_export.conversion.left_in_float import left_in_float
from tflite_export.errors import (
    ConversionError,
    ExportError,
    FlatbufferError,
    FloatKernelWarning,
    OptionError,
)
from tflite_export.flatbuffer import container, packing
from tflite_export.flatbuffer.metadata_types import Files, Labels, Metadata, Normalization
from tflite_export.keras_model.decisions import decide, decides, target_indices
from tflite_export.keras_model.elsewhere import on_tensorflow
from tflite_export.keras_model.samples import arrays
from tflite_export.keras_model.sizes import with_length
from tflite_export.keras_model.source import Source, predict, source
from tflite_export.recipes import Recipe
from tflite_export.running.interpreter import Runner
from tflite_export.running.silence import captured
from tflite_export.runtimes.loading import ended_by
from tflite_export.variants import Variant, variant

__all__ = ["convert"]

Array = np.ndarray[Any, Any]
_LOOKED_AT = 4096


@on_tensorflow
def convert(
    model: Any,
    *,
    quantize: str | Recipe | None = None,
    samples: Any = None,
    targets: Any = None,
    labels: Labels | None = None,
    batch_size: int | None = 1,
    sequence_length: int | None = None,
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
        quantize: The variant, a key of `tflite_export.VARIANTS`; `None` is float32. Or a
            recipe, a dict from layer names (``*`` and ``?`` are wild) or ``op:CONV_2D`` to
            variants, later entries winning; or a recipe in ai-edge-quantizer's own form.
        samples: Representative inputs, sample axis first, as for `model.predict` (a list or
            dict of arrays for several inputs). Variants with integer arithmetic measure
            their ranges on up to 512 of them, balanced over the labels. Their range is noted
            in the metadata; a subclassed model takes its input shapes from them.
        targets: The label of each sample, as indices or one-hot, to balance by; without them
            the model's own answers are used. Whether the model knows the samples is looked at.
        labels: One name per position of the output's last axis; for a model with several
            outputs a dict from output name to labels.
        batch_size: Samples per call of the file; `None` leaves the batch open, which costs a
            few shape operators and which recurrent layers cannot have without Flex.
        sequence_length: Steps or tokens per sample of the file, for inputs whose second axis is
            open, as a language model's.
        allow_flex: Let TensorFlow's own operators in where TFLite has none. Such a file needs
            the Flex delegate on the device; the plain LiteRT interpreter cannot run it.
        unroll: Write the loops of recurrent layers out, one copy of the cell per step:
            a larger file that runs a little faster. Needs a fixed number of steps. Variants
            with integer arithmetic always do it: TensorFlow cannot quantize the loop.
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

    Warns:
        CalibrationWarning: The samples are too few, or miss labels; or the model is mostly
            wrong about them, or clearly better with them scaled otherwise.
        FloatKernelWarning: Kernels stay in float32 where the variant has small ones.

    Example:
        >>> flat = tflite_export.convert(model, quantize="int8", samples=x)
        >>> path = tflite_export.save(flat, "digits.tflite")
        >>> path.stat().st_size
        7...
    """
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise OptionError(f"batch_size must be None or at least 1. Received: {batch_size!r}.")
    job = _job(model, quantize, samples=samples, unroll=unroll, length=sequence_length)
    origin = job.origin
    if batch_size is None and origin.recurrent and not allow_flex and not job.unrolled:
        raise OptionError(
            f"layer {origin.recurrent[0]!r} loops over time, which TFLite's own operators only "
            "hold for a fixed batch. Pass batch_size=1 (the default), or unroll=True."
        )
    values = None if samples is None else arrays(samples, origin.inputs, OptionError)
    known = None
    if values is not None and targets is not None:
        width = _width(origin)
        known = target_indices(targets, len(values[0]), width or None)
        if width:
            check_known(origin, values, known, width=max(width, 2))
    chosen = None
    if job.needs_samples:
        if values is None:
            raise OptionError(
                f"quantize={job.stamp!r} measures the range of every activation on samples; "
                "pass samples=..., a few hundred inputs as the model sees them."
            )
        chosen = _representative(origin, values, known)
    finished = _run(job, chosen, batch_size, allow_flex=allow_flex)
    container.share(finished)
    metadata = packing.describe(
        Metadata(name=name or origin.name, description=description, quantize=job.stamp),
        finished,
        labels=labels,
        normalization=normalization,
        files=files,
        ranges=_ranges(origin, values or ()),
    )
    flat = packing.pack(finished, metadata)
    if not allow_flex:
        _loaded(flat, job)
    if job.row.weights.startswith("int"):
        _told(left_in_float(finished, origin.layers), job.row)
    return flat


def _told(left: Mapping[str, int], row: Variant) -> None:
    """Say which kernels are larger than the variant promises."""
    if not left:
        return
    named = ", ".join(f"{name!r} ({size:,} numbers)" for name, size in left.items())
    way = (
        "TensorFlow's converter leaves kernels of fewer than 1,024 numbers so, ai-edge-quantizer "
        "does not: pip install 'keras-nns[quantize]'."
        if row.name == "dynamic" and not recipes.installed()
        else "the tools behind it have no other form for them."
    )
    warnings.warn(
        f"quantize={row.name!r} leaves kernels in float32: {named}; {way}",
        FloatKernelWarning,
        stacklevel=3,
    )


@dataclass(frozen=True)
class _Job:
    """What is to be done: the model, its variant, what TensorFlow makes, and what comes after."""

    origin: Source
    row: Variant
    tool: Variant
    rules: list[dict[str, Any]] | None
    needs_samples: bool
    unrolled: bool
    stamp: str


def _loaded(flat: bytes, job: _Job) -> None:
    """Make sure that LiteRT can load what the converter wrote, where its sizes are known.

    Raises:
        ConversionError: It cannot.
    """
    origin = job.origin
    if any(size is None for port in origin.inputs for size in port.shape[1:]):
        return
    start = f"model {origin.name!r} was converted to a file "
    if job.rules is not None or job.row.activations != "float32":
        ended = ended_by(flat)
        if ended is not None:
            raise ConversionError(
                f"{start}that ends the process which loads it ({ended} in LiteRT's kernels for the "
                "CPU). A network with other numbers of units, or another variant, may be loaded.",
                log=ended,
                flat=flat,
            )
    try:
        Runner(flat).prepare()
    except FlatbufferError as error:
        raise ConversionError(
            f"{start}that LiteRT cannot load: {error} Replace the layer that it names, or convert "
            "with a fixed batch_size.",
            log=str(error),
            flat=flat,
        ) from error


def _job(
    model: Any, quantize: str | Recipe | None, *, samples: Any, unroll: bool, length: int | None
) -> _Job:
    origin = with_length(source(model, samples=samples, unroll=unroll), length)
    if quantize is None:
        quantize = "float32"
    if isinstance(quantize, str):
        row = variant(quantize)
        stamp, needs_samples = row.name, row.needs_samples
        rules = recipes.rules(row, origin) if row.tool == "quantizer" else None
    elif not isinstance(quantize, (Mapping, Sequence)):
        raise OptionError(
            "quantize must be a variant's name, a dict from layer names to variants, or an "
            f"ai-edge-quantizer recipe. Received: {type(quantize).__name__}."
        )
    else:
        # What a recipe leaves in float32, its author wants so.
        row, recipe = variant(None), cast("Recipe", quantize)
        stamp = f"recipe:{recipes.loosest(recipe).name}"
        rules = recipes.rules(recipe, origin)
        needs_samples = recipes.needs_samples(rules)
    if needs_samples and origin.recurrent and not unroll:
        # TensorFlow's calibrator ends the whole process on a loop's body.
        _fixed_steps(origin)
        origin = with_length(source(model, samples=samples, unroll=True), length)
        unroll = True
    # The quantizer starts from float32.
    tool = row if rules is None else variant(None)
    return _Job(origin, row, tool, rules, needs_samples, unroll, stamp)


def _fixed_steps(origin: Source) -> None:
    for port in origin.inputs:
        if None in port.shape[1:]:
            raise OptionError(
                f"input {port.name!r} has an open size {port.shape}; integer arithmetic needs the "
                f"loop of {origin.recurrent[0]!r} written out. Pass sequence_length=, rebuild the "
                "model with a fixed number of steps, or use quantize='dynamic'."
            )


def _width(origin: Source) -> int:
    """Return how many labels the one output tells apart, 0 where it is not of that kind."""
    shape = origin.outputs[0].shape
    return (shape[-1] or 0) if len(shape) == 2 and len(origin.outputs) == 1 else 0


def _representative(origin: Source, values: list[Array], known: Array | None) -> list[Array]:
    """Draw the samples to calibrate on, balanced by targets or by the model's answers."""
    width = _width(origin)
    if known is not None:
        labels = max(width, 2) if width else int(known.max()) + 1
        return calibration.choose(values, known, None, width=labels)
    # A few thousand tell enough about which labels there are.
    if len(values[0]) > _LOOKED_AT:
        kept = np.linspace(0, len(values[0]) - 1, _LOOKED_AT).round().astype(int)
        values = [array[kept] for array in values]
    answers = predict(origin, values) if width else []
    deciding = bool(width) and decides(origin.outputs[0], answers[0], origin.inputs)
    decisions = decide(answers[0]) if deciding else None
    return calibration.choose(values, None, decisions, width=max(width, 2))


def convert_trained(origin: Source, row: Variant, values: Sequence[Array]) -> bytes:
    """Convert a pass that rounds by itself, as training for int8 leaves it.

    Args:
        origin: The pass; its ranges are in it.
        row: The variant.
        values: Inputs it was trained on, whose range is noted in the metadata.

    Raises:
        ConversionError: The converter failed; `.log` holds its words.
    """
    job = _Job(origin, row, row, None, needs_samples=False, unrolled=False, stamp=row.name)
    finished = _run(job, None, 1, allow_flex=False)
    metadata = packing.describe(
        Metadata(name=origin.name, quantize=row.name), finished, ranges=_ranges(origin, values)
    )
    return packing.pack(finished, metadata)


def _ranges(origin: Source, values: Sequence[Array]) -> dict[str, tuple[float, float]]:
    return {
        port.name: (float(array.min()), float(array.max()))
        for port, array in zip(origin.inputs, values, strict=False)
    }


def _run(job: _Job, chosen: list[Array] | None, batch_size: int | None, *, allow_flex: bool) -> Any:
    """Convert in silence; a failure is one error that holds what was silenced."""
    failure: Exception | None = None
    with captured() as log:
        try:
            return _convert(job, chosen, batch_size, allow_flex=allow_flex)
        # Tracing runs the user's own layers: anything can come out of it.
        except Exception as error:
            failure = error
    if isinstance(failure, ExportError):
        raise failure
    message = saved_model.explain(job.origin, job.stamp, failure, log.text, allow_flex=allow_flex)
    # The converter raises its log as the error's text and writes little itself.
    raise ConversionError(message, log=f"{failure}\n{log.text}") from failure


def _convert(
    job: _Job, chosen: list[Array] | None, batch_size: int | None, *, allow_flex: bool
) -> Any:
    """Convert, give the tensors their names, and quantize where a recipe says so."""
    origin, size = job.origin, batch_size or 1
    keys = [saved_model.key("in", index) for index in range(len(origin.inputs))]
    ends = [saved_model.key("out", index) for index in range(len(origin.outputs))]
    batches = None
    if chosen is not None and job.rules is None:
        batches = list(recipes.batches(chosen, keys, size))
    model = container.parse(
        saved_model.convert(
            origin, job.tool, batches=batches, batch_size=batch_size, allow_flex=allow_flex
        )
    )
    # Before the quantizer, which looks layers up by the names of their tensors.
    _rename(model, origin, keys, ends)
    if job.rules is None:
        left = left_in_float(model, origin.layers) if job.row.name == "dynamic" else {}
        if not left or not recipes.installed():
            return model
        small = replace(job, tool=variant(None), rules=recipes.rules(job.row, origin))
        other = _convert(small, None, batch_size, allow_flex=allow_flex)
        fewer = sum(left_in_float(other, origin.layers).values()) < sum(left.values())
        return other if fewer else model
    names = [port.name for port in origin.inputs]
    if chosen is not None:
        batches = list(recipes.batches(chosen, names, size))
    quantized = recipes.apply(container.serialize(model), job.rules, batches)
    model = container.parse(quantized)
    _rename(model, origin, names, [port.name for port in origin.outputs])
    return model


def _rename(model: Any, origin: Source, inputs: list[str], outputs: list[str]) -> None:
    """Give the signature, and the tensors behind it, the model's names and order."""
    graph = model.subgraphs[0]
    signature = model.signatureDefs[0]
    for side, keys, ports in (
        ("inputs", inputs, origin.inputs),
        ("outputs", outputs, origin.outputs),
    ):
        items = {container.text(item.name): item for item in getattr(signature, side)}
        ordered = [items[key] for key in keys]
        for item, port in zip(ordered, ports, strict=True):
            item.name = port.name
            graph.tensors[item.tensorIndex].name = port.name
        setattr(signature, side, ordered)
        setattr(graph, side, [item.tensorIndex for item in ordered])
