"""Models run over data, side by side: their outputs and what is true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch, Batches, as_batches
from keras_nns.data.labels import answers_once
from keras_nns.data.outputs import output_place
from keras_nns.data.scale import check_first_batch, check_scale
from keras_nns.engine.steps import Stepper
from keras_nns.errors import DataError, ModelError
from keras_nns.graph.keras_internals import undisturbed
from keras_nns.observation.yes_or_no import (
    TWO,
    asks_yes_or_no,
    in_parents_labels,
    watch_numbers,
)
from keras_nns.surgery.lineage import Composition, Origin, answering_output, origin_of


def parents_batches(
    model: keras.Model,
    origin: Origin | None,
    data: Any,
    y: Any,
    *,
    batch_size: int,
    label_names: Sequence[Any] | None,
    output: str | None = None,
) -> Batches:
    """Read data whose labels are those of a subnetwork's parent.

    Args:
        model: The model that takes the inputs.
        origin: Where the subnetwork comes from; None for a parent.
        data: As `as_batches` takes it.
        y: Labels, when `data` is inputs alone.
        batch_size: Samples in a batch, for arrays.
        label_names: Names of the parent's labels, where the caller knows them.
        output: Name of the output that answers, for a model of several that does not remember it.

    Raises:
        DataError: The data does not fit, or nothing tells the parent's labels. Behind the first
            pass over it: its labels are 0 and 1, and a yes/no network is about neither.

    Warns:
        DataWarning: Behind the first pass: 0 and 1 may mean no and yes, and are read otherwise.
    """
    if isinstance(data, Batches):
        return data
    known = () if origin is None else origin.known_names
    output = output or answering_output(model, origin)
    asks = asks_yes_or_no(origin)
    if label_names is not None and asks and len(known) > TWO == len(list(label_names)):
        own = as_batches(
            data,
            y,
            model=model,
            batch_size=batch_size,
            label_names=label_names,
            label_count=TWO,
            output=output,
        )
        return in_parents_labels(own, origin)
    if origin is not None and not known and label_names is None:
        raise DataError(
            f"The plan of {model.name!r} does not name its parent's labels. Pass label_names."
        )
    # Plain numbers are no names: let the data bring its own.
    count = len(known) or None
    if isinstance(origin, Composition) and label_names is not None:
        # The data may have other labels than those that are composed.
        count = len(label_names)
    named = known and known != tuple(str(i) for i in range(len(known)))
    batches = as_batches(
        data,
        y,
        model=model,
        batch_size=batch_size,
        label_names=known if named and label_names is None else label_names,
        label_count=count,
        output=output,
    )
    if origin is not None and batches.alphabetical:
        raise DataError(
            f"The labels are strings and the parent of {model.name!r} has numbers for names. Pass "
            "label_names=[…], every label of the parent in the order of its outputs."
        )
    if not asks or batches.kind != "labels":
        return batches
    watched = watch_numbers(batches, model.name, origin, told=label_names is not None)
    return in_parents_labels(watched, origin) if batches.truths else watched


@dataclass(frozen=True, eq=False)
class Ran:
    """What models gave for data.

    Attributes:
        outputs: Outputs of each model, `(samples, outputs)` float32.
        labels: Labels as the data has them, `(samples,)` or `(samples, labels)`.
        inputs: Inputs of the first batch.
        weights: How much each sample counts, `(samples,)`; None where all count alike.
    """

    outputs: list[NDArray[np.float32]]
    labels: NDArray[Any]
    inputs: Any
    weights: NDArray[np.float64] | None = None


class Answering(Protocol):
    """What answers in a model's place: its compiled forward pass, or a file made of it."""

    @property
    def model(self) -> Any:
        """The model."""

    def __call__(self, inputs: Any) -> Any:
        """Return one output for inputs in the model's own structure, float32."""


Asked = tuple[keras.Model, str | None]
"""A model, and the name of its output that answers; None for a model of one output."""


def run(
    models: Sequence[Asked | Answering],
    batches: Iterable[Batch],
    *,
    every_step: bool = False,
    judged: bool = False,
) -> Ran:
    """Run models over the data in one pass, side by side. Nothing of the models changes.

    Args:
        models: Models that take the same inputs, each with the name of the output that answers the
            labels; None for a model of one output. Or what answers in their place.
        batches: The data. It is gone over once, one batch in memory at a time.
        every_step: Take outputs of any shape, and lay those of a sample's steps in one row.
        judged: Whether parents among the models answer the labels, so that those are named that do
            so by chance.

    Raises:
        DataError: A model gives NaN or infinity, or something else than one row per sample; or
            the inputs are scaled otherwise than a parent among the models was trained on.
        ModelError: A model has several outputs and none or an unknown one is named.

    Warns:
        DataWarning: A parent that is judged answers the first batch by chance.
    """
    found: list[list[NDArray[np.float32]]] = [[] for _ in models]
    labels: list[NDArray[Any]] = []
    weights: list[NDArray[np.float64]] = []
    first = None
    for batch, outputs in passed(models, batches, judged=judged):
        first = batch.inputs if first is None else first
        labels.append(batch.labels)
        weights.append(batch.each)
        for one, given, rows in zip(models, outputs, found, strict=True):
            laid = given.reshape(len(given), -1) if every_step else given
            rows.append(_checked(_model_of(one), laid, batch.size))
    each = np.concatenate(weights)
    return Ran(
        outputs=[np.concatenate(rows) for rows in found],
        labels=np.concatenate(labels),
        inputs=first,
        weights=each if (each != 1).any() else None,
    )


