"""`keras-nns evaluate`: the honest figures of a model, alone or beside its parent."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nns.cli import arguments, cut, reading, screen
from keras_nns.errors import SelectionError

if TYPE_CHECKING:
    from keras_nns.judgement.figures import Evaluation

EXAMPLE = """\
keras-nns evaluate nns_demo/subnetworks/3.keras digits --against nns_demo/parent.keras
keras-nns evaluate 3.keras digits --against parent.keras --beside from_scratch.keras
keras-nns evaluate model.keras photos/test --json"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "evaluate",
        run,
        help="judge a model on held-out data, alone or beside its parent",
        description="Judge a model on data that it was not made from: recall, specificity, "
        "precision, balanced accuracy, AUC, average precision and calibration of each label. "
        "Samples that a subnetwork was observed or repaired with are refused.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_data(parser, part="test")
    parser.add_argument(
        "--against", metavar="PARENT", help="the parent, to stand beside it and be asked the same"
    )
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="MODEL",
        help="a further model that answers the same question, to stand beside both; with "
        "--against; may be given several times",
    )
    parser.add_argument(
        "--decide-at",
        type=float,
        metavar="T",
        help="where a yes/no output counts as yes (default: 0.5, for probabilities)",
    )
    arguments.add_confidence(parser)
    arguments.add_overlap(parser)
    cut.add_answer(parser)
    arguments.add_json(parser)


def run(given: Namespace) -> None:
    """Evaluate and print the figures."""
    if given.beside and given.against is None:
        raise SelectionError("--beside puts models beside a parent. Name it with --against.")
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        parent = None if given.against is None else reading.model(given, given.against)
        stems = [Path(path).stem for path in given.beside]
        names = given.beside if len(set(stems)) < len(stems) else stems
        models = [reading.model(given, path) for path in given.beside]
        beside = dict(zip(names, models, strict=True))
        data, label_names = reading.data(given, model, given.data)
    from keras_nns.judgement.compared import Comparison
    from keras_nns.judgement.comparison import compare
    from keras_nns.judgement.evaluation import evaluate

    options: dict[str, Any] = {
        "batch_size": given.batch_size,
        "label_names": label_names,
        "threshold": given.decide_at,
        "output": given.answer,
        "confidence": given.confidence,
        "allow_overlap": given.allow_overlap,
    }
    found: Evaluation | Comparison
    with screen.working(given, "evaluating"):
        if parent is None:
            found = evaluate(model, data, **options)
        else:
            found = compare(parent, model, data, beside=beside, **options)
    tables = [found.to_table()]
    if isinstance(found, Comparison):
        tables.append(found.to_costs_table())
    judged = found.after if isinstance(found, Comparison) else found
    if judged.unseen:
        tables.append(judged.to_unseen_table())
    screen.figures(given, found, *tables)
