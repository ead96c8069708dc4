"""`keras-nns graph`: a model and what was cut from it, for Model Explorer."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from keras_nns.cli import arguments, reading, screen

EXAMPLE = """\
keras-nns graph nns_demo/parent.keras nns_demo/plans/3.json -o three.graph.json
keras-nns graph model.keras cat.keras dog.keras -o pets.graph.json"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "graph",
        run,
        help="write a model's graph, removed units marked, for Model Explorer",
        description="Write a model and the networks cut from it as graphs that Model Explorer "
        "opens: each layer named with the units it had and has, coloured by how many are gone.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    parser.add_argument(
        "cuts",
        nargs="+",
        metavar="CUT",
        help="networks that were cut from it (.keras), or plans (.json)",
    )
    arguments.add_output(parser, "graphs (.json)")
    arguments.add_json(parser)


def run(given: Namespace) -> None:
    """Write the graphs, and print what stays of each layer."""
    from keras_nns.plans.kept_units import Plan

    output = reading.free_output(given, ".json")
    plans = {path: Plan.load(path) for path in given.cuts if Path(path).suffix == ".json"}
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        cuts = [plans.get(path) or reading.model(given, path) for path in given.cuts]
    from keras_nns.reporting.graph_view import graph_view

    stems = [Path(path).stem for path in given.cuts]
    view = graph_view(model, *cuts, names=stems if len(set(stems)) == len(stems) else given.cuts)
    view.save(output, overwrite=given.overwrite)
    screen.figures(given, view, view.to_table())
    if not given.json:
        screen.remark(
            given,
            f"{output}: next, pip install ai-edge-model-explorer and model-explorer {output}",
        )
