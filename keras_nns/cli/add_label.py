"""`keras-nns add-label`: one label more, without forgetting the others."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns add-label nine.keras digits --name 9 -o ten.keras"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "add-label",
        run,
        help="give a network one label more, without forgetting the others",
        description="Give a network one label more. The old weights and the old labels' logits "
        "stay as they are; new are a few units and one output. The data holds samples of the new "
        "label and some of each old one.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_data(parser, part="train")
    arguments.add_output(parser, "model (.keras)")
    parser.add_argument("--name", required=True, metavar="L", help="the new label's name")
    parser.add_argument(
        "--units",
        type=int,
        default=32,
        metavar="N",
        help="hidden units that the new label gets of its own (default: 32)",
    )
    parser.add_argument(
        "--up-to",
        metavar="LAYER",
        help="layer that they read (default: what the last hidden Dense is called on)",
    )
    arguments.add_training(parser, epochs=40)


def run(given: Namespace) -> None:
    """Add the label, write the model, and print what was kept."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        data, label_names = reading.data(given, model, given.data, own_labels=True)
    from keras_nns.surgery.endings import remembered_names
    from keras_nns.surgery.lineage import save_model
    from keras_nns.transferring.adding import add_label

    old = remembered_names(model)
    if not old and label_names is not None:
        old = tuple(name for name in label_names if name != given.name)
    with screen.working(given, "adding the label"):
        done = add_label(
            model,
            data if label_names is None else named(data, label_names),
            name=given.name,
            label_names=old or None,
            units=given.units,
            up_to=given.up_to,
            held_out=given.held_out,
            seed=given.seed,
            epochs=given.epochs,
        )
    save_model(done.model, output, overwrite=given.overwrite)
    screen.table(done.to_table())


def named(data: Any, names: Sequence[str]) -> Any:
    """Put names in the place of numbers: the model and the data may count labels otherwise."""
    import numpy as np

    def labels(y: Any) -> Any:
        numbers = np.asarray(y)
        return np.array(names)[numbers] if numbers.dtype.kind in "iu" else numbers

    if callable(data):
        return lambda: ((x, labels(y)) for x, y in data())
    if isinstance(data, tuple) and len(data) == 2 and data[1] is not None:
        return data[0], labels(data[1])
    return data
