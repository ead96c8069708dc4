"""What `python -m tflite_export` and `keras-nns` have in common: options, and what they do.

Both read the model and the samples in their own way; everything behind that is here, so that
they write the same file and say the same about it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tflite_export.errors import (
    ConversionError,
    ExportError,
    ExportFileError,
    OptionError,
    VerificationError,
)
from tflite_export.files import read, save
from tflite_export.variants import VARIANTS

__all__ = [
    "SAMPLE_FILES",
    "Request",
    "add_card",
    "add_export",
    "card_variants",
    "columns",
    "count",
    "export",
    "is_tflite",
    "judged",
    "measures",
    "outcome",
    "recipe",
    "request",
]

Tell = Callable[[str], None]
SAMPLE_FILES = (
    "an .npz whose array x (or one array per input name) holds the inputs and y the labels, or a "
    ".npy of inputs"
)
_GENERATED = 64


@dataclass(frozen=True)
class Request:
    """What the user of a command line asks of an export, checked before any work.

    Attributes:
        output: The file to write.
        quantize: The variant's name, or a recipe.
        labels: Name of each position of the output, where a file of them was given.
        batch_size: Samples per call of the file; `None` leaves it open.
        unroll: Whether recurrent loops are written out.
        allow_flex: Whether TensorFlow's own operators may be in it.
        overwrite: Whether an existing file may be replaced.
    """

    output: Path
    quantize: Any
    labels: tuple[str, ...] | None
    batch_size: int | None
    unroll: bool
    allow_flex: bool
    overwrite: bool


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add how a model is converted."""
    parser.add_argument(
        "--quantize",
        type=_quantize,
        default="float32",
        metavar="VARIANT",
        help=f"one of {', '.join(VARIANTS)}, or a .json file with a recipe (default: float32)",
    )
    parser.add_argument(
        "--labels", metavar="FILE", help="text file with a name per line for each output"
    )
    parser.add_argument(
        "--file-batch",
        type=_file_batch,
        default=1,
        metavar="N",
        help="samples per call of the file, or 'any' (default: 1)",
    )
    parser.add_argument(
        "--unroll", action="store_true", help="write the loops of recurrent layers out"
    )
    parser.add_argument(
        "--allow-flex",
        action="store_true",
        help="let TensorFlow's own operators in; such a file is not verified",
    )


