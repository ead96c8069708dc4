"""`keras-nns simplify`: leave out what is constant, fold batch norms, prove it."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns simplify three.keras -o lean.keras
keras-nns simplify model.keras --fold-batch-norm -o lean.keras"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "simplify",
        run,
        help="leave out what does not change what a model computes, and prove it",
        description="Remove units and branches that are constant whatever the input is, and on "
        "request fold batch norms into the convolutions and Dense layers beside them. The new "
        "model answers what the old one answers.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_output(parser, "model (.keras)")
    parser.add_argument(
        "--fold-batch-norm",
        action="store_true",
        help="fold batch norms too: for a model that is not trained further",
    )


def run(given: Namespace) -> None:
    """Simplify, say what was done, and write the model."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
    from keras_nns.surgery.cleaning.simplification import simplify
    from keras_nns.surgery.lineage import save_model

    with screen.working(given, "simplifying and proving"):
        done = simplify(model, fold_batch_norm=given.fold_batch_norm)
    save_model(done.model, output, overwrite=given.overwrite)
    screen.table(done.to_table())
