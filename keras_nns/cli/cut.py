"""`keras-nns cut`: build the smaller model that a plan describes."""

from __future__ import annotations

import argparse
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nns.cli import arguments, reading, screen

if TYPE_CHECKING:
    from keras_nns.plans.kept_units import Plan

EXAMPLE = """\
keras-nns cut nns_demo/parent.keras nns_demo/plans/3.json -o three.keras
keras-nns cut nns_demo/parent.keras nns_demo/plans/3.json --head binary -o is_three.keras"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "cut",
        run,
        help="build the smaller model that a plan describes, and prove it exact",
        description="Build the smaller model that a plan describes, and prove that it computes "
        "what the parent computes with the removed units forced to zero.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    parser.add_argument("plan", metavar="PLAN", help="a file that select or merge wrote")
    arguments.add_output(parser, "model (.keras)")
    add_head(parser)
    parser.add_argument(
        "--no-prove", dest="prove", action="store_false", help="leave the proof out"
    )
    parser.add_argument(
        "--simplify",
        action="store_true",
        help="also leave out units and branches that became constant",
    )
    parser.add_argument(
        "--allow-empty",
        action="store_true",
        help="accept a plan that keeps nothing of a layer, where the signal goes round it, and "
        "remove what becomes constant (a whole residual block)",
    )


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add what the new model answers, and whether an older plan will do."""
    arguments.add_head(
        parser,
        "what the new model answers: all the parent's labels (parent, the default), the "
        "plan's alone (labels), those and one more for the rest (other), or yes/no (binary)",
        default="parent",
    )
    add_answer(parser)
    parser.add_argument(
        "--retrained",
        action="store_true",
        help="accept a parent that was trained further since the plan was made",
    )


def add_answer(parser: argparse.ArgumentParser) -> None:
    """Add which of several outputs answers the labels."""
    parser.add_argument(
        "--answer",
        metavar="NAME",
        help="name of the output that answers the labels, where the model has several",
    )


def run(given: Namespace) -> None:
    """Cut, prove and write the model."""
    from keras_nns.plans.kept_units import Plan

    output = reading.free_output(given, ".keras")
    plan = Plan.load(given.plan)
    with ExitStack() as stack:
        with screen.working(given, "opening"):
            parent = stack.enter_context(reading.opened(given, given.model))
        _cut(given, parent, plan, output)


def _cut(given: Namespace, parent: Any, plan: Plan, output: Path) -> None:
    from keras_nns import tables
    from keras_nns.errors import ProofError
    from keras_nns.graph import costs
    from keras_nns.surgery.cutting import cut, prove
    from keras_nns.surgery.lineage import save_model

    how = {
        "head": given.head,
        "output": given.answer,
        "retrained": given.retrained,
        "simplify": given.simplify,
        "allow_empty": given.allow_empty,
    }
    with screen.working(given, "cutting and proving"):
        small = cut(parent, plan, **how)
        proof = prove(parent, plan, **how) if given.prove else None
    if proof is not None and not proof.exact:
        raise ProofError(f"Not written: the cut is {proof}. Please report this model.")
    save_model(small, output, overwrite=given.overwrite)
    before, after = costs.parameters(parent), costs.parameters(small)
    screen.remark(
        given,
        f"{output}: {plan}; {after:,} of {before:,} parameters ({tables.ratio(after, before)})",
    )
    screen.remark(given, "not proven" if proof is None else str(proof))
