"""`keras-nns export`: a verified .tflite file, with the labels of where the model comes from."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from keras_nns.cli import arguments, reading, screen
from keras_nns.cli.quiet import start_backend
from keras_nns.engine.configured import OURS
from tflite_export.cli import commands as exports
from tflite_export.cli import options

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
        "it when they agree. A cut model brings its labels and its plan along. More on files: "
        "python -m tflite_export --help, whose export does the same without data sets and plans.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_output(parser, "file (.tflite)")
    options.add_export(parser)
    parser.add_argument(
        "--samples",
        metavar="DATA",
        help="data to verify on, and to measure ranges on for integer variants: "
        + arguments.dataset_help()
        + f"; or {options.SAMPLE_FILES} (default: generated inputs, where ranges are not needed)",
    )
    parser.add_argument(
        "--sample-count", type=arguments.count, default=500, metavar="N", help="(default: 500)"
    )
    arguments.add_reading(parser, part="train")


def run(given: Namespace) -> None:
    """Convert, verify and write the file."""
    wanted = options.request(given)
    with screen.working(given, "loading") as tell:
        start_backend(OURS)  # Whatever runs elsewhere: files are made there.
        model = reading.model(given, given.model)
        samples, targets = _samples(given, model)
        from keras_nns.shipping.tflite_files import extras

        lines = exports.export(
            wanted,
            model,
            samples,
            targets=targets,
            **extras(model),
            tell=tell,
        )
    for line in lines:
        screen.remark(given, line)


def _samples(given: Namespace, model: Any) -> tuple[Any, Any]:
    """Take inputs to measure and to verify on, with the right answers where they are known."""
    if given.samples is None:
        return None, None
    plain = reading.plain_samples(given, model, given.samples)
    if plain is not None:
        return plain
    from keras_nns.shipping.tflite_files import labelled_samples, own_answers

    data, names = reading.data(given, model, given.samples)
    measured = labelled_samples(model, data, given.sample_count, label_names=names)
    return own_answers(model, measured)
