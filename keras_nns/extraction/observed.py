"""A parent that was observed once, and how much a task needs each of its units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_nns.errors import DataError, ModelError, SelectionError
from keras_nns.extraction.tasks import Task
from keras_nns.observation.activity import Activity
from keras_nns.observation.holdout import Division
from keras_nns.observation.layer_sums import Float
from keras_nns.observation.streaming import observe
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.prepared import MEMORY, Prepared
from keras_nns.selection.activations import Score, contrast, mean_activation, name_of
from keras_nns.selection.choosing import checked_scores, refuse_unobserved
from keras_nns.selection.greedy import forward_selection
from keras_nns.selection.leaving import Cost
from keras_nns.selection.naming import as_score
from keras_nns.selection.ranking import Balance, Ranking
from keras_nns.selection.reconstruction import reconstruction
from keras_nns.selection.unknown import listed, unknown_groups
from keras_nns.selection.weights import magnitude
from keras_nns.shipping.forms import Form, Quantization, Shipped, sample_count
from keras_nns.shipping.spread import Spread, taken_of_both
from keras_nns.shipping.tflite_files import Labelled


@dataclass(frozen=True, eq=False)
class ObservedParent:
    """A model that was observed once.

    Attributes:
        model: The model.
        prepared: What repairs of its networks share.
        activity: What was observed.
        batch_size: Samples in a batch of the data, for arrays.
    """

    model: keras.Model
    prepared: Prepared
    activity: Activity
    batch_size: int

    @property
    def division(self) -> Division:
        """The data: what it was observed on, and what is held out."""
        return self.prepared.division


@dataclass(frozen=True, eq=False)
class Scored:
    """How much a task needs each unit.

    Attributes:
        name: Name of the score.
        values: `(labels, units)` of every group that has a score.
        balance: How layers are compared.
    """

    name: str
    values: Mapping[str, Float]
    balance: Balance


def open_division(
    model: keras.Model,
    data: Any,
    y: Any,
    *,
    held_out: float,
    seed: int,
    batch_size: int,
    label_names: Sequence[Any] | None,
    output: str | None = None,
) -> Division:
    """Open labelled data, and say which of it is held out from everything but the figures.

    Raises:
        DataError: The data does not fit, has no labels, can be read once only, or nothing is held
            out.
    """
    division = Division(
        data,
        y,
        model=model,
        held_out=held_out,
        seed=seed,
        batch_size=batch_size,
        label_names=label_names,
        output=output,
    )
    if not division.labelled:
        raise DataError("extract needs labels: pass (x, y), or y beside x.")
    if not held_out:
        raise DataError("extract judges on samples held out. Pass held_out above 0.")
    return division


def form_of(task: Task, division: Division, quantize: Quantization | None) -> Form:
    """Say how networks of a task ship, with ranges measured on samples that nothing judges.

    Half of them are of the task's labels, which may be rare.

    Args:
        task: What networks are to answer.
        division: The data.
        quantize: The variant or recipe; None where no file was asked for.

    Raises:
        tflite_export.OptionError: There is no such variant.
    """

    def take() -> Labelled:
        count = sample_count(task.model)
        own, others = Spread(count), Spread(count)
        for batch in division.fitted:
            mask = batch.has(task.labels)
            own.add(batch.only(mask))
            if not task.alone:
                others.add(batch.only(~mask))
        inputs, labels = taken_of_both(own, others, count)
        return inputs, labels if division.asked == "labels" else None, division.label_names

    return Form(quantize, take, divisor=division.whole.divisor)


def observe_parent(
    task: Task, division: Division, *, batch_size: int, memory: int = MEMORY
) -> ObservedParent:
    """Observe a parent once, on what is not held out.

    Args:
        task: What networks are to answer.
        division: The data.
        batch_size: Samples in a batch of the data, for arrays.
        memory: How many bytes of activations may be kept.

    Raises:
        SelectionError: The data has no sample of a label of the task.
        DataError: The data does not fit.
    """
    names = division.label_names
    prepared = Prepared(task.model, division, memory=memory)
    activity = observe(task.model, division.fitted, label_names=names, verbose=False)
    prepared.looked_at = True
    refuse_unobserved(activity, task.labels)
    return ObservedParent(task.model, prepared, activity, batch_size)


def score_units(
    parent: ObservedParent, task: Task, score: Score | str | None, balance: Balance | None
) -> Scored:
    """Say how much the labels of a task need each unit of a parent.

    Args:
        parent: The parent.
        task: What networks are to answer.
        score: The score; None for what is usual.
        balance: How layers are compared; None for what suits the score.

    Raises:
        SelectionError: The score does not fit, or nothing is known of any unit that could go.
    """
    if score is None or score == reconstruction.__name__:
        chosen = _usual_score(parent, task)
    else:
        chosen = as_score(score, parent.model)
    values = checked_scores(parent.activity, chosen, task.labels)
    name = name_of(chosen)
    usual: Balance = "cost" if name == reconstruction.__name__ else "share"
    return Scored(name, values, usual if balance is None else balance)


def rank_units(
    parent: ObservedParent,
    task: Task,
    scored: Scored,
    cost: Cost,
    *,
    stepped: bool = False,
    without: Collection[str] = (),
    branches: Sequence[tuple[str, ...]] = (),
) -> Ranking:
    """Say in which order units join a network.

    Units that the score says nothing of are the last to be missing, those of the smallest weights
    first.

    Args:
        parent: The parent.
        task: What networks are to answer.
        scored: How much it needs each unit.
        cost: What the network of a plan costs.
        stepped: Whether costs have steps.
        without: Groups that the smallest network does without.
        branches: Groups that can leave all together.
    """
    values, labels = scored.values, list(task.labels)
    unknown = [
        group.name
        for group in parent.activity.layout.prunable
        if group.name not in values or np.isneginf(values[group.name][labels].max(axis=0)).any()
    ]
    guess = {}
    if unknown:
        weights = magnitude(parent.model, unobserved=True)(parent.activity)
        guess = {name: weights[name][0] for name in unknown}
    return Ranking(
        parent.activity,
        scored.values,
        task.labels,
        name=scored.name,
        balance=scored.balance,
        cost=cost,
        stepped=stepped,
        guess=guess,
        without=without,
        branches=branches,
    )


def warn_of_guesses(
    parent: ObservedParent,
    scored: Scored,
    guessed: Callable[[Plan], tuple[str, ...]],
    plans: Iterable[Plan],
) -> None:
    """Warn of units that nothing is known of and that plans leave out all the same."""
    names = dict.fromkeys(name for plan in plans for name in guessed(plan))
    if not names:
        return
    reasons = unknown_groups(parent.activity, scored.values, scored.name)
    told = {name: reasons.get(name, "some of its layers were not observed") for name in names}
    warnings.warn(
        f"So small a network has to do without units of which nothing is known: {listed(told)}. "
        "Those of the smallest weights were left out. A larger budget leaves them in; a score of "
        "your own, score=, says more of them.",
        stacklevel=3,
    )


def warn_of_refusals(files: Iterable[Shipped]) -> None:
    """Warn of files that were asked for and do not answer as their networks.

    Args:
        files: What networks ship as.
    """
    asked = [one for one in files if one.form.quantize is not None]
    refused = [one.refusal for one in asked if one.refusal is not None]
    if not refused:
        return
    some = f"{len(refused)} of {len(asked)} files" if len(asked) > 1 else "The file"
    warnings.warn(
        f"{some} cannot ship, though the network itself can: {refused[0]} The figures are those of "
        "the file all the same.",
        stacklevel=3,
    )


def _usual_score(parent: ObservedParent, task: Task) -> Score:
    division = parent.division
    # What the head has an answer for.
    asked = (division.of_labels(task.labels) if task.alone else division).fitted
    try:
        return reconstruction(
            parent.model,
            asked,
            labels=list(task.labels),
            alone=task.alone,
            output=task.output,
            batch_size=parent.batch_size,
            label_names=division.label_names,
        )
    except (ModelError, SelectionError):
        pass
    if len(division.label_names) == 1:
        return mean_activation  # There is no other label to tell it from.
    try:
        return forward_selection(parent.model, asked, label_names=division.label_names)
    except SelectionError:
        return contrast
