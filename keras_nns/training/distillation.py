"""Repair with a little training: distillation from the parent."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.outputs import output_keys
from keras_nns.data.targets import IGNORED
from keras_nns.errors import DataError, SurgeryError
from keras_nns.graph.generated_inputs import answers_of
from keras_nns.judgement.question import ask
from keras_nns.observation.forward import run, settle_labels
from keras_nns.observation.holdout import Division
from keras_nns.observation.moments import HELD_OUT
from keras_nns.repairing.head_fit import beside_parent
from keras_nns.repairing.patient import Gain, Treatment, record_of
from keras_nns.repairing.prepared import Prepared
from keras_nns.surgery.copying import copied
from keras_nns.surgery.lineage import add_seen, answering_output
from keras_nns.surgery.operating_points import BalancedDecisions
from keras_nns.training import checkpoints
from keras_nns.training.augmentation import Augment, Augmentation, moves_targets
from keras_nns.training.batch_norms import following, settle
from keras_nns.training.keeping import State, halfway, keep_best
from keras_nns.training.logits import answering
from keras_nns.training.loop import Schooling, random_untouched
from keras_nns.training.optimizers import FallingAdam, own_optimizer
from keras_nns.training.outcome import Trained
from keras_nns.training.rates import choose_rate
from keras_nns.training.targets import Pupil, check_answers, feeds
from keras_nns.training.weighing import WeighingDistiller

_PATIENCE = 3

_MOVED = 1e-4
"""How far outputs that are not taught may move unsaid, of their scale: rounding is less."""


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
    patience: int | Literal["auto"] | None = "auto",
    seed: int = 0,
    batch_size: int = 64,
    balance: bool | None = None,
    class_weight: Mapping[int | str, float] | None = None,
    freeze_batch_norm: bool = False,
    augment: Augment | None = None,
    other_labels: bool = True,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = False,
    label_names: Sequence[Any] | None = None,
) -> Trained:
    """Train a subnetwork to answer as its parent does (Hinton et al. 2015), on a copy.

    Keras's own `Distiller` and `LogitsDistillation` do the work. What the parent answers is mapped
    to the subnetwork's head: for `"labels"` its probabilities of those labels, renormalised; for
    `"other"` the rest summed; for `"binary"` its probability of the labels against the rest.
    Where each answer is a probability by itself, each is distilled as a yes and a no. Answers at
    every position (pixels, steps) are distilled at each; numbers, where the data has such targets,
    by their mean squared error. Labels that the parent does not answer, such as the kind of text a
    language model reads, are no targets: distillation is then pure, as without labels.

    A `"labels"` head has no right answer for samples of other labels. They teach as well, by what
    the parent says of the labels that are left: the more inputs two networks agree on, the nearer
    is one to the other (Beyer et al. 2022).

    Where answers are drawn equally often, what the parent says is turned into what it would say of
    such data: the logarithm of each answer's share in the data is taken off its logits (Saerens et
    al. 2002). Else it would teach a network to decide where it decides itself, and the network
    would lose its point of best balanced accuracy.

    Three states are judged on the samples held out: the weights before, those behind the best
    epoch, and the mean of both, between which lies often a better network than either (Wortsman et
    al. 2022). The one of least loss is kept, but none by which the loss or what counts most there
    (balanced accuracy, for other targets the figure of `evaluate`) is worse than before.

    Args:
        small: A subnetwork from `cut`, repaired or not. It is not changed.
        parent: The model it was cut from. It is not changed.
        data: As in `repair`: with the parent's labels, or inputs alone, for pure distillation.
        y: Labels, where `data` is inputs alone and there are any.
        epochs: How often to go over the data.
        temperature: What logits of both are divided by; more shows more of what is unlikely.
        alpha: Share of the parent in the loss, 0 to 1; the rest is the labels' cross-entropy.
            Without labels it is 1.
        optimizer: A Keras optimizer or its name, which is copied. None: Adam, whose rate falls to
            zero along a cosine. What it falls from is found first, between 0.000125 and 0.064, by
            short trials on a part of the samples that are not held out; `Trained.note` says it.
        held_out: Share of the samples to judge the epochs on. With 0 the last weights are kept.
        patience: After how many epochs without a better loss on them to stop; None never stops.
            `"auto"` does not where the optimizer is None, as its rate has to come down first, and
            stops after 3 with another. The best weights are kept either way, and the old ones where
            nothing was better.
        seed: Which samples are held out, their order, and dropout.
        batch_size: Samples in a step.
        balance: Draw samples of every answer equally often. Needs labels of which each sample has
            one. None does so for `"binary"` and `"other"` where there are labels, as
            `calibrate_head`, unless there is a `class_weight`.
        class_weight: As in `fine_tune`; it weighs what the parent answers too. Needs labels.
        freeze_batch_norm: Keep the batch norms as they are.
        augment: What changes inputs at random before both networks see them (Beyer et al. 2022): a
            Keras layer or model, such as `keras.layers.RandomFlip("horizontal")`, which draws by
            `seed`; or a function from a batch of inputs, arrays, to one of the same shape. What is
            held out stays as it is. Few samples go further so, over more epochs.
        other_labels: Whether samples of labels that a `"labels"` head does not answer teach too; an
            epoch goes over them as well. Without, it goes over those of its labels alone.
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
        >>> taught = nns.distill(three, model, (x, y))
        >>> nns.evaluate(taught.model, x_test, y_test)[3].auc
        0.9...
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise SurgeryError(f"`temperature` must be above 0. Received: temperature={temperature!r}.")
    if not 0 <= alpha <= 1:
        raise SurgeryError(f"`alpha` is a share, from 0 to 1. Received: alpha={alpha!r}.")
    record = record_of(small, parent)
    division = Division(
        data,
        y,
        model=parent,
        held_out=held_out,
        seed=seed,
        batch_size=256,
        label_names=label_names,
        origin=record,
    )
    with random_untouched():
        treatment = Treatment(small, Prepared(parent, division))
        pupil = Pupil.of(treatment, others=other_labels)
        summed = pupil.question.head in ("binary", "other") and not pupil.alone
        answered = division.asked == "labels"
        drawn = (summed and answered and class_weight is None) if balance is None else balance
        if class_weight is not None and not answered:
            raise DataError(
                "class_weight goes by the labels of samples, and the data has none that the model "
                "answers. Leave class_weight out."
            )
        if drawn and (pupil.alone or not answered):
            raise DataError(
                "balance=True draws samples of every answer equally often, which takes labels of "
                "which each sample has one. Leave balance out."
            )
        how = Schooling(
            epochs=epochs,
            patience=_patience(patience, optimizer),
            batch_size=batch_size,
            seed=seed,
            balance=drawn,
            freeze_batch_norm=freeze_batch_norm,
            augment=None if augment is None else Augmentation(augment, seed),
            callbacks=callbacks,
            verbose=verbose,
        )
        placed = moves_targets(pupil.asked, treatment.model.outputs[pupil.index])
        if how.augment and placed and pupil.judged and alpha < 1:
            raise SurgeryError(
                "augment changes inputs alone, and targets of pixels or steps would no longer lie "
                "where they belong. Pass alpha=1: the parent answers what it is shown."
            )
        before = treatment.judged()
        lesson = _distilled(
            treatment,
            pupil,
            how,
            optimizer=optimizer,
            temperature=temperature,
            alpha=alpha,
            class_weight=class_weight,
        )
        kept = lesson.states[-1]
        if held_out:
            kept = keep_best(treatment, lesson.states, before)
        # A fresh copy: no node of the distiller is left in it.
        treatment.replace(copied(treatment.model))
        if kept.epoch:
            treatment.note_balanced(_beside_parent(treatment, pupil) if drawn else None)
        add_seen(treatment.model, treatment.survey.seen)
        _tell_of_others(small, treatment, pupil.index)
    after = treatment.measure()
    step = f"distill(epochs={epochs})"
    note = "; ".join(part for part in (lesson.note, kept.note) if part)
    gains = [Gain(step, None, name, was, after[name]) for name, was in before.figures.items()]
    if held_out:
        gains.insert(0, Gain(step, None, "loss", lesson.states[0].loss, kept.loss, note))
    judged = int(treatment.survey.samples[HELD_OUT])
    return Trained(
        treatment.model, tuple(gains), lesson.history, kept.epoch, lesson.samples, judged, note
    )


