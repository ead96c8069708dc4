"""Repair: make a cut model right again, without gradient steps, and say what each step gained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_nns import tables
from keras_nns.errors import DataError, SurgeryError
from keras_nns.files.atomic import Json
from keras_nns.observation.forward import Forward
from keras_nns.observation.holdout import Division
from keras_nns.repairing.head_fit import calibrate_head
from keras_nns.repairing.least_squares import least_squares
from keras_nns.repairing.patient import Gain, Step, Treatment, record_of, refuse_state
from keras_nns.repairing.prepared import MEMORY, Prepared
from keras_nns.surgery.lineage import add_seen


@dataclass(frozen=True, eq=False, repr=False)
class Repair(tables.Tabular):
    """A repaired subnetwork and what every step gained. Printing it gives a table.

    Attributes:
        model: The repaired subnetwork, a new model.
        gains: What changed, in the order of the steps: first of each layer, then of the whole.
        samples: How many samples it was fitted on.
        held_out: How many samples the figures are from; 0 where they are from the same.

    Example:
        >>> fixed = nns.repair(three, model, x, steps=nns.steps.least_squares())
        >>> fixed.samples, fixed.held_out
        (968, 232)
        >>> [gain.layer for gain in fixed.gains if gain.layer]
        ['dense_1', 'digit']
    """

    model: keras.Model
    gains: tuple[Gain, ...]
    samples: int
    held_out: int

    def to_table(self) -> tables.Table:
        """Return the gains as a table."""
        shown = [gain for gain in self.gains if gain.after is not None]
        rows = tuple(
            (
                gain.step,
                gain.layer or "",
                gain.measure,
                _figure(gain.before),
                _figure(gain.after),
                gain.note,
            )
            for gain in shown
        )
        if self.held_out:
            lines = [f"Fitted on {self.samples:,} samples, measured on {self.held_out:,} others."]
        else:
            lines = [f"Fitted and measured on the same {self.samples:,} samples."]
        lines += [
            f"{gain.step} left {gain.layer!r} as it is: {gain.note}."
            for gain in self.gains
            if gain.after is None
        ]
        columns = ("step", "layer", "measure", "before", "after", "note")
        return tables.Table(columns, rows, "\n".join(lines))

    def to_json(self) -> Json:
        """Return the gains as plain data, None where there is no figure."""
        return {
            "samples": self.samples,
            "held_out": self.held_out,
            "gains": [
                {
                    "step": gain.step,
                    "layer": gain.layer,
                    "measure": gain.measure,
                    "before": _plain(gain.before),
                    "after": _plain(gain.after),
                    "note": gain.note,
                }
                for gain in self.gains
            ],
        }


def repair(
    small: keras.Model,
    parent: keras.Model,
    data: Any,
    y: Any = None,
    *,
    steps: Step | Sequence[Step] | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    memory: int = MEMORY,
) -> Repair:
    """Make a subnetwork right again without gradient steps.

    Steps are done in order, on a copy. Each fits on one part of the data and is judged on the rest,
    which no step sees. Still the data is used up by it: choose and compare repairs on other data,
    and never repair on test data.

    A network with a `"labels"` head behind a softmax is fitted to and judged on the samples of its
    labels alone, where the data has labels: it has no answer for others, and what it keeps is then
    spent on those it answers.

    Args:
        small: A subnetwork from `cut`, repaired before or not. It is not changed.
        parent: The model it was cut from. It is not changed.
        data: Training or validation data with the parent's labels, as `keras_nns.observe`
            takes it; or inputs alone (an array, a list or dictionary of them, a `tf.data.Dataset`)
            for steps that need no labels. It is gone over several times.
        y: Labels, where `data` is inputs alone and there are any.
        steps: `fold_means()`, `least_squares()`, `recalibrate_batch_norm()`, `calibrate_head()`,
            `calibrate_temperature()`:
            one or several, in the order in which they are done. None does least squares, and the
            head where there are labels of samples that the model answers.
        held_out: Share of the samples to judge the steps on. With 0 the report is on the samples
            that were fitted.
        seed: Which samples are held out.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label of the parent, in the order of its outputs.
        memory: How many bytes of activations may be kept from one layer's fit to the next. With
            less, layers are reached from the input again: the same answer, later.

    Returns:
        The new model, with lineage and compile settings, and what was gained.

    Raises:
        PlanError: `small` does not say where it was cut from, or it is another parent.
        DataError: The data does not fit, labels are missing that a step needs, or there are too
            few samples; the message says how many it takes.
        SurgeryError: A step cannot be done on this model, or `calibrate_head` is not the last.
        ModelError: A layer is stateful.

    Example:
        >>> fixed = nns.repair(three, model, (x, y))
        >>> nns.evaluate(fixed.model, x_test, y_test)[3].auc
        0.9...
    """
    record = record_of(small, parent)
    refuse_state(parent)
    division = Division(
        data,
        y,
        model=parent,
        held_out=held_out,
        seed=seed,
        batch_size=batch_size,
        label_names=label_names,
        origin=record,
    )
    return mend(small, Prepared(parent, division, memory=memory), steps)[0]


def mend(
    small: keras.Model, prepared: Prepared, steps: Step | Sequence[Step] | None
) -> tuple[Repair, Forward]:
    """Repair a subnetwork on data that was opened before; see `repair`.

    Returns:
        The repair; and the new model's forward pass, compiled.
    """
    chosen = _chosen(steps, prepared.division)
    treatment = Treatment(small, prepared, answered_only=True)
    figures = treatment.measure()
    for step in chosen:
        step(treatment)
        treatment.changed()
        now = treatment.measure()
        for measure, value in now.items():
            treatment.note(Gain(step.name, None, measure, figures[measure], value))
        figures = now
    add_seen(treatment.model, treatment.survey.seen)
    samples = treatment.survey.samples
    gains, fitted = tuple(treatment.gains), int(samples[0] + samples[1])
    return Repair(treatment.model, gains, fitted, int(samples[2])), treatment.forward


def _chosen(steps: Step | Sequence[Step] | None, division: Division) -> list[Step]:
    answered = division.asked == "labels"
    if steps is None:
        return [least_squares(), calibrate_head()] if answered else [least_squares()]
    chosen = list(steps) if isinstance(steps, Sequence) else [steps]
    for step in chosen:
        if not callable(step) or not hasattr(step, "needs_labels"):
            raise SurgeryError(
                "`steps` are made by fold_means(), least_squares(), recalibrate_batch_norm(), "
                f"calibrate_head() and calibrate_temperature(). Received: {step!r}."
            )
        if step.needs_labels and not division.labelled:
            raise DataError(
                f"{step.name} needs labels, and the data has none. Pass (x, y), or y beside x."
            )
        if step.for_head and not answered:
            raise DataError(
                f"{step.name} fits the answers to labels of samples, and what the data has is none "
                "that the model answers for a sample. Leave it out: steps=nns.steps.least_squares()"
                " needs no labels."
            )
    for step in chosen[:-1]:
        if step.for_head and not chosen[-1].for_head:
            raise SurgeryError(
                f"{step.name} fits the head to the features, which {chosen[-1].name} would change "
                "afterwards. Put it last."
            )
    return chosen


def _figure(value: float | None) -> str:
    return "" if value is None else tables.UNDEFINED if math.isnan(value) else f"{value:.4g}"


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
