"""`keras-nns select`: choose which units stay for which labels."""

from __future__ import annotations

import argparse
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from keras_nns.cli import arguments, reading, screen
from keras_nns.cli.quiet import start_backend
from keras_nns.errors import SelectionError

if TYPE_CHECKING:
    from keras_nns.observation.activity import Activity
    from keras_nns.plans.keep_rules import KeepRule
    from keras_nns.selection.activations import Score

EXAMPLE = """\
keras-nns select nns_demo/activity.npz --label 3 -o three.json
keras-nns select nns_demo/activity.npz --label 3 --label 8 --fraction 0.25 -o two.json
keras-nns select nns_demo/activity.npz --each --score mean_activation --zeta 0.4 -o papers_rule"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "select",
        run,
        help="choose which units stay for which labels",
        example=EXAMPLE,
    )
    parser.add_argument("activity", metavar="ACTIVITY", help="a file that observe wrote")
    arguments.add_output(parser, "plan (.json), or with --each the folder of plans")
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument(
        "--label", action="append", metavar="L", help="a label's name or number; may be repeated"
    )
    labels.add_argument("--each", action="store_true", help="one plan for each label, in a folder")
    labels.add_argument("--all", action="store_true", help="one plan for all labels")
    parser.add_argument(
        "--score",
        choices=(*arguments.SCORES, *arguments.WEIGHT_SCORES),
        help="how much a label needs a unit (default: contrast, what tells it from the rest; with "
        "--zeta mean_activation, which is the paper's rule)",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help=f"the observed model, for the scores of weights: {', '.join(arguments.WEIGHT_SCORES)}",
    )
    arguments.add_own_code(parser)
    add_rule(parser)
    parser.add_argument(
        "--group",
        action="append",
        metavar="G",
        help="choose in this unit group alone, with * and ? as '*:hidden'; may be repeated; all "
        "others stay whole",
    )
    parser.add_argument(
        "--min-units",
        type=int,
        default=1,
        metavar="N",
        help="keep at least so many units of every group (default: 1)",
    )
    parser.add_argument(
        "--multiple-of",
        type=int,
        default=1,
        metavar="N",
        help="round what is kept of every layer up to a multiple of N (default: 1)",
    )


def add_rule(parser: argparse.ArgumentParser) -> None:
    """Add the ways to say which scores stay."""
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--keep", metavar="RULE", help='a rule in words: "above(0.4)", "top(8)", …')
    rule.add_argument(
        "--zeta",
        type=float,
        metavar="Z",
        help="keep units of at least this share of the layer's highest score (the paper: 0.4)",
    )
    rule.add_argument("--top", type=int, metavar="K", help="keep the K best units of each layer")
    rule.add_argument(
        "--fraction",
        type=float,
        metavar="P",
        help="keep this share of each layer's units (default: 0.5)",
    )
    parser.add_argument(
        "--scope",
        choices=("layer", "global"),
        help="apply the rule to each layer (default) or to the network as a whole",
    )
    parser.add_argument(
        "--normalise",
        choices=arguments.NORMS,
        help="divide each layer's scores by their size before --scope global compares them",
    )


def run(given: Namespace) -> None:
    """Select and write the plan or plans."""
    rule = rule_of(given)
    start_backend()
    from keras_nns.observation.activity import Activity
    from keras_nns.selection.choosing import select

    if given.score in arguments.WEIGHT_SCORES and given.model is None:
        raise SelectionError(
            f"--score {given.score} reads weights: pass the observed model as --model."
        )
    if given.each:
        _run_each(given, rule)
        return
    output = reading.free_output(given, ".json")
    activity = Activity.load(given.activity)
    labels = "all" if given.all else [label_of(activity, text) for text in given.label]
    plan = select(
        activity,
        labels,
        score=_score(given),
        keep=rule,
        groups=given.group,
        min_units=given.min_units,
        multiple_of=given.multiple_of,
    )
    plan.save(output, overwrite=given.overwrite)
    screen.remark(given, f"{output}: {plan}")


def _run_each(given: Namespace, rule: KeepRule | None) -> None:
    from keras_nns.files.folders import replacing_folder, safe_names
    from keras_nns.observation.activity import Activity
    from keras_nns.selection.choosing import select

    with replacing_folder(given.output, made=["*.json"], overwrite=given.overwrite) as folder:
        activity = Activity.load(given.activity)
        plans = select(
            activity,
            "each",
            score=_score(given),
            keep=rule,
            groups=given.group,
            min_units=given.min_units,
            multiple_of=given.multiple_of,
        )
        names = [f"{name}.json" for name in safe_names(activity.label_names)]
        for name, plan in zip(names, plans, strict=True):
            plan.save(folder / name)
    for name, plan in zip(names, plans, strict=True):
        screen.remark(given, f"{given.output}/{name}: {plan}")


def _score(given: Namespace) -> Score | None:
    from keras_nns.selection.naming import as_score

    if given.score is None:
        return None
    weighs = given.score in arguments.WEIGHT_SCORES
    return as_score(given.score, reading.model(given, given.model) if weighs else None)


def rule_of(given: Namespace) -> KeepRule | None:
    """Return the keep rule that the arguments say; None where they say none.

    Raises:
        SelectionError: There is no such rule, or its number makes no sense.
    """
    from keras_nns.plans import keep_rules as keep

    where: dict[str, Any] = {"scope": given.scope or "layer", "normalise": given.normalise}
    if given.top is not None:
        return keep.top(given.top, **where)
    if given.fraction is not None:
        return keep.fraction(given.fraction, **where)
    if given.zeta is not None:
        return keep.above(given.zeta, **where)
    if given.keep is not None:
        return keep.named_rule(given.keep, scope=given.scope, normalise=given.normalise)
    return keep.fraction(0.5, **where) if given.scope or given.normalise else None


def label_of(activity: Activity, text: str) -> int | str:
    """Read a label: a name where there is one, else a number."""
    return int(text) if text not in activity.label_names and text.isdecimal() else text
