"""Training on labels, as a model was compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras

from keras_nns.data.outputs import output_keys, output_place
from keras_nns.errors import ModelError, SurgeryError
from keras_nns.graph.tracing import trace
from keras_nns.judgement.question import Question, question_of, reply, whole_question
from keras_nns.judgement.tallies import Reported, tally
from keras_nns.observation.forward import parents_batches, passed, run, settle_labels
from keras_nns.observation.holdout import Division, Survey
from keras_nns.observation.moments import HALVES, HELD_OUT
from keras_nns.repairing.head_fit import at_half
from keras_nns.repairing.nearness import BALANCED, balanced_accuracy
from keras_nns.repairing.patient import Gain, refuse_state
from keras_nns.surgery.compiling import is_sparse
from keras_nns.surgery.copying import copied
from keras_nns.surgery.lineage import (
    Lineage,
    add_seen,
    answering_output,
    balanced_decisions,
    origin_of,
    set_balanced,
)
from keras_nns.surgery.operating_points import BalancedDecisions
from keras_nns.training.augmentation import Augment, Augmentation, moves_targets
from keras_nns.training.loop import Schooling, random_untouched
from keras_nns.training.optimizers import own_optimizer
from keras_nns.training.outcome import Trained
from keras_nns.training.targets import Labelling, check_answers, feeds


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
    balance: bool | None = None,
    class_weight: Mapping[int | str, float] | None = None,
    freeze_batch_norm: bool = False,
    augment: Augment | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = False,
    label_names: Sequence[Any] | None = None,
) -> Trained:
    """Train a copy of a model on labels, or other targets, as it was compiled.

    Optimizer, loss and metrics are those of the model, which `cut` took over from the parent, with
    a loss that fits the head. Labels in the data are the parent's; they become what the head
    answers, in the form the loss takes. Samples of labels that the head leaves out are left out.
    Sample weights in the data, `(x, y, sample_weight)`, count as in Keras's `fit`, and also on what
    is held out.

    Args:
        small: A subnetwork from `cut`, or any Sequential or functional model. It is not changed.
        data: Training data with the parent's labels, as `keras_nns.observe` takes it.
        y: Labels, where `data` is inputs alone.
        epochs: How often to go over the data.
        optimizer: A Keras optimizer or its name, which is copied, in place of the model's own.
            Where the model is not compiled, None is Adam at its usual rate.
        loss: A Keras loss in place of the model's own. Where the model is not compiled, None is the
            cross-entropy that fits its outputs, or for targets that are numbers the mean squared
            error.
        held_out: As in `distill`.
        patience: After how many epochs without a better loss on what is held out to stop; None
            never stops. The best weights are kept either way, and the old ones where nothing was
            better.
        seed: As in `distill`.
        batch_size: Samples in a step.
        balance: Draw samples of every answer equally often, as in `distill`. Needs labels of which
            each sample has one. None does so for `"binary"` and `"other"`, unless there is a
            `class_weight`.
        class_weight: How much samples of a label count, by its number or name in the data; 1 for
            labels that are not named. As in Keras's `fit`, and also on what is held out.
        freeze_batch_norm: Keep the batch norms as they are.
        augment: As in `distill`. Not for targets of pixels or steps.
        callbacks: Keras callbacks.
        verbose: Let Keras write a line for each epoch.
        label_names: Name of every label of the parent, in the order of its outputs.

    Returns:
        The new model, with lineage and compile settings, and what was gained.

    Raises:
        DataError: The data does not fit, or there are too few samples; the message says how many
            it takes.
        SurgeryError: An option makes no sense.
        ModelError: A layer is stateful, nothing can be trained, or the model has several outputs.

    Example:
        >>> small = nns.cut(model, plan, head="other")
        >>> tuned = nns.fine_tune(small, (x, y))
        >>> tuned.model.output_shape  # 3, and all the rest
        (None, 2)
    """
    how = Schooling(
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        seed=seed,
        freeze_batch_norm=freeze_batch_norm,
        augment=None if augment is None else Augmentation(augment, seed),
        callbacks=callbacks,
        verbose=verbose,
    )
    return tuned(
        small,
        data,
        y,
        how,
        optimizer=None if optimizer is None else partial(own_optimizer, optimizer),
        loss=loss,
        held_out=held_out,
        balance=balance,
        class_weight=class_weight,
        label_names=label_names,
    )


def tuned(
    small: keras.Model,
    data: Any,
    y: Any,
    how: Schooling,
    *,
    optimizer: Callable[[int], Any] | None,
    loss: Any,
    held_out: float,
    balance: bool | None,
    class_weight: Mapping[int | str, float] | None,
    label_names: Sequence[Any] | None,
    verb: str = "fine_tune",
    at_best_point: bool = False,
) -> Trained:
    """Train a copy of a model on labels.

    Args:
        small: As in `fine_tune`, like all that is not named here.
        data: As there.
        y: As there.
        how: How the training goes, but for its balance.
        optimizer: From the number of steps to an optimizer; None for the model's own.
        loss: As there.
        held_out: As there.
        balance: As there.
        class_weight: As there.
        label_names: As there.
        verb: What the user called.
        at_best_point: Whether to move a balanced yes/no answer so that 0.5 is the point of best
            balanced accuracy on the samples it was trained on.
    """
    refuse_state(small)
    origin = origin_of(small)
    batches = parents_batches(small, origin, data, y, batch_size=256, label_names=label_names)
    division = Division(
        batches,
        None,
        model=small,
        held_out=held_out,
        seed=how.seed,
        batch_size=256,
        label_names=label_names,
    )
    survey = division.survey()
    output = answering_output(small, origin)
    if len(small.outputs) > 1:
        keys = output_keys(small)
        place = output_place(small, output) or 0
        raise ModelError(
            f"Model {small.name!r} has {len(keys)} outputs, {keys}, and {verb} trains for one: "
            "what they share would unlearn the others. Train all with the model's own fit, with "
            "targets for each as its head answers them; or by its parent's answers, with "
            "nns.distill; or one alone, as a model of its own: keras.Model(model.inputs, "
            f"model.outputs[{place}])."
        )
    names = division.label_names
    step = f"{verb}(epochs={how.epochs})"
    gains: list[Gain] = []
    with random_untouched():
        model = copied(small)
        width, kind = int(model.outputs[0].shape[-1]), trace(small).outputs[0].kind
        numbers, at_positions = batches.kind == "values", batches.kind == "positions"
        if how.augment and moves_targets(batches.kind, model.outputs[0]):
            raise SurgeryError(
                "augment changes inputs alone, and targets of pixels or steps would no longer lie "
                "where they belong. Give data that change both."
            )
        question = whole_question(names)
        if not numbers:
            question = question_of(origin, names, width, small.name)
        # One yes or no is one answer also where a sample has several labels.
        single = question.head == "binary" or survey.labels.sum() == survey.samples.sum()
        single &= not at_positions
        summed = question.head in ("binary", "other") and single
        drawn = (summed and class_weight is None) if balance is None else balance
        how = replace(how, balance=drawn)
        steps = how.epochs * -(-_to_fit(survey, question) // how.batch_size)
        own = None if optimizer is None else optimizer(steps)
        _compile(model, own, loss, kind, None if numbers else question)
        check_answers(verb, survey, question)
        labelling = Labelling(
            None if numbers else question,
            width,
            is_sparse(model.loss),
            several=at_positions and kind == "sigmoid" and width > 1,
            single=len(model.outputs[0].shape) - 2 if batches.kind == "labels" else 0,
            ignored=getattr(model.loss, "ignore_class", None),
        )
        feed, other = feeds(division, labelling.target, how, class_weight=class_weight)

        judged = partial(_judged, division, question, kind, output)
        measure, before = judged(model)
        course = how.teach(model, model, feed, other)
        if held_out:
            gains.append(Gain(step, None, "loss", course.before, course.after))
        if at_best_point and drawn and isinstance(origin, Lineage) and question.head == "binary":
            model = at_half(model, origin, division.to_fit(), names)
        gains.append(Gain(step, None, measure, before, judged(model)[1]))
        trained = copied(model)
        add_seen(trained, survey.seen)
        known = balanced_decisions(origin)
        parents = None if known is None else known.parent
        set_balanced(trained, BalancedDecisions(feed.size, parents) if drawn else None)
    return Trained(
        trained,
        tuple(gains),
        course.history,
        course.best_epoch,
        feed.size,
        int(survey.samples[HELD_OUT]),
    )


def _judged(
    division: Division, question: Question, kind: str, output: str | None, model: keras.Model
) -> tuple[str, float]:
    """Return the figure that counts most on what is held out, with its name."""
    names, asked = division.label_names, division.whole.kind
    if asked != "labels":
        single = kind == "linear" and model.outputs[0].shape[-1] == 1
        told = Reported(model.name, names)
        counted = tally(asked, told, question, meaning=kind, threshold=0.0 if single else None)
        for batch, (outputs,) in passed([(model, output)], division.held_out()):
            counted.add(outputs, batch)
        found = counted.evaluation()
        return found.measure, found.worth
    ran = run([(model, output)], division.held_out())
    truth, several = settle_labels(ran.labels, len(names), None)
    low = float(ran.outputs[0].min())
    threshold = 0.0 if low < 0 else None
    decided = reply(question, ran.outputs[0], multi_label=several, threshold=threshold).decided
    return BALANCED, balanced_accuracy(question, decided, truth, several, weights=ran.weights)


def _to_fit(survey: Survey, question: Question) -> int:
    """Return about how many samples there are to train on."""
    halves = list(HALVES)
    if question.head == "labels":
        own = int(survey.labels[halves][:, question.named].sum())
        return min(own, int(survey.samples[halves].sum()))
    return int(survey.samples[halves].sum())


def _compile(
    model: keras.Model, optimizer: Any, loss: Any, kind: str, question: Question | None
) -> None:
    """Compile as asked, and as it was where nothing is asked."""
    if model.compiled and model.loss is not None and optimizer is None and loss is None:
        return
    given = keras.saving.deserialize_keras_object(model.get_compile_config())
    given["optimizer"] = optimizer or own_optimizer(given.get("optimizer", "adam"), 0)
    given["loss"] = loss or given.get("loss") or _usual_loss(model, kind, question)
    model.compile(**given)


def _usual_loss(model: keras.Model, kind: str, question: Question | None) -> Any:
    if question is None:
        return keras.losses.MeanSquaredError()
    probabilities = kind != "linear" or question.head in ("binary", "other")
    if model.outputs[0].shape[-1] == 1 or kind == "sigmoid":
        return keras.losses.BinaryCrossentropy(from_logits=not probabilities)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not probabilities)
