"""`ActivityMonitor`: watch units label by label while a model is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from typing import Any

import keras
from keras import ops

from keras_nns.callbacks.fit_hooks import Fitting
from keras_nns.data.batches import as_batches
from keras_nns.data.labels import output_label_count
from keras_nns.engine import images
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.devices import replica_count
from keras_nns.engine.summaries import SummaryWriter
from keras_nns.engine.tensors import is_floating
from keras_nns.errors import DataError, ModelError, SelectionError
from keras_nns.graph.keras_internals import Key, first_argument
from keras_nns.graph.tracing import Graph, trace, weights_digest
from keras_nns.observation.activity import DEFAULT_STATISTICS, Activity, Statistic
from keras_nns.observation.probing import (
    Hear,
    Layers,
    hear_padding,
    listening,
    taps_of,
)
from keras_nns.observation.streaming import Observer
from keras_nns.observation.sums import Sums
from keras_nns.observation.unit_values import Place, Tap, values_at
from keras_nns.plans.units import Fingerprint
from keras_nns.reporting import image_files, plots


class ActivityMonitor(keras.callbacks.Callback):
    """Gathers per-label activity of hidden units during `model.fit`.

    With `data`, it observes that data at the end of every `every` epochs, in inference mode, as
    `observe` does. Without, it gathers from the training batches themselves, inside the training
    step: no second pass over the data, but what it sees is training (dropout active, batch
    statistics, weights that move within the epoch). It counts samples: those of `sample_weight` 0
    are left out, and other weights, those of `class_weight` too, make no difference.

    Put it behind callbacks that change weights, such as `EarlyStopping(restore_best_weights=True)`.

    Args:
        data: What to watch, as in `observe`; must be readable more than once. None gathers from the
            training batches.
        y: Labels, where `data` holds inputs only.
        every: Watch at the end of every so many epochs, and always when training ends.
        keep_history: Keep the activity of every watched epoch in `history`.
        log_dir: Folder for TensorBoard: histograms and label × unit heat maps of every watched
            epoch. Needs the `tensorboard` package (`pip install keras-nns[tensorboard]`).
        layers: As in `observe`.
        statistics: As in `observe`.
        threshold: As in `observe`.
        batch_size: Samples per step, where `data` is arrays.
        label_names: Name of every label, in the order of the model's outputs.
        label_count: How many labels there are, where the model's output does not tell.
        verbose: Whether to show a progress bar for each pass over `data`.

    Attributes:
        activity: The activity of the last watched epoch, of the weights as they are when training
            ends; None before.
        history: Activity by epoch number (from 0), when `keep_history` is true.

    Raises:
        SelectionError: `every` is not at least 1.
        DataError: On training: `data` that does not fit the model or can be read only once.
        ModelError: On training: a model without a graph or hidden units, or training batches
            gathered under `tf.distribute`.

    Example:
        >>> monitor = nns.ActivityMonitor(data=(x_test, y_test))
        >>> history = model.fit(x, y, epochs=1, callbacks=[monitor], verbose=0)
        >>> nns.select(monitor.activity, labels=3)
        <Plan for 3: 24 of 48 units>
    """

    def __init__(
        self,
        data: Any = None,
        y: Any = None,
        *,
        every: int = 1,
        keep_history: bool = False,
        log_dir: str | PathLike[str] | None = None,
        layers: Layers = None,
        statistics: Sequence[Statistic] = DEFAULT_STATISTICS,
        threshold: float = 0.0,
        batch_size: int = 256,
        label_names: Sequence[str] | None = None,
        label_count: int | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__()
        if every < 1:
            raise SelectionError(f"`every` is a number of epochs, at least 1. Received: {every}.")
        if log_dir is not None:
            _require_tensorboard()
        self.every = every
        self.keep_history = keep_history
        self._activity: Activity | None = None
        self.history: dict[int, Activity] = {}
        self._data, self._y = data, y
        self._log_dir = log_dir
        self._layers = layers
        self._statistics = statistics
        self._threshold = threshold
        self._batch_size = batch_size
        self._label_names = label_names
        self._label_count = label_count
        self._verbose = verbose
        self._observer: Observer | None = None
        self._gatherer: _Gatherer | None = None
        self._writer: SummaryWriter | None = None
        self._epoch = 0

    @property
    def activity(self) -> Activity:
        """The activity of the last watched epoch.

        Raises:
            DataError: No epoch has been watched yet.
        """
        if self._activity is None:
            raise DataError(
                "The monitor has not watched an epoch yet. Pass it to fit, as callbacks=[monitor], "
                "and read its activity afterwards."
            )
        return self._activity

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Get ready: trace the model, check the data, or enter the training step."""
        self._activity = None
        self.history = {}
        if self._log_dir is not None:
            self._writer = SummaryWriter(self._log_dir)
        settings: dict[str, Any] = {
            "layers": self._layers,
            "statistics": self._statistics,
            "threshold": self._threshold,
            "label_names": self._label_names,
            "label_count": self._label_count,
        }
        if self._data is None:
            self._gatherer = _Gatherer(self.model, **settings)
            self._gatherer.enter()
            return
        self._check_repeatable()
        self._observer = Observer(self.model, in_training=True, **settings)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start to gather anew."""
        if self._gatherer is not None:
            self._gatherer.sums.reset()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Watch, if this epoch's turn has come."""
        self._epoch = epoch
        if (epoch + 1) % self.every == 0:
            self._watch()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Watch what was not watched yet, and leave the model as it was."""
        if self._gatherer is not None:
            self._watch_if_changed()
            self._gatherer.leave()
            self._gatherer = None
        elif self._observer is not None:
            self._watch_if_changed()
            self._observer = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _watch_if_changed(self) -> None:
        seen = self._activity
        if seen is None or seen.fingerprint.weights != weights_digest(self.model):
            self._watch()

    def _watch(self) -> None:
        if self._gatherer is not None:
            self._activity = self._gatherer.activity()
        else:
            assert self._observer is not None
            self._activity = self._observer.observe(
                self._data, self._y, batch_size=self._batch_size, verbose=self._verbose
            )
        if self.keep_history:
            self.history[self._epoch] = self.activity
        if self._writer is not None:
            _write_summaries(self._writer, self.activity, self._epoch)

    def _check_repeatable(self) -> None:
        batches = as_batches(
            self._data,
            self._y,
            model=self.model,
            batch_size=self._batch_size,
            label_names=self._label_names,
            label_count=self._label_count,
        )
        if not batches.repeatable:
            raise DataError(
                "ActivityMonitor watches its data after several epochs, and a generator can be "
                "read only once. Pass arrays, a tf.data.Dataset, a keras.utils.PyDataset, or a "
                "function that returns a new generator."
            )


class _Gatherer:
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
        if replica_count(model) > 1:
            raise ModelError(
                "Gathering from training batches under tf.distribute is not supported. Pass data=… "
                "to ActivityMonitor, to watch that data at the end of epochs."
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
        self.sums = Sums(self._taps, count, statistics, threshold)
        self._seen = Accumulator((), "int64")
        self._counted = Accumulator((), "int64")
        self._fitting = Fitting(model, train=self._step)
        self.enter, self.leave = self._fitting.enter, self._fitting.leave
        self._keys: dict[int, list[Key]] = {}
        for key, traced in self._graph.calls.items():
            self._keys.setdefault(id(traced.call.operation), []).append(key)

    def _step(self, step: Callable[[Any], Any], data: Any) -> Any:
        with self._listening() as heard:
            logs = step(data)
        _, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        self._add(heard, y, weights)
        return logs

    def activity(self) -> Activity:
        """Return what the last epoch showed, of the weights as they are now."""
        seen, counted = int(self._seen.numpy()), int(self._counted.numpy())
        if counted < seen:
            raise DataError(
                f"{seen - counted} of {seen} training samples have a label that the model's "
                f"{len(self._names)} outputs do not have. Labels must be numbers from 0 to "
                f"{len(self._names) - 1}."
            )
        self.sums.check_finite()
        fingerprint = Fingerprint(self._graph.structure, weights_digest(self._model))
        return self.sums.activity(self._graph, self._names, fingerprint)

    @contextmanager
    def _listening(self) -> Iterator[dict[Place, Any]]:
        """While the step runs in Python, keep what is watched."""
        heard: dict[Place, Any] = {}
        listened: set[int] = set()
        with ExitStack() as stack:
            for point in (point for tap in self._taps for point in tap.points):
                operation = self._graph.calls[point.key].call.operation
                layers = [operation, point.reading.held] if point.reading else [operation]
                for layer in layers:
                    if id(layer) not in listened:
                        listened.add(id(layer))
                        hear = self._listener(layer, self._keys[id(operation)], heard)
                        stack.enter_context(listening(layer, hear))
            yield heard

    def _listener(self, layer: Any, keys: Sequence[Key], heard: dict[Place, Any]) -> Hear:
        """Keep what a layer answers, or what one that it holds is called on, in each call."""
        count = 0

        def hear(given: Any, outputs: Any) -> None:
            nonlocal count
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
            count += 1

        return hear

    def _add(self, heard: dict[Place, Any], y: Any, weights: Any) -> None:
        missing = [t.name for t in self._taps if any(p.place not in heard for p in t.points)]
        if missing:
            raise ModelError(
                f"The training step did not run layers {missing}, so nothing can be gathered from "
                "it. Pass data=… to ActivityMonitor, or name the layers that it runs."
            )
        labels = _step_labels(y, self.sums.labels)
        alone = len(labels.shape) == 1
        used = ops.ones_like(labels if alone else labels[:, 0], dtype="bool")
        if weights is not None:
            used = ops.reshape(weights, (-1,)) > 0
            # A label below 0 is none.
            labels = (
                ops.where(used, labels, -1) if alone else ops.logical_and(labels, used[:, None])
            )
        further = self.sums.further
        samples = ops.shape(labels)[0]
        values = [values_at(tap, heard, samples, further=further) for tap in self._taps]
        self.sums.update(values, labels)
        if len(labels.shape) == 1:
            fits = (labels >= 0) & (labels < self.sums.labels)
            self._seen.add(ops.sum(ops.cast(used, "int64")))
            self._counted.add(ops.sum(ops.cast(fits, "int64")))


def _step_labels(y: Any, count: int) -> Any:
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


def _require_tensorboard() -> None:
    try:
        import tensorboard  # noqa: F401, PLC0415  (an optional dependency)
    except ImportError as error:
        raise ModuleNotFoundError(
            "ActivityMonitor(log_dir=…) writes for TensorBoard, which is not installed: "
            "pip install 'keras-nns[tensorboard]'"
        ) from error


def _write_summaries(writer: SummaryWriter, activity: Activity, epoch: int) -> None:
    seen = activity.samples > 0
    for layer, sums in activity.layers.items():
        if sums.magnitude is not None:
            mean = activity.magnitude(layer)[seen]
            writer.histogram(f"{layer}/mean activation", mean, step=epoch)
            picture = images.decode(image_files.rendered(plots.activity_heatmap(activity, layer)))
            writer.image(f"{layer}/label × unit", picture[..., :3], step=epoch)
        if sums.fired is not None:
            rate = activity.firing_rate(layer)[seen]
            writer.histogram(f"{layer}/firing rate", rate, step=epoch)
    writer.flush()
