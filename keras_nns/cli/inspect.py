"""`keras-nns inspect`: what of a model can be cut, what a unit costs, and what is protected."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns inspect nns_demo/parent.keras
keras-nns inspect model.keras --npu ethos-u55-128
keras-nns inspect model.keras --json"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "inspect",
        run,
        help="list what of a model can be cut, what each unit costs, and what is protected",
        description="List the unit groups of a model: which layers lose units together, how many "
        "of them can be cut, parameters and multiply-adds that leave with one unit, and why the "
        "others must stay.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    parser.add_argument(
        "--npu",
        metavar="TARGET",
        help="an NPU whose compiler is asked which groups stand just behind a step of it, such as "
        "ethos-u55-128",
    )
    arguments.add_json(parser)


def run(given: Namespace) -> None:
    """Trace the model and print its unit groups."""
    with screen.working(given, "loading") as tell:
        model = reading.model(given, given.model)
        from keras_nns.extraction.inspecting import inspect

        if given.npu is not None:
            tell("asking the NPU's compiler")
        found = inspect(model, target=given.npu)
    screen.figures(given, found, found.to_table())
