"""Judge a model on held-out data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_nns.data.texts import are_kinds
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.leakage import Guard
from keras_nns.judgement.perplexity import MOST_TEXTS, perplexity, refuse_for_texts
from keras_nns.judgement.question import question_of, reply
from keras_nns.judgement.replies import judge
from keras_nns.judgement.tallies import Reported, output_of, tally
from keras_nns.observation.forward import parents_batches, passed, run, settle_labels
from keras_nns.observation.next_token import foretells
from keras_nns.surgery.lineage import (
    Lineage,
    Origin,
    answering_output,
    balanced_decisions,
    origin_of,
)

Labels = int | str | Iterable[int | str] | None


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
    confidence: float | None = None,
    seed: int = 0,
    allow_overlap: bool = False,
) -> Evaluation | Any:
    """Judge a model, or a subnetwork, on data that it was not made from.

    What is judged follows from the targets: labels of samples; labels at every position (pixels,
    steps), with the intersection over the union of each; or numbers, as in a regression, an
    autoencoder or a denoiser, with their mean error.

    The labels in the data are always the parent's, whatever the subnetwork answers. A subnetwork
    that answers all the parent's labels is judged like its parent. One that answers only the kept
    labels is judged among them: samples of other labels are left out, and counted as such. For one
    that answers "other", every other label is "other"; for one yes/no probability, every sample
    counts.

    A language model and the kind of each text give perplexities of all kinds, as `perplexity` does.

    Args:
        model: A parent or a subnetwork. Logits are as good as probabilities, but where an output
            is decided by itself, `threshold` must fit them.
        data: Held-out data, as `keras_nns.observe` takes it.
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
        confidence: Give every figure an interval that would hold the true one in this share of
            cases, such as 0.95: percentiles of a stratified bootstrap. None gives none.
        seed: Which resamples the intervals are from.
        allow_overlap: Judge a subnetwork even on samples that it was observed, repaired or trained
            with.

    Raises:
        DataError: The data does not fit the model, or the model gives NaN or infinity; or a
            subnetwork was made from the same samples.
        SelectionError: A label in `labels` is none that the model answers.
        ModelError: The model has several outputs and `output` is missing or unknown.

    Example:
        >>> figures = nns.evaluate(model, x_test, y_test)
        >>> figures.accuracy, figures[3].specificity
        (0.9..., 0.9...)
    """
    if foretells(model) and are_kinds(data, y):
        further = {"labels": labels, "threshold": threshold, "multi_label": multi_label}
        refuse_for_texts("evaluate", further)
        return perplexity(
            model,
            data,
            y,
            label_names=label_names,
            output=output,
            batch_size=min(batch_size, MOST_TEXTS),
            confidence=confidence,
            seed=seed,
            allow_overlap=allow_overlap,
        )
    origin = origin_of(model)
    batches = parents_batches(
        model, origin, data, y, batch_size=batch_size, label_names=label_names, output=output
    )
    guard = Guard([model], allow_overlap=allow_overlap)
    asked_of, names = (model, output or answering_output(model, origin)), batches.label_names
    wanted, balanced = wanted_labels(labels, origin), balanced_decisions(origin)
    if batches.kind != "labels":
        told = Reported(model.name, names, wanted, confidence, seed)
        width, meaning = output_of(*asked_of)
        asked = None
        if batches.kind == "positions":
            asked = question_of(origin, names, width, model.name)
        tallied = tally(
            batches.kind, told, asked, meaning=meaning, threshold=threshold, balanced=balanced
        )
        for batch, given in passed([asked_of], guard.watch(batches)):
            tallied.add(given[0], batch)
        return tallied.evaluation()
    ran = run([asked_of], guard.watch(batches), judged=True)
    (outputs,) = ran.outputs
    question = question_of(origin, names, outputs.shape[1], model.name)
    truth, several = settle_labels(ran.labels, len(names), multi_label)
    answered = reply(
        question,
        outputs,
        multi_label=several,
        threshold=threshold,
        balanced=balanced,
    )
    return judge(
        model.name,
        question,
        answered,
        truth,
        label_names=names,
        wanted=wanted,
        confidence=confidence,
        seed=seed,
        weights=ran.weights,
    )


def wanted_labels(labels: Labels, origin: Origin | None) -> list[int | str] | None:
    """List the labels to report: those asked for, else those a subnetwork was made for."""
    if labels is None:
        if not isinstance(origin, Lineage) or origin.taught:
            return None
        return list(origin.plan.labels) or None
    return [labels] if isinstance(labels, (int, str)) else list(labels)
