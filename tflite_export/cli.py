"""The command line: convert, verify, card, show, to-c, each usable alone."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tflite_export.errors import (
    CalibrationWarning,
    ConversionError,
    ExportError,
    ExportFileError,
    OptionError,
)
from tflite_export.files import read, save
from tflite_export.variants import VARIANTS

__all__ = ["main"]

_EPILOG = """examples:
  python -m tflite_export convert digits.keras --quantize int8 \\
      --samples data.npz --labels labels.txt -o digits.tflite
  python -m tflite_export card digits.tflite digits_float.tflite --samples data.npz
  python -m tflite_export to-c digits.tflite -o digits_tflite.h
"""
_SAMPLES = (
    ".npz whose array x (or one array per input name) holds the inputs and y the labels, "
    "or a .npy of inputs"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 refused, 2 wrong usage."""
    parser = _parser()
    given = parser.parse_args(arguments)
    # Read by TensorFlow when it is first imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    command: Callable[[argparse.Namespace], None] = given.command
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", CalibrationWarning)
            warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
            command(given)
    except ConversionError as error:
        _say(f"error: {error}")
        if error.log:
            _say(f"log: {_write_log(given, error.log)}")
        return 1
    except ExportError as error:
        _say(f"error: {error}")
        return 1
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
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    convert = commands.add_parser(
        "convert", aliases=["export"], help="convert a .keras or .h5 model and verify it"
    )
    convert.add_argument("model", help="the Keras model")
    convert.add_argument("-o", "--output", required=True, help="the .tflite file to write")
    convert.add_argument(
        "--quantize",
        default="float32",
        metavar="VARIANT",
        help="one of " + ", ".join(VARIANTS) + ", or a .json file with a recipe",
    )
    convert.add_argument("--samples", help=_SAMPLES)
    convert.add_argument("--labels", help="text file with one label per line")
    convert.add_argument(
        "--batch-size", default="1", help="samples per call, or 'any' (default: 1)"
    )
    convert.add_argument("--unroll", action="store_true", help="write recurrent loops out")
    convert.add_argument("--allow-flex", action="store_true", help="let TensorFlow operators in")
    convert.add_argument("--unsafe", action="store_true", help="load Lambda layers, which run code")
    convert.add_argument("--overwrite", action="store_true", help="replace an existing file")
    convert.set_defaults(command=_convert)

    verify = commands.add_parser("verify", help="compare a .tflite with its Keras model")
    verify.add_argument("tflite")
    verify.add_argument("model", help="the Keras model it was converted from")
    verify.add_argument("--samples", required=True, help=_SAMPLES)
    verify.add_argument("--unsafe", action="store_true", help="load Lambda layers, which run code")
    verify.set_defaults(command=_verify)

    card = commands.add_parser("card", help="size, arithmetic, memory, latency, accuracy")
    card.add_argument("tflite", nargs="+", help="one or several files, side by side")
    card.add_argument("--samples", help=_SAMPLES)
    card.add_argument("--threads", type=int, nargs="+", default=[1], help="default: 1")
    card.add_argument("--format", choices=["table", "markdown", "json"], default="table")
    card.set_defaults(command=_card)

    show = commands.add_parser("show", help="metadata, files and operators of a .tflite")
    show.add_argument("tflite")
    show.set_defaults(command=_show)

    to_c = commands.add_parser("to-c", help="write a .tflite as an aligned C array")
    to_c.add_argument("tflite")
    to_c.add_argument("-o", "--output", required=True, help="the header to write")
    to_c.add_argument("--name", help="name of the array (default: from the output's name)")
    to_c.add_argument("--overwrite", action="store_true", help="replace an existing file")
    to_c.set_defaults(command=_to_c)
    return parser


def _convert(given: argparse.Namespace) -> None:
    output = Path(given.output)
    if output.exists() and not given.overwrite:
        # Said before minutes of work, not after.
        raise ExportFileError(f"{output} exists already; pass --overwrite to replace it.")
    samples, targets = _samples(given.samples)
    options: dict[str, Any] = {
        "quantize": _quantize(given.quantize),
        "samples": samples,
        "labels": read(given.labels).decode("utf-8").splitlines() if given.labels else None,
        "batch_size": _batch_size(given.batch_size),
        "allow_flex": given.allow_flex,
        "unroll": given.unroll,
    }
    _say(f"loading {given.model}")
    model = _load(given.model, unsafe=given.unsafe)
    from tflite_export.converter import convert  # noqa: PLC0415
    from tflite_export.verification import verify  # noqa: PLC0415

    _say(f"converting to {given.quantize}")
    flat = convert(model, targets=targets, **options)
    if samples is not None and not given.allow_flex:
        _say(_outcome(verify(flat, model, samples, targets=targets)))
    else:
        _say("not verified: " + ("Flex operators" if given.allow_flex else "no --samples"))
    save(flat, output, overwrite=given.overwrite)
    _out(f"{output}: {len(flat):,} bytes")


