"""Teach a network other labels: a new head first, then layer after layer from the top."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_nns import tables
from keras_nns.data.batches import as_batches
from keras_nns.errors import SurgeryError
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.graph.tracing import trace, weights_digest
from keras_nns.judgement.question import whole_question
from keras_nns.observation.holdout import Division
from keras_nns.observation.moments import HALVES, HELD_OUT
from keras_nns.surgery.copying import copied
from keras_nns.surgery.lineage import add_seen
from keras_nns.training import checkpoints
from keras_nns.training.checkpoints import Checkpoint
from keras_nns.training.loop import Course, Schooling, random_untouched, seed_dropout
from keras_nns.training.targets import Labelling, check_labels, feeds
from keras_nns.transferring.features import (
    Pooling,
    feature_extractor,
    learns,
    leaves,
    output_of,
    streamed,
)
from keras_nns.transferring.heads import attach_head, checked_names


@dataclass(frozen=True)
class Stage:
    """One stage of a transfer.

    Attributes:
        trained: Layers that learnt, from the first to the last.
        rate: Their learning rate.
        course: What came of it, epoch by epoch.
    """

    trained: tuple[str, ...]
    rate: float
    course: Course


@dataclass(frozen=True, repr=False, eq=False)
class Transfer(tables.Tabular):
    """A network that was taught other labels. Printing it gives a table.

    Attributes:
        model: The new model, compiled as in its last stage.
        stages: What each stage did.
        label_names: What it answers.
        samples: How many samples it was trained on.
        held_out: How many others each epoch was judged on.

    Example:
        >>> names = ["even", "odd"]
        >>> done = nns.transfer(model, (x, y % 2), label_names=names, rates=[0.001], epochs=1)
        >>> done.label_names, done.samples, done.held_out
        (('even', 'odd'), 1080, 120)
    """

    model: keras.Model
    stages: tuple[Stage, ...]
    label_names: tuple[str, ...]
    samples: int
    held_out: int

    def to_table(self) -> tables.Table:
        """Return the stages as a table."""
        rows = []
        for number, stage in enumerate(self.stages):
            course = stage.course
            epochs = max((len(values) for values in course.history.values()), default=0)
            first, last = stage.trained[0], stage.trained[-1]
            rows.append(
                (
                    "head" if number == 0 else f"{first} to {last}",
                    f"{stage.rate:g}",
                    f"{course.best_epoch} of {epochs}",
                    _figure(course.before),
                    _figure(course.after),
                )
            )
        judged = f"losses are of {self.held_out:,} others" if self.held_out else "none held out"
        return tables.Table(
            ("trained", "rate", "epochs kept", "loss before", "loss after"),
            tuple(rows),
            f"Taught {', '.join(self.label_names)} from {self.samples:,} samples; {judged}.",
        )

    def to_json(self) -> Json:
        """Return the stages as plain data, None where there is no figure."""
        return {
            "label_names": list(self.label_names),
            "samples": self.samples,
            "held_out": self.held_out,
            "stages": [
                {
                    "trained": list(stage.trained),
                    "rate": stage.rate,
                    "best_epoch": stage.course.best_epoch,
                    "before": _plain(stage.course.before),
                    "after": _plain(stage.course.after),
                    "history": {
                        name: [_plain(value) for value in values]
                        for name, values in stage.course.history.items()
                    },
                }
                for stage in self.stages
            ],
        }


@random_untouched()
def transfer(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    label_names: Sequence[Any] | None = None,
    rates: Sequence[float] = (1e-3, 1e-4),
    epochs: int | Sequence[int] = 10,
    up_to: str | None = None,
    pooling: Pooling | None = None,
    head: Any = None,
    optimizer: Any = "adam",
    held_out: float = 0.1,
    patience: int | None = 3,
    seed: int = 0,
    batch_size: int = 64,
    balance: bool = False,
    class_weight: Mapping[int | str, float] | None = None,
    checkpoint: atomic.Path_ | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = False,
) -> Transfer:
    """Teach a network other labels than it was trained on.

    The usual recipe. First the features of all samples are computed once and a new head is trained
    on them alone; then layers are unfrozen from the top, stage by stage, and trained together with
    the head. Each stage has its own learning rate. Batch norms stay in inference mode throughout.
    After each stage the weights stand that did best on samples held out.

    `rates=(1e-3,)` is feature extraction: no layer of the network learns.

    Args:
        model: A subnetwork from `cut`, or any Sequential or functional model. It is not changed.
        data: Samples of the new labels, as `keras_nns.observe` takes them.
        y: Labels, where `data` is inputs alone.
        label_names: Name of every new label, in the order of their numbers. Without it the names in
            the data, or "0", "1", ….
        rates: Learning rate of the head alone, and of each stage that unfreezes a further part from
            the top; with the last one every layer learns. Each lower than the one before it, as a
            rule.
        epochs: At most how often each stage goes over the data; one number, or one for each stage.
        up_to: As in `feature_extractor`.
        pooling: As in `feature_extractor`.
        head: As in `attach_head`.
        optimizer: A Keras optimizer or its name. Each stage has a copy, with its rate.
        held_out: Share of the samples to judge epochs on. With 0 the last weights are kept.
        patience: After how many epochs without a better loss on them a stage stops; None never.
        seed: Which samples are held out, their order, the head's first weights, and dropout.
        batch_size: Samples in a step.
        balance: Whether to draw samples of every label equally often.
        class_weight: As in `fine_tune`.
        checkpoint: A file, written at the end of every epoch. A call that finds it goes on from
            there, and ends with the same weights as one that was never stopped. It is left where it
            is; a call after the end gives the result again.
        callbacks: Keras callbacks, for every stage.
        verbose: Let Keras write a line for each epoch.

    Returns:
        The new model, with lineage, labels and compile settings, and what each stage did.

    Raises:
        DataError: The data does not fit the model, a label has too few samples, or names collide.
        SurgeryError: An option makes no sense, or the head does not fit.
        FileError: The checkpoint is damaged, or of another training.

    Example:
        >>> names = ["even", "odd"]
        >>> done = nns.transfer(model, (x, y % 2), label_names=names, rates=[0.001], epochs=1)
        >>> done.model.output_shape
        (None, 2)
        >>> nns.save_model(done.model, "even_or_odd.keras")
    """
    plan = _stages(rates, epochs)
    batches = as_batches(data, y, model=model, label_names=label_names, own_labels=True)
    names = checked_names(batches.label_names)
    division = Division(
        batches, None, model=model, held_out=held_out, seed=seed, batch_size=256, label_names=None
    )
    survey = division.survey()
    check_labels("transfer", survey, names)
    how = [
        Schooling(
            epochs=count,
            patience=patience,
            batch_size=batch_size,
            seed=seed + number,
            balance=balance,
            callbacks=callbacks,
            verbose=verbose,
        )
        for number, (_, count) in enumerate(plan)
    ]
    extractor = feature_extractor(model, up_to, pooling=pooling)
    whole = attach_head(extractor, names, head, seed=seed)
    kept = None
    if checkpoint is not None:
        about: Json = {
            "model": [trace(whole).structure, weights_digest(whole)],
            "samples": division.content(),
            "labels": list(names),
            "stages": [[rate, count] for rate, count in plan],
            "options": [held_out, patience, seed, batch_size, balance, _plainly(class_weight)],
            "optimizer": _described(_optimizer(optimizer, 1.0)),
        }
        kept = Checkpoint(checkpoint, about)
    labelling = Labelling(whole_question(names), len(names), True)
    stages: list[Stage] = []
    parts = _parts(whole, extractor, len(plan) - 1)
    seed_dropout(whole, seed)
    if kept is not None and kept.state.whole is not None:
        checkpoints.assign(whole.variables, kept.state.whole)
    for number, (rate, _) in enumerate(plan):
        learning = _unfreeze(whole, parts[: number + 1])
        if kept is not None and number < len(kept.state.done):
            stages.append(Stage(learning, rate, Course.from_json(kept.state.done[number])))
            continue
        if number == 0:
            trained = _head_alone(whole, extractor)
            through = partial(streamed, extractor)
        else:
            trained, through = whole, None
        feed, other = feeds(
            division, labelling.target, how[number], through=through, class_weight=class_weight
        )
        _compile(trained, whole, _optimizer(optimizer, rate))
        course = how[number].teach(trained, trained, feed, other, checkpoint=kept)
        stages.append(Stage(learning, rate, course))
        if kept is not None:
            kept.finish(course.to_json(), checkpoints.values(whole.variables))
    _compile(whole, whole, _optimizer(optimizer, plan[-1][0]))
    taught = copied(whole)
    add_seen(taught, survey.seen)
    fitted = int(survey.samples[list(HALVES)].sum())
    return Transfer(taught, tuple(stages), names, fitted, int(survey.samples[HELD_OUT]))


def _stages(rates: Sequence[float], epochs: int | Sequence[int]) -> list[tuple[float, int]]:
    counts = [epochs] * len(rates) if isinstance(epochs, int) else list(epochs)
    if not rates or len(counts) != len(rates):
        raise SurgeryError(
            "`rates` has a learning rate for the head and for every further stage, and `epochs` is "
            f"one number or one for each. Received: rates={rates!r}, epochs={epochs!r}."
        )
    if not all(math.isfinite(rate) and rate > 0 for rate in rates):
        raise SurgeryError(f"A learning rate must be above 0. Received: rates={rates!r}.")
    return [(float(rate), count) for rate, count in zip(rates, counts, strict=True)]


def _parts(whole: keras.Model, extractor: keras.Model, stages: int) -> list[list[str]]:
    """Deal the layers out: the head, and then from the top a part for each further stage."""
    body = leaves(trace(extractor))
    found = leaves(trace(whole))
    head = [path for path in found if path not in body]
    below = [path for path in body if learns(found[path])]
    if stages > len(below):
        raise SurgeryError(
            f"`rates` has {stages} stages behind that of the head, and the network has "
            f"{len(below)} layer(s) that can learn. Pass fewer."
        )
    dealt = np.array_split(np.arange(len(below)), stages) if stages else []
    return [head, *([below[i] for i in part] for part in dealt[::-1])]


def _unfreeze(whole: keras.Model, parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Let some layers learn and no others; return their paths in order."""
    learning = {path for part in parts for path in part}
    found = leaves(trace(whole))
    for path, layer in found.items():
        layer.trainable = path in learning
    return tuple(path for path, layer in found.items() if path in learning and layer.weights)


