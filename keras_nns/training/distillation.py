"""Repair with a little training: distillation from the parent, and fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras.distillation import Distiller, LogitsDistillation

from keras_nns import tables
from keras_nns.errors import DataError, ModelError, SurgeryError
from keras_nns.files.atomic import Json
from keras_nns.graph.tracing import trace
from keras_nns.judgement.question import Question, question_of, reply
from keras_nns.observation.forward import answering_output, parents_batches, run, settle_labels
from keras_nns.observation.holdout import Division
from keras_nns.observation.moments import HELD_OUT
from keras_nns.repairing.patient import (
    BALANCED,
    Gain,
    Treatment,
    balanced_accuracy,
    record_of,
    refuse_state,
)
from keras_nns.surgery.compiling import is_sparse
from keras_nns.surgery.copying import copied
from keras_nns.surgery.lineage import add_seen, origin_of
from keras_nns.training.logits import answering
from keras_nns.training.loop import Course, Schooling, random_untouched
from keras_nns.training.targets import Labelling, Pupil, check_answers, feeds

_RATE = 2e-3


@dataclass(frozen=True, eq=False)
class Trained:
    """A subnetwork after some training, and what the training gained. Printing it gives a table.

    Attributes:
        model: The trained subnetwork, a new model.
        gains: What changed on the samples held out: their loss, and what `repair` measures.
        history: For each of Keras's own measures, its value after each epoch; `val_` is of the
            samples held out.
        best_epoch: The epoch whose weights were kept; 0 where training made nothing better.
        samples: How many samples it was trained on.
        held_out: How many others it was judged on.
    """

    model: keras.Model
    gains: tuple[Gain, ...]
    history: Mapping[str, tuple[float, ...]]
    best_epoch: int
    samples: int
    held_out: int

    def to_table(self) -> tables.Table:
        """Return the gains as a table."""
        rows = tuple(
            (gain.measure, _figure(gain.before), _figure(gain.after)) for gain in self.gains
        )
        epochs = max((len(values) for values in self.history.values()), default=0)
        kept = f"the weights of epoch {self.best_epoch}" if self.best_epoch else "the old weights"
        if self.held_out:
            judged = f"kept {kept} of {epochs}, measured on {self.held_out:,} others"
        else:
            judged = "and measured on the same"
        caption = f"Trained on {self.samples:,} samples, {judged}."
        return tables.Table(("measure", "before", "after"), rows, caption)

    def to_json(self) -> Json:
        """Return the gains and the history as plain data, None where there is no figure."""
        return {
            "samples": self.samples,
            "held_out": self.held_out,
            "best_epoch": self.best_epoch,
            "history": {name: [_plain(v) for v in values] for name, values in self.history.items()},
            "gains": [
                {
                    "step": gain.step,
                    "measure": gain.measure,
                    "before": _plain(gain.before),
                    "after": _plain(gain.after),
                }
                for gain in self.gains
            ],
        }

    def __str__(self) -> str:
        return str(self.to_table())


def distill(
    small: keras.Model,
    parent: keras.Model,
    data: Any,
    y: Any = None,
    *,
    epochs: int = 1,
    temperature: float = 2.0,
    alpha: float = 0.5,
    optimizer: Any = None,
    held_out: float = 0.1,
    patience: int | None = 3,
    seed: int = 0,
    batch_size: int = 64,
    balance: bool | None = None,
    freeze_batch_norm: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = False,
    label_names: Sequence[Any] | None = None,
) -> Trained:
    """Train a subnetwork to answer as its parent does (Hinton et al. 2015), on a copy.

    Keras's own `Distiller` and `LogitsDistillation` do the work. What the parent answers is mapped
    to the subnetwork's head: for `"labels"` its probabilities of those labels, renormalised; for
    `"other"` the rest summed; for `"binary"` its probability of the labels against the rest.
    Where each answer is a probability by itself, each is distilled as a yes and a no.

    Args:
        small: A subnetwork from `cut`, repaired or not. It is not changed.
        parent: The model it was cut from. It is not changed.
        data: As in `repair`: with the parent's labels, or inputs alone, for pure distillation.
        y: Labels, where `data` is inputs alone and there are any.
        epochs: How often to go over the data.
        temperature: What logits of both are divided by; more shows more of what is unlikely.
        alpha: Share of the parent in the loss, 0 to 1; the rest is the labels' cross-entropy.
            Without labels it is 1.
        optimizer: A Keras optimizer or its name, which is copied. None: Adam, whose rate falls from
            0.002 to zero along a cosine.
        held_out: Share of the samples to judge the epochs on. With 0 the last weights are kept.
        patience: After how many epochs without a better loss on them to stop; None never stops.
            The best weights are kept either way, and the old ones where nothing was better.
        seed: Which samples are held out, their order, and dropout.
        batch_size: Samples in a step.
        balance: Draw samples of every answer equally often. Needs labels of which each sample has
            one. None does so for `"binary"` and `"other"` where there are labels, as
            `calibrate_head`.
        freeze_batch_norm: Keep the batch norms as they are.
        callbacks: Keras callbacks. The model they see is the `Distiller`, its `student` gives
            logits.
        verbose: Let Keras write a line for each epoch.
        label_names: Name of every label of the parent, in the order of its outputs.

    Returns:
        The new model, with lineage and compile settings, and what was gained.

    Raises:
        PlanError: `small` does not say where it was cut from, or it is another parent.
        DataError: The data does not fit, or there are too few samples; the message says how many
            it takes.
        SurgeryError: An option makes no sense.
        ModelError: A layer is stateful, or nothing can be trained.

    Example:
        >>> small = nns.cut(model, plan, head="binary")  # doctest: +SKIP
        >>> fixed = nns.repair(small, model, (x, y)).model  # doctest: +SKIP
        >>> print(nns.distill(fixed, model, (x, y)))  # doctest: +SKIP
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise SurgeryError(f"`temperature` must be above 0. Received: temperature={temperature!r}.")
    if not 0 <= alpha <= 1:
        raise SurgeryError(f"`alpha` is a share, from 0 to 1. Received: alpha={alpha!r}.")
    record_of(small, parent)
    division = Division(
        data,
        y,
        model=parent,
        held_out=held_out,
        seed=seed,
        batch_size=256,
        label_names=label_names,
    )
    with random_untouched():
        treatment = Treatment(small, parent, division)
        pupil = Pupil.of(treatment)
        summed = pupil.question.head in ("binary", "other") and not pupil.alone
        drawn = (summed and division.labelled) if balance is None else balance
        if drawn and (pupil.alone or not division.labelled):
            raise DataError(
                "balance=True draws samples of every answer equally often, which takes labels of "
                "which each sample has one. Leave balance out."
            )
        how = Schooling(
            epochs=epochs,
            patience=patience,
            batch_size=batch_size,
            seed=seed,
            balance=drawn,
            freeze_batch_norm=freeze_batch_norm,
            callbacks=callbacks,
            verbose=verbose,
        )
        before = treatment.measure()
        course, samples = _distilled(
            treatment, pupil, how, optimizer=optimizer, temperature=temperature, alpha=alpha
        )
        # A fresh copy: no node of the distiller is left in it.
        treatment.replace(copied(treatment.model))
        add_seen(treatment.model, treatment.survey.seen)
    after = treatment.measure()
    step = f"distill(epochs={epochs})"
    gains = [Gain(step, None, name, before[name], after[name]) for name in before]
    if held_out:
        gains.insert(0, Gain(step, None, "loss", course.before, course.after))
    judged = int(treatment.survey.samples[HELD_OUT])
    return Trained(
        treatment.model, tuple(gains), course.history, course.best_epoch, samples, judged
    )