def _patience(given: int | str | None, optimizer: Any) -> int | None:
    if given == "auto":
        return None if optimizer is None else _PATIENCE
    if isinstance(given, str):
        raise SurgeryError(
            f"`patience` is a number of epochs, 1 or more, None or 'auto'. Received: {given!r}."
        )
    return given


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What came of a distillation, before it is said what of it is kept.

    Attributes:
        states: The weights before, those behind the best epoch, and the mean of both; the last
            weights alone where nothing is held out.
        history: As Keras keeps it.
        samples: How many samples were trained on.
        note: How the rate was found.
    """

    states: tuple[State, ...]
    history: Mapping[str, tuple[float, ...]]
    samples: int
    note: str


def _tell_of_others(small: keras.Model, treatment: Treatment, taught: int) -> None:
    """Warn of outputs that were not taught and answer otherwise now, by what all share.

    Args:
        small: The subnetwork as it was.
        treatment: Holds it as it is, and the data.
        taught: Place of the output that was taught.
    """
    if len(small.outputs) == 1:
        return
    inputs = next(treatment.division.to_fit()).inputs
    both = zip(answers_of(small, inputs), answers_of(treatment.model, inputs), strict=True)
    moved = []
    for place, (name, (was, now)) in enumerate(zip(output_keys(small), both, strict=True)):
        apart = np.abs(now - was).max(initial=0.0) / (np.abs(was).max(initial=0.0) or 1.0)
        if place != taught and apart > _MOVED:
            moved.append(f"{name!r} by up to {apart:.1%} of its scale")
    if moved:
        warnings.warn(
            f"distill taught output {output_keys(small)[taught]!r} alone, and others share weights "
            f"with it, so they answer otherwise now: {', '.join(moved)}. Judge them, or train all "
            "with the model's own fit.",
            stacklevel=3,
        )


def _beside_parent(treatment: Treatment, pupil: Pupil) -> BalancedDecisions:
    """Find the parent's best point on the samples that the answers were balanced on."""
    record, names = treatment.record, treatment.division.label_names
    parent = treatment.parent, answering_output(treatment.parent, record)
    ran = run([parent], treatment.division.to_fit())
    labels, several = settle_labels(ran.labels, len(names), None)
    theirs = ask(pupil.question, ran.outputs[0], treatment.kind)
    return beside_parent(pupil.question, theirs, labels, several, ran.weights)


