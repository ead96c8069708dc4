"""`keras-nns transplant`: a few labels of a large network in a small architecture."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

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
    arguments.add_labels(parser)
    arguments.add_head(parser, "what the small network answers (default: labels)", default="labels")
    arguments.add_training(parser, epochs=5)
    arguments.add_output(parser, "model (.keras)")
    arguments.add_json(parser)


def run(given: Namespace) -> None:
    """Transplant, show what happened, and write the model."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        parent, small = reading.models(given, given.model, given.small)
        data, label_names = reading.data(given, parent, given.data)
    from keras_nns.composition.transplanting import transplant
    from keras_nns.surgery.lineage import save_model

    with screen.working(given, "training"):
        found = transplant(
            parent,
            small,
            data,
            labels=reading.labels_of(given.label, label_names),
            head=given.head,
            epochs=given.epochs,
            held_out=given.held_out,
            seed=given.seed,
            label_names=label_names,
        )
    save_model(found.model, output, overwrite=given.overwrite)
    screen.figures(given, found, found.to_table(), found.trained.to_table())
