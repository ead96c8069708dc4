"""`keras-nns transfer`: teach a network other labels."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns transfer three.keras photos/ -o photos.keras
keras-nns transfer three.keras new.npz --rates 0.001 -o features_only.keras
keras-nns transfer three.keras new.npz --checkpoint going.npz -o new.keras"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "transfer",
        run,
        help="teach a network other labels: a new head, then layers from the top",
        description="Teach a network other labels than it was trained on. First a new head is "
        "trained on the features that the network has; then its layers are unfrozen from the top, "
        "stage by stage, each stage at its own learning rate.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_data(parser, part="train")
    arguments.add_output(parser, "model (.keras)")
    parser.add_argument(
        "--rates",
        type=rates,
        default=[1e-3, 1e-4],
        metavar="R,…",
        help="learning rate of the head alone, and of each further stage (default: 0.001,0.0001); "
        "one rate alone is feature extraction",
    )
    arguments.add_training(parser, epochs=10)
    parser.add_argument(
        "--up-to",
        metavar="LAYER",
        help="last layer to keep (default: what the Dense layers at the end read)",
    )
    parser.add_argument(
        "--pooling", choices=("avg", "max"), help="pool features over pixels or steps"
    )
    parser.add_argument(
        "--balance", action="store_true", help="draw samples of every label equally often"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="written after every epoch; the same command again goes on from there",
    )


def rates(text: str) -> list[float]:
    """Read learning rates with commas between them."""
    from argparse import ArgumentTypeError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"expected rates with commas between them, not {text!r}") from None


def run(given: Namespace) -> None:
    """Teach it, write the model, and print what each stage did."""
    output = reading.free_output(given, ".keras")
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        data, label_names = reading.data(given, model, given.data, own_labels=True)
    from keras_nns.surgery.lineage import save_model
    from keras_nns.transferring.stages import transfer

    with screen.working(given, "teaching"):
        done = transfer(
            model,
            data,
            label_names=label_names,
            rates=given.rates,
            epochs=given.epochs,
            up_to=given.up_to,
            pooling=given.pooling,
            held_out=given.held_out,
            seed=given.seed,
            balance=given.balance,
            checkpoint=given.checkpoint,
        )
    save_model(done.model, output, overwrite=given.overwrite)
    screen.table(done.to_table())
