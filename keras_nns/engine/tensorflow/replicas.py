"""A model on several devices at once, in this process and in others: each has its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from keras import tree
from numpy.typing import NDArray

from keras_nns.errors import ModelError, WorkerError

T = TypeVar("T")

_KINDS = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)

PATIENCE = 3600.0
"""Seconds that a worker waits for the others to come."""


class Replicas:
    """The replicas of a strategy.

    Args:
        strategy: A `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy`.

    Attributes:
        count: Replicas in this process.
        workers: How many processes there are.
        worker: Which of them this is, from 0.

    Raises:
        ModelError: It is no such strategy.
    """

    def __init__(self, strategy: Any) -> None:
        if not isinstance(strategy, _KINDS):
            raise ModelError(
                "`strategy` is a tf.distribute.MirroredStrategy or a "
                f"tf.distribute.MultiWorkerMirroredStrategy. Received: {type(strategy).__name__}."
            )
        self._strategy = strategy
        # Compiled, since TensorFlow warns where anything is run without.
        held = tf.function(lambda: strategy.run(_number), autograph=False)()
        numbers = [int(number) for number in self._local(held)]
        self._first = numbers[0]
        self.count = len(numbers)
        self.workers = strategy.num_replicas_in_sync // self.count
        self.worker = self._first // self.count

    def check_made_with(self, model: Any) -> None:
        """Raise where a model's weights are not held by each replica.

        Raises:
            ModelError: The model was made outside the strategy's scope.
        """
        extended = self._strategy.extended
        odd = [w.path for w in model.weights if not extended.variable_created_in_scope(w.value)]
        if odd:
            raise ModelError(
                f"Model {model.name!r} was made outside the strategy's scope, so that its replicas "
                f"have no weights of their own (such as {odd[0]!r}). Make the strategy first, and "
                "the model in its scope: with strategy.scope(): model = nns.load_model(path)."
            )

    def each(self, make: Callable[[], T]) -> list[T]:
        """Make something for each replica of this process, on its device."""

        def on_device(device: str) -> T:
            with tf.device(device):
                return make()

        # In a scope they would become the strategy's own; a thread of its own is in none.
        with ThreadPoolExecutor(1) as alone:
            return [
                alone.submit(on_device, d).result() for d in self._strategy.extended.worker_devices
            ]

    def place(self) -> int:
        """Return which replica of this process a compiled function is being traced for, from 0."""
        number = _number()
        return int(tf.get_static_value(number) if tf.is_tensor(number) else number) - self._first

    def step(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return a function of whole batches that runs another on each replica with its rows.

        Args:
            function: Takes the place of the replica, and rows of batches, as many as the others'
                or one less; where there are fewer rows than replicas, some do not run. It is traced
                for each replica, one after the other.
        """

        def on_replica(*batches: Any) -> None:
            place = self.place()
            rows = tf.shape(tree.flatten(batches)[0])[0]
            start, end = (n * rows // self.count for n in (place, place + 1))
            with tf.device("/cpu:0"):  # So that a device is given no rows but its own.
                mine = tree.map_structure(lambda t: t[start:end], batches)

            def run() -> Any:
                function(place, *mine)
                return end

            # Not every kernel takes a batch of none: a convolution of oneDNN errs on its shape.
            tf.cond(end > start, run, lambda: end)

        def on_all(*batches: Any) -> None:
            self._strategy.run(on_replica, args=batches)

        return on_all

    def on_host(self, arrays: Any) -> Any:
        """Return a structure of arrays as tensors in the host's memory."""
        with tf.device("/cpu:0"):
            return tree.map_structure(tf.convert_to_tensor, arrays)

    def gathered(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return arrays of all workers, on every worker the same, `(workers, …)` each.

        All workers call this, with arrays of the same shapes and of a dtype that networks know:
        int32, int64, float32 or float64.

        Raises:
            WorkerError: A worker did not come in time, or is gone.
        """
        if self.workers == 1:
            return [array[None] for array in arrays]
        options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=PATIENCE)

        def on_replica(*tensors: Any) -> Any:
            context = tf.distribute.get_replica_context()
            rows = [tensor[None] for tensor in tensors]
            return context.all_gather(rows, axis=0, options=options)

        def on_all(*tensors: Any) -> Any:
            return self._strategy.run(on_replica, args=tensors)

        given = [self.on_host(array) for array in arrays]
        try:
            found = tf.function(on_all, autograph=False)(*given)
        except (tf.errors.DeadlineExceededError, tf.errors.UnavailableError) as error:
            late = isinstance(error, tf.errors.DeadlineExceededError)
            what = f"did not come in {PATIENCE:g} seconds" if late else "is gone"
            raise WorkerError(
                f"Worker {self.worker + 1} of {self.workers} waits for the others, and one of them "
                f"{what}. See what it printed last, and start all of them again."
            ) from error
        return [np.asarray(self._local(one)[0])[:: self.count] for one in found]

    def _local(self, values: Any) -> tuple[Any, ...]:
        return tuple(self._strategy.experimental_local_results(values))


def _number() -> Any:
    return tf.distribute.get_replica_context().replica_id_in_sync_group
