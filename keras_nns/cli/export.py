"""`keras-nns export`: a verified .tflite file, with the labels of where the model comes from."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_nns.cli import arguments, reading, screen
from keras_nns.errors import DataError
from tflite_export.variants import VARIANTS

EXAMPLE = """\
keras-nns export nns_demo/subnetworks/3.keras -o three.tflite
keras-nns export nns_demo/merged.keras --quantize int8 --samples digits -o merged.tflite"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "export",
        run,
        help="write a .tflite file that was run and compared with the model",
        description="Convert a model to TFLite, run the file, compare it with the model, and write "
        "it when they agree. More on files: python -m tflite_export --help.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_output(parser, "file (.tflite)")
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="text file with a name per line for each output (default: those that a cut model "
        "remembers)",
    )
    parser.add_argument(
        "--quantize",
        choices=tuple(VARIANTS),
        default="float32",
        metavar="VARIANT",
        help=f"one of {', '.join(VARIANTS)} (default: float32)",
    )
    parser.add_argument(
        "--samples",
        metavar="DATA",
        help="data to verify on, and to measure ranges on for integer variants: "
        + arguments.dataset_help()
        + " (default: generated inputs, where ranges are not needed)",
    )
    parser.add_argument(
        "--sample-count", type=arguments.count, default=500, metavar="N", help="(default: 500)"
    )
    arguments.add_reading(parser, part="train")


def run(given: Namespace) -> None:
    """Convert, verify and write the file."""
    output = reading.free_output(given, ".tflite")
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        samples, measured = _samples(given, model)
    import tflite_export
    from keras_nns.operation import answer_names
    from keras_nns.shipping import to_variant

    labels = answer_names(model) if given.labels is None else _lines(given.labels)
    with screen.working(given, "converting and verifying"), _log_beside(output):
        flat = to_variant(model, given.quantize, measured, names=labels)
        found = tflite_export.verify(flat, model, samples)
    tflite_export.save(flat, output, overwrite=given.overwrite)
    agreed = "" if found.agreement is None else f", {found.agreement:.1%} same decisions"
    screen.remark(given, f"{output}: {len(flat):,} bytes, {found.variant}")
    screen.remark(
        given,
        f"verified on {found.samples} samples: largest difference {found.relative:.2g} of the "
        f"output's scale{agreed}",
    )


@contextlib.contextmanager
def _log_beside(output: Path) -> Iterator[None]:
    """Write what the converter said into a file when it fails."""
    from tflite_export import ConversionError, save

    try:
        yield
    except ConversionError as error:
        if not error.log:
            raise
        place = save(error.log, f"{output}.log", overwrite=True)
        message = str(error).replace("The converter's log is in .log.", "").strip()
        raise ConversionError(f"{message} The converter's log: {place}.") from error


def _samples(given: Namespace, model: Any) -> tuple[Any, Any]:
    """Take inputs to verify on, and labelled samples to measure ranges on where there are any."""
    if given.samples is not None:
        from keras_nns.shipping import labelled_samples

        data, names = reading.data(given, model, given.samples)
        measured = labelled_samples(model, data, given.sample_count, label_names=names)
        return measured[0], measured
    if VARIANTS[given.quantize].needs_samples:
        raise DataError(
            f"--quantize {given.quantize} measures the range of every activation: pass --samples, "
            "data of the kind the model will see."
        )
    from keras_nns.graph import trace
    from keras_nns.keras_graph import is_graph
    from keras_nns.probing import sample_inputs

    if not is_graph(model):
        raise DataError(
            f"Model {model.name!r} has no graph that tells what inputs it takes: pass --samples."
        )
    return sample_inputs(trace(model), 64, seed=0), None


def _lines(path: str) -> list[str]:
    from keras_nns.files import read_bytes

    text = read_bytes(path)
    try:
        return text.decode().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path!r} is not UTF-8 text: {error}.") from error