def _verify(given: argparse.Namespace) -> None:
    samples, targets = _samples(given.samples)
    model = _load(given.model, unsafe=given.unsafe)
    from tflite_export.verification import verify  # noqa: PLC0415

    _out(_outcome(verify(given.tflite, model, samples, targets=targets)))


def _card(given: argparse.Namespace) -> None:
    from tflite_export.deployment import card  # noqa: PLC0415

    samples, targets = _samples(given.samples)
    names = [Path(path).name for path in given.tflite]
    if len(set(names)) < len(names):
        names = given.tflite
    made = card(
        dict(zip(names, given.tflite, strict=True)),
        samples,
        targets=targets,
        threads=given.threads,
    )
    if given.format == "json":
        _out(json.dumps(made.as_dict(), indent=1))
    elif given.format == "markdown":
        _out(made.markdown().rstrip())
    else:
        from rich.console import Console  # noqa: PLC0415

        Console().print(made.table())


def _show(given: argparse.Namespace) -> None:
    from tflite_export.metadata import read_metadata  # noqa: PLC0415
    from tflite_export.operators import anatomy  # noqa: PLC0415

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
        "not in TFLite Micro": ", ".join(parts.not_in_micro),
    }.items():
        if value:
            _out(f"{title:20} {value}")


def _to_c(given: argparse.Namespace) -> None:
    from tflite_export.c_array import to_c  # noqa: PLC0415

    name = given.name or Path(given.output).stem.replace("-", "_").replace(".", "_")
    path = save(to_c(read(given.tflite), name), given.output, overwrite=given.overwrite)
    _out(f"{path}: {name}")


def _load(path: str, *, unsafe: bool) -> Any:
    if not Path(path).exists():
        raise ExportFileError(f"cannot read {path}: there is no such file.")
    from tflite_export._silence import captured  # noqa: PLC0415

    failure: Exception | None = None
    with captured():
        import keras  # noqa: PLC0415

        try:
            model = keras.models.load_model(path, compile=False, safe_mode=not unsafe)
        except Exception as error:  # Keras raises whatever the file provokes.
            failure = error
    if failure is not None:
        first = next((line for line in str(failure).splitlines() if line.strip()), "")
        hint = " Pass --unsafe if you trust its Lambda layers." if "ambda" in str(failure) else ""
        raise ExportFileError(f"cannot load {path} as a Keras model: {first}{hint}") from failure
    return model


def _samples(path: str | None) -> tuple[Any, Any]:
    """Read samples and, where the file has them, labels; pickled arrays are refused."""
    if path is None:
        return None, None
    import numpy as np  # noqa: PLC0415

    try:
        with Path(path).open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, None
            found = {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise ExportFileError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, EOFError, KeyError) as error:
        raise ExportFileError(f"{path} is no .npz or .npy of plain arrays: {error}.") from error
    targets = found.pop("y", None)
    if not found:
        raise OptionError(f"{path} holds no inputs; expected {_SAMPLES}.")
    return (found["x"] if set(found) == {"x"} else found), targets


def _quantize(text: str) -> Any:
    if not text.endswith(".json"):
        return text
    try:
        return json.loads(read(text))
    except ValueError as error:
        raise OptionError(f"{text} is not JSON: {error}.") from error


def _batch_size(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isdigit():
        raise OptionError(f"--batch-size must be a number or 'any'. Received: {text!r}.")
    return int(text)


def _outcome(result: Any) -> str:
    agreement = "" if result.agreement is None else f", {result.agreement:.1%} same decisions"
    return (
        f"verified {result.variant} on {result.samples} samples: largest difference "
        f"{result.relative:.2g} of the output's scale{agreement}"
    )


def _write_log(given: argparse.Namespace, log: str) -> Path:
    path = Path(f"{given.output}.log")
    return save(log, path, overwrite=True)


def _out(text: str) -> None:
    """Results go to stdout, everything about them to stderr."""
    sys.stdout.write(f"{text}\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
