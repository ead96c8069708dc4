"""What is asked of an export or a card: options, checked before any work."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tflite_export.errors import ExportFileError, OptionError
from tflite_export.files import read
from tflite_export.variants import VARIANTS, Tolerance

__all__ = [
    "SAMPLE_FILES",
    "Request",
    "add_card",
    "add_export",
    "add_page",
    "add_project",
    "add_to_c",
    "card_variants",
    "count",
    "is_tflite",
    "measures",
    "recipe",
    "request",
]

PROJECTS = ("plain", "arduino", "esp-idf")
RUNTIMES = ("litert", "compiled", "micro", "web")
SAMPLE_FILES = (
    "an .npz whose array x (or one array per input name) holds the inputs and y the labels, or a "
    ".npy of inputs"
)


@dataclass(frozen=True)
class Request:
    """What the user of a command line asks of an export, checked before any work.

    Attributes:
        output: The file to write.
        quantize: The variant's name, or a recipe.
        labels: Name of each position of the output, where a file of them was given.
        batch_size: Samples per call of the file; `None` leaves it open.
        sequence_length: Size of an open second axis of the inputs; `None` leaves it open.
        cache_length: Tokens that a file which generates holds; `None` for a forward pass.
        unroll: Whether recurrent loops are written out.
        allow_flex: Whether TensorFlow's own operators may be in it.
        overwrite: Whether an existing file may be replaced.
        runtime: What runs the file when it is verified.
        tolerance: What is accepted otherwise than the variant's tolerance says, by name.
    """

    output: Path
    quantize: Any
    labels: tuple[str, ...] | None
    batch_size: int | None
    unroll: bool
    allow_flex: bool
    overwrite: bool
    runtime: str = "litert"
    sequence_length: int | None = None
    cache_length: int | None = None
    tolerance: Mapping[str, float] = field(default_factory=dict)


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
        "--sequence-length",
        type=count,
        metavar="N",
        help="steps or tokens per sample of the file, for a model that takes any number of them",
    )
    parser.add_argument(
        "--cache-length",
        type=count,
        metavar="N",
        help="write a language model of KerasHub that generates, with prefill and decode over a "
        "cache of N tokens, in place of its forward pass",
    )
    parser.add_argument(
        "--unroll", action="store_true", help="write the loops of recurrent layers out"
    )
    parser.add_argument(
        "--allow-flex",
        action="store_true",
        help="let TensorFlow's own operators in; such a file is not verified",
    )
    add_verifying(parser)


def add_verifying(parser: argparse.ArgumentParser) -> None:
    """Add how a file is compared with its model."""
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="litert",
        help="what runs the file when it is compared: LiteRT's interpreter, its compiled form, "
        "TFLite Micro, or LiteRT.js in a headless Chromium (default: litert)",
    )
    parser.add_argument(
        "--tolerance",
        type=_tolerance,
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="accept another difference than the variant's: largest=0.01, rms=0.06 (shares of the "
        "output's scale), agreement=0.98 (share of equal decisions) or, of a language model, "
        "perplexity=1.2 (of the model's); may be given several times",
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
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        nargs="+",
        default=["litert"],
        help="more runtimes to ask: whether each file runs there, how far its answers are from "
        "LiteRT's, and, of TFLite Micro, the smallest arena (default: litert alone)",
    )
    parser.add_argument(
        "--npu",
        metavar="TARGET",
        help="an NPU to ask for cycles, SRAM and what it leaves to the CPU, such as ethos-u55-128",
    )
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table")


def add_to_c(parser: argparse.ArgumentParser) -> None:
    """Add what is written as C."""
    parser.add_argument("tflite")
    parser.add_argument(
        "-o", "--output", required=True, help="the header to write, or with --project the folder"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is already there")
    parser.add_argument("--name", help="name of the array (default: from the output's name)")
    add_project(parser)


def add_project(parser: argparse.ArgumentParser) -> None:
    """Add which folder is written in place of a header."""
    parser.add_argument(
        "--project",
        choices=PROJECTS,
        help="write a folder that builds: C++ with a Makefile, an Arduino sketch or an ESP-IDF "
        "project",
    )


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add what a page is made of."""
    parser.add_argument(
        "--library",
        metavar="PATH",
        help="LiteRT.js: a folder with the npm package @litertjs/core 2.5.3, or the .tgz of npm "
        "pack (default: node_modules here and above)",
    )
    parser.add_argument("--title", help="what stands above (default: the model's name)")


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
    if given.cache_length is not None:
        _refuse_beside_a_cache(given)
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ExportFileError(f"cannot write {output}: {folder} is no folder to write in.")
    return Request(
        output=output,
        quantize=recipe(given.quantize, samples=given.samples),
        labels=None if given.labels is None else _lines(given.labels),
        batch_size=given.file_batch,
        sequence_length=given.sequence_length,
        cache_length=given.cache_length,
        unroll=given.unroll,
        allow_flex=given.allow_flex,
        overwrite=given.overwrite,
        runtime=given.runtime,
        tolerance=dict(given.tolerance),
    )


def _refuse_beside_a_cache(given: argparse.Namespace) -> None:
    """Refuse what a file that generates has no use for."""
    asked = {
        "--sequence-length": given.sequence_length is not None,
        "--labels": given.labels is not None,
        "--file-batch": given.file_batch != 1,
        "--unroll": given.unroll,
        "--allow-flex": given.allow_flex,
    }
    for name, there in asked.items():
        if there:
            raise OptionError(f"--cache-length makes a file that generates: leave {name} out.")


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


def is_tflite(path: str) -> bool:
    """Whether a path is that of a finished file."""
    return Path(path).suffix == ".tflite"


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


def _tolerance(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    known = [one.name for one in fields(Tolerance)]
    try:
        value = float(number)
        if name not in known:
            raise ValueError
        Tolerance(**{name: value})
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no tolerance: expected {', '.join(f'{one}=NUMBER' for one in known)}, "
            "with 0 or more, and agreement up to 1"
        ) from None
    return name, value


def _file_batch(text: str) -> int | None:
    return None if text == "any" else count(text, "a whole number from 1, or 'any'")


def count(text: str, expected: str = "a whole number from 1") -> int:
    """Read a whole number from 1, for an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
    return int(text)
