"""Judge a model on held-out data, alone or beside its parent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from numpy.typing import NDArray

from keras_nns import costs, tables
from keras_nns.costs import Costs
from keras_nns.figures import Evaluation, LabelFigures, judge
from keras_nns.forward import answering_output, parents_batches, run, settle_labels
from keras_nns.graph import trace
from keras_nns.layout import Json
from keras_nns.leakage import Guard
from keras_nns.model_files import Lineage, lineage
from keras_nns.question import Question, ask, question_of, reply

Labels = int | str | Iterable[int | str] | None

_FIGURES: tuple[tuple[str, Callable[[LabelFigures], float]], ...] = (
    ("recall", lambda row: row.recall),
    ("specificity", lambda row: row.specificity),
    ("precision", lambda row: row.precision),
    ("balanced acc.", lambda row: row.balanced_accuracy),
    ("AUC", lambda row: row.auc),
)
_COSTS: tuple[tuple[str, Callable[[Costs], int | None]], ...] = (
    ("parameters", lambda cost: cost.parameters),
    ("multiply-adds", lambda cost: cost.macs),
    ("bytes of weights (float32)", lambda cost: cost.weight_bytes),
    ("bytes of .tflite", lambda cost: cost.tflite_bytes),
)


def evaluate(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Labels = None,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    threshold: float | None = None,
    output: str | None = None,
    multi_label: bool | None = None,
    allow_overlap: bool = False,
) -> Evaluation:
    """Judge a model, or a subnetwork, on data that it was not made from.

    The labels in the data are always the parent's, whatever the subnetwork answers. A subnetwork
    that answers all the parent's labels is judged like its parent. One that answers only the kept
    labels is judged among them: samples of other labels are left out, and counted as such. For one
    that answers "other", every other label is "other"; for one yes/no probability, every sample
    counts.

    Args:
        model: A parent or a subnetwork. Logits are as good as probabilities, but where an output
            is decided by itself, `threshold` must fit them.
        data: Held-out data, as `keras_nns.data.as_batches` takes it.
        y: Labels, when `data` is inputs alone.
        labels: Labels to report, numbers or names. By default those a subnetwork was made for, and
            all of a parent's.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label of the parent, in the order of its outputs.
        threshold: Where an output that is decided by itself counts as yes: the one output of a
            yes/no model, and every output in multi-label data. 0.5 for probabilities.
        output: Name of the output that answers the labels, for a model with several.
        multi_label: Whether a sample can have several labels. By default it is so when a sample of
            the data has not exactly one.
        allow_overlap: Judge a subnetwork even on samples that it was observed, repaired or trained
            with.

    Raises:
        DataError: The data does not fit the model, or the model gives NaN or infinity; or a
            subnetwork was made from the same samples.
        SelectionError: A label in `labels` is none that the model answers.
        ModelError: The model has several outputs and `output` is missing or unknown.

    Example:
        >>> import numpy as np
        >>> net = keras.Sequential([keras.Input((2,)), keras.layers.Softmax()])
        >>> figures = evaluate(net, np.eye(2, dtype="float32"), [0, 1])
        >>> figures.accuracy, figures[1].recall, figures[1].specificity
        (1.0, 1.0, 1.0)
    """
    origin = lineage(model)
    batches = parents_batches(
        model, origin, data, y, batch_size=batch_size, label_names=label_names
    )
    guard = Guard([model], allow_overlap=allow_overlap)
    ran = run([(model, output or answering_output(model, origin))], guard.watch(batches))
    (outputs,), names = ran.outputs, batches.label_names
    question = question_of(origin, names, outputs.shape[1], model.name)
    truth, several = settle_labels(ran.labels, len(names), multi_label)
    answered = reply(question, outputs, multi_label=several, threshold=threshold)
    wanted = wanted_labels(labels, origin)
    return judge(model.name, question, answered, truth, label_names=names, wanted=wanted)


def wanted_labels(labels: Labels, origin: Lineage | None) -> list[int | str] | None:
    """List the labels to report: those asked for, else those a subnetwork was made for."""
    if labels is None:
        return list(origin.plan.labels) or None if origin is not None else None
    return [labels] if isinstance(labels, (int, str)) else list(labels)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A subnetwork beside its parent, on the same data. Printing it gives tables.

    Attributes:
        before: The parent, asked what the subnetwork is asked.
        after: The subnetwork.
        parent: The parent, asked about all its labels; `before` itself where that is what the
            subnetwork answers too.
        parent_costs: What the parent costs.
        costs: What the subnetwork costs.
    """

    before: Evaluation
    after: Evaluation
    parent: Evaluation
    parent_costs: Costs
    costs: Costs

    def to_table(self) -> tables.Table:
        """Return the figures of each label, before and after the cut, as a table."""
        rows = tuple(
            (
                old.name,
                tables.count(old.samples),
                *(f"{tables.share(get(old))} → {tables.share(get(new))}" for _, get in _FIGURES),
            )
            for old, new in zip(self.before.rows, self.after.rows, strict=True)
        )
        caption = f"Before: {self.before.caption}\nAfter: {self.after.caption}"
        if self.parent is not self.before:
            caption += f"\nThe parent about all its labels: {self.parent.caption}"
        return tables.Table(("label", "samples", *(name for name, _ in _FIGURES)), rows, caption)

    def to_costs_table(self) -> tables.Table:
        """Return what the parent and the subnetwork cost as a table."""
        rows = []
        for name, get in _COSTS:
            old, new = get(self.parent_costs), get(self.costs)
            if old is None and new is None:
                continue
            rows.append((name, tables.count(old), tables.count(new), tables.ratio(new, old)))
        unknown = dict.fromkeys((*self.parent_costs.macs_unknown, *self.costs.macs_unknown))
        caption = f"Multiply-adds leave out {', '.join(unknown)}." if unknown else ""
        return tables.Table(("", "parent", "subnetwork", "share"), tuple(rows), caption)

    def to_markdown(self) -> str:
        """Return the tables and their captions as Markdown."""
        parts = []
        for table in (self.to_table(), self.to_costs_table()):
            parts.append(table.to_markdown())
            parts += [tables.escape(line) for line in table.caption.splitlines()]
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> Json:
        """Return the comparison as plain data, None where a figure is undefined."""
        return {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "parent": self.parent.to_json(),
            "costs": {
                "parent": self.parent_costs.to_json(),
                "subnetwork": self.costs.to_json(),
            },
        }

    def __str__(self) -> str:
        return f"{self.to_table()}\n\n{self.to_costs_table()}"


