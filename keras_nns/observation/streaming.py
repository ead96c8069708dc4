"""Observe: one streaming pass over data through the probing submodel."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
from keras import ops, tree

from keras_nns.data.batches import Batch, Batches, as_batches, unweighted
from keras_nns.data.dealing import Dealer
from keras_nns.data.scale import check_first_batch, check_scale
from keras_nns.data.shards import Shard, Shards
from keras_nns.data.sketch import Sketcher
from keras_nns.engine import operations
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.staging import Staging
from keras_nns.engine.steps import Stepper
from keras_nns.engine.tensors import is_floating
from keras_nns.errors import DataError, ModelError
from keras_nns.files.atomic import Json
from keras_nns.graph.keras_internals import recurrent_states, undisturbed
from keras_nns.graph.tracing import trace, weights_digest
from keras_nns.observation.activity import DEFAULT_STATISTICS, Activity, Statistic
from keras_nns.observation.checkpointing import Checkpoint
from keras_nns.observation.probing import Layers, run_taps, taps_of
from keras_nns.observation.sums import Sums
from keras_nns.plans.units import Fingerprint
from keras_nns.progress import Verbose, track

_LOOK_EVERY = 50


def observe(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    layers: Layers = None,
    statistics: Sequence[Statistic] = DEFAULT_STATISTICS,
    threshold: float = 0.0,
    batch_size: int = 256,
    label_names: Sequence[str] | None = None,
    label_count: int | None = None,
    output: str | None = None,
    verbose: Verbose = "auto",
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int = 200,
    keep_checkpoint: bool = False,
    shard: tuple[int, int] | None = None,
) -> Activity:
    """Watch which units fire for which label, in one pass over data.

    The data streams through a probing submodel; statistics are summed inside the compiled step, so
    memory does not grow with the number of samples. The model is read in inference mode and not
    changed. A unit's value for one sample is the mean of its output, after its nonlinearity, over
    all positions (pixels, steps).

    Args:
        model: A built Sequential or functional `keras.Model`.
        data: `(x, y)` arrays, a batched `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator
            of batches, or the path of a folder of images per class, an `.npz` or IDX files.
        y: Labels, where `data` holds inputs only: numbers, names, one-hot or multi-hot.
        layers: Names of layers, or a function from a layer to a boolean. None watches every hidden
            layer with units.
        statistics: Some of `"fired"`, `"mean"`, `"variance"`, `"maximum"`, `"active"`,
            `"mean_square"`.
        threshold: A unit fired where its absolute value is above this.
        batch_size: Samples per step, where `data` is arrays.
        label_names: Name of every label, in the order of the model's outputs.
        label_count: How many labels there are, where the model's output does not tell.
        output: Name of the output that answers the labels, where the model has several: the data
            may then have the targets of all of them, as Keras's `fit` takes them.
        verbose: Whether to show a progress bar; `"auto"` on a terminal only.
        checkpoint: A file that keeps what has been summed so far. A run that was stopped half way
            goes on from it, given the same data in the same order, and ends with the same numbers.
            What was summed is read once more, not run, and refused where any of it is another.
            Removed when the pass is complete.
        checkpoint_every: Batches between two checkpoints.
        keep_checkpoint: Leave the file there, complete, when the pass is: to be deleted once the
            activity is safely written. A run that finds it gives the activity without running the
            model.
        shard: `(2, 8)` takes the second of eight shards of the data, the same on every machine, so
            that eight processes see every sample once between them; `keras_nns.add` makes one
            activity of theirs. Arrays, files and folders are dealt into samples that follow one
            another, a `PyDataset` into whole batches, and each process reads its own alone. A
            `tf.data.Dataset` or an iterable is gone through by all, and each keeps every eighth
            sample; it must come in the same order in every process.

    Returns:
        The activity.

    Raises:
        DataError: Data that does not fit the model, labels it does not have, inputs that are not
            scaled as in training, NaN or infinite activations; a shard that is empty or no shard.
        ModelError: A model without a graph, or without hidden units; a shard for one whose layers
            keep a state from batch to batch.
        SelectionError: `layers` or `statistics` that do not exist.
        FileError: A checkpoint that is damaged, of another run or of other data.

    Warns:
        DataWarning: A trained model answers the first batch by chance.

    Example:
        >>> activity = nns.observe(model, (x, y))
        >>> activity.firing_rate("dense")[3].shape  # of each unit, on label 3
        (32,)
    """
    observer = Observer(
        model,
        layers=layers,
        statistics=statistics,
        threshold=threshold,
        label_names=label_names,
        label_count=label_count,
        output=output,
    )
    return observer.observe(
        data,
        y,
        batch_size=batch_size,
        verbose=verbose,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        keep_checkpoint=keep_checkpoint,
        shard=shard,
    )


class Observer:
    """Observes one model several times, compiling the step once.

    Weights are read as they are at the time of each pass, so a model can be watched while it is
    trained. Arguments are those of `observe`, and `in_training`: whether the model is trained now,
    so that answers by chance mean nothing yet.
    """

    def __init__(
        self,
        model: Any,
        *,
        layers: Layers = None,
        statistics: Sequence[Statistic] = DEFAULT_STATISTICS,
        threshold: float = 0.0,
        label_names: Sequence[str] | None = None,
        label_count: int | None = None,
        output: str | None = None,
        in_training: bool = False,
    ) -> None:
        self.model = model
        # A model that learns still answers by chance at first.
        self._look = check_scale if in_training else check_first_batch
        self.graph = trace(model)
        self.taps = taps_of(self.graph, layers)
        self._label_names = label_names
        self._label_count = label_count
        self._output = None if output is None else self.graph.output(output).name
        self._statistics = statistics
        self._threshold = threshold
        self._sums: Sums | None = None
        self._spoiled_weight: str | None = None
        self._spoiled = Accumulator((), "float32")
        self._staging = Staging()
        self._step: Stepper | None = None

    def observe(
        self,
        data: Any,
        y: Any = None,
        *,
        batch_size: int = 256,
        verbose: Verbose = "auto",
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 200,
        keep_checkpoint: bool = False,
        shard: tuple[int, int] | None = None,
    ) -> Activity:
        """Make one pass over data; see `observe`.

        Returns:
            The activity of this pass alone.
        """
        if checkpoint_every < 1:
            raise DataError(
                f"`checkpoint_every` is a number of batches, at least 1. Received: "
                f"{checkpoint_every}."
            )
        wanted = None if shard is None else self._wanted(shard)
        batches = as_batches(
            data,
            y,
            model=self.model,
            batch_size=batch_size,
            label_names=self._label_names,
            label_count=self._label_count,
            output=self._output,
            # The compiled step looks at inputs, for less.
            check_finite=False,
        )
        dealer = None if wanted is None else Dealer(batches, wanted)
        if dealer is not None:
            batches = dealer.batches
        self._spoiled_weight = _spoiled_weight(self.model)
        sums = self._ready_sums(len(batches.label_names))
        # Only its weights may have changed since the graph was traced.
        fingerprint = Fingerprint(self.graph.structure, weights_digest(self.model))
        sketcher = Sketcher()
        store = None
        if checkpoint is not None:
            run = {"model": fingerprint.to_json(), "batch_size": batch_size}
            run["shard"] = None if wanted is None else str(wanted)
            run |= _about(batches)
            store = Checkpoint(checkpoint, run, sums, recurrent_states(self.model), sketcher)
        with undisturbed(self.model):
            done, stream = store.resume(batches) if store else (0, iter(batches))
            if not done:
                stream = self._look_at_first(stream)
            seen = sketcher.watch(unweighted(stream, "observe"))
            shown = track(seen, "observing", total=batches.batches, done=done, verbose=verbose)
            # Closed at once when a step fails, or the bar would stay on the terminal.
            with closing(shown) as steps:
                self._pass(steps, sums, store, done=done, every=checkpoint_every)
        self._check_finite(sums)
        activity = sums.activity(self.graph, batches.label_names, fingerprint)
        if not activity.samples.any():
            raise DataError("The data has no samples of any label, so there is nothing to observe.")
        if store and keep_checkpoint:
            store.save()
        elif store:
            store.remove()
        activity = replace(activity, seen=sketcher.seen())
        if dealer is None or wanted is None or wanted.count == 1:
            return activity
        return replace(activity, shards=Shards((wanted.number,), wanted.count, dealer.data()))

    def _wanted(self, shard: tuple[int, int]) -> Shard:
        if recurrent_states(self.model):
            raise ModelError(
                f"Layers of model {self.model.name!r} are stateful: what they answer depends on "
                "the batches before, so shards would not add up to the whole. Build it with "
                "stateful=False, or leave shard out."
            )
        return Shard.of(shard)

    def _look_at_first(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        first = next(stream, None)
        if first is None:
            raise DataError("The data is empty: it gave no batch.")
        if first.targets is None:
            self._look(self.model, first.inputs, first.labels)
        return itertools.chain([first], stream)

    def _pass(
        self,
        steps: Iterable[Batch],
        sums: Sums,
        store: Checkpoint | None,
        *,
        done: int,
        every: int,
    ) -> None:
        step = self._step
        assert step is not None
        try:
            for count, batch in enumerate(steps, start=done + 1):
                if store is not None:
                    store.note(batch)
                step(*self._staging.tensors((batch.inputs, batch.labels)))
                save = store is not None and count % every == 0
                if save or count % _LOOK_EVERY == 0:
                    self._check_finite(sums)
                if store is not None and save:
                    store.save()
        except KeyboardInterrupt:
            if store is not None:
                with suppress(DataError):
                    self._check_finite(sums)
                    store.save()
            raise

    def _ready_sums(self, labels: int) -> Sums:
        if self._sums is None or self._sums.labels != labels:
            self._sums = Sums(self.taps, labels, self._statistics, self._threshold)
            self._step = self._stepper(self._sums)
        self._sums.reset()
        self._spoiled.reset()
        return self._sums

    def _check_finite(self, sums: Sums) -> None:
        """Raise where inputs or activations were NaN or infinite.

        Activations alone would not tell: a fused matrix product and ReLU may answer 0 to NaN.
        """
        if not np.isfinite(self._spoiled.numpy()):
            raise DataError(
                "The inputs hold NaN, infinity or numbers near the limit of float32. Clean the "
                "data, for instance with np.nan_to_num, or drop such samples."
            )
        sums.check_finite()
        if self._spoiled_weight is not None:
            raise DataError(
                f"Weight {self._spoiled_weight!r} of model {self.model.name!r} holds NaN or "
                "infinity, so its activations mean nothing. Load a sound checkpoint, or train "
                "again with a lower learning rate."
            )

    def _stepper(self, sums: Sums) -> Stepper:
        """Return what adds one batch to the sums."""

        def add(inputs: Any, labels: Any) -> None:
            self._spoiled.add(_nothing_unless_spoiled(inputs))
            sums.update(run_taps(self.graph, self.taps, inputs, further=sums.further), labels)

        return Stepper(add)


def _nothing_unless_spoiled(inputs: Any) -> Any:
    """Return 0, or NaN where an input is NaN or infinite."""
    floating = [ops.cast(t, "float32") for t in tree.flatten(inputs) if is_floating(t)]
    return operations.total([ops.sum(t) * 0.0 for t in floating] or [ops.zeros((), "float32")])


def _spoiled_weight(model: Any) -> str | None:
    """Return the path of the first weight that holds NaN or infinity."""
    for weight in model.weights:
        value = np.asarray(weight)
        if value.dtype.kind not in "iub" and not np.isfinite(value.astype(np.float32)).all():
            return str(weight.path)
    return None


def _about(batches: Batches) -> Json:
    return {
        "label_names": list(batches.label_names),
        "samples": batches.size,
        "batches": batches.batches,
    }
