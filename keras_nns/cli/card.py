"""`keras-nns card`: what files cost on the device and are worth there, side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from keras_nns.cli import arguments, reading, screen
from tflite_export.cli import commands as exports
from tflite_export.cli import options

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
    options.add_card(parser)
    arguments.add_own_code(parser)
    parser.add_argument(
        "--samples",
        metavar="DATA",
        help="held-out data for the figures of every label: "
        + arguments.dataset_help()
        + f"; or {options.SAMPLE_FILES}",
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
    arguments.add_reading(parser, part="test")


def run(given: Namespace) -> None:
    """Convert what is to be converted, measure, and print the card."""
    with screen.working(given, "loading") as tell:
        variants = options.card_variants(given)
        kerases = {
            path: reading.model(given, path) for path in given.models if not options.is_tflite(path)
        }
        from keras_nns.files.atomic import read_bytes
        from keras_nns.shipping import tflite_files

        reader = next(iter(kerases.values()), None)
        if given.samples is not None and reader is None:
            reader = tflite_files.reading_model(read_bytes(given.models[0]))
        taken: tuple[Any, Any, tuple[str, ...]] = (None, None, ())
        if given.samples is not None:
            taken = _samples(given, reader, given.samples, part=given.part)
        inputs, labels, label_names = taken
        measured = _ranges(given, reader, variants.values())

        def converted(path: str, variant: str) -> bytes:
            model = kerases[path]
            return tflite_files.to_variant(
                model, variants.get(variant, variant), measured, label_names=label_names
            )

        flats = exports.columns(given.models, given.quantize, converted, tell)
        tell("measuring")
        card: tflite_export.Card = tflite_files.device_card(
            flats,
            inputs,
            None if labels is None or labels.ndim > 1 else labels,
            label_names=label_names,
            threads=given.threads,
            runtimes=given.runtime,
            target=given.npu,
        )
    if given.format == "json":
        screen.data(card.to_json())
    elif given.format == "markdown":
        screen.result(card.to_markdown().rstrip())
    else:
        from keras_nns.tables import Table

        head, *rows = card.cells()
        screen.table(Table(tuple(head), tuple(map(tuple, rows))))


def _samples(
    given: Namespace, reader: Any, name: str, *, part: str | None
) -> tuple[Any, Any, tuple[str, ...]]:
    from keras_nns.shipping.tflite_files import labelled_samples

    plain = reading.plain_samples(given, reader, name)
    if plain is not None:
        return plain[0], None, ()
    options = Namespace(**{**vars(given), "part": part})
    data, label_names = reading.data(options, reader, name)
    return labelled_samples(reader, data, given.sample_count, label_names=label_names)


def _ranges(given: Namespace, reader: Any, variants: Iterable[Any]) -> Any | None:
    """Take the samples that integer variants measure their ranges on, when there are any."""
    name = given.calibrate or given.samples
    if name is None or not any(options.measures(variant) for variant in variants):
        return None
    part = "train" if name in arguments.DATASETS or given.part is not None else None
    return _samples(given, reader, name, part=part)