def _head_alone(whole: keras.Model, extractor: keras.Model) -> keras.Model:
    """Return a model from features to answers that shares the layers of the head."""
    name = extractor.outputs[0]._keras_history.operation.name
    return keras.Model(output_of(whole, name), whole.outputs[0], name=f"{whole.name}_head")


def _compile(trained: keras.Model, whole: keras.Model, optimizer: Any) -> None:
    kind = trace(whole).outputs[0].kind
    if kind == "sigmoid":
        raise SurgeryError(
            "The head ends in a sigmoid, which answers each label by itself. transfer trains one "
            "answer for each sample: end it in a softmax, or in no activation."
        )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=kind == "linear")
    trained.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])


def _optimizer(given: Any, rate: float) -> Any:
    """Return an optimizer of our own, with a rate."""
    optimizer = keras.optimizers.get(given)
    return type(optimizer).from_config({**optimizer.get_config(), "learning_rate": rate})


def _described(optimizer: Any) -> str:
    # Keras numbers the optimizers of a process: their name says nothing.
    config = {key: value for key, value in optimizer.get_config().items() if key != "name"}
    return f"{type(optimizer).__name__}: {config}"


def _plainly(class_weight: Mapping[int | str, float] | None) -> Json | None:
    if class_weight is None:
        return None
    return {str(label): float(weight) for label, weight in class_weight.items()}


def _figure(value: float) -> str:
    return tables.UNDEFINED if math.isnan(value) else f"{value:.4g}"


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
