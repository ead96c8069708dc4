"""`keras-nns add`: make one activity of those of shards."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns observe model.keras data.npz --shard 1/2 -o part1.npz
keras-nns observe model.keras data.npz --shard 2/2 -o part2.npz
keras-nns add part1.npz part2.npz -o activity.npz"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "add",
        run,
        help="make one activity of those of shards, or of several data sets",
        description="Add the activities, or the gradients, of all shards of one data set, in any "
        "order; or of several data sets that one model was watched on. Every part is checked "
        "before anything is added.",
        example=EXAMPLE,
    )
    parser.add_argument(
        "parts", nargs="+", metavar="PART", help="files that observe, add or Gradients.save wrote"
    )
    arguments.add_output(parser, "activity file (.npz)")
    parser.add_argument(
        "--incomplete", action="store_true", help="add what there is, though shards are missing"
    )
    parser.add_argument(
        "--other-data",
        action="store_true",
        help="add shards of several data sets, or of one that came in another order each time",
    )


def run(given: Namespace) -> None:
    """Add and write the activity."""
    from keras_nns.observation.adding import add as add_up

    output = reading.free_output(given, ".npz")
    activity = add_up(given.parts, incomplete=given.incomplete, other_data=given.other_data)
    activity.save(output, overwrite=given.overwrite)
    screen.remark(given, f"{output}: {activity}")
