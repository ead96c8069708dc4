"""What `python -m tflite_export` and `keras-nns` do alike: convert, verify, write, say so.

Both read the model and the samples in their own way; everything behind that is here, so that
they write the same file and say the same about it.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tflite_export.cli.options import Request, is_tflite
from tflite_export.errors import ConversionError, ExportError, OptionError, VerificationError
from tflite_export.files import read, save
from tflite_export.variants import VARIANTS, Tolerance

__all__ = ["columns", "export", "judged", "outcome", "page", "project"]

Tell = Callable[[str], None]
_GENERATED = 64

_SMALL = 0.1
"""A `Rescaling` by less brings pixels of 0..255 down; by more it takes them in 0..1."""


def export(
    wanted: Request,
    model: Any,
    samples: Any = None,
    *,
    targets: Any = None,
    labels: Any = None,
    files: Mapping[str, Any] | None = None,
    tell: Tell,
) -> tuple[str, str]:
    """Convert a model, run the file, compare the two, and write the file when they agree.

    Args:
        wanted: What was asked.
        model: The Keras model.
        samples: Inputs to measure ranges and to verify on. Without them the file is verified on
            generated ones, where nothing but the size of the differences is judged.
        targets: The label of each, where there are any.
        labels: Names of the outputs where the user gave no file of them.
        files: Files to pack.
        tell: Called with a word on what is being done.

    Returns:
        Two lines: what was written, and how it was verified.

    Raises:
        ConversionError: The model has no TFLite form; the converter's words are in the file
            that the message names.
        ExportError: Any other.
    """
    from tflite_export.converter import convert
    from tflite_export.generative import convert_generative
    from tflite_export.metadata import read_metadata

    targets = judged(model, targets, tell)
    tell(f"converting {model.name}")
    with _log_beside(wanted.output):
        if wanted.cache_length is not None:
            flat = convert_generative(
                model, cache_length=wanted.cache_length, quantize=wanted.quantize, files=files
            )
        else:
            flat = convert(
                model,
                quantize=wanted.quantize,
                samples=samples,
                targets=targets,
                labels=labels if wanted.labels is None else wanted.labels,
                batch_size=wanted.batch_size,
                sequence_length=wanted.sequence_length,
                allow_flex=wanted.allow_flex,
                unroll=wanted.unroll,
                files=files,
            )
    tell("verifying")
    verified = _verified(wanted, flat, model, samples, targets)
    save(flat, wanted.output, overwrite=wanted.overwrite)
    kind = read_metadata(flat).quantize
    return f"{wanted.output}: {len(flat):,} bytes, {kind}", verified


def outcome(result: Any, *, generated: bool = False) -> str:
    """Say in one line what `verify` found."""
    what = "generated inputs" if generated else "samples"
    where = {
        "micro": " in TFLite Micro",
        "compiled": " in LiteRT, compiled,",
        "web": " in LiteRT.js",
    }
    parts = [
        f"verified{where.get(result.runtime, '')} on {result.samples} {what}: largest difference "
        f"{result.relative:.2g} of the output's scale"
    ]
    if generated:
        return f"{parts[0]}; pass --samples to compare decisions on real ones"
    if result.agreement is not None:
        parts.append(f"{result.agreement:.1%} same decisions")
    if result.tokens is not None:
        parts.append(
            f"perplexity {result.tokens.model:.4g} in Keras and {result.tokens.file:.4g} in the "
            "file"
        )
    seen = [both for both in result.labels if both.model.balanced_accuracy is not None]
    if seen:
        before, after = (
            sum(getattr(both, side).balanced_accuracy for both in seen) / len(seen)
            for side in ("model", "file")
        )
        parts.append(f"balanced accuracy {before:.3f} in Keras and {after:.3f} in the file")
    return ", ".join(parts)


def project(given: argparse.Namespace) -> str:
    """Write a folder that builds.

    Args:
        given: Arguments of `options.add_to_c`.

    Returns:
        A line on what was written.

    Raises:
        ExportError: It cannot be written.
    """
    if given.name:
        raise OptionError("--name names the array of a header: leave it out with --project.")
    from tflite_export.c_project import to_c_project

    folder = to_c_project(
        given.tflite, given.output, project=given.project, overwrite=given.overwrite
    )
    return f"{folder}: README.txt in it says how to build"


def page(given: argparse.Namespace) -> str:
    """Write a page that runs a file in a browser.

    Args:
        given: Arguments of `options.add_page`, with `tflite`, `output` and `overwrite`.

    Returns:
        A line on what was written.

    Raises:
        ExportError: It cannot be written.
    """
    from tflite_export.web import to_web

    folder = to_web(
        given.tflite,
        given.output,
        library=given.library,
        title=given.title,
        overwrite=given.overwrite,
    )
    return f"{folder}: open index.html in it with a browser"


def columns(
    paths: Sequence[str],
    variants: Sequence[str],
    convert: Callable[[str, str], bytes],
    tell: Tell,
) -> dict[str, bytes]:
    """Gather the files that a card puts side by side.

    Args:
        paths: Keras models and `.tflite` files.
        variants: Variants of each Keras model beside float32.
        convert: Converts the model of a path to a variant.
        tell: Called with a word on what is being done.

    Returns:
        The files by the names of their columns, as short as tells them apart.
    """
    names = [Path(path).name for path in paths]
    found: dict[str, bytes] = {}
    for path, short in zip(paths, names, strict=True):
        name = short if names.count(short) == 1 else path
        if is_tflite(path):
            found[name] = read(path)
            continue
        for variant in dict.fromkeys(("float32", *variants)):
            tell(f"converting {path} to {variant}")
            column = name if variant == "float32" else f"{name} {Path(variant).stem}"
            found[column] = convert(path, variant)
    return found


def judged(model: Any, targets: Any, tell: Tell) -> Any:
    """Leave labels out where a model has no single output that could decide about them."""
    if targets is None:
        return None
    from tflite_export.keras_model.source import functional_graph

    graph = functional_graph(model)
    if graph is None or [len(output.shape) for output in graph.outputs] == [2]:
        return targets
    tell("the labels are left out: no single output of the model decides between them")
    return None


def tolerance_of(
    flat: bytes | str, wanted: Mapping[str, float], model: Any, samples: Any
) -> Tolerance | None:
    """What a file's variant accepts, with what was asked for in its place.

    Args:
        flat: The file, or its path.
        wanted: Numbers by name of the tolerance.
        model: The Keras model it is compared with.
        samples: What both are compared on.
    """
    if not wanted:
        return None
    from tflite_export.flatbuffer.container import parse
    from tflite_export.keras_model.source import source
    from tflite_export.metadata import read_metadata
    from tflite_export.running.comparison import variant_of
    from tflite_export.running.texts import asked

    data = read(flat) if isinstance(flat, str) else flat
    _, row = variant_of(read_metadata(data), parse(data))
    texts = asked(source(model, samples=samples)) is not None
    return replace(row.accepts(texts=texts), **wanted)


def _verified(wanted: Request, flat: bytes, model: Any, samples: Any, targets: Any) -> str:
    if wanted.allow_flex:
        from tflite_export.operators import anatomy

        used = anatomy(flat).flex
        if used:
            return f"not verified: LiteRT cannot run {', '.join(used)}"
    tolerance = tolerance_of(flat, wanted.tolerance, model, samples)
    if samples is None:
        return _verified_on_generated(flat, model, tolerance, wanted.runtime)
    from tflite_export.verification import verify

    return outcome(
        verify(flat, model, samples, targets=targets, tolerance=tolerance, runtime=wanted.runtime)
    )


def _verified_on_generated(
    flat: bytes, model: Any, tolerance: Tolerance | None, runtime: str
) -> str:
    """Compare on made-up inputs; what a model decides about them means nothing."""
    from tflite_export.keras_model.source import source
    from tflite_export.metadata import read_metadata
    from tflite_export.running.texts import asked
    from tflite_export.verification import verify

    name = (read_metadata(flat).quantize or "float32").removeprefix("recipe:")
    origin = source(model)
    texts = asked(origin) is not None
    tolerance = replace(tolerance or VARIANTS[name].accepts(texts=texts), agreement=0.0)
    values = _made_up(flat, origin)
    try:
        found = verify(
            flat,
            model,
            values if len(values) > 1 else values[0],
            tolerance=tolerance,
            runtime=runtime,
        )
    except VerificationError as error:
        raise VerificationError(
            f"{error} The inputs were generated, which this model may not be made for: pass "
            "--samples with real ones."
        ) from error
    # The model itself runs here: anything can come out of it.
    except Exception as error:
        if isinstance(error, ExportError):
            raise
        raise OptionError(
            f"model {model.name!r} cannot be run on generated inputs "
            f"({' '.join(str(error).split())[:200]}): pass --samples with real ones."
        ) from error
    return outcome(found, generated=True)


def _made_up(flat: bytes, origin: Any) -> list[Any]:
    """Make inputs up that a file takes: one text where it is a language model's."""
    from tflite_export.keras_model.sizes import with_sizes
    from tflite_export.keras_model.source import generated
    from tflite_export.operators import anatomy
    from tflite_export.running.texts import asked

    told, sizes = asked(origin), anatomy(flat).inputs
    cache = sizes.get("kv_cache_k_0")
    shapes = []
    for port in origin.inputs:
        shape = sizes.get(port.name, port.shape)
        if cache is not None:
            # A file that generates reads texts of any length up to this.
            shape = (None, min(cache[-2], _GENERATED))
        shapes.append(tuple(None if size is None or size < 0 else size for size in shape))
    values = generated(with_sizes(origin, shapes), _GENERATED if told is None else 1)
    if told is not None and told.padding is not None:
        values[told.padding][:] = 1
    return values


def scaling_layer(model: Any) -> str | None:
    """Name the layer by which a model of images takes them as they are stored, in 0..255.

    Args:
        model: A functional or Sequential model.
    """
    import keras
    import numpy as np

    if len(model.inputs) != 1 or len(model.inputs[0].shape) not in (3, 4):
        return None
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Rescaling):
            found = np.abs(np.asarray(layer.scale)).max() < _SMALL
        elif isinstance(layer, keras.layers.Normalization):
            found = np.asarray(layer.mean).max() > 1
        else:
            continue
        if found:
            return str(layer.name)
    return None


@contextlib.contextmanager
def _log_beside(output: Path) -> Iterator[None]:
    """Write what the converter said into a file when it fails."""
    try:
        yield
    except ConversionError as error:
        if not error.log:
            raise
        place = save(error.log, f"{output}.log", overwrite=True)
        message = str(error).replace("The converter's log is in .log.", "").strip()
        raise ConversionError(f"{message} The converter's log: {place}.", log=error.log) from error
