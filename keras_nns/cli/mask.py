"""`keras-nns mask`: the same plan on the full-size model."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, cut, reading, screen

EXAMPLE = "keras-nns mask nns_demo/parent.keras nns_demo/plans/3.json -o masked.keras"


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "mask",
        run,
        help="force a plan's removed units to zero in the full-size model",
        description="Force the units that a plan removes to zero in the full-size model: the "
        "paper's own operation, as slow and big as the parent, and what cut is proven against.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    parser.add_argument("plan", metavar="PLAN", help="a file that select or merge wrote")
    arguments.add_output(parser, "model (.keras)")
    cut.add_head(parser)


def run(given: Namespace) -> None:
    """Mask and write the model."""
    from keras_nns.plans.kept_units import Plan

    output = reading.free_output(given, ".keras")
    plan = Plan.load(given.plan)
    with screen.working(given, "loading"):
        parent = reading.model(given, given.model)
    from keras_nns.surgery.cutting import mask
    from keras_nns.surgery.lineage import save_model

    how = {"head": given.head, "output": given.answer, "retrained": given.retrained}
    masked = mask(parent, plan, **how)
    save_model(masked, output, overwrite=given.overwrite)
    screen.remark(given, f"{output}: {plan}; the others forced to zero")
