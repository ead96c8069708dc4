"""`keras-nns merge`: unite the plans of several labels."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns merge nns_demo/plans/3.json nns_demo/plans/8.json -o three_eight.json
keras-nns cut nns_demo/parent.keras three_eight.json --head labels -o three_or_eight.keras"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "merge",
        run,
        help="unite the plans of several labels into one",
        description="Unite plans of one parent: keep every unit that one of them keeps.",
        example=EXAMPLE,
    )
    parser.add_argument("plans", nargs="+", metavar="PLAN", help="files that select or merge wrote")
    arguments.add_output(parser, "plan (.json)")


def run(given: Namespace) -> None:
    """Merge and write the plan."""
    from keras_nns.plans.kept_units import Plan, union

    output = reading.free_output(given, ".json")
    plan = union([Plan.load(path) for path in given.plans])
    plan.save(output, overwrite=given.overwrite)
    screen.remark(given, f"{output}: {plan}")