def compare(
    parent: keras.Model,
    subnet: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Labels = None,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    threshold: float | None = None,
    output: str | None = None,
    multi_label: bool | None = None,
    allow_overlap: bool = False,
    parent_tflite_bytes: int | None = None,
    tflite_bytes: int | None = None,
) -> Comparison:
    """Judge a subnetwork beside its parent, on the same data in one pass.

    Both are asked the same question. Where the subnetwork answers only its own labels, so does the
    parent: it decides among them alone. Where it answers "other" or yes/no, the parent's
    probabilities are summed as the subnetwork's head sums them. So what differs is the cut.

    Args:
        parent: The parent model.
        subnet: A subnetwork of it, from `cut`, repaired or trained further or not.
        data: Held-out data with the parent's labels, as `keras_nns.data.as_batches` takes it.
        y: Labels, when `data` is inputs alone.
        labels: Labels to report; by default those the subnetwork was made for.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label of the parent, in the order of its outputs.
        threshold: As in `evaluate`.
        output: Name of the parent's output that answers the labels, for a model with several.
        multi_label: As in `evaluate`.
        allow_overlap: As in `evaluate`.
        parent_tflite_bytes: Size of the parent's `.tflite` file.
        tflite_bytes: Size of the subnetwork's `.tflite` file.

    Raises:
        DataError: The data does not fit the models, or one gives NaN or infinity; or the
            subnetwork was made from the same samples.
        SelectionError: A label in `labels` is none that the subnetwork answers.
        ModelError: The models have several outputs and `output` is missing or unknown.

            Or the parent has no graph to read.

    Example:
        >>> print(nns.compare(model, nns.cut(model, plan), x_test, y_test))  # doctest: +SKIP
    """
    origin = lineage(subnet)
    batches = parents_batches(
        parent, origin, data, y, batch_size=batch_size, label_names=label_names
    )
    names = batches.label_names
    parents_output = output or answering_output(parent, origin)
    our_output = output or answering_output(subnet, origin)
    guard = Guard([subnet], allow_overlap=allow_overlap)
    ran = run([(parent, parents_output), (subnet, our_output)], guard.watch(batches))
    theirs, ours = ran.outputs
    truth, several = settle_labels(ran.labels, len(names), multi_label)
    question = question_of(origin, names, ours.shape[1], subnet.name)
    whole = question_of(None, names, theirs.shape[1], parent.name)
    wanted = wanted_labels(labels, origin)

    def judged(model: keras.Model, asked: Question, values: NDArray[Any]) -> Evaluation:
        answered = reply(asked, values, multi_label=several, threshold=threshold)
        return judge(model.name, asked, answered, truth, label_names=names, wanted=wanted)

    all_labels = judged(parent, whole, theirs)
    if question.head == "parent":
        before = all_labels
    else:
        kind = trace(parent).output(parents_output).kind
        before = judged(parent, question, ask(question, theirs, kind))
    return Comparison(
        before=before,
        after=judged(subnet, question, ours),
        parent=all_labels,
        parent_costs=costs.measure(parent, inputs=ran.inputs, tflite_bytes=parent_tflite_bytes),
        costs=costs.measure(subnet, inputs=ran.inputs, tflite_bytes=tflite_bytes),
    )
