"""`keras-nns transplant`: a few labels of a large network in a small architecture."""

from __future__ import annotations

import json
from argparse import Namespace

from keras_nns.cli import arguments, extract, reading, screen

EXAMPLE = """\
keras-nns transplant resnet.keras tiny.keras photos --label cat --label dog -o pets.keras
keras-nns evaluate pets.keras photos --part test --against resnet.keras"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "transplant",
        run,
        help="teach a small architecture what a large network knows of some labels",
        description="Start a small architecture from the large network's own weights as far as "
        "their layers fit, from the units that the labels need most, and distill the rest.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    parser.add_argument(
        "small",
        metavar="SMALL",
        help="the architecture, a .keras file that takes the same inputs and ends in what --head "
        "answers",
    )
    arguments.add_data(parser, part="train")
    parser.add_argument(
        "--label",
        action="append",
        required=True,
        metavar="L",
        help="a label's name or number; may be repeated",
    )
    parser.add_argument(
        "--head",
        choices=arguments.HEADS,
        default="labels",
        help="what the small network answers (default: labels)",
    )
    parser.add_argument(
        "--epochs",
        type=arguments.count,
        default=5,
        metavar="N",
        help="how often to go over the data (default: 5)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the training (default: 0)"
    )
    arguments.add_output(parser, "model (.keras)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(given: Namespace) -> None:
    """Transplant, show what happened, and write the model."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        parent, small = (reading.model(given, path) for path in (given.model, given.small))
        data, label_names = reading.data(given, parent, given.data)
    from keras_nns.model_files import save_model
    from keras_nns.transplanting import transplant

    with screen.working(given, "training"):
        found = transplant(
            parent,
            small,
            data,
            labels=extract.labels_of(given.label, label_names),
            head=given.head,
            epochs=given.epochs,
            seed=given.seed,
            label_names=label_names,
        )
    save_model(found.model, output, overwrite=given.overwrite)
    if given.json:
        screen.result(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        return
    screen.table(found.to_table())
    screen.table(found.trained.to_table())
