"""The command line: `keras-nns COMMAND`, one module per command.

Whatever is heavy is imported inside a command's `run`, so that help is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from keras_nns.cli import (
    add,
    add_label,
    card,
    compose,
    cut,
    demo,
    evaluate,
    export,
    extract,
    graft,
    graph,
    inspect,
    mask,
    merge,
    observe,
    patch,
    play,
    remove_label,
    report,
    reproduce,
    select,
    simplify,
    sweep,
    to_c,
    to_web,
    transfer,
    transplant,
)
from keras_nns.cli.arguments import Commands, Formatter, wrapped
from keras_nns.errors import NNSError
from tflite_export.cli.signals import Terminated, stopped_by_sigterm
from tflite_export.cli.streams import any_text
from tflite_export.errors import (
    CalibrationWarning,
    ChangedFileWarning,
    ExportError,
    FloatKernelWarning,
)
from tflite_export.text import visible

COMMANDS = (
    demo, play, extract, sweep, inspect, graph, observe, add, select, cut, mask, simplify, merge,
    compose, graft, patch, transplant, transfer, add_label, remove_label, evaluate, export, to_c,
    to_web, card, report, reproduce,
)  # fmt: skip

_EXAMPLES = """\
start here:
  keras-nns demo                       # two minutes; then open nns_demo/report.html

in one go, from a model and its data to the file that fits, judged and verified:
  keras-nns extract model.keras data.npz --label 3 --budget 60kB --quantize int8 -o three.tflite

step by step, with files in between:
  keras-nns inspect model.keras
  keras-nns observe model.keras data.npz -o activity.npz
  keras-nns select activity.npz --label 3 -o three.json
  keras-nns cut model.keras three.json -o three.keras
  keras-nns evaluate three.keras data.npz --against model.keras
  keras-nns export three.keras -o three.tflite
  keras-nns card model.keras three.tflite --samples data.npz
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted,
        143 terminated.
    """
    with any_text():
        try:
            given = _parser().parse_args(argv)
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 2
        return _run(given)


def _run(given: argparse.Namespace) -> int:
    """Run a command that was parsed, and turn what it raises into messages."""
    try:
        with warnings.catch_warnings(), stopped_by_sigterm():
            warnings.showwarning = _show_warning
            warnings.simplefilter("always", CalibrationWarning)
            warnings.simplefilter("always", ChangedFileWarning)
            warnings.simplefilter("always", FloatKernelWarning)
            given.run(given)
            sys.stdout.flush()
    except Terminated:
        _say("terminated")
        return 143
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if given.debug:
            traceback.print_exc()
        _say(f"error: {_explained(error, debug=given.debug)}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-nns",
        description=wrapped(
            "Watch a trained Keras model label by label, cut out the smaller network that "
            "recognises the labels you need, prove the cut exact, and ship it."
        ),
        epilog=_EXAMPLES,
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action=_Version)
    commands: Commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


class _Version(argparse.Action):
    """Print the version; reading it takes time that nothing else should spend."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"keras-nns {version('keras-nns')}")
        parser.exit()


def _explained(error: Exception, *, debug: bool) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, NNSError | ExportError):
        return text
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    if isinstance(error, MemoryError):
        return f"not enough memory. Try a smaller --batch-size. {text}".strip()
    hint = "" if debug else " Run it again with --debug to see where."
    return f"{type(error).__name__}, which should not happen: {text}.{hint}"


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    # What other packages deprecate is nothing a user of a command can act on.
    if issubclass(category, UserWarning):
        _say(f"warning: {' '.join(str(message).split())}")


def _say(text: str) -> None:
    print(visible(text), file=sys.stderr)
