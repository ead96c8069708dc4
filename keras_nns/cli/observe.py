"""`keras-nns observe`: watch which units fire for which label."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from keras_nns.cli import arguments, cut, on_ray, reading, screen

EXAMPLE = """\
keras-nns observe nns_demo/parent.keras digits -o activity.npz
keras-nns observe model.keras photos/train -o activity.npz --statistics fired,mean,variance
keras-nns observe model.keras photos/train --shard 2/8 -o part2.npz
keras-nns observe model.keras s3://photos/train.parquet --ray --x image --y label -o activity.npz"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "observe",
        run,
        help="watch which units fire for which label",
        description="Watch which units of every hidden layer fire for which label, in one pass "
        "over the data.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_data(parser, part="train")
    arguments.add_output(parser, "activity file (.npz)")
    parser.add_argument(
        "--layers",
        type=arguments.names,
        metavar="A,B,…",
        help="layers to watch (default: all hidden layers with units)",
    )
    parser.add_argument(
        "--statistics",
        type=arguments.names,
        default=["fired", "mean"],
        metavar="A,B,…",
        help=f"some of {', '.join(arguments.STATISTICS)} (default: fired,mean)",
    )
    cut.add_answer(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="T",
        help="a unit fired where its absolute value is above this (default: 0)",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="keep what was seen so far here; a run that was stopped goes on from it",
    )
    parser.add_argument(
        "--memory",
        default="auto",
        metavar="SIZE",
        help="how much may be held for what is gathered, such as 2GB: layers that take more "
        "together are watched in several passes over the data (default: 512MB; one pass with "
        "--checkpoint)",
    )
    parser.add_argument(
        "--shard",
        type=arguments.shard,
        metavar="I/N",
        help="see the I-th of N shards of the data, counted from 1; `keras-nns add` adds them",
    )
    on_ray.add(parser)


def run(given: Namespace) -> None:
    """Observe and write the activity."""
    output = reading.free_output(given, ".npz")
    on_ray.check(given)
    if given.ray:
        activity = on_ray.observe(given)
        activity.save(output, overwrite=given.overwrite)
        screen.remark(given, f"{output}: {activity}")
        return
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        data, label_names = reading.data(given, model, given.data)
    from keras_nns.observation.streaming import observe

    activity = observe(
        model,
        data,
        layers=given.layers,
        statistics=given.statistics,
        threshold=given.threshold,
        batch_size=given.batch_size,
        label_names=label_names,
        output=given.answer,
        verbose=False if given.quiet else "auto",
        checkpoint=given.checkpoint,
        keep_checkpoint=True,
        shard=given.shard,
        memory=given.memory,
    )
    activity.save(output, overwrite=given.overwrite)
    if given.checkpoint:
        Path(given.checkpoint).unlink(missing_ok=True)
    screen.remark(given, f"{output}: {activity}")
