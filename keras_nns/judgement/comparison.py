"""Put a subnetwork beside its parent, and beside other models, on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
from numpy.typing import NDArray

from keras_nns.data.labels import answers_labels
from keras_nns.data.outputs import of_output
from keras_nns.data.sketch import Sketcher
from keras_nns.data.texts import are_kinds
from keras_nns.errors import SelectionError
from keras_nns.graph import costs
from keras_nns.graph.tracing import trace
from keras_nns.judgement.alongside import compare_alongside
from keras_nns.judgement.compared import Beside, Comparison
from keras_nns.judgement.evaluation import Labels, wanted_labels
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.leakage import Guard
from keras_nns.judgement.perplexity import MOST_TEXTS, perplexity, refuse_for_texts
from keras_nns.judgement.points import operating_point
from keras_nns.judgement.question import Question, ask, listed, question_of, reply
from keras_nns.judgement.replies import judge
from keras_nns.judgement.tallies import Reported
from keras_nns.observation.forward import Ran, parents_batches, run, settle_labels
from keras_nns.observation.next_token import foretells
from keras_nns.surgery.lineage import Lineage, answering_output, balanced_decisions, origin_of
from keras_nns.surgery.operating_points import OperatingPoint


def compare(
    parent: keras.Model,
    subnet: keras.Model,
    data: Any,
    y: Any = None,
    *,
    beside: Mapping[str, keras.Model] | None = None,
    calibrate: Any = None,
    labels: Labels = None,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    threshold: float | None = None,
    output: str | None = None,
    multi_label: bool | None = None,
    confidence: float | None = None,
    seed: int = 0,
    allow_overlap: bool = False,
    parent_tflite_bytes: int | None = None,
    tflite_bytes: int | None = None,
) -> Comparison | Any:
    """Judge a subnetwork beside its parent, on the same data in one pass.

    All are asked the same question. Where the subnetwork answers only its own labels, so does the
    parent: it decides among them alone. Where it answers "other" or yes/no, the parent's
    probabilities are summed as the subnetwork's head sums them. So what differs is the cut.

    Where the answers become decisions is no part of the cut, and must not differ: a head that was
    set for balanced accuracy beats any parent that decides at 0.5. With `calibrate` all models get
    their operating points there, on the same samples: one yes or no and answers that are decided by
    themselves at the best balanced accuracy, and answers that exclude each other weighing alike.
    Without, all decide as they are, but for a subnetwork whose own decisions were set for balanced
    accuracy: its parent then decides at its best point on the samples that were set on, which the
    subnetwork remembers. The tables say where each decided. An AUC does not depend on it.

    Language models and the kind of each text give the perplexities of `"parent"`, `"subnetwork"`
    and those beside them, as `perplexity` does.

    Args:
        parent: The parent model.
        subnet: A subnetwork of it, from `cut`, repaired or trained further or not; or what
            `compose` made of several.
        data: Held-out data with the parent's labels, as `keras_nns.observe` takes it.
        y: Labels, when `data` is inputs alone.
        beside: Further models by name that answer the same question: one of the same shape that
            `from_scratch` trained, or the subnetwork before its repair.
        calibrate: Samples to set the operating points of all models on, in any form of `data`, such
            as the part of `split` of that name: `(x, y)`. None of them may be in `data`.
        labels: Labels to report; by default those the subnetwork was made for.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label of the parent, in the order of its outputs.
        threshold: As in `evaluate`, for all models, in place of any other operating point.
        output: Name of the parent's output that answers the labels, for a model with several.
        multi_label: As in `evaluate`.
        confidence: As in `evaluate`; every model is judged on the same resamples.
        seed: As in `evaluate`.
        allow_overlap: As in `evaluate`.
        parent_tflite_bytes: Size of the parent's `.tflite` file.
        tflite_bytes: Size of the subnetwork's `.tflite` file.

    Raises:
        DataError: The data does not fit the models, or one gives NaN or infinity; or the
            subnetwork was made from the same samples.
        SelectionError: A label in `labels` is none that the subnetwork answers, or a model in
            `beside` answers something else than the subnetwork.
        ModelError: The models have several outputs and `output` is missing or unknown; or the
            parent has no graph to read.

    Example:
        >>> told = nns.compare(model, three, x_test, y_test)
        >>> told.before[3].recall, told.after[3].recall
        (0..., 0...)
        >>> told.before[3].specificity, told.after[3].specificity
        (0.9..., 0.9...)
    """
    if foretells(parent) and are_kinds(data, y):
        told = {"labels": labels, "threshold": threshold, "multi_label": multi_label}
        refuse_for_texts("compare", told | {"calibrate": calibrate})
        return perplexity(
            {"parent": parent, "subnetwork": subnet, **(beside or {})},
            data,
            y,
            label_names=label_names,
            output=output,
            batch_size=min(batch_size, MOST_TEXTS),
            confidence=confidence,
            seed=seed,
            allow_overlap=allow_overlap,
        )
    origin = origin_of(subnet)
    if isinstance(origin, Lineage) and origin.taught:
        raise SelectionError(
            f"Model {subnet.name!r} was taught other labels than {parent.name!r} has "
            f"({listed(origin.label_names)}), so the two cannot be asked the same. Judge it alone, "
            "with evaluate."
        )
    if threshold is not None and calibrate is not None:
        raise SelectionError(
            "Both threshold and calibrate say where to decide. Pass one of them. Received: "
            f"threshold={threshold!r} and data to calibrate on."
        )

    opened = partial(
        parents_batches,
        parent,
        origin,
        batch_size=batch_size,
        label_names=label_names,
        output=output,
    )
    batches = opened(data, y)
    names, others = batches.label_names, dict(beside or {})
    parents_output = output or answering_output(parent, origin)
    ours = [subnet, *others.values()]
    asked_of = [(model, output or answering_output(model, origin_of(model))) for model in ours]
    everyone = [(parent, parents_output), *asked_of]
    guard = Guard(ours, allow_overlap=allow_overlap)
    kind = batches.kind if batches.kind != "labels" else None
    if kind or not answers_labels(of_output(parent, parents_output), len(names)):
        if calibrate is not None:
            raise SelectionError(
                "calibrate sets where labels of samples are decided, and the models answer none "
                "here. Leave it out."
            )
        wanted = wanted_labels(labels, origin)
        return compare_alongside(
            everyone[0],
            dict(zip(["subnetwork", *others], asked_of, strict=True)),
            guard.watch(batches),
            kind,
            Reported(subnet.name, names, wanted, confidence, seed),
            threshold=threshold,
            tflite_bytes=(parent_tflite_bytes, tflite_bytes),
        )
    setting: Ran | None = None
    if calibrate is not None:
        sketcher = Sketcher()
        setting = run(everyone, sketcher.watch(opened(calibrate, None)))
        guard.know("points are set on, as calibrate", sketcher.seen())
    ran = run(everyone, guard.watch(batches), judged=True)
    return compare_outputs(
        parent,
        subnet,
        ran,
        label_names=names,
        beside=others,
        setting=setting,
        labels=labels,
        threshold=threshold,
        output=parents_output,
        multi_label=multi_label,
        confidence=confidence,
        seed=seed,
        parent_tflite_bytes=parent_tflite_bytes,
        tflite_bytes=tflite_bytes,
    )


def compare_outputs(
    parent: keras.Model,
    subnet: keras.Model,
    ran: Ran,
    *,
    label_names: Sequence[str],
    beside: Mapping[str, keras.Model] | None = None,
    setting: Ran | None = None,
    labels: Labels = None,
    threshold: float | None = None,
    output: str | None = None,
    multi_label: bool | None = None,
    confidence: float | None = None,
    seed: int = 0,
    parent_tflite_bytes: int | None = None,
    tflite_bytes: int | None = None,
) -> Comparison:
    """Judge a subnetwork beside its parent by what both gave; see `compare`.

    Args:
        parent: The parent model.
        subnet: A subnetwork of it.
        ran: What parent, subnetwork and those beside it gave, in this order.
        label_names: Names of all the parent's labels.
        beside: As in `compare`.
        setting: What they gave for the samples that points are set on.
        labels: As in `compare`.
        threshold: As in `compare`.
        output: Name of the parent's output that answers the labels, where it has several.
        multi_label: As in `compare`.
        confidence: As in `compare`.
        seed: As in `compare`.
        parent_tflite_bytes: As in `compare`.
        tflite_bytes: As in `compare`.
    """
    origin, names, others = origin_of(subnet), label_names, dict(beside or {})
    ours = [subnet, *others.values()]
    theirs, own, *rest = ran.outputs
    truth, several = settle_labels(ran.labels, len(names), multi_label)
    question = question_of(origin, names, own.shape[1], subnet.name)
    whole = question_of(None, names, theirs.shape[1], parent.name)
    wanted = wanted_labels(labels, origin)
    kind = trace(parent).output(output).kind
    balanced = [balanced_decisions(origin_of(model)) for model in ours]
    points: list[OperatingPoint | None] = [None] * (1 + len(ours))
    if setting is not None:
        known, _ = settle_labels(setting.labels, len(names), several)
        right = question.truth(known)
        outputs = [ask(question, setting.outputs[0], kind), *setting.outputs[1:]]
        points = [
            operating_point(right, values, several=several, weights=setting.weights)
            for values in outputs
        ]
    elif threshold is None and balanced[0] is not None:
        points[0] = balanced[0].parent

    def judged(
        model: keras.Model, asked: Question, values: NDArray[Any], point: OperatingPoint | None
    ) -> Evaluation:
        answered = reply(
            asked,
            values,
            multi_label=several,
            threshold=threshold,
            point=point,
            balanced=balanced_decisions(origin_of(model)),
        )
        return judge(
            model.name,
            asked,
            answered,
            truth,
            label_names=names,
            wanted=wanted,
            confidence=confidence,
            seed=seed,
            weights=ran.weights,
        )

    if question.head == "parent":
        before = all_labels = judged(parent, whole, theirs, points[0])
    else:
        all_labels = judged(parent, whole, theirs, None)
        before = judged(parent, question, ask(question, theirs, kind), points[0])
    further = []
    for (name, model), values, point in zip(others.items(), rest, points[2:], strict=True):
        asked = question_of(origin_of(model), names, values.shape[1], model.name)
        if asked != question:
            raise SelectionError(
                f"{name!r} answers {listed(asked.answers)} and the subnetwork "
                f"{listed(question.answers)}. Pass models with the same head and labels."
            )
        cost = costs.measure(model, inputs=ran.inputs)
        further.append(Beside(name, judged(model, question, values, point), cost))
    told = ("the subnetwork", *others)
    unequal = () if points[0] is not None or threshold is not None else balanced
    return Comparison(
        before=before,
        after=judged(subnet, question, own, points[1]),
        parent=all_labels,
        parent_costs=costs.measure(parent, inputs=ran.inputs, tflite_bytes=parent_tflite_bytes),
        costs=costs.measure(subnet, inputs=ran.inputs, tflite_bytes=tflite_bytes),
        beside=tuple(further),
        unequal=tuple(name for name, set_ in zip(told, unequal, strict=False) if set_ is not None),
    )
