"""Judge parent and subnetworks side by side where answers are no labels of samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import keras

from keras_nns.data.batches import Batch
from keras_nns.data.targets import Kind
from keras_nns.errors import SelectionError
from keras_nns.graph import costs
from keras_nns.judgement.compared import Beside, Comparison
from keras_nns.judgement.question import Question, ask, listed, question_of, whole_question
from keras_nns.judgement.tallies import Reported, Tally, output_of, tally
from keras_nns.observation.forward import Answering, Asked, passed
from keras_nns.surgery.lineage import Lineage, balanced_decisions, origin_of


def refuse_other_questions(question: Question, others: Mapping[str, Question]) -> None:
    """Refuse models that answer something else than a subnetwork.

    Args:
        question: What the subnetwork answers.
        others: What the others answer, by name.

    Raises:
        SelectionError: One does.
    """
    for name, other in others.items():
        if other != question:
            raise SelectionError(
                f"{name!r} answers {listed(other.answers)} and the subnetwork "
                f"{listed(question.answers)}. Pass models with the same head and labels."
            )


def compare_alongside(
    parent: Asked,
    ours: Mapping[str, Asked],
    batches: Iterable[Batch],
    kind: Kind | None,
    told: Reported,
    *,
    threshold: float | None = None,
    tflite_bytes: tuple[int | None, int | None] = (None, None),
    files: Mapping[str, Answering] | None = None,
) -> Comparison:
    """Judge models by targets of positions or by numbers; or by how near they are to the parent.

    Args:
        parent: The parent.
        ours: The subnetwork first, then further models that answer the same, by name.
        batches: The data.
        kind: What the targets are; None where the data has none that the parent answers. Then what
            the parent answers is the target.
        told: What is reported.
        threshold: As in `evaluate`.
        tflite_bytes: Sizes of the `.tflite` files of parent and subnetwork.
        files: What answers in place of some of `ours`, by name.

    Raises:
        DataError: The data does not fit a model, or a model gives NaN or infinity.
        SelectionError: A model answers something else than the subnetwork.
    """
    names = told.label_names
    width, meaning = output_of(*parent)
    asked: list[Question | None] = [None] * len(ours)
    whole = None
    if kind == "positions":
        whole = whole_question(names)
        asked = [
            question_of(origin_of(model), names, output_of(model, output)[0], model.name)
            for model, output in ours.values()
        ]
        question_of(None, names, width, parent[0].name)
    question = asked[0]
    # Where the parent's answers are the targets, those that the subnetwork is asked for are.
    narrow = [_narrowed(*one) if kind is None else None for one in ours.values()]
    for first_one, others in ((question, asked), (narrow[0], narrow)):
        if first_one is not None:
            refuse_other_questions(
                first_one, {name: other for name, other in zip(ours, others, strict=True) if other}
            )

    def started(model: keras.Model, question: Question | None, *, theirs: bool = False) -> Tally:
        return tally(
            kind,
            replace(told, model=model.name),
            question,
            meaning=meaning,
            threshold=threshold,
            balanced=balanced_decisions(origin_of(model)),
            asked=theirs,
        )

    narrowed = question is not None and question.head != "parent"
    before = started(parent[0], question, theirs=narrowed)
    all_labels = started(parent[0], whole) if narrowed else before
    tallies: Sequence[Tally] = [
        started(model, one) for (model, _), one in zip(ours.values(), asked, strict=True)
    ]
    first = None
    running: dict[str, Asked | Answering] = {**ours, **(files or {})}
    for batch, (theirs, *rest) in passed([parent, *running.values()], batches):
        first = batch.inputs if first is None else first
        known, parents = batch, theirs
        if kind is None:
            if narrow[0] is not None:
                rows = ask(narrow[0], theirs.reshape(-1, width), meaning)
                parents = rows.reshape(*theirs.shape[:-1], -1)
            known = replace(batch, targets=parents)
        before.add(parents, known)
        if all_labels is not before:
            all_labels.add(theirs, known)
        for one, outputs in zip(tallies, rest, strict=True):
            one.add(outputs, known)
    judged = before.evaluation()
    after, *further = (one.evaluation() for one in tallies)
    sizes = [*tflite_bytes, *(None for _ in further)]
    models = [parent[0], *(model for model, _ in ours.values())]
    parent_costs, own_costs, *rest_costs = (
        costs.measure(model, inputs=first, tflite_bytes=size)
        for model, size in zip(models, sizes, strict=True)
    )
    beside = zip([*ours][1:], further, rest_costs, strict=True)
    return Comparison(
        before=judged,
        after=after,
        parent=judged if all_labels is before else all_labels.evaluation(),
        parent_costs=parent_costs,
        costs=own_costs,
        beside=tuple(Beside(*one) for one in beside),
    )


def _narrowed(model: keras.Model, output: str | None) -> Question | None:
    """Return what a subnetwork answers in place of its parent's labels; None where it is these."""
    record = origin_of(model)
    if not isinstance(record, Lineage) or record.taught or record.head == "parent":
        return None
    return question_of(record, record.plan.label_names, output_of(model, output)[0], model.name)
