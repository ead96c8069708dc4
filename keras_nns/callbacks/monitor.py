"""`ActivityMonitor`: watch units label by label while a model is trained."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import keras

from keras_nns.callbacks.gathering import Gatherer
from keras_nns.callbacks.live import LiveHeatmaps
from keras_nns.data.batches import as_batches
from keras_nns.engine import images
from keras_nns.engine.devices import replica_count
from keras_nns.engine.summaries import SummaryWriter
from keras_nns.errors import DataError, SelectionError
from keras_nns.graph.tracing import trace, weights_digest
from keras_nns.observation.activity import DEFAULT_STATISTICS, Activity, Statistic
from keras_nns.observation.probing import Layers, taps_of
from keras_nns.observation.watcher import Observer
from keras_nns.reporting import image_files, plots


class ActivityMonitor(keras.callbacks.Callback):
    """Gathers per-label activity of hidden units during `model.fit`.

    With `data`, it observes that data at the end of every `every` epochs, in inference mode, as
    `observe` does. Without, it gathers from the training batches themselves, inside the training
    step: no second pass over the data, but what it sees is training (dropout active, batch
    statistics, weights that move within the epoch). It counts samples: those of `sample_weight` 0
    are left out, and other weights, those of `class_weight` too, make no difference. Under a
    `tf.distribute.MirroredStrategy` every device sums what it sees, in either way.

    Put it behind callbacks that change weights, such as `EarlyStopping(restore_best_weights=True)`.

    Args:
        data: What to watch, as in `observe`; must be readable more than once. None gathers from the
            training batches.
        y: Labels, where `data` holds inputs only.
        every: Watch at the end of every so many epochs, and always when training ends.
        keep_history: Keep the activity of every watched epoch in `history`.
        log_dir: Folder for TensorBoard: histograms and label × unit heat maps of every watched
            epoch. Needs the `tensorboard` package (`pip install keras-nns[tensorboard]`).
        live: Name of a watched layer, or names: a notebook shows their label × unit heat maps, and
            renews them behind every watched epoch.
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
        SelectionError: `every` is not at least 1; `live` outside a notebook, or on training of a
            layer that is not watched.
        DataError: On training: `data` that does not fit the model or can be read only once.
        ModelError: On training: a model without a graph or hidden units, or one that several
            processes train under `tf.distribute`.

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
        live: str | Sequence[str] | None = None,
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
        self._live = None if live is None else LiveHeatmaps(live)
        self._layers = layers
        self._statistics = statistics
        self._threshold = threshold
        self._batch_size = batch_size
        self._label_names = label_names
        self._label_count = label_count
        self._verbose = verbose
        self._observer: Observer | None = None
        self._gatherer: Gatherer | None = None
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
        if self._live is not None:
            taps = taps_of(trace(self.model), self._layers)
            self._live.begin([tap.name for tap in taps])
        settings: dict[str, Any] = {
            "layers": self._layers,
            "statistics": self._statistics,
            "threshold": self._threshold,
            "label_names": self._label_names,
            "label_count": self._label_count,
        }
        if self._data is None:
            self._gatherer = Gatherer(self.model, **settings)
            self._gatherer.enter()
            return
        self._check_repeatable()
        several = replica_count(self.model) > 1
        strategy = self.model.distribute_strategy if several else None
        self._observer = Observer(self.model, in_training=True, strategy=strategy, **settings)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start to gather anew."""
        if self._gatherer is not None:
            self._gatherer.reset()

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
        if self._live is not None:
            self._live.show(self.activity, self._epoch)

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
