"""One label more, without forgetting the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_nns import tables
from keras_nns.data.batches import as_batches
from keras_nns.errors import DataError, SurgeryError
from keras_nns.graph import linear
from keras_nns.graph.tracing import trace
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.question import listed, reply, whole_question
from keras_nns.judgement.replies import judge
from keras_nns.observation.forward import run, settle_labels
from keras_nns.observation.holdout import Division
from keras_nns.repairing.patient import refuse_state
from keras_nns.surgery.copying import copied
from keras_nns.surgery.endings import head_of, names_of, whole_lineage
from keras_nns.surgery.lineage import add_seen, set_lineage
from keras_nns.surgery.proving import Proof
from keras_nns.training.loop import Course, Schooling, random_untouched
from keras_nns.training.targets import Labelling, check_labels
from keras_nns.transferring.growing import NewPart
from keras_nns.transferring.removing import SAMPLES, logits_apart

_RATE = 3e-3


@dataclass(frozen=True, repr=False, eq=False)
class Extension(tables.Tabular):
    """A network with one label more, and what was kept of the others. Printing it gives a table.

    Attributes:
        model: The new model.
        name: The label that was added.
        before: The old model on samples of its own labels that were held out.
        after: The new model on all that were held out.
        logits: How far the old labels' logits are from what they were: float rounding.
        course: What the training of the new part did, epoch by epoch.
        added: How many parameters the new label costs.
        samples: How many samples the new part was trained on.

    Example:
        >>> nine = nns.remove_label(model, 9).model
        >>> grown = nns.add_label(nine, (x, y), name="9", units=8, epochs=1)
        >>> grown.added, grown.logits.exact  # parameters; the others' logits are what they were
        (361, True)
    """

    model: keras.Model
    name: str
    before: Evaluation
    after: Evaluation
    logits: Proof
    course: Course
    added: int
    samples: int

    def to_table(self) -> tables.Table:
        """Return the figures of each label, before and after, as a table."""
        rows = []
        for row in self.after.rows:
            old = None if row.name == self.name else self.before[row.name]
            figures = []
            for figure in ("recall", "specificity", "balanced_accuracy"):
                new = tables.share(getattr(row, figure))
                was = tables.UNDEFINED if old is None else tables.share(getattr(old, figure))
                figures.append(f"{was} → {new}")
            rows.append((row.name, tables.count(row.samples), *figures))
        caption = (
            f"Added {self.name!r} with {self.added:,} parameters, trained on {self.samples:,} "
            f"samples. On {self.after.samples:,} others; before, the old labels were told from "
            "one another alone. The old weights are the same, bit for bit; the old labels' logits "
            f"moved by at most {self.logits.relative:.2g} of their scale{self.logits.how}."
        )
        return tables.Table(
            ("label", "samples", "recall", "specificity", "balanced acc."), tuple(rows), caption
        )


@random_untouched()
def add_label(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    name: Any,
    units: int = 32,
    up_to: str | None = None,
    epochs: int = 40,
    optimizer: Any = None,
    held_out: float = 0.1,
    patience: int | None = 8,
    seed: int = 0,
    batch_size: int = 64,
    class_weight: Mapping[int | str, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = False,
    label_names: Sequence[Any] | None = None,
) -> Extension:
    """Give a network one label more without forgetting the others.

    All that is there stays as it is, bit for bit, so the old labels' logits do not change. New are
    some hidden units beside those of the last hidden layer, and one output that reads both; the old
    outputs do not read the new units (Rusu et al. 2016, "Progressive neural networks"). Features
    are computed once, and the new part is trained on them to outbid the old logits on samples of
    the new label and nowhere else, every label drawn equally often. What can change is only which
    logit is the highest: `print` what comes back.

    Args:
        model: A subnetwork, a merged or any other Sequential or functional model that ends in a
            Dense with a softmax or without an activation. It is not changed.
        data: Samples of the new label *and* of every old one: some of those it was trained on, a
            hundred of each or so. As `keras_nns.observe` takes them, with names, or with
            the numbers of the model's outputs and the next one for the new label.
        y: Labels, where `data` is inputs alone.
        name: The new label's name.
        units: How many hidden units the new label gets of its own; 0 reads the old ones alone.
        up_to: Name of the layer whose output the new units read. None: what the last hidden Dense
            is called on; where there is none before the head, what the head is.
        epochs: At most how often to go over the data.
        optimizer: A Keras optimizer or its name. None: Adam at 0.003.
        held_out: Share of the samples to judge epochs, old and new model on; above 0.
        patience: After how many epochs without a better loss on them to stop; None never.
        seed: Which samples are held out, their order, and the first weights.
        batch_size: Samples in a step.
        class_weight: As in `fine_tune`, in place of drawing every label equally often.
        callbacks: Keras callbacks.
        verbose: Let Keras write a line for each epoch.
        label_names: Names of the old labels, where the model does not remember them.

    Returns:
        The new model, with lineage, labels and compile settings, and what was kept.

    Raises:
        DataError: The name is taken, or the data has too few samples of a label, new or old.
        SurgeryError: The model ends in something else, or an option makes no sense.
        ModelError: The model has no graph to read, or a layer is stateful.

    Example:
        >>> nine = nns.remove_label(model, 9).model
        >>> grown = nns.add_label(nine, (x, y), name="9", epochs=2)
        >>> grown.model.output_shape
        (None, 10)
        >>> nns.save_model(grown.model, "ten.keras")
    """
    if isinstance(units, bool) or not isinstance(units, int) or units < 0:
        raise SurgeryError(f"`units` must be a whole number, 0 or more. Received: {units!r}.")
    if not held_out > 0:
        raise DataError("add_label judges on samples held out: `held_out` must be above 0.")
    refuse_state(model)
    record = whole_lineage(model)
    if record.head in ("other", "binary") and not record.taught:
        raise SurgeryError(
            f"Model {model.name!r} answers {listed(record.label_names)} against all the rest, and "
            "a new label would be a part of that. Cut it with head='labels' or 'parent'."
        )
    new = copied(model)
    dense, _, behind = head_of(new, record)
    _check_head(new, dense, behind)
    old = names_of(record, int(dense.kernel.shape[-1]), label_names)
    name = str(name)
    if name in old:
        raise DataError(f"The model has a label {name!r} already ({listed(old)}). Take a new name.")
    names = (*old, name)
    batches = as_batches(data, y, model=model, label_names=names, own_labels=True)
    division = Division(
        batches, None, model=model, held_out=held_out, seed=seed, batch_size=256, label_names=None
    )
    survey = division.survey()
    check_labels("add_label", survey, names)
    how = Schooling(
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        seed=seed,
        balance=class_weight is None,
        callbacks=callbacks,
        verbose=verbose,
    )
    part = NewPart(new, record, name, units=units, up_to=up_to, seed=seed)
    labelling = Labelling(whole_question(names), len(names), True)
    feed, other = part.feeds(division, labelling, how, class_weight)
    given = keras.optimizers.get(optimizer or keras.optimizers.Adam(_RATE))
    part.model.compile(
        optimizer=type(given).from_config(given.get_config()),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    course = how.teach(part.model, part.model, feed, other)
    grown = part.grown(model)
    known = record.labels if len(record.labels) == len(old) else tuple(range(len(old)))
    output = trace(grown).outputs[0].name
    set_lineage(
        grown,
        replace(
            record,
            head="parent",
            labels=(*known, None),
            label_names=names,
            output=output,
            taught=True,
        ),
    )
    add_seen(grown, survey.seen)
    before, after = _judged(model, old, grown, names, division)
    logits = logits_apart(model, grown, list(range(len(old))), SAMPLES)
    return Extension(
        grown,
        name,
        before,
        after,
        logits,
        course,
        grown.count_params() - model.count_params(),
        feed.size,
    )


def _check_head(model: keras.Model, dense: Any, behind: Sequence[Any]) -> None:
    kind = trace(model).outputs[0].kind
    odd = [one for one in behind if not isinstance(one, (layers.Softmax, layers.Activation))]
    if kind == "sigmoid" or odd or dense.kernel.shape[-1] < 2 or len(model.outputs) > 1:
        raise SurgeryError(
            f"Model {model.name!r} must end in one Dense of two outputs or more, with a softmax or "
            f"without an activation, to get a label more. Received: {dense.name!r}, {kind}, with "
            f"{dense.kernel.shape[-1]} outputs" + "".join(f", {one.name!r}" for one in odd) + "."
        )
    reason = linear.why_not(dense)
    if reason is not None:
        raise SurgeryError(f"The head {dense.name!r} cannot get an output more: {reason}.")


def _judged(
    old: keras.Model,
    old_names: tuple[str, ...],
    new: keras.Model,
    names: tuple[str, ...],
    division: Division,
) -> tuple[Evaluation, Evaluation]:
    ran = run([(old, None), (new, None)], division.held_out())
    truth, _ = settle_labels(ran.labels, len(names), False)
    own = truth < len(old_names)

    each = np.ones(len(truth)) if ran.weights is None else ran.weights

    def figures(
        model: keras.Model, values: Any, labels: Any, known: tuple[str, ...], weights: Any
    ) -> Evaluation:
        question = whole_question(known)
        answered = reply(question, values, multi_label=False, threshold=None)
        return judge(model.name, question, answered, labels, label_names=known, weights=weights)

    before = figures(old, ran.outputs[0][own], truth[own], old_names, each[own])
    return before, figures(new, ran.outputs[1], truth, names, each)