def fine_tune(
    small: keras.Model,
    data: Any,
    y: Any = None,
    *,
    epochs: int = 1,
    optimizer: Any = None,
    loss: Any = None,
    held_out: float = 0.1,
    patience: int | None = 3,
    seed: int = 0,
    batch_size: int = 64,
    freeze_batch_norm: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = False,
    label_names: Sequence[Any] | None = None,
) -> Trained:
    """Train a copy of a model on labels, as it was compiled.

    Optimizer, loss and metrics are those of the model, which `cut` took over from the parent, with
    a loss that fits the head. Labels in the data are the parent's; they become what the head
    answers, in the form the loss takes. Samples of labels that the head leaves out are left out.

    Args:
        small: A subnetwork from `cut`, or any Sequential or functional model. It is not changed.
        data: Training data with the parent's labels, as `keras_nns.observe` takes it.
        y: Labels, where `data` is inputs alone.
        epochs: How often to go over the data.
        optimizer: A Keras optimizer or its name, which is copied, in place of the model's own.
            Where the model is not compiled, None is Adam at its usual rate.
        loss: A Keras loss in place of the model's own. Where the model is not compiled, None is the
            cross-entropy that fits its outputs.
        held_out: As in `distill`.
        patience: As in `distill`.
        seed: As in `distill`.
        batch_size: Samples in a step.
        freeze_batch_norm: Keep the batch norms as they are.
        callbacks: Keras callbacks.
        verbose: Let Keras write a line for each epoch.
        label_names: Name of every label of the parent, in the order of its outputs.

    Returns:
        The new model, with lineage and compile settings, and what was gained.

    Raises:
        DataError: The data does not fit, or there are too few samples; the message says how many
            it takes.
        SurgeryError: An option makes no sense.
        ModelError: A layer is stateful, or nothing can be trained.

    Example:
        >>> small = nns.cut(model, plan, head="labels")  # doctest: +SKIP
        >>> print(nns.fine_tune(small, (x, y), epochs=5))  # doctest: +SKIP
    """
    how = Schooling(
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        seed=seed,
        freeze_batch_norm=freeze_batch_norm,
        callbacks=callbacks,
        verbose=verbose,
    )
    refuse_state(small)
    origin = origin_of(small)
    batches = parents_batches(small, origin, data, y, batch_size=256, label_names=label_names)
    division = Division(
        batches,
        None,
        model=small,
        held_out=held_out,
        seed=seed,
        batch_size=256,
        label_names=label_names,
    )
    survey = division.survey()
    output = answering_output(small, origin)
    if len(small.outputs) > 1:
        raise ModelError(
            f"Model {small.name!r} has {len(small.outputs)} outputs, and the data has labels for "
            "one. Train it with its own fit, or make a model of the output that answers."
        )
    names = division.label_names
    with random_untouched():
        model = copied(small)
        question = question_of(origin, names, int(model.outputs[0].shape[-1]), small.name)
        _compile(model, optimizer, loss, trace(small).outputs[0].kind, question)
        check_answers("fine_tune", survey, question)
        labelling = Labelling(question, int(model.outputs[0].shape[-1]), is_sparse(model.loss))
        feed, other = feeds(division, labelling.target, how)

        def judged() -> float:
            ran = run([(model, output)], division.held_out())
            truth, several = settle_labels(ran.labels, len(names), None)
            low = float(ran.outputs[0].min())
            threshold = 0.0 if low < 0 else None
            decided = reply(
                question, ran.outputs[0], multi_label=several, threshold=threshold
            ).decided
            return balanced_accuracy(question, decided, truth, several)

        before = judged()
        course = how.teach(model, model, feed, other)
        after = judged()
        trained = copied(model)
        add_seen(trained, survey.seen)
    step = f"fine_tune(epochs={epochs})"
    gains = [Gain(step, None, BALANCED, before, after)]
    if held_out:
        gains.insert(0, Gain(step, None, "loss", course.before, course.after))
    return Trained(
        trained,
        tuple(gains),
        course.history,
        course.best_epoch,
        feed.size,
        int(survey.samples[HELD_OUT]),
    )


