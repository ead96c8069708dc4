"""What observes a model: its compiled step, and one pass over data after the other."""

from __future__ import annotations

import functools
import itertools
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import Any

import numpy as np

from keras_nns.data.batches import Batch, Batches, as_batches, unweighted
from keras_nns.data.dealing import Dealer
from keras_nns.data.scale import check_first_batch, check_scale
from keras_nns.data.shards import Shard, Shards
from keras_nns.data.sketch import Sketcher
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.replicas import Replicas
from keras_nns.engine.staging import Staging
from keras_nns.engine.steps import Stepper
from keras_nns.errors import DataError
from keras_nns.files.atomic import Json
from keras_nns.graph.keras_internals import recurrent_states, undisturbed
from keras_nns.graph.rows import over_the_batch
from keras_nns.graph.tracing import trace, weights_digest
from keras_nns.observation.activity import DEFAULT_STATISTICS, Activity, Statistic
from keras_nns.observation.checkpointing import Checkpoint
from keras_nns.observation.probing import Layers, run_taps, taps_of
from keras_nns.observation.spoiled import nothing_unless_spoiled, spoiled_weight
from keras_nns.observation.sums import Sums
from keras_nns.observation.unit_values import Tap
from keras_nns.observation.workers import Workers, check_stateless
from keras_nns.plans.units import Fingerprint
from keras_nns.progress import Verbose, track

_LOOK_EVERY = 50

