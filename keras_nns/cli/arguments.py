"""Arguments that several commands have, and how help is laid out."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from keras_nns.errors import FileError

if TYPE_CHECKING:
    # Annotations alone: the class takes a parameter for type checkers and none when it runs.
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object

# The modules that own these are heavy; a test holds that they agree.
HEADS = ("parent", "labels", "other", "binary")
STATISTICS = ("fired", "mean", "variance", "maximum", "active", "mean_square")
DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10")
SCORES = (
    *("mean_activation", "firing_frequency", "active_share", "contrast", "d_prime"),
    "block_influence",
)
WEIGHT_SCORES = ("magnitude", "geometric_median", "lamp", "batch_norm_scale")
NORMS = ("max", "mean", "l2")
CALIBRATE = ("joint", "each")

_DATA_HELP = (
    f"one of {', '.join(DATASETS)}; or a path: an .npz with x and y (or x_train, y_train, x_test, "
    "y_test), a folder with IDX files, or a folder with one sub-folder of images per label"
)


_WIDTH = 96


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps examples as they are written, and gives options room."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=_WIDTH)


def command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], None],
    *,
    help: str,
    example: str,
    description: str = "",
) -> argparse.ArgumentParser:
    """Add a command with the options that all have.

    Args:
        commands: Where to.
        name: The command.
        run: What it does, given the arguments.
        help: One line on it.
        example: Lines that can be typed as they are.
        description: What it does at more length.
    """
    lines = "".join(f"  {line}\n" for line in example.splitlines())
    parser = commands.add_parser(
        name,
        help=help,
        description=wrapped(description or f"{help[0].upper()}{help[1:]}."),
        epilog=f"example:\n{lines}",
        formatter_class=Formatter,
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but results")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    parser.set_defaults(run=run)
    return parser


def wrapped(text: str) -> str:
    """Break a description into lines, which the formatter leaves as they are."""
    return textwrap.fill(text, _WIDTH - 2)


def add_output(parser: argparse.ArgumentParser, what: str, *, default: str | None = None) -> None:
    """Add where to write, and whether over what is there."""
    shown = f" (default: {default})" if default else ""
    parser.add_argument(
        "-o",
        "--output",
        required=default is None,
        default=default,
        metavar="PATH",
        help=f"{what} to write{shown}",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is already there")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model file as an argument, and what of its author's own it may hold."""
    parser.add_argument("model", metavar="MODEL", help="a .keras or .h5 file")
    add_own_code(parser)


def add_own_code(parser: argparse.ArgumentParser) -> None:
    """Add whether model files may run code, and which modules define what they hold."""
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="load models with Lambda layers, which run code of whoever wrote the file",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a Python module before models are loaded, for layers and functions that it "
        "registers with @keras.saving.register_keras_serializable(); may be repeated",
    )


def add_confidence(parser: argparse.ArgumentParser) -> None:
    """Add the coverage of intervals."""
    parser.add_argument(
        "--confidence",
        type=float,
        metavar="C",
        help="give every figure an interval that holds the true one in this share of cases, such "
        "as 0.95",
    )


def add_overlap(parser: argparse.ArgumentParser) -> None:
    """Add whether a subnetwork may be judged on samples that it was made from."""
    parser.add_argument(
        "--allow-overlap",
        action="store_true",
        help="judge subnetworks even on samples that they were observed or repaired with",
    )


def add_data(parser: argparse.ArgumentParser, *, part: str) -> None:
    """Add the data as an argument, and how to read it.

    Args:
        parser: Where to.
        part: Which part of a set that has two is read when the user names none.
    """
    parser.add_argument("data", metavar="DATA", help=_DATA_HELP)
    add_reading(parser, part=part)


def add_reading(parser: argparse.ArgumentParser, *, part: str) -> None:
    """Add how to read data."""
    parser.add_argument(
        "--part",
        choices=("train", "test"),
        help=f"which part of the data (default: {part}; all of a path that has no parts). A path "
        "without parts is split in two, always alike, when this is given",
    )
    parser.add_argument(
        "--no-scale",
        dest="scale",
        action="store_false",
        help="leave pixels as stored; else they are scaled to 0..1 unless the model does it itself",
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        default=256,
        metavar="N",
        help="samples at a time (default: 256)",
    )
    parser.add_argument(
        "--label-names",
        type=label_names,
        metavar="A,B,…|FILE",
        help="name of every label, in the order of the model's outputs; or a file of them, one on "
        "each line, or JSON",
    )
    parser.set_defaults(default_part=part)


def add_held_out(parser: argparse.ArgumentParser, what: str, *, default: float) -> None:
    """Add which share of the samples is held out, and what from: `what`."""
    parser.add_argument(
        "--held-out",
        type=float,
        default=default,
        metavar="SHARE",
        help=f"share of the samples {what} (default: {default})",
    )


def add_seed(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the seed, and what of: `what`."""
    parser.add_argument("--seed", type=int, default=0, metavar="N", help=f"{what} (default: 0)")


def add_training(parser: argparse.ArgumentParser, *, epochs: int) -> None:
    """Add how a training goes.

    Args:
        parser: Where to.
        epochs: The default.
    """
    parser.add_argument(
        "--epochs",
        type=count,
        default=epochs,
        metavar="N",
        help=f"at most how often to go over the data (default: {epochs})",
    )
    add_held_out(parser, "to judge epochs on", default=0.1)
    add_seed(parser, "of all that is drawn")


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the labels that something is made for."""
    parser.add_argument(
        "--label",
        action="append",
        required=True,
        metavar="L",
        help="a label's name or number; may be repeated",
    )


def add_head(parser: argparse.ArgumentParser, what: str, *, default: str | None) -> None:
    """Add what a network answers.

    Args:
        parser: Where to.
        what: The help, which says what the default is.
        default: The default; None where it depends on the labels.
    """
    parser.add_argument("--head", choices=HEADS, default=default, help=what)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add whether figures are for a program to read; `screen.figures` shows them."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def dataset_help() -> str:
    """Say what a data set may be."""
    return _DATA_HELP


def names(text: str) -> list[str]:
    """Read a list of names with commas between them."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, not {text!r}")
    return found


def label_names(text: str) -> list[str]:
    """Read names of labels with commas between them, or the file that holds them."""
    if not Path(text).is_file():
        return names(text)
    from keras_nns.data.names import read_names

    try:
        return list(read_names(text))
    except FileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def count(text: str) -> int:
    """Read a whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, not {text!r}")
    return number


def shard(text: str) -> tuple[int, int]:
    """Read `2/8`, the second of eight."""
    number, slash, count_ = text.partition("/")
    numbers = (number, count_)
    if not (slash and all(n.isdecimal() and n.isascii() for n in numbers)):
        raise argparse.ArgumentTypeError(f"expected a shard as 2/8, the second of 8, not {text!r}")
    if not 1 <= int(number) <= int(count_):
        raise argparse.ArgumentTypeError(
            f"shards run from 1/{count_} to {count_}/{count_}, and {text!r} is none. Where a "
            "scheduler counts from 0, add 1"
        )
    return int(number), int(count_)
