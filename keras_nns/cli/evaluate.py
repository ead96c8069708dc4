"""`keras-nns evaluate`: the honest figures of a model, alone or beside its parent."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from keras_nns.cli import arguments, cut, reading, screen
from keras_nns.errors import DataError

if TYPE_CHECKING:
    from keras_nns.figures import Evaluation

EXAMPLE = """\
keras-nns evaluate nns_demo/subnetworks/3.keras digits --against nns_demo/parent.keras
keras-nns evaluate 0.keras digits --with 1.keras --with 2.keras --calibrate-on digits
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
        "--with",
        dest="others",
        action="append",
        default=[],
        metavar="MODEL",
        help="a subnetwork for other labels, to compose with the first one and judge them as one "
        "network; may be given several times",
    )
    parser.add_argument(
        "--calibrate-on",
        metavar="DATA",
        help="training data that the scores of composed subnetworks are calibrated on",
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
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(given: Namespace) -> None:
    """Evaluate and print the figures."""
    with screen.working(given, "loading"):
        model = reading.model(given, given.model)
        parent = None if given.against is None else reading.model(given, given.against)
        others = [reading.model(given, path) for path in given.others]
        data, label_names = reading.data(given, model, given.data)
        calibration = None
        if given.calibrate_on is not None:
            if not others:
                raise DataError("--calibrate-on is for composed subnetworks. Add them by --with.")
            calibration, _ = reading.data(given, model, given.calibrate_on, part="train")
    from keras_nns.comparison import Comparison, compare
    from keras_nns.evaluation import evaluate

    options: dict[str, Any] = {
        "batch_size": given.batch_size,
        "label_names": label_names,
        "threshold": given.decide_at,
        "output": given.answer,
        "confidence": given.confidence,
        "allow_overlap": given.allow_overlap,
    }
    if others:
        from keras_nns.composing import compose

        with screen.working(given, "composing"):
            model = compose([model, *others], calibration, label_names=label_names)
    found: Evaluation | Comparison
    with screen.working(given, "evaluating"):
        if parent is None:
            found = evaluate(model, data, **options)
        else:
            found = compare(parent, model, data, **options)
    if given.json:
        screen.result(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        return
    screen.table(found.to_table())
    if isinstance(found, Comparison):
        screen.table(found.to_costs_table())
    judged = found.after if isinstance(found, Comparison) else found
    if judged.unseen:
        screen.table(judged.to_unseen_table())
