"""`keras-nns demo`: the main job from end to end."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from keras_nns.cli import arguments, reading, screen
from keras_nns.cli.quiet import start_backend
from keras_nns.engine.configured import OURS

if TYPE_CHECKING:
    from keras_nns.demo import Demo

EXAMPLE = """\
keras-nns demo
keras-nns demo --dataset mnist --output mnist_demo
keras-nns demo --dataset photos --model pets.keras --output pets_demo"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "demo",
        run,
        help="do all of it: train, watch, make a network per label, prove, export, report",
        description="Train a small network (or take yours), watch it label by label, make one "
        "network per label and one for all beside those of the paper's rule, prove the cuts, "
        "judge all as float32 and int8 files, and write a page of what was found.",
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
        "--zeta",
        type=float,
        default=0.4,
        metavar="Z",
        help="the paper's rule, to stand beside: keep units of at least this share of a layer's "
        "highest mean activation (default: 0.4)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default: 0)")
    parser.add_argument(
        "--epochs", type=int, metavar="N", help="epochs of training (default: by size of the data)"
    )


def run(given: Namespace) -> None:
    """Run the demo and print what came of it."""
    with screen.working(given, "starting TensorFlow"):
        start_backend(OURS)
        reading.import_modules(given)
        from keras_nns.demo import run_demo

    done = run_demo(
        given.dataset,
        output=given.output,
        model=given.model,
        zeta=given.zeta,
        seed=given.seed,
        epochs=given.epochs,
        overwrite=given.overwrite,
        unsafe=given.unsafe,
        verbose=not given.quiet,
    )
    if not given.quiet:
        _show(done, given.output)


def _show(done: Demo, folder: str) -> None:
    (merged,) = done.contest.of("merged").values()
    held_out = merged.comparisons["float32"].after.samples
    screen.result(
        f"Networks of {done.contest.parent.model.name}, each judged as a .tflite file on "
        f"{held_out:,} held-out samples of {done.data.name}:"
    )
    screen.table(done.contest.to_table())
    what = "with pictures" if done.still else "to be played with in a browser"
    screen.result(f"\nThe whole story, {what}: {folder}/report.html")
    if done.still:
        screen.result(done.still)
    screen.result(
        "next, with a model and data of your own:\n  keras-nns extract MODEL DATA --label L "
        "--budget 60kB --quantize int8 -o L.tflite"
    )
