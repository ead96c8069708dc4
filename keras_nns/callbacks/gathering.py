"""Sum what a training step computes anyway, label by label."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from keras_nns.callbacks.fit_hooks import Fitting
from keras_nns.data.labels import output_label_count
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.backend import refuse
from keras_nns.engine.devices import replica_count
from keras_nns.engine.replicas import Replicas
from keras_nns.engine.tensors import is_floating
from keras_nns.errors import DataError, ModelError
from keras_nns.graph.keras_internals import Key, first_argument
from keras_nns.graph.tracing import Graph, trace, weights_digest
from keras_nns.observation.activity import Activity, Statistic
from keras_nns.observation.probing import (
    Hear,
    Layers,
    hear_padding,
    listening,
    taps_of,
)
from keras_nns.observation.sums import Sums
from keras_nns.observation.unit_values import Place, Tap, values_at
from keras_nns.plans.units import Fingerprint


class Gatherer:
    """Sums what the training step computes anyway.

    While the step is traced the watched layers' `call` hands a copy of its outputs here. Only the
    model's compiled training function is replaced; see `Fitting`.
    """

    def __init__(
        self,
        model: Any,
        *,
        layers: Layers,
        statistics: Sequence[Statistic],
        threshold: float,
        label_names: Sequence[str] | None,
        label_count: int | None,
    ) -> None:
        refuse(
            "ActivityMonitor() without data, which watches the training step itself,",
            "pass data=(x, y), which it watches behind every epoch.",
            here=("jax",),
        )
        self._model = model
        self._graph: Graph = trace(model)
        self._taps: tuple[Tap, ...] = taps_of(self._graph, layers)
        count = label_count or (len(label_names) if label_names else output_label_count(model))
        if not count:
            raise DataError(
                f"The outputs of {model.name!r} do not tell how many labels there are. Pass "
                "label_count=… or label_names=… to ActivityMonitor."
            )
        self._names = tuple(label_names) if label_names else tuple(str(i) for i in range(count))
        if len(self._names) != count:
            raise DataError(f"Expected {count} label names. Received: {len(self._names)}.")
        self._replicas = _replicas_of(model)

        def make() -> _Held:
            sums = Sums(self._taps, count, statistics, threshold)
            return _Held(sums, Accumulator((), "int64"), Accumulator((), "int64"))

        self._held = [make()] if self._replicas is None else self._replicas.each(make)
        self._heard: list[_Heard] = [_Heard() for _ in self._held]
        self._stack = ExitStack()
        self._steps = 0
        self._fitting = Fitting(model, train=self._step)
        self.enter, self.leave = self._fitting.enter, self._fitting.leave
        self._keys: dict[int, list[Key]] = {}
        for key, traced in self._graph.calls.items():
            self._keys.setdefault(id(traced.call.operation), []).append(key)

    def reset(self) -> None:
        """Start anew."""
        for held in self._held:
            held.sums.reset()
            held.seen.reset()
            held.counted.reset()

    def _step(self, step: Callable[[Any], Any], data: Any) -> Any:
        place = self._place()
        with self._listening(place) as heard:
            logs = step(data)
        _, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        self._add(self._held[place], heard, y, weights)
        return logs

    def activity(self) -> Activity:
        """Return what the last epoch showed, of the weights as they are now."""
        seen = sum(int(held.seen.numpy()) for held in self._held)
        counted = sum(int(held.counted.numpy()) for held in self._held)
        if counted < seen:
            raise DataError(
                f"{seen - counted} of {seen} training samples have a label that the model's "
                f"{len(self._names)} outputs do not have. Labels must be numbers from 0 to "
                f"{len(self._names) - 1}."
            )
        fingerprint = Fingerprint(self._graph.structure, weights_digest(self._model))
        parts = []
        for held in self._held:
            held.sums.check_finite()
            parts.append(held.sums.activity(self._graph, self._names, fingerprint))
        return functools.reduce(operator.add, parts)

    def _place(self) -> int:
        """Return which replica's step runs in Python now."""
        return 0 if self._replicas is None else self._replicas.place()

    @contextmanager
    def _listening(self, place: int) -> Iterator[dict[Place, Any]]:
        """While a replica's step runs in Python, keep what is watched.

        TensorFlow goes from one replica's step to the next one's where gradients meet, and back:
        layers hand on what they see from the first step's beginning to the last one's end.
        """
        self._heard[place] = _Heard()
        if not self._steps:
            self._listen()
        self._steps += 1
        try:
            yield self._heard[place].tensors
        finally:
            self._steps -= 1
            if not self._steps:
                self._stack.close()

    def _listen(self) -> None:
        listened: set[int] = set()
        for point in (point for tap in self._taps for point in tap.points):
            operation = self._graph.calls[point.key].call.operation
            layers = [operation, point.reading.held] if point.reading else [operation]
            for layer in layers:
                if id(layer) not in listened:
                    listened.add(id(layer))
                    hear = self._listener(layer, self._keys[id(operation)])
                    self._stack.enter_context(listening(layer, hear))

    def _listener(self, layer: Any, keys: Sequence[Key]) -> Hear:
        """Keep what a layer answers, or what one that it holds is called on, in each call."""

        def hear(given: Any, outputs: Any) -> None:
            here = self._heard[self._place()]
            heard, count = here.tensors, here.calls.get(id(layer), 0)
            # A training step may run the model again; the first run is the one to watch.
            if count < len(keys):
                traced = self._graph.calls[keys[count]]
                if traced.call.operation is layer:
                    for index, tensor in enumerate(keras.tree.flatten(outputs)):
                        heard[keys[count], index] = tensor
                    for reading in traced.readings:
                        hear_padding(heard, reading, traced.call, given)
                for reading in traced.readings:
                    if reading.held is layer:
                        heard[keys[count], reading] = first_argument(layer, *given)
            here.calls[id(layer)] = count + 1

        return hear

    def _add(self, held: _Held, heard: dict[Place, Any], y: Any, weights: Any) -> None:
        missing = [t.name for t in self._taps if any(p.place not in heard for p in t.points)]
        if missing:
            raise ModelError(
                f"The training step did not run layers {missing}, so nothing can be gathered from "
                "it. Pass data=… to ActivityMonitor, or name the layers that it runs."
            )
        labels = step_labels(y, held.sums.labels)
        alone = len(labels.shape) == 1
        used = ops.ones_like(labels if alone else labels[:, 0], dtype="bool")
        if weights is not None:
            used = ops.reshape(weights, (-1,)) > 0
            # A label below 0 is none.
            labels = (
                ops.where(used, labels, -1) if alone else ops.logical_and(labels, used[:, None])
            )
        further = held.sums.further
        samples = ops.shape(labels)[0]
        values = [values_at(tap, heard, samples, further=further) for tap in self._taps]
        held.sums.update(values, labels)
        if len(labels.shape) == 1:
            fits = (labels >= 0) & (labels < held.sums.labels)
            held.seen.add(ops.sum(ops.cast(used, "int64")))
            held.counted.add(ops.sum(ops.cast(fits, "int64")))


