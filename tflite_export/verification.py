"""Run a flatbuffer and the model it came from on the same samples, and compare."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tflite_export.diagnosis import words
from tflite_export.errors import FlatbufferError, OptionError, VerificationError
from tflite_export.files import read
from tflite_export.flatbuffer import container, packing
from tflite_export.generative import Generator, generates
from tflite_export.keras_model.decisions import decide, decides, target_indices
from tflite_export.keras_model.elsewhere import on_tensorflow
from tflite_export.keras_model.ports import Port
from tflite_export.keras_model.rounding import computes_in, rounding
from tflite_export.keras_model.samples import arrays
from tflite_export.keras_model.sizes import with_sizes
from tflite_export.keras_model.source import Source, predict, predictor, source
from tflite_export.running.comparison import (
    LabelFigures,
    answers_of,
    check_scale,
    figures,
    matched,
    variant_of,
)
from tflite_export.running.outcome import (
    LabelComparison,
    OutputDifference,
    TokenComparison,
    Verification,
)
from tflite_export.running.texts import Asked, asked, tallied
from tflite_export.runtimes.choice import TITLES, opened
from tflite_export.variants import Tolerance, Variant

__all__ = [
    "LabelComparison",
    "LabelFigures",
    "OutputDifference",
    "TokenComparison",
    "Verification",
    "verify",
]

Array = np.ndarray[Any, Any]
# Keras rounds, and the file rounds.
_SIDES = 2


@on_tensorflow
def verify(
    flat: bytes | str | os.PathLike[str],
    model: Any,
    samples: Any,
    *,
    targets: Any = None,
    tolerance: float | Tolerance | None = None,
    runtime: str = "litert",
) -> Verification:
    """Check that a TFLite model answers what its Keras model answers.

    The file runs in the LiteRT interpreter or another runtime, the model in Keras; a mixed
    precision model is compared in float32, the arithmetic the file has. The Keras model is not
    changed.

    A language model, which looks tokens up and scores the same vocabulary at every step, is asked
    one text after another, and its quantised files are held to its perplexity: the likeliest tokens
    are often close to each other, so that decisions say little. `samples` are texts in tokens, as
    long as the file reads them. Of a file of `convert_generative` the first half of each is
    prefilled, and compared is what it scores behind each token of the other half.

    Where the largest difference is more than its tolerance, what float32 rounding alone does to
    the model is measured, by weights and inputs that are off by as much, and twice that passes
    too: a network whose large weights meet features that hardly vary has no more exact answers.

    Args:
        flat: The model's bytes, or its path.
        model: The Keras model it was converted from.
        samples: Inputs as for `model.predict`, sample axis first.
        targets: The label of each sample, as indices or one-hot, for figures per label of
            the model and of the file.
        tolerance: What to accept: a `Tolerance`, or a number for the largest difference as a
            share of the output's scale; by default that of the file's variant
            (`tflite_export.VARIANTS`).
        runtime: What runs the file: "litert", LiteRT's interpreter; "compiled", its
            `CompiledModel`; "micro", TFLite Micro's own interpreter with its reference kernels,
            which needs the extra `keras-nns[micro]`; "web", LiteRT.js on the CPU in a headless
            Chromium, which needs both (`npm install @litertjs/core@2.5.3`).

    Returns:
        The differences found.

    Raises:
        VerificationError: The answers or decisions differ by more than the tolerance; the
            file is damaged, or belongs to another model, or the runtime does not run it; the
            samples have the wrong shape, type or scale.
        OptionError: The targets or the tolerance cannot be used; the runtime is unknown, or its
            package is missing.
        ExportFileError: The path cannot be read.

    Example:
        >>> flat = tflite_export.convert(model)
        >>> tflite_export.verify(flat, model, x_test[:100]).relative < 1e-5
        True
    """
    if tolerance is not None and not isinstance(tolerance, Tolerance):
        tolerance = Tolerance(largest=tolerance)
    data = read(flat) if isinstance(flat, (str, os.PathLike)) else flat
    job = _Job(model, samples, targets, tolerance)
    found = _compared(data, job, runtime)
    fault = _fault(found)
    if fault is not None:
        raise VerificationError(f"{fault} {_why(data, found, job)}")
    return replace(found.result, computes_in=computes_in(model))


@dataclass(frozen=True)
class _Job:
    """What a file is held to: the arguments of `verify`."""

    model: Any
    samples: Any
    targets: Any
    tolerance: Tolerance | None


@dataclass(frozen=True)
class _Compared:
    """A file run beside its model."""

    result: Verification
    values: list[Array]
    strayed: list[float]
    texts: bool = False


def _compared(data: bytes, job: _Job, runtime: str) -> _Compared:
    """Run a file and its model, and measure; nothing is judged."""
    try:
        stamp = container.check(data)
        graph = container.parse(data)
        metadata = packing.unpack(data, graph, stamp)
        runner = Generator(data) if generates(graph) else opened(data, runtime)
    except FlatbufferError as error:
        raise VerificationError(str(error)) from error
    variant, row = variant_of(metadata, graph)
    origin = source(job.model, samples=job.samples)
    if isinstance(runner, Generator):
        return _generated(runner, _Asked(job, origin, variant, row, runtime))
    inputs = matched(runner.inputs, origin.inputs, "input", origin.name)
    outputs = matched(runner.outputs, origin.outputs, "output", origin.name)
    told = asked(origin) if job.targets is None else None
    origin = with_sizes(origin, [slot.shape for slot in inputs])
    values = arrays(job.samples, origin.inputs, VerificationError)
    for port, slot, array in zip(origin.inputs, inputs, values, strict=True):
        known = next((item for item in metadata.inputs if item.name == slot.name), None)
        check_scale(port, slot, array, known)
    if told is not None:
        return _of_texts(
            told,
            lambda text: answers_of(runner, inputs, outputs, text)[0],
            values,
            _Asked(job, origin, variant, row, runtime),
        )
    expected = predict(origin, values)
    try:
        answers = answers_of(runner, inputs, outputs, values)
    except FlatbufferError as error:
        raise VerificationError(str(error)) from error
    named = metadata.labels
    result = Verification(
        variant=variant,
        samples=len(values[0]),
        tolerance=row.tolerance if job.tolerance is None else job.tolerance,
        outputs=tuple(
            _difference(port, left, right, origin.inputs)
            for port, left, right in zip(origin.outputs, expected, answers, strict=True)
        ),
        labels=() if job.targets is None else _labels(job.targets, expected, answers, named),
        runtime=runtime,
    )
    # What the caller accepts is held as given, the variant's own bound is for what it explains.
    own = result.tolerance.largest == row.tolerance.largest
    strayed = _strayed(origin, values, result) if own else []
    return _Compared(result, values, strayed)


@dataclass(frozen=True)
class _Asked:
    """A language model, and what its file is held to."""

    job: _Job
    origin: Source
    variant: str
    row: Variant
    runtime: str


def _generated(runner: Generator, what: _Asked) -> _Compared:
    """Compare a file that generates: the first half of a text is prefilled, the other decoded."""
    origin, job = what.origin, what.job
    told = asked(origin)
    if told is None or origin.outputs[0].shape[-1] != runner.vocabulary:
        raise VerificationError(
            f"the file generates, and scores {runner.vocabulary:,} tokens; model {origin.name!r} "
            f"gives {origin.outputs[0].shape}: it is another model's."
        )
    if what.runtime != "litert" or job.targets is not None:
        raise OptionError(
            "a file that generates is run by runtime='litert', and has no targets. Leave them out."
        )
    values = arrays(job.samples, origin.inputs, VerificationError)
    texts = values[told.tokens]
    if not 2 < texts.shape[1] <= runner.cache_length or not told.counted(values).all():
        raise VerificationError(
            f"the file reads texts of 3 to {runner.cache_length:,} tokens, without padding. "
            f"Received: samples of shape {texts.shape}."
        )
    return _of_texts(
        told,
        lambda text: runner.scores(text[told.tokens][0], start=texts.shape[1] // 2)[None],
        values,
        what,
    )


def _of_texts(
    told: Asked, ask: Callable[[list[Array]], Array], values: list[Array], what: _Asked
) -> _Compared:
    """Compare a language model with its file, text by text."""
    origin, given = what.origin, what.job.tolerance
    run = predictor(origin, [array.shape for array in values])
    try:
        tally = tallied(told, values, lambda text: run(text)[0], ask)
    except FlatbufferError as error:
        raise VerificationError(str(error)) from error
    accepts = what.row.accepts(texts=True)
    result = Verification(
        variant=what.variant,
        samples=len(values[0]),
        tolerance=accepts if given is None else given,
        outputs=(tally.difference(origin.outputs[0].name),),
        runtime=what.runtime,
        tokens=tally.comparison,
    )
    own = result.tolerance.largest == accepts.largest
    strayed = _strayed(origin, [array[:1] for array in values], result) if own else []
    return _Compared(result, values, strayed, texts=True)


def _strayed(origin: Source, values: Sequence[Array], result: Verification) -> list[float]:
    """What float32 alone explains of each output, as a share of its scale.

    Measured only where the largest differences are held to a tolerance and leave it.
    """
    far = [output for output in result.outputs if not output.relative <= result.tolerance.largest]
    if not far:
        return []
    return [
        _SIDES * moved / (output.scale or 1.0) if np.isfinite(moved) else 0.0
        for moved, output in zip(rounding(origin, values), result.outputs, strict=True)
    ]


def _difference(
    port: Port, expected: Array, answer: Array, inputs: Sequence[Port]
) -> OutputDifference:
    if expected.shape != answer.shape:
        raise VerificationError(
            f"output {port.name!r} of the file has shape {answer.shape}, the model's has "
            f"{expected.shape}: it is another model's."
        )
    left, right = expected.astype(np.float64), answer.astype(np.float64)
    apart = np.abs(left - right)
    absolute = float(apart.max(initial=0.0))
    # An output that is zero everywhere has no scale; its differences count as they are.
    scale = float(np.abs(left).max(initial=0.0))
    unit = scale or 1.0
    decisions = decide(left), decide(right, like=left)
    agreement, count = None, 0
    if decisions[0] is not None and decisions[1] is not None and decides(port, left, inputs):
        same = decisions[0] == decisions[1]
        agreement, count = float(same.mean()), int(same.size)
    rms = float(np.sqrt(np.mean(apart**2))) if apart.size else 0.0
    return OutputDifference(
        port.name, absolute, absolute / unit, rms / unit, scale, agreement, count
    )


def _labels(
    targets: Any, expected: Sequence[Array], answers: Sequence[Array], names: Sequence[str]
) -> tuple[LabelComparison, ...]:
    before = decide(expected[0])
    after = decide(answers[0], like=expected[0])
    if len(expected) != 1 or expected[0].ndim != 2 or before is None or after is None:
        raise OptionError(
            "targets need a model with one output that decides between labels; this one has "
            f"outputs of shapes {[answer.shape for answer in expected]}. Leave targets out."
        )
    indices = target_indices(targets, len(before), expected[0].shape[-1])
    width = max(expected[0].shape[-1], 2)
    return tuple(
        LabelComparison(left, right)
        for left, right in zip(
            figures(indices, before, width, names),
            figures(indices, after, width, names),
            strict=True,
        )
    )


def _fault(found: _Compared) -> str | None:
    """Say in which output, and by how much, a file leaves its tolerance; `None` if it does not."""
    result = found.result
    accepted = result.tolerance
    where = "" if result.runtime == "litert" else f" in {TITLES[result.runtime]}"
    for number, output in enumerate(result.outputs):
        start = f"output {output.name!r} of the {result.variant} file{where}"
        largest = max(accepted.largest, found.strayed[number] if found.strayed else 0.0)
        same = "" if output.agreement is None else f", {output.agreement:.1%} same decisions"
        # Not `>`: a NaN must fail too.
        for what, size, limit in (
            ("largest difference", output.relative, largest),
            ("root mean square difference", output.rms, accepted.rms),
        ):
            if not size <= limit:
                return (
                    f"{start} is away from the model: {what} {size:.2g} of the output's scale "
                    f"({output.scale:.3g}) over {result.samples} samples{same}, tolerance "
                    f"{limit:.2g}."
                )
        if output.agreement is None:
            continue
        count = output.decisions
        changed = round((1 - output.agreement) * count)
        if changed > max(1.0, (1 - accepted.agreement) * count):
            return (
                f"{start} decides differently from the model in {changed} of {count} cases; "
                f"at least {accepted.agreement:.0%} must agree."
            )
    tokens = result.tokens
    if tokens is not None and not tokens.ratio <= accepted.perplexity:
        return (
            f"the {result.variant} file{where} has a perplexity of {tokens.file:.4g} on "
            f"{tokens.tokens:,} tokens, the model of {tokens.model:.4g}: {tokens.ratio:.3g} times "
            f"as much, tolerance {accepted.perplexity:.3g}."
        )
    return None


def _why(data: bytes, found: _Compared, job: _Job) -> str:
    """Say whose weights a refused file holds, where it goes wrong, and what would do."""
    result = found.result
    if result.runtime != "litert" and _fault(_compared(data, job, "litert")) is None:
        return (
            f"LiteRT's interpreter answers right with the same file: {TITLES[result.runtime]} "
            "computes something in it otherwise."
        )
    said = None if found.texts else words.mixed(job.model, job.samples, found.values)
    said = said or words.foreign(data, job.model, result.variant)
    if said is not None:
        return said

    if found.texts:
        finer = "'dynamic' or 'float16'" if "int4" in result.variant else "'float16'"
        return (
            f"The variant may be too coarse for this model: quantize={finer} is finer. "
            f"{words.accepting(result)}"
        )

    def passes(other: bytes) -> bool:
        return _fault(_compared(other, job, result.runtime)) is None

    said = words.coarse(
        data,
        job.model,
        job.samples,
        job.targets,
        variant=result.variant,
        values=found.values,
        passes=passes,
    )
    return f"{said} {words.accepting(result)}"
