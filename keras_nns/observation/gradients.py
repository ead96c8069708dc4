"""Gradients: how a label's loss depends on every unit, as sums that can be added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import fields, replace
from typing import Any

import numpy as np
from keras import ops

from keras_nns.data.batches import Batch, as_batches, unweighted
from keras_nns.data.dealing import Dealer
from keras_nns.data.shards import Shard, Shards
from keras_nns.engine import operations
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.derivatives import Watch, differentiated
from keras_nns.errors import DataError, ModelError
from keras_nns.graph.tracing import Graph, Output, trace
from keras_nns.observation.gradient_sums import Gradients, LayerGradients
from keras_nns.observation.label_losses import (
    Objective,
    answering_of,
    label_count_of,
    label_loss,
    takes_one_label,
)
from keras_nns.observation.next_token import NextToken, TextLoss
from keras_nns.observation.passes import run_compiled
from keras_nns.observation.probing import Layers, asked_at, run_watched, taps_of
from keras_nns.observation.sums import label_table, samples_by_label, sum_by_label
from keras_nns.observation.unit_values import Place, Tap, along_steps, by_sample
from keras_nns.observation.workers import check_stateless
from keras_nns.progress import Verbose, track

NEXT_TOKEN = "next_token"
"""The loss of a language model on a text."""


def observe_gradients(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    loss: Any = None,
    output: str | None = None,
    layers: Layers = None,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    shard: tuple[int, int] | None = None,
    verbose: Verbose = "auto",
) -> Gradients:
    """See how the loss of each label's samples depends on every unit, in one pass over data.

    Memory does not grow with the number of samples: products of activation and gradient are formed
    for each sample inside the compiled step and summed there by label. The model is read in
    inference mode and not changed. Units are watched where `observe` watches them, behind their
    nonlinearity. What a unit of a recurrent layer does inside the layer, to its later steps, is
    seen only as far as the layer gives it out.

    Args:
        model: A built Sequential or functional `keras.Model`.
        data: As `observe` takes it.
        y: Labels, where `data` holds inputs only.
        loss: A Keras loss, its name, or a function of targets and outputs that gives one number
            for each sample; targets are label numbers where its name says "sparse", else rows of 0
            and 1 as wide as the output. None takes the loss that the model is compiled with, and
            for a model that is not compiled the negative log likelihood of its softmax or sigmoid.
            `"next_token"`, for language models: labels are kinds of text, and the loss of a text is
            the negative log likelihoods of its tokens, summed.
        output: Name of the output that answers the labels, where the model has several.
        layers: As in `observe`.
        batch_size: Samples per step, where `data` is arrays.
        label_names: Name of every label, in the order of the model's outputs.
        shard: `(2, 8)` takes the second of eight shards of the data, as in `observe`;
            `keras_nns.add` puts them together.
        verbose: Whether to show a progress bar; `"auto"` on a terminal only.

    Returns:
        The gradients, for `taylor` and `fisher`.

    Raises:
        SelectionError: The model has no loss, and none can be told from its output.
        DataError: Data that does not fit the model or the loss, NaN or infinite gradients.
        ModelError: A model without a graph or hidden units, or through which no gradient goes.
        PlanError: The model has several outputs, and none or an unknown one was named.

    Example:
        >>> gradients = nns.observe_gradients(model, (x, y))
        >>> score = nns.scores.taylor(gradients, signed=True)
        >>> nns.select(activity, labels=3, score=score, keep=nns.at_least(0)).labels
        (3,)
    """
    graph = trace(model)
    foretelling = isinstance(loss, str) and loss == NEXT_TOKEN
    answering = answering_of(graph, output, once=not foretelling)
    objective: Any
    if foretelling:
        objective = TextLoss(NextToken(model, output=output))
    else:
        objective = label_loss(graph, answering, loss)
    return gradients_of(
        graph,
        answering,
        objective,
        (data, y),
        layers=layers,
        batch_size=batch_size,
        label_names=label_names,
        verbose=verbose,
        own_labels=foretelling,
        shard=shard,
    )


def gradients_of(
    graph: Graph,
    output: Output,
    objective: Objective,
    data: tuple[Any, Any],
    *,
    layers: Layers = None,
    batch_size: int,
    label_names: Sequence[Any] | None,
    verbose: Verbose = "auto",
    of_labels: bool = True,
    own_labels: bool = False,
    shard: tuple[int, int] | None = None,
) -> Gradients:
    """Sum up how an objective depends on every unit; see `observe_gradients`.

    Args:
        graph: The traced model.
        output: The output that the objective takes.
        objective: What is asked.
        data: As `observe` takes it, and labels beside it or None.
        layers: As in `observe_gradients`, like the rest.
        batch_size: As there.
        label_names: As there.
        verbose: As there.
        of_labels: Whether the objective is of the labels that samples have.
        own_labels: Whether the labels are the data's own, and not what the model answers.
        shard: As there.

    Raises:
        DataError: The targets are none that the objective knows; or as in `observe_gradients`.
        ModelError: As in `observe_gradients`.
    """
    taps = taps_of(graph, layers, blocks=False)
    wanted = None if shard is None else Shard.of(shard)
    if wanted is not None and wanted.count > 1:
        check_stateless(graph.model, "shard")
    batches = as_batches(
        *data,
        model=graph.model,
        batch_size=batch_size,
        label_names=label_names,
        label_count=None if own_labels else label_count_of(graph, output),
        output=output.name,
        own_labels=own_labels,
    )
    if of_labels and batches.kind != "labels":
        raise DataError(
            f"Model {graph.model.name!r} has other targets than labels of samples, and the loss "
            "is of those. Use nns.scores.reconstruction, which needs only what the model answers."
        )
    dealer = None
    if wanted is not None and wanted.count > 1:
        dealer = Dealer(batches, wanted)
        batches = dealer.batches
    count = len(batches.label_names)
    sums = _GradientSums(graph, taps, output, objective, count)
    alike = unweighted(batches, "observe_gradients")
    shown = track(alike, "observing gradients", total=batches.batches, done=0, verbose=verbose)
    # Closed at once when a step fails, or the bar would stay on the terminal.
    with closing(shown) as stream:
        checked = _checked(stream, single=takes_one_label(objective))
        run_compiled(sums.update, checked, models=[graph.model])
    found = sums.gradients(batches.label_names)
    if dealer is None or wanted is None:
        return found
    return replace(found, shards=Shards((wanted.number,), wanted.count, dealer.data()))


def _checked(batches: Iterable[Batch], *, single: bool) -> Iterator[tuple[Any, Any]]:
    for batch in batches:
        if single and batch.labels.ndim == 2 and (batch.labels.sum(axis=1) != 1).any():
            raise DataError(
                "The loss takes one label for each sample, and samples of the data have none or "
                "several. Pass a loss for several labels, such as loss='binary_crossentropy'."
            )
        yield batch.inputs, batch.labels


class _GradientSums:
    """What has been seen so far; updated inside a compiled step.

    Batches are summed in float32 and added up in float64, squares in float64 throughout: where a
    model is sure of itself its gradients are tiny.
    """

    def __init__(
        self, graph: Graph, taps: Sequence[Tap], output: Output, objective: Objective, labels: int
    ) -> None:
        self._graph = graph
        self._taps = tuple(taps)
        self._index = graph.outputs.index(output)
        self._objective = objective
        self._labels = labels
        self._samples = Accumulator((labels,), "int64")
        self._sums = [
            {f.name: Accumulator((labels, tap.units)) for f in fields(LayerGradients)}
            for tap in taps
        ]

    def update(self, inputs: Any, labels: Any) -> None:
        """Add one batch: label numbers `(batch,)`, or booleans `(batch, labels)`."""
        places: list[Place] = []

        def loss(watch: Watch) -> tuple[Any, list[Any]]:
            seen, outputs = run_watched(self._graph, self._taps, inputs, watch=watch)
            places[:] = [place for place, tensor in seen.items() if tensor is not None]
            if isinstance(self._objective, TextLoss):
                found = self._objective.of_inputs(outputs, inputs)
            else:
                found = self._objective(outputs[self._index], labels)
            return ops.sum(found), [seen[place] for place in places]

        # Samples do not meet in inference mode: the sum's gradient is each sample's own.
        found, tensors = differentiated(loss)
        seen = dict(zip(places, tensors, strict=True))
        table = label_table(labels, self._labels)
        self._samples.add(samples_by_label(table))
        for tap, sums in zip(self._taps, self._sums, strict=True):
            effect, slope = _effects(tap, seen, found, ops.shape(labels)[0])
            sums["effect"].add(sum_by_label(table, effect))
            sums["magnitude"].add(sum_by_label(table, ops.abs(effect)))
            squared = ops.square(ops.cast(effect, "float64"))
            sums["square"].add(ops.matmul(ops.cast(table, "float64"), squared))
            sums["slope"].add(sum_by_label(table, slope))

    def gradients(self, label_names: Sequence[str]) -> Gradients:
        """Return what has been seen.

        Raises:
            DataError: There were no samples, or gradients are NaN or infinite.
            ModelError: All gradients are zero.
        """
        samples = self._samples.numpy()
        if not samples.any():
            raise DataError("The data has no samples of any label, so there is nothing to observe.")
        layers = {
            tap.name: LayerGradients(**{name: held.numpy() for name, held in sums.items()})
            for tap, sums in zip(self._taps, self._sums, strict=True)
        }
        for name, layer in layers.items():
            if not np.isfinite(layer.square).all() or not np.isfinite(layer.slope).all():
                raise DataError(
                    f"The loss has NaN or infinite gradients at layer {name!r}. Look for inputs "
                    "that are not scaled as in training, weights that diverged, or a loss that is "
                    "undefined for the model's outputs."
                )
        if not any(layer.slope.any() for layer in layers.values()):
            raise ModelError(
                f"No gradient goes from the loss to any watched layer of {self._graph.model.name!r}"
                ": something between them has none (rounding, argmax), or the loss is 0 on every "
                "sample. Use a score of activity, such as contrast."
            )
        return Gradients(
            fingerprint=self._graph.fingerprint,
            layout=self._graph.layout,
            label_names=tuple(label_names),
            samples=samples,
            layers=layers,
        )


def _effects(
    tap: Tap, seen: Mapping[Any, Any], gradients: Mapping[Any, Any], samples: Any
) -> tuple[Any, Any]:
    """Return -Σ g · a and Σ g over positions and calls, each `(batch, units)` float32."""
    effects, slopes = [], []
    for point in tap.points:
        a = ops.cast(seen[point.place], "float32")
        # Zero where nothing leads from here to the output: removing the unit changes nothing there.
        g = ops.cast(gradients[asked_at(point)], "float32")
        inside = point.reading
        if inside is None or inside.values is None:
            a, g = (along_steps(point, one, seen) for one in (a, g))
            others = [axis for axis in range(1, len(a.shape)) if axis != point.axis % len(a.shape)]
            effect, slope = -_summed(g * a, others), _summed(g, others)
        else:
            # A unit is a block of values here, and its value the norm of what it adds.
            values = inside.values(seen[point.place])
            if inside.through is None:
                product = ops.sum(ops.reshape(g * a, (*ops.shape(values), -1)), axis=-1)
            else:
                product = inside.through.products(a, seen[asked_at(point)], g)
            values, product = (along_steps(point, one, seen) for one in (values, product))
            between = list(range(1, len(values.shape) - 1))
            effect = -_summed(product, between)
            slope = _summed(ops.divide_no_nan(product, values), between)
        over = [] if point.rows == 1 else [1]
        effects.append(_summed(by_sample(point, effect, samples), over))
        slopes.append(_summed(by_sample(point, slope, samples), over))
    return operations.total(effects), operations.total(slopes)


def _summed(x: Any, axes: list[int]) -> Any:
    return ops.sum(x, axis=axes) if axes else x