def passed(
    models: Sequence[Asked | Answering],
    batches: Iterable[Batch],
    *,
    judged: bool = False,
) -> Iterator[tuple[Batch, list[NDArray[np.float32]]]]:
    """Run models over the data in one pass, side by side, batch by batch.

    Args:
        models: As in `run`.
        batches: As in `run`.
        judged: As in `run`.

    Yields:
        A batch, and the outputs of each model for it, as the model gives them.

    Raises:
        DataError: A model gives NaN or infinity, or there is no sample; or as in `run`.
        ModelError: As in `run`.
    """
    look = check_first_batch if judged else check_scale
    steps = [Forward(*one) if isinstance(one, tuple) else one for one in models]
    number = -1
    with ExitStack() as stack:
        for step in steps:
            stack.enter_context(undisturbed(step.model))
        for number, batch in enumerate(batches):
            if number == 0 and batch.targets is None:
                for step in steps:
                    # A subnetwork may well be wrong for another reason than the scale.
                    if origin_of(step.model) is None and not getattr(step, "trusted", False):
                        look(step.model, batch.inputs, batch.labels)
            given = [np.asarray(step(batch.inputs)) for step in steps]
            for step, outputs in zip(steps, given, strict=True):
                _check_finite(step.model, outputs)
            yield batch, given
    if number < 0:
        raise DataError("The data is empty: there is nothing to evaluate.")


class Forward:
    """A model's compiled forward pass: `model.predict` would leave a compiled step on the model.

    Attributes:
        model: The model.
        output: Name of the output that it returns, or None for the only one.
        trusted: Whether its answers are no evidence that inputs are scaled wrongly: that was looked
            at, or it answers no labels.
    """

    def __init__(self, model: keras.Model, output: str | None, *, trusted: bool = False) -> None:
        self.model = model
        self.output = output
        self.trusted = trusted
        self._step = Stepper(self._forward)

    def __call__(self, inputs: Any) -> Any:
        """Run the model on inputs in its own structure; return one output, float32."""
        return self._step(inputs)

    def _forward(self, inputs: Any) -> Any:
        outputs = tree.flatten(self.model(inputs, training=False))
        if len(outputs) == 1 and self.output is None:
            return ops.cast(outputs[0], "float32")
        place = output_place(self.model, self.output)
        if place is None:
            names = list(getattr(self.model, "output_names", None) or ())
            raise ModelError(
                f"Model {self.model.name!r} has {len(outputs)} outputs. Say which one answers the "
                f"labels, as output=…, one of {names}. Received: output={self.output!r}."
            )
        return ops.cast(outputs[place], "float32")


def _checked(model: keras.Model, rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    if rows.ndim == 1 and rows.shape[0] == size:
        rows = rows[:, None]
    if answers_once(rows.shape):
        rows = rows.reshape(len(rows), -1)
    if rows.ndim != 2 or rows.shape[0] != size:
        raise DataError(
            f"Model {model.name!r} must give one row of outputs for each sample, of shape "
            f"({size}, outputs), to be held against labels of samples. Received: shape "
            f"{rows.shape}. Pass what it is to answer at every position in place of the labels."
        )
    return rows


def _model_of(one: Asked | Answering) -> keras.Model:
    return one[0] if isinstance(one, tuple) else one.model


def _check_finite(model: keras.Model, outputs: NDArray[np.float32]) -> None:
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"Model {model.name!r} gives NaN or infinity for {(~finite).sum()} of {len(outputs)} "
            "samples in a batch. Look for NaN in the inputs and in the model's weights."
        )


def settle_labels(
    labels: NDArray[Any], count: int, multi_label: bool | None
) -> tuple[NDArray[Any], bool]:
    """Turn labels into numbers where each sample has one, else into multi-hot rows.

    Args:
        labels: `(samples,)` numbers or `(samples, labels)` booleans.
        count: Number of labels.
        multi_label: What the user says; None to go by the labels.

    Returns:
        The labels, and whether they are multi-label.

    Raises:
        DataError: Single labels are wanted and a sample has none or several.
    """
    if labels.ndim == 1:
        return (labels[:, None] == np.arange(count), True) if multi_label else (labels, False)
    single = bool((labels.sum(axis=1) == 1).all())
    if multi_label is False and not single:
        raise DataError(
            "multi_label=False needs exactly one label for each sample. Received: samples with "
            "none or several. Leave multi_label out."
        )
    several = not single if multi_label is None else multi_label
    return (labels, True) if several else (labels.argmax(axis=1), False)