def _distilled(
    treatment: Treatment,
    pupil: Pupil,
    how: Schooling,
    *,
    optimizer: Any,
    temperature: float,
    alpha: float,
) -> tuple[Course, int]:
    division = treatment.division
    if division.labelled:
        check_answers("distill", treatment.survey, pupil.question)
    feed, other = feeds(division, pupil.target, how)
    teacher = answering(copied(treatment.parent), pupil, own=False)
    student = answering(treatment.model, pupil, own=True)
    labelled = division.labelled and not pupil.number
    # Not by name: Keras takes softmax of the logits for an instance of KLDivergence alone.
    loss = keras.losses.MeanSquaredError() if pupil.number else keras.losses.KLDivergence()
    with teacher.open() as theirs, student.open() as ours:
        distiller = Distiller(
            teacher=theirs,
            student=ours,
            distillation_losses=LogitsDistillation(
                temperature=1.0 if pupil.number else float(temperature), loss=loss
            ),
            student_loss_weight=1.0 - float(alpha) if labelled else 0.0,
        )
        steps = how.epochs * -(-feed.size // how.batch_size)
        distiller.compile(
            optimizer=_optimizer(optimizer, steps),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        return how.teach(distiller, treatment.model, feed, other), feed.size


def _optimizer(given: Any, steps: int) -> Any:
    """Return an optimizer of our own."""
    if given is None:
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(_RATE, steps))
    optimizer = keras.optimizers.get(given)
    return type(optimizer).from_config(optimizer.get_config())


def _compile(model: keras.Model, optimizer: Any, loss: Any, kind: str, question: Question) -> None:
    """Compile as asked, and as it was where nothing is asked."""
    if model.compiled and optimizer is None and loss is None:
        return
    given = keras.saving.deserialize_keras_object(model.get_compile_config())
    given["optimizer"] = _optimizer(optimizer or given.get("optimizer", "adam"), 0)
    given["loss"] = loss or given.get("loss") or _usual_loss(model, kind, question)
    model.compile(**given)


def _usual_loss(model: keras.Model, kind: str, question: Question) -> Any:
    probabilities = kind != "linear" or question.head in ("binary", "other")
    if model.outputs[0].shape[-1] == 1 or kind == "sigmoid":
        return keras.losses.BinaryCrossentropy(from_logits=not probabilities)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not probabilities)


def _figure(value: float | None) -> str:
    return "" if value is None else tables.UNDEFINED if math.isnan(value) else f"{value:.4g}"


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