NO_SAMPLES = "The data has no samples of any label, so there is nothing to observe."


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
        strategy: Any = None,
        in_training: bool = False,
    ) -> None:
        self.model = model
        self._replicas = None if strategy is None else Replicas(strategy)
        if self._replicas is not None:
            self._replicas.check_made_with(model)
            check_stateless(model, "a strategy")
        self.workers = Workers(self._replicas)
        # A model that learns still answers by chance at first.
        self._look = check_scale if in_training else check_first_batch
        self.graph = trace(model)
        self.taps = taps_of(self.graph, layers)
        self._label_names = label_names
        self._label_count = label_count
        self._output = None if output is None else self.graph.output(output).name
        self.statistics = (statistics,) if isinstance(statistics, str) else tuple(statistics)
        self._threshold = threshold
        self._held: list[_Held] = []
        self._staging = Staging()
        self._step: Stepper | None = None
        self._title = "observing"
        self._looked = False

    def watch(self, taps: Sequence[Tap], title: str) -> None:
        """Watch other layers from the next pass on, which a progress bar calls by its title."""
        self.taps, self._title = tuple(taps), title
        self._held, self._step = [], None

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
        part: bool = False,
    ) -> Activity:
        """Make one pass over data; see `observe`.

        Args:
            data: As there, like the rest.
            y: As there.
            batch_size: As there.
            verbose: As there.
            checkpoint: As there.
            checkpoint_every: As there.
            keep_checkpoint: As there.
            shard: As there.
            part: Whether the data are one of many parts: of those that an observer is given only
                the first is looked at for inputs of a wrong scale, and none has to have labels.

        Returns:
            The activity of this pass alone.
        """
        if checkpoint_every < 1:
            raise DataError(
                f"`checkpoint_every` is a number of batches, at least 1. Received: "
                f"{checkpoint_every}."
            )
        wanted = self._wanted(shard)
        if checkpoint is not None and self._replicas is not None:
            raise DataError(
                "A checkpoint is of a pass without a strategy. Leave one of the two out."
            )
        with self.workers.telling():
            whole = self.opened(data, y, batch_size)
            dealer = None if wanted is None else Dealer(whole, wanted)
            batches = whole if dealer is None else dealer.batches
            held = self._ready(len(batches.label_names))
            # Only its weights may have changed since the graph was traced.
            fingerprint = Fingerprint(self.graph.structure, weights_digest(self.model))
            settings = {"model": fingerprint.to_json(), **_about(whole), **held[0].about()}
            if dealer is not None and dealer.known:
                settings["data"] = dealer.data()
        self.workers.agree(settings)
        with self.workers.telling():
            sketcher = Sketcher()
            store = None
            if checkpoint is not None:
                run = {"model": fingerprint.to_json(), "batch_size": batch_size}
                run["shard"] = None if wanted is None else str(wanted)
                states = recurrent_states(self.model)
                run |= _about(batches)
                store = Checkpoint(checkpoint, run, held[0].sums, states, sketcher)
            with undisturbed(self.model):
                done, stream = store.resume(batches) if store else (0, iter(batches))
                if not done and not (part and self._looked):
                    stream = self._look_at_first(stream)
                    self._looked = True
                seen = sketcher.watch(unweighted(stream, "observe"))
                count = batches.batches
                shown = track(seen, self._title, total=count, done=done, verbose=verbose)
                # Closed at once when a step fails, or the bar would stay on the terminal.
                with closing(shown) as steps:
                    self._pass(steps, store, done=done, every=checkpoint_every)
            self._check_finite()
            parts = [h.sums.activity(self.graph, batches.label_names, fingerprint) for h in held]
            activity = replace(functools.reduce(operator.add, parts), seen=sketcher.seen())
            if not (activity.samples.any() or part) and self.workers.count == 1:
                raise DataError(NO_SAMPLES)
            data_seen = "" if dealer is None else dealer.data()
        if store and keep_checkpoint:
            store.save()
        elif store:
            store.remove()
        self.workers.agree({"data": data_seen})
        activity = self.workers.united(activity)
        if not (activity.samples.any() or part):
            raise DataError(NO_SAMPLES)
        if shard is None or wanted is None or wanted.count == 1:
            return activity
        return replace(activity, shards=Shards((wanted.number,), wanted.count, data_seen))

    def opened(self, data: Any, y: Any, batch_size: int) -> Batches:
        """Return the data as batches that fit the model, to pass on as data."""
        self._spoiled_weight = spoiled_weight(self.model)
        return as_batches(
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

    def _wanted(self, shard: tuple[int, int] | None) -> Shard | None:
        """Return which shard of the data this process takes; None for all of it."""
        several = self.workers.count > 1
        if shard is None:
            return Shard(self.workers.number, self.workers.count) if several else None
        if several:
            raise DataError(
                f"The strategy deals the data to its {self.workers.count} workers itself. Leave "
                "shard out."
            )
        check_stateless(self.model, "shard")
        return Shard.of(shard)

    def _look_at_first(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        first = next(stream, None)
        if first is None:
            raise DataError("The data is empty: it gave no batch.")
        self._say_what_mixes()
        if first.targets is None:
            self._look(self.model, first.inputs, first.labels)
        return itertools.chain([first], stream)

    def _say_what_mixes(self) -> None:
        """Warn where activations are those of a batch and not of its samples."""
        paths = over_the_batch(self.model)
        if paths:
            warnings.warn(
                f"What model {self.model.name!r} computes of a sample depends on the others of its "
                f"batch: {', '.join(map(repr, paths))} goes over the batch axis. Activations are "
                "of batches of this size and order, and what takes one sample at a time, as a "
                "device does, answers otherwise.",
                stacklevel=2,
            )

    def _pass(
        self, steps: Iterable[Batch], store: Checkpoint | None, *, done: int, every: int
    ) -> None:
        step, replicas = self._step, self._replicas
        assert step is not None
        ready = self._staging.tensors if replicas is None else replicas.on_host
        try:
            for count, batch in enumerate(steps, start=done + 1):
                if store is not None:
                    store.note(batch)
                step(*ready((batch.inputs, batch.labels)))
                save = store is not None and count % every == 0
                if save or count % _LOOK_EVERY == 0:
                    self._check_finite()
                if store is not None and save:
                    store.save()
        except KeyboardInterrupt:
            if store is not None:
                with suppress(DataError):
                    self._check_finite()
                    store.save()
            raise

    def _ready(self, labels: int) -> list[_Held]:
        """Return empty sums for each replica, and have the step that adds to them."""
        if not self._held or self._held[0].sums.labels != labels:

            def make() -> _Held:
                sums = Sums(self.taps, labels, self.statistics, self._threshold)
                return _Held(sums, Accumulator((), "float32"))

            self._held = [make()] if self._replicas is None else self._replicas.each(make)
            self._step = Stepper(self._adding(self._held))
        for held in self._held:
            held.sums.reset()
            held.spoiled.reset()
        return self._held

    def _check_finite(self) -> None:
        """Raise where inputs or activations were NaN or infinite.

        Activations alone would not tell: a fused matrix product and ReLU may answer 0 to NaN.
        """
        if not all(np.isfinite(held.spoiled.numpy()) for held in self._held):
            raise DataError(
                "The inputs hold NaN, infinity or numbers near the limit of float32. Clean the "
                "data, for instance with np.nan_to_num, or drop such samples."
            )
        for held in self._held:
            held.sums.check_finite()
        if self._spoiled_weight is not None:
            raise DataError(
                f"Weight {self._spoiled_weight!r} of model {self.model.name!r} holds NaN or "
                "infinity, so its activations mean nothing. Load a sound checkpoint, or train "
                "again with a lower learning rate."
            )

    def _adding(self, held: Sequence[_Held]) -> Callable[..., None]:
        """Return what adds one batch to the sums."""

        def add(place: int, inputs: Any, labels: Any) -> None:
            sums, spoiled = held[place].sums, held[place].spoiled
            spoiled.add(nothing_unless_spoiled(inputs))
            sums.update(run_taps(self.graph, self.taps, inputs, further=sums.further), labels)

        return partial(add, 0) if self._replicas is None else self._replicas.step(add)


@dataclass(frozen=True, eq=False)
class _Held:
    """What one replica has summed."""

    sums: Sums
    spoiled: Accumulator

    def about(self) -> Json:
        sums = self.sums
        return {
            "layers": [tap.name for tap in sums.taps],
            "statistics": list(sums.statistics),
            "threshold": sums.threshold,
        }


def _about(batches: Batches) -> Json:
    return {
        "label_names": list(batches.label_names),
        "samples": batches.size,
        "batches": batches.batches,
    }