def add_card(parser: argparse.ArgumentParser) -> None:
    """Add which files are measured, and how."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a .keras, .h5 or .tflite file; the parent first"
    )
    parser.add_argument(
        "--quantize",
        nargs="+",
        type=_quantize,
        default=[],
        metavar="VARIANT",
        help=f"more variants of each Keras model: {', '.join(VARIANTS)}, or .json files with "
        "recipes (default: float32 alone)",
    )
    parser.add_argument(
        "--threads",
        type=count,
        nargs="+",
        default=[1],
        metavar="N",
        help="numbers of CPU threads to measure latency with (default: 1)",
    )
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table")


def request(given: argparse.Namespace) -> Request:
    """Check what was asked of an export, and read the small files it names.

    Args:
        given: Arguments of `add_export`, with `output`, `overwrite` and `samples`.

    Raises:
        ExportFileError: The output cannot be written, or a file cannot be read.
        OptionError: A file is not what it should be, or samples are missing.
    """
    output = Path(given.output)
    if output.suffix != ".tflite":
        raise OptionError(f"--output must end in .tflite. Received: {str(output)!r}.")
    if output.is_dir():
        raise ExportFileError(f"{output} is a folder; give a file name in it.")
    if output.exists() and not given.overwrite:
        raise ExportFileError(f"{output} exists already; pass --overwrite to replace it.")
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ExportFileError(f"cannot write {output}: {folder} is no folder to write in.")
    return Request(
        output=output,
        quantize=recipe(given.quantize, samples=given.samples),
        labels=None if given.labels is None else _lines(given.labels),
        batch_size=given.file_batch,
        unroll=given.unroll,
        allow_flex=given.allow_flex,
        overwrite=given.overwrite,
    )


def recipe(text: str, *, samples: str | None) -> Any:
    """Read a recipe where the name of a file is given; a variant's name stays what it is.

    Args:
        text: A variant's name, or the path of a recipe.
        samples: What `--samples` was given, which integer arithmetic needs.

    Raises:
        ExportFileError: The file cannot be read.
        OptionError: It is not JSON, or samples are needed and missing.
    """
    found: Any = text
    if text not in VARIANTS:
        try:
            found = json.loads(read(text))
        except ValueError as error:
            raise OptionError(f"{text} is not JSON: {error}.") from error
        if not isinstance(found, (dict, list)):
            raise OptionError(
                f"{text} is no recipe: expected an object from layer names to variants, or a list "
                "of ai-edge-quantizer's rules."
            )
    if samples is None and measures(found):
        raise OptionError(
            f"--quantize {text} measures the range of every activation: pass --samples, data of "
            "the kind the model will see."
        )
    return found


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
    from tflite_export.metadata import read_metadata

    targets = judged(model, targets, tell)
    tell(f"converting {model.name}")
    with _log_beside(wanted.output):
        flat = convert(
            model,
            quantize=wanted.quantize,
            samples=samples,
            targets=targets,
            labels=labels if wanted.labels is None else wanted.labels,
            batch_size=wanted.batch_size,
            allow_flex=wanted.allow_flex,
            unroll=wanted.unroll,
            files=files,
        )
    tell("verifying")
    verified = _verified(flat, model, samples, targets, flex=wanted.allow_flex)
    save(flat, wanted.output, overwrite=wanted.overwrite)
    kind = read_metadata(flat).quantize
    return f"{wanted.output}: {len(flat):,} bytes, {kind}", verified


def outcome(result: Any, *, generated: bool = False) -> str:
    """Say in one line what `verify` found."""
    what = "generated inputs" if generated else "samples"
    parts = [
        f"verified on {result.samples} {what}: largest difference {result.relative:.2g} of the "
        "output's scale"
    ]
    if generated:
        return f"{parts[0]}; pass --samples to compare decisions on real ones"
    if result.agreement is not None:
        parts.append(f"{result.agreement:.1%} same decisions")
    seen = [both for both in result.labels if both.model.balanced_accuracy is not None]
    if seen:
        before, after = (
            sum(getattr(both, side).balanced_accuracy for both in seen) / len(seen)
            for side in ("model", "file")
        )
        parts.append(f"balanced accuracy {before:.3f} in Keras and {after:.3f} in the file")
    return ", ".join(parts)


def card_variants(given: argparse.Namespace) -> dict[str, Any]:
    """Check what was asked of a card, and read the recipes it names.

    Args:
        given: Arguments of `add_card`, with `samples` and `calibrate`.

    Returns:
        What each `--quantize` stands for: itself, or a recipe.

    Raises:
        ExportFileError: A recipe cannot be read.
        OptionError: There is no Keras model to convert, or samples are missing.
    """
    if given.quantize and all(is_tflite(path) for path in given.models):
        raise OptionError(
            "--quantize converts Keras models, and only .tflite files were given. Name the models."
        )
    samples = given.calibrate or given.samples
    return {text: recipe(text, samples=samples) for text in given.quantize}


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


def is_tflite(path: str) -> bool:
    """Whether a path is that of a finished file."""
    return Path(path).suffix == ".tflite"


def _verified(flat: bytes, model: Any, samples: Any, targets: Any, *, flex: bool) -> str:
    if flex:
        from tflite_export.operators import anatomy

        used = anatomy(flat).flex
        if used:
            return f"not verified: LiteRT cannot run {', '.join(used)}"
    if samples is None:
        return _verified_on_generated(flat, model)
    from tflite_export.verification import verify

    return outcome(verify(flat, model, samples, targets=targets))


def _verified_on_generated(flat: bytes, model: Any) -> str:
    """Compare on made-up inputs; what a model decides about them means nothing."""
    from tflite_export.keras_model.source import generated, source
    from tflite_export.metadata import read_metadata
    from tflite_export.verification import verify

    name = (read_metadata(flat).quantize or "float32").removeprefix("recipe:")
    tolerance = replace(VARIANTS[name].tolerance, agreement=0.0)
    origin = source(model)
    values = generated(origin, _GENERATED)
    try:
        found = verify(
            flat,
            model,
            values if len(values) > 1 else values[0],
            tolerance=tolerance,
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


def measures(quantize: Any) -> bool:
    """Whether a variant or a recipe measures the ranges of activations."""
    if isinstance(quantize, str):
        return VARIANTS[quantize].needs_samples
    if isinstance(quantize, Mapping):
        return any(name in VARIANTS and VARIANTS[name].needs_samples for name in quantize.values())
    rules = quantize if isinstance(quantize, list) else []
    return any(
        (rule.get("op_config") or {}).get("activation_tensor_config")
        for rule in rules
        if isinstance(rule, Mapping)
    )


def _lines(path: str) -> tuple[str, ...]:
    try:
        return tuple(read(path).decode("utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise OptionError(f"the labels in {path} are not UTF-8 text: {error}.") from error


def _quantize(text: str) -> str:
    if text not in VARIANTS and not text.endswith(".json"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no variant: expected one of {', '.join(VARIANTS)}, or a .json file"
        )
    return text


def _file_batch(text: str) -> int | None:
    return None if text == "any" else count(text, "a whole number from 1, or 'any'")


def count(text: str, expected: str = "a whole number from 1") -> int:
    """Read a whole number from 1, for an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return int(text)