@dataclass(frozen=True, eq=False)
class _Held:
    """What one replica has summed, and how many samples it saw and has counted."""

    sums: Sums
    seen: Accumulator
    counted: Accumulator


@dataclass(eq=False)
class _Heard:
    """What one replica's step has shown so far, and how often each layer was called."""

    tensors: dict[Place, Any] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)


def _replicas_of(model: Any) -> Replicas | None:
    """Return the replicas that train a model; None for the model alone.

    Raises:
        ModelError: They are in several processes.
    """
    if replica_count(model) == 1:
        return None
    replicas = Replicas(model.distribute_strategy)
    if replicas.workers > 1:
        raise ModelError(
            f"ActivityMonitor watches a model that one process trains, and {replicas.workers} "
            "train this one. Observe it afterwards: nns.observe(model, data, strategy=…)."
        )
    replicas.check_made_with(model)
    return replicas


def step_labels(y: Any, count: int) -> Any:
    """Turn a batch's targets into label numbers `(batch,)` or booleans `(batch, labels)`."""
    if y is None or isinstance(y, dict | list | tuple):
        raise DataError(
            "ActivityMonitor gathers by label, and the training data has "
            f"{'no' if y is None else 'several'} targets. Pass data=(x, y) to watch instead."
        )
    y = ops.convert_to_tensor(y)
    if len(y.shape) == 2 and y.shape[1] == count and count > 1:
        return y > 0.5 if is_floating(y) else ops.cast(y, "bool")
    if len(y.shape) == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if len(y.shape) != 1:
        raise DataError(
            f"Expected targets of shape (batch,) or (batch, {count}). Received: shape {y.shape}. "
            "Pass data=(x, labels) to ActivityMonitor to watch instead."
        )
    return ops.cast(ops.round(y) if is_floating(y) else y, "int64")
