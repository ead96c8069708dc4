"""`keras-nns demo`: the main job from end to end."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from keras_nns.cli import arguments, reading, screen
from keras_nns.cli.quiet import start_backend

if TYPE_CHECKING:
    from keras_nns.demo import Demo

EXAMPLE = """\
keras-nns demo
keras-nns demo --score mean_activation --zeta 0.4 --output papers_rule
keras-nns demo --dataset mnist --output mnist_demo
keras-nns demo --dataset photos --model pets.keras --output pets_demo"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "demo",
        run,
        help="do all of it: train, watch, cut a network per label, prove, export, report",
        description="Train a small network (or take yours), watch it label by label, cut out one "
        "network per label and one for all, prove each equal to its masked parent, export and "
        "verify each, and write a page of what was found.",
        example=EXAMPLE,
    )
    parser.add_argument(
        "--dataset",
        default="digits",
        metavar="DATA",
        help=arguments.dataset_help() + " (default: digits, scikit-learn's, no download)",
    )
    parser.add_argument(
        "--model", metavar="PATH", help="a .keras or .h5 file to operate on instead of training"
    )
    arguments.add_own_code(parser)
    arguments.add_output(parser, "folder", default="nns_demo")
    parser.add_argument(
        "--score",
        choices=[
            name
            for name in arguments.SCORES
            if name not in ("active_share", "d_prime", "block_influence")
        ],
        default="contrast",
        help="how much a label needs a unit (default: contrast; the paper's is mean_activation)",
    )
    parser.add_argument(
        "--zeta",
        type=float,
        metavar="Z",
        help="keep units of at least this share of a layer's highest score (default: chosen on "
        "training samples set apart; the paper's are 0.4 and 0.5)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default: 0)")
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="epochs of training (default: by size of the data)"
    )


def run(given: Namespace) -> None:
    """Run the demo and print what came of it."""
    with screen.working(given, "starting TensorFlow") as tell:
        start_backend()
        reading.import_modules(given)
        from keras_nns.demo import run_demo
        from keras_nns.selection.naming import as_score

        done = run_demo(
            given.dataset,
            output=given.output,
            model=given.model,
            zeta=given.zeta,
            score=as_score(given.score),
            seed=given.seed,
            epochs=given.epochs,
            overwrite=given.overwrite,
            unsafe=given.unsafe,
            tell=tell,
        )
    if not given.quiet:
        _show(done, given.output)


def _show(done: Demo, folder: str) -> None:
    from keras_nns.reporting import findings

    record = done.operation.record
    networks = record.subnetworks
    held_out = record.every[0].comparison.after.samples
    screen.result(
        f"{record.parent.name} and the networks cut from it, on {held_out:,} held-out samples of "
        f"{done.data.name}:"
    )
    screen.table(done.operation.to_table())
    rows = [(one.name, *pair) for one in networks for pair in findings.pairs(one.comparison)]
    advice = findings.yes_to_everything(rows)
    for sentence in (
        *findings.exactness(
            [one.name for one in record.every], [one.proof for one in record.every]
        ),
        *advice,
        *([] if record.merged is None else findings.merged(record.merged.comparison)),
    ):
        screen.result(f"- {sentence}")
    if advice:
        screen.result(
            "- --score contrast, the default, keeps the units that tell a label from the rest."
        )
    screen.result(f"\nThe whole story, with pictures: {folder}/report.html")
