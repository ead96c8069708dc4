"""The command line: export, verify, card, show, to-c, to-web, each usable alone."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tflite_export.cli import commands, options
from tflite_export.cli.signals import Terminated, stopped_by_sigterm
from tflite_export.cli.streams import any_text, takes_unicode
from tflite_export.errors import (
    CalibrationWarning,
    ChangedFileWarning,
    ExportError,
    ExportFileError,
    FloatKernelWarning,
)
from tflite_export.files import read, save
from tflite_export.text import visible

__all__ = ["main"]

_EPILOG = """examples:
  python -m tflite_export export digits.keras --quantize int8 \\
      --samples data.npz --labels labels.txt -o digits.tflite
  python -m tflite_export card digits.keras digits.tflite --samples data.npz
  python -m tflite_export to-c digits.tflite -o digits_tflite.h
  python -m tflite_export to-c digits.tflite --project plain -o digits
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused, 2 wrong usage."""
    with any_text():
        try:
            given = _parser().parse_args(arguments)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 2
        return _run(given)


def _run(given: argparse.Namespace) -> int:
    """Run a command that was parsed, and turn what it raises into messages."""
    # Read by TensorFlow when it is first imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A user's keras.json may name another backend, and only this one has a way to TFLite.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    command: Callable[[argparse.Namespace], None] = given.command
    try:
        with warnings.catch_warnings(), stopped_by_sigterm():
            warnings.simplefilter("always", CalibrationWarning)
            warnings.simplefilter("always", ChangedFileWarning)
            warnings.simplefilter("always", FloatKernelWarning)
            warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
            command(given)
    except ExportError as error:
        _say(f"error: {' '.join(str(error).split())}")
        return 1
    except Terminated:
        _say("terminated; nothing was written")
        return 143
    except KeyboardInterrupt:
        _say("interrupted; nothing was written")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tflite_export",
        description="Any Keras model to checked TFLite bytes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = parser.add_subparsers(required=True, metavar="COMMAND")

    export = names.add_parser("export", help="write a .tflite that was run and compared with Keras")
    export.add_argument("model", help="the Keras model, a .keras or .h5 file")
    export.add_argument("-o", "--output", required=True, help="the .tflite file to write")
    export.add_argument("--overwrite", action="store_true", help="replace an existing file")
    options.add_export(export)
    _add_samples(export, "to verify on, and to measure the ranges of integer variants on")
    _add_unsafe(export)
    export.set_defaults(command=_export)

    verify = names.add_parser("verify", help="compare a .tflite with its Keras model")
    verify.add_argument("tflite")
    verify.add_argument("model", help="the Keras model it was converted from")
    options.add_verifying(verify)
    _add_samples(verify, "to compare on", required=True)
    _add_unsafe(verify)
    verify.set_defaults(command=_verify)

    card = names.add_parser("card", help="size, arithmetic, memory, latency, accuracy")
    options.add_card(card)
    _add_samples(card, "held out, for the figures of every label")
    card.add_argument(
        "--calibrate",
        metavar="DATA",
        help="samples to measure the ranges of integer variants on (default: --samples)",
    )
    _add_unsafe(card)
    card.set_defaults(command=_card)

    show = names.add_parser("show", help="metadata, files and operators of a .tflite")
    show.add_argument("tflite")
    show.set_defaults(command=_show)

    to_c = names.add_parser(
        "to-c", help="write a .tflite as an aligned C array, or as a folder that builds"
    )
    options.add_to_c(to_c)
    to_c.set_defaults(command=_to_c)

    to_web = names.add_parser("to-web", help="write a page that runs a .tflite in a browser")
    to_web.add_argument("tflite")
    to_web.add_argument("-o", "--output", required=True, help="the folder to write")
    to_web.add_argument("--overwrite", action="store_true", help="replace what is already there")
    options.add_page(to_web)
    to_web.set_defaults(command=_to_web)
    return parser


def _add_samples(parser: argparse.ArgumentParser, what: str, *, required: bool = False) -> None:
    parser.add_argument(
        "--samples",
        metavar="DATA",
        required=required,
        help=f"samples {what}: {options.SAMPLE_FILES}",
    )
    parser.add_argument(
        "--sample-count", type=options.count, default=500, metavar="N", help="(default: 500)"
    )
    parser.add_argument(
        "--no-scale",
        dest="scale",
        action="store_false",
        help="leave images of uint8 at 0..255, for models that scale them themselves",
    )


def _add_unsafe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--unsafe", action="store_true", help="load Lambda layers, which run code")


def _export(given: argparse.Namespace) -> None:
    wanted = options.request(given)
    _say(f"loading {given.model}")
    model = _load(given.model, unsafe=given.unsafe)
    samples, targets = _samples(given, given.samples, model)
    for line in commands.export(wanted, model, samples, targets=targets, tell=_say):
        _out(line)


def _verify(given: argparse.Namespace) -> None:
    model = _load(given.model, unsafe=given.unsafe)
    samples, targets = _samples(given, given.samples, model)
    from tflite_export.verification import verify

    result = verify(
        given.tflite,
        model,
        samples,
        targets=targets,
        tolerance=commands.tolerance_of(given.tflite, dict(given.tolerance), model, samples),
        runtime=given.runtime,
    )
    _out(f"{result.variant}, {commands.outcome(result)}")


def _card(given: argparse.Namespace) -> None:
    calibrate = given.calibrate or given.samples
    quantize = options.card_variants(given)
    models = {
        path: _load(path, unsafe=given.unsafe)
        for path in given.models
        if not options.is_tflite(path)
    }
    from tflite_export.converter import convert
    from tflite_export.deployment import card

    def converted(path: str, variant: str) -> bytes:
        model = models[path]
        ranges, labels = _samples(given, calibrate, model)
        return convert(
            model, quantize=quantize.get(variant, variant), samples=ranges, targets=labels
        )

    flats = commands.columns(given.models, given.quantize, converted, _say)
    samples, targets = _samples(given, given.samples, next(iter(models.values()), None))
    made = card(
        flats,
        samples,
        targets=targets,
        threads=given.threads,
        runtimes=given.runtime,
        target=given.npu,
    )
    _print_card(made, given.format)


def _print_card(made: Any, form: str) -> None:
    if form == "json":
        _out(json.dumps(made.to_json(), indent=1, ensure_ascii=not takes_unicode(sys.stdout)))
        return
    if form == "markdown":
        _out(made.to_markdown().rstrip())
        return
    from rich.console import Console
    from rich.measure import Measurement

    table, console = made.to_table(), Console()
    # A terminal that is too narrow breaks the lines; rich would cut figures off.
    needed = Measurement.get(console, console.options.update(width=500), table).maximum
    console.width = max(console.width, needed)
    console.print(table)


def _show(given: argparse.Namespace) -> None:
    from tflite_export.metadata import read_metadata
    from tflite_export.operators import anatomy

    metadata, parts = read_metadata(given.tflite), anatomy(given.tflite)
    for title, value in {
        "name": metadata.name,
        "description": metadata.description,
        "variant": metadata.quantize,
        "inputs": ", ".join(tensor.name for tensor in metadata.inputs),
        "outputs": ", ".join(tensor.name for tensor in metadata.outputs),
        "labels": ", ".join(metadata.labels),
        "files": ", ".join(f"{name} ({len(data)})" for name, data in metadata.files.items()),
        "operators": ", ".join(f"{name} {count}" for name, count in parts.operators.items()),
        "parameters": f"{parts.parameters:,}",
        "runtime at least": parts.minimum_runtime,
        "not in TFLite Micro": " ".join(parts.not_in_micro),
    }.items():
        if value:
            _out(f"{title:20} {value}")


def _to_c(given: argparse.Namespace) -> None:
    if given.project:
        _out(commands.project(given))
        return
    from tflite_export.c_array import to_c

    name = given.name or Path(given.output).stem.replace("-", "_").replace(".", "_")
    path = save(to_c(read(given.tflite), name), given.output, overwrite=given.overwrite)
    _out(f"{path}: {name}")


def _to_web(given: argparse.Namespace) -> None:
    _out(commands.page(given))


def _load(path: str, *, unsafe: bool) -> Any:
    if not Path(path).exists():
        raise ExportFileError(f"cannot read {path}: there is no such file.")
    from tflite_export.reading.model_files import meant_otherwise, what_else

    found = what_else(path)
    if found is not None:
        raise ExportFileError(f"cannot load {path} as a Keras model: it is {found}.")
    version = meant_otherwise(path)
    if version is not None:
        raise ExportFileError(
            f"{path} was written by Keras {version}, whose hard_sigmoid is another function than "
            "that of Keras 3. `keras-nns export` reads it as it was meant."
        )
    from tflite_export.running.silence import captured

    failure: Exception | None = None
    with captured():
        import keras

        try:
            model = keras.models.load_model(path, compile=False, safe_mode=not unsafe)
        except Exception as error:  # Keras raises whatever the file provokes.
            failure = error
    if failure is not None:
        first = next((line for line in str(failure).splitlines() if line.strip()), "")
        hint = " Pass --unsafe if you trust its Lambda layers." if "ambda" in str(failure) else ""
        raise ExportFileError(f"cannot load {path} as a Keras model: {first}{hint}") from failure
    return model


def _samples(given: argparse.Namespace, path: str | None, model: Any) -> tuple[Any, Any]:
    """Read samples, and labels where they are those of a model that decides."""
    if path is None:
        return None, None
    from tflite_export.cli.sample_files import read_samples

    graph = None
    if model is not None:
        from tflite_export.keras_model.source import functional_graph

        graph = functional_graph(model)
    ends = [] if graph is None else graph.inputs
    scaling = None if graph is None or not given.scale else commands.scaling_layer(graph)
    if scaling is not None:
        _say(f"Images of uint8 are left at 0..255: layer {scaling!r} of the model scales them.")
    samples, targets = read_samples(
        path,
        count=given.sample_count,
        scale=given.scale and scaling is None,
        shape=tuple(ends[0].shape) if len(ends) == 1 else None,
    )
    return samples, targets if model is None else commands.judged(model, targets, _say)


def _out(text: str) -> None:
    """Results go to stdout, everything about them to stderr."""
    sys.stdout.write(f"{visible(text)}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{visible(text)}\n")
