"""`keras-nns remove-label`: one label less, with proof that the others answer as before."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns remove-label ten.keras --label 9 -o nine.keras"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "remove-label",
        run,
        help="take a label away, and prove that the others' logits stay",
        description="Take a label's output away, and with it the units that nothing else reads. "
        "The logits of the other labels are proven to be what they were, up to float rounding.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_output(parser, "model (.keras)")
    parser.add_argument("--label", required=True, metavar="L", help="the label's name or number")
    parser.add_argument(
        "--label-names",
        type=arguments.label_names,
        metavar="A,B,…|FILE",
        help="name of every label, where the model does not remember them",
    )


def run(given: Namespace) -> None:
    """Remove the label, write the model, and say what the proof found."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
    from keras_nns.surgery.endings import remembered_names
    from keras_nns.surgery.lineage import save_model
    from keras_nns.transferring.removing import remove_label

    (label,) = reading.labels_of([given.label], given.label_names or remembered_names(model))
    with screen.working(given, "removing and proving"):
        done = remove_label(model, label, label_names=given.label_names)
    save_model(done.model, output, overwrite=given.overwrite)
    screen.remark(given, f"{output}: {done}")