def _distilled(
    treatment: Treatment,
    pupil: Pupil,
    how: Schooling,
    *,
    optimizer: Any,
    temperature: float,
    alpha: float,
    class_weight: Mapping[int | str, float] | None,
) -> _Lesson:
    division, model = treatment.division, treatment.model
    if division.asked in ("labels", "positions"):
        check_answers("distill", treatment.survey, pupil.question)
    feed, other = feeds(division, pupil.target, how, class_weight=class_weight)
    shares = _shares(division, pupil) if how.balance else None
    teacher = answering(copied(treatment.parent), pupil, own=False, shares=shares)
    student = answering(model, pupil, own=True)
    old = checkpoints.values(model.variables)
    steps = -(-feed.size // how.batch_size)
    with teacher.open() as theirs, student.open() as ours, how.frozen(model):
        distiller = WeighingDistiller(
            theirs,
            ours,
            numbers=pupil.number,
            temperature=1.0 if pupil.number else float(temperature),
            share=1.0 - float(alpha) if pupil.judged else 0.0,
            positions=pupil.asked == "positions",
        )
        adapts = optimizer is None
        distiller.compile(
            FallingAdam() if adapts else own_optimizer(optimizer, steps * how.epochs),
            loss=distiller.by_targets,
        )
        settle(model, feed.dataset())
        begun, note = checkpoints.values(model.variables), ""
        # What is compiled first goes for all: the trials let statistics follow as training does.
        with following(model, steps):
            if adapts:
                rate, note = choose_rate(
                    distiller,
                    model,
                    how,
                    division,
                    pupil,
                    size=feed.size,
                    class_weight=class_weight,
                )
                distiller.optimizer.begin(rate, steps * how.epochs)
            course = how.teach(distiller, model, feed, other, moved=True)
        new = checkpoints.values(model.variables)
        if other is None:
            last = State(new, math.nan, course.best_epoch)
            return _Lesson((last,), course.history, feed.size, note)
        mean = halfway(model.variables, begun, new)
        checkpoints.assign(model.variables, mean)
        loss = float(distiller.evaluate(other.dataset(), verbose=0, return_dict=True)["loss"])
    states = (
        State(old, course.before, 0),
        State(new, course.after, course.best_epoch),
        State(mean, loss, course.best_epoch, "the mean of the old weights and the new is kept"),
    )
    return _Lesson(states, course.history, feed.size, note)


def _shares(division: Division, pupil: Pupil) -> NDArray[np.float64]:
    """Return how often each answer is right in the samples that are fitted to."""
    found = np.zeros(len(pupil.question.answers))
    for batch in division.to_fit():
        used, right = pupil.target(batch)
        flat = right.reshape(batch.size)
        known = used & (flat != IGNORED)
        found += np.bincount(flat[known], weights=batch.each[known], minlength=len(found))
    return np.asarray(found / found.sum())
