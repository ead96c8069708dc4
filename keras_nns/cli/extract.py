"""`keras-nns extract`: the subnetwork for some labels that a budget allows."""

from __future__ import annotations

import argparse
from argparse import Namespace
from typing import Any

from keras_nns.cli import arguments, cut, reading, screen

EXAMPLE = """\
keras-nns extract nns_demo/parent.keras digits --label 3 --budget 12kB -o three.keras
keras-nns extract model.keras photos --label cat --budget drop=0.01 --epochs 1 -o cat.keras"""

SCORES = ("reconstruction", "contrast", "mean_activation", "firing_frequency")


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "extract",
        run,
        help="make the network for some labels that a budget allows, in one go",
        description="Observe a model once, choose the units that a budget allows for some labels, "
        "cut, repair, and judge on samples held out: observe, select, cut and evaluate in one.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_data(parser, part="train")
    arguments.add_output(parser, "model (.keras)")
    parser.add_argument(
        "--budget",
        required=True,
        metavar="B",
        help="what it may cost: 60kB or 60KiB of .tflite, parameters=20k, macs=1M, "
        "activation-memory=32KiB, latency-ms=0.5, or drop=0.01 of balanced accuracy",
    )
    add_making(parser)


def add_making(parser: argparse.ArgumentParser) -> None:
    """Add how networks are made, for `extract` and `sweep`."""
    arguments.add_labels(parser)
    arguments.add_head(
        parser,
        "what the network answers (default: binary for one label, other for several)",
        default=None,
    )
    cut.add_answer(parser)
    parser.add_argument(
        "--score",
        choices=(*SCORES, *arguments.WEIGHT_SCORES),
        help="how much the labels need a unit (default: reconstruction, what the decision loses "
        "without it when the rest is refitted)",
    )
    parser.add_argument(
        "--balance",
        choices=("zeta", "share", "cost"),
        help="how layers are compared: by score in shares of the layer's highest, the same share "
        "of every layer, or score for cost (default: cost for reconstruction, else share)",
    )
    parser.add_argument(
        "--no-repair", dest="repair", action="store_false", help="leave the cut as it is"
    )
    parser.add_argument(
        "--epochs",
        type=int,
        default=0,
        metavar="N",
        help="epochs of distillation from the parent behind the repair (default: 0)",
    )
    arguments.add_held_out(parser, "that only the figures are from", default=0.2)
    arguments.add_seed(parser, "which samples those are")
    arguments.add_json(parser)


def opened(given: Namespace) -> tuple[Any, Any, dict[str, Any]]:
    """Load the model and the data; return them and the options of `extract`."""
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        data, label_names = reading.data(given, model, given.data)
    options = {
        "labels": reading.labels_of(given.label, label_names),
        "head": given.head,
        "output": given.answer,
        "score": given.score,
        "balance": given.balance,
        "repair": given.repair,
        "distill_epochs": given.epochs,
        "held_out": given.held_out,
        "seed": given.seed,
        "batch_size": given.batch_size,
        "label_names": label_names,
    }
    return model, data, options


def run(given: Namespace) -> None:
    """Extract, write the model, and print what it costs and is worth."""
    from keras_nns.graph.budgets import parse

    budget = parse(given.budget)
    output = reading.free_output(given, ".keras")
    model, data, options = opened(given)
    from keras_nns.extraction import budgeted
    from keras_nns.surgery.lineage import save_model

    with screen.working(given, "observing, choosing and repairing"):
        found = budgeted.extract(model, data, budget=budget, **options)
    save_model(found.model, output, overwrite=given.overwrite)
    if not given.json:
        screen.remark(given, f"{output}: {found.plan}")
    screen.figures(given, found, found.to_table())
