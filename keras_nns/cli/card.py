"""`keras-nns card`: what files cost on the device and are worth there, side by side."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nns.cli import arguments, reading, screen
from keras_nns.errors import DataError, FileError
from tflite_export.variants import VARIANTS

if TYPE_CHECKING:
    import tflite_export

EXAMPLE = """\
keras-nns card nns_demo/parent.keras nns_demo/subnetworks/3.keras --quantize int8 --samples digits
keras-nns card parent.tflite three.tflite --threads 1 2"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "card",
        run,
        help="size, arithmetic, memory, latency and figures of models as .tflite files",
        description="Measure models as they would run on a device, side by side, the parent "
        "first. A .keras model is converted in memory; a .tflite file is measured as it is. "
        "Nothing is written.",
        example=EXAMPLE,
    )
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a .keras, .h5 or .tflite file; the parent first"
    )
    arguments.add_unsafe(parser)
    parser.add_argument(
        "--quantize",
        nargs="+",
        default=[],
        choices=tuple(VARIANTS),
        metavar="VARIANT",
        help=f"more variants of each .keras model: {', '.join(VARIANTS)} (default: float32 alone)",
    )
    parser.add_argument(
        "--samples",
        metavar="DATA",
        help="held-out data for the figures of every label: " + arguments.dataset_help(),
    )
    parser.add_argument(
        "--calibrate",
        metavar="DATA",
        help="data to measure the ranges of integer variants on (default: the training part of "
        "--samples where it has one, or else --samples)",
    )
    parser.add_argument(
        "--sample-count", type=arguments.count, default=1000, metavar="N", help="(default: 1000)"
    )
    parser.add_argument(
        "--threads",
        type=arguments.count,
        nargs="+",
        default=[1],
        metavar="N",
        help="numbers of CPU threads to measure latency with (default: 1)",
    )
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table")
    arguments.add_reading(parser, part="test")


def run(given: Namespace) -> None:
    """Convert what is to be converted, measure, and print the card."""
    with screen.working(given, "loading") as tell:
        kerases, files = _opened(given)
        from keras_nns import shipping
        from keras_nns.operation import answer_names

        reader = next(iter(kerases.values()), None)
        if given.samples is not None and reader is None:
            reader = shipping.reading_model(next(iter(files.values())))
        taken: tuple[Any, Any, tuple[str, ...]] = (None, None, ())
        if given.samples is not None:
            taken = _samples(given, reader, given.samples, part=given.part)
        inputs, labels, label_names = taken
        measured = _ranges(given, reader)
        flats: dict[str, bytes] = {}
        for path in given.models:
            if path in files:
                flats[_short(path, given.models)] = files[path]
                continue
            for variant in dict.fromkeys(("float32", *given.quantize)):
                tell(f"converting {path} to {variant}")
                name = _short(path, given.models)
                name = name if variant == "float32" else f"{name} {variant}"
                model = kerases[path]
                names = answer_names(model, label_names)
                flats[name] = shipping.to_variant(model, variant, measured, names=names)
        tell("measuring")
        card: tflite_export.Card = shipping.device_card(
            flats,
            inputs,
            None if labels is None or labels.ndim > 1 else labels,
            label_names=label_names,
            threads=given.threads,
        )
    if given.format == "json":
        screen.result(json.dumps(card.as_dict(), indent=1, ensure_ascii=False))
    elif given.format == "markdown":
        screen.result(card.markdown().rstrip())
    else:
        from keras_nns.tables import Table

        head, *rows = card.cells()
        screen.table(Table(tuple(head), tuple(map(tuple, rows))))


def _opened(given: Namespace) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read every model: Keras models by path, and the bytes of files by path."""
    kerases: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for path in given.models:
        if Path(path).suffix == ".tflite":
            from keras_nns.files import read_bytes

            files[path] = read_bytes(path)
        else:
            kerases[path] = reading.model(given, path)
    if given.quantize and not kerases:
        raise FileError(
            "--quantize converts .keras models, and only .tflite files were given. Name the models."
        )
    return kerases, files


def _samples(
    given: Namespace, reader: Any, name: str, *, part: str | None
) -> tuple[Any, Any, tuple[str, ...]]:
    from keras_nns.shipping import labelled_samples

    options = Namespace(**{**vars(given), "part": part})
    data, label_names = reading.data(options, reader, name)
    return labelled_samples(reader, data, given.sample_count, label_names=label_names)


def _ranges(given: Namespace, reader: Any) -> Any | None:
    """Take the samples that integer variants measure their ranges on, when there are any."""
    if not any(VARIANTS[variant].needs_samples for variant in given.quantize):
        return None
    name = given.calibrate or given.samples
    if name is None:
        raise DataError(
            "--quantize measures the range of every activation: pass --samples or --calibrate, "
            "data of the kind the model will see."
        )
    part = "train" if name in arguments.DATASETS or given.part is not None else None
    return _samples(given, reader, name, part=part)


def _short(path: str, paths: list[str]) -> str:
    """Name a file as shortly as tells it from the others."""
    name = Path(path).name
    return name if [Path(other).name for other in paths].count(name) == 1 else path
