"""`keras-nns reproduce`: every table and figure of the paper."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, screen
from keras_nns.cli.quiet import start_backend
from keras_nns.engine.configured import OURS

EXAMPLE = """\
keras-nns reproduce
keras-nns reproduce nns_files --output nns_paper
keras-nns reproduce --dataset mnist --output nns_mnist"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "reproduce",
        run,
        help="make every table and figure of the paper, beside what it leaves out",
        description="Make every table and figure of NNS: neural network surgery, and beside each "
        "what the paper leaves out. From its own weights and rows where you have them; else from a "
        "network trained here the paper's way.",
        example=EXAMPLE,
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="holds the paper's files simpleMLPWghts.json and train_first1000.csv",
    )
    parser.add_argument(
        "--dataset",
        metavar="DATA",
        help="what to train on in place of a FOLDER: "
        + arguments.dataset_help()
        + " (default: digits, scikit-learn's, no download)",
    )
    arguments.add_output(parser, "folder", default="nns_paper")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the training, without FOLDER (default: 0)"
    )


def run(given: Namespace) -> None:
    """Reproduce the paper and print its tables."""
    with screen.working(given, "starting TensorFlow") as tell:
        start_backend(OURS)
        from keras_nns.paper.reproduction import reproduce

        done = reproduce(
            given.folder,
            output=given.output,
            dataset=given.dataset,
            seed=given.seed,
            overwrite=given.overwrite,
            tell=tell,
        )
    if given.quiet:
        return
    for name, table in done.tables.items():
        screen.result(f"\n{name}")
        screen.table(table)
    screen.result(f"\nWith pictures: {given.output}/report.html")
