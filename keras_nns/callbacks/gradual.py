"""`GradualCut`: remove units little by little while a model is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_nns.callbacks.fit_hooks import Fitting
from keras_nns.data.batches import as_batches
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.backend import refuse
from keras_nns.engine.devices import replica_count
from keras_nns.engine.layers import mask_of, with_mask
from keras_nns.engine.tensors import as_tensor
from keras_nns.errors import DataError, ModelError, SelectionError
from keras_nns.graph.keras_internals import Key
from keras_nns.graph.tracing import Graph, hidden_layout, trace, weights_digest
from keras_nns.observation.activity import DEFAULT_STATISTICS, Activity, Statistic
from keras_nns.observation.probing import altering
from keras_nns.observation.watcher import Observer
from keras_nns.plans.keep_rules import KeepRule, fraction
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.schedules import Schedule, agp, shares_of
from keras_nns.plans.units import Fingerprint
from keras_nns.selection.activations import Score, contrast
from keras_nns.selection.choosing import Label, select
from keras_nns.selection.naming import as_score
from keras_nns.training.iterative import ScoreOf, narrowed


class GradualCut(keras.callbacks.Callback):
    """Removes units little by little during `model.fit`, so that the rest can take over.

    At the beginning of some epochs the model is observed and the units that are needed least are
    forced to zero, in training and in validation, exactly as `mask` does. When training has ended
    `plan` says which are left: `cut(model, plan)` is the small network, equal to the masked one
    that was trained. The model itself keeps its shape and answers with all its units again; only
    its weights have been trained. Rows of weights that carry removed units on inside a layer (a
    recurrent state, an attention head) are set to zero. A unit that is gone does not come back.

    Args:
        data: What to observe, as in `observe`; must be readable more than once.
        y: Labels, where `data` holds inputs only.
        labels: A label's number or name, a list of them, or `"all"`.
        share: The share of the units that stays in the end, as in `in_steps`.
        begin: The first epoch (from 0) at whose beginning units are removed.
        end: The last such epoch; None for the one half way through training.
        every: Epochs from one removal to the next.
        schedule: How much is gone by when, over the removals.
        score: As in `in_steps`.
        score_of: As in `in_steps`; called with the model while the removed units are silent.
        keep: As in `in_steps`.
        min_units: As in `select`.
        multiple_of: As in `select`.
        statistics: As in `observe`.
        batch_size: Samples per step of observing, where `data` is arrays.
        label_names: Name of every label, in the order of the model's outputs.

    Attributes:
        plan: Which units are left, of the model with its weights as they are when training ends;
            None before the first removal.
        history: The plan by epoch in which it was made.

    Raises:
        SelectionError: A share, epoch or schedule that makes no sense.
        DataError: On training: `data` that does not fit the model or can be read only once.
        ModelError: On training: a model without units that can be removed, or `tf.distribute`.

    Example:
        >>> removal = nns.GradualCut((x, y), labels=[3, 8], share=0.25)
        >>> history = model.fit(x, y, epochs=2, callbacks=[removal], verbose=0)
        >>> small = nns.cut(model, removal.plan)
    """

    def __init__(
        self,
        data: Any,
        y: Any = None,
        *,
        labels: Label | Iterable[Label] = "all",
        share: float,
        begin: int = 0,
        end: int | None = None,
        every: int = 1,
        schedule: Schedule = agp,
        score: Score | str = contrast,
        score_of: ScoreOf | None = None,
        keep: Callable[[float], KeepRule] = fraction,
        min_units: int = 1,
        multiple_of: int = 1,
        statistics: Sequence[Statistic] = DEFAULT_STATISTICS,
        batch_size: int = 256,
        label_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if begin < 0 or every < 1 or (end is not None and end < begin):
            raise SelectionError(
                "`begin` and `end` are epochs from 0, `end` not before `begin`, and `every` is 1 "
                f"or more. Received: begin={begin}, end={end}, every={every}."
            )
        if isinstance(labels, str) and labels == "each":
            raise SelectionError("GradualCut makes one subnetwork. Name the labels it is for.")
        shares_of(schedule, 1, share)
        self.plan: Plan | None = None
        self.history: dict[int, Plan] = {}
        self._data, self._y = data, y
        self._share, self._schedule = share, schedule
        self._begin, self._end, self._every = begin, end, every
        self._score, self._score_of = as_score(score), score_of
        self._statistics, self._batch_size = statistics, batch_size
        self._label_names = label_names
        self._choose: Callable[[float, Activity, Score], Plan] = lambda part, activity, own: select(
            activity,
            labels,
            score=own,
            keep=keep(part),
            min_units=min_units,
            multiple_of=multiple_of,
        )
        self._shares: dict[int, float] = {}
        self._silencer: _Silencer | None = None
        self._fitting: Fitting | None = None
        self._observer: Observer | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Get ready: trace the model, check the data, and step into training."""
        self.plan, self.history = None, {}
        self._check()
        self._silencer = _Silencer(trace(self.model))
        self._shares = self._planned()
        self._observer = Observer(
            self.model,
            statistics=self._statistics,
            label_names=self._label_names,
            in_training=True,
        )
        around = self._silencer.around
        self._fitting = Fitting(self.model, train=around, test=around)
        self._fitting.enter()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remove units, if this epoch's turn has come."""
        if epoch not in self._shares:
            return
        assert self._silencer is not None and self._observer is not None
        part = self._shares[epoch]
        with self._silencer.silent():
            activity = self._observer.observe(
                self._data, self._y, batch_size=self._batch_size, verbose=False
            )
            score = self._score if self._score_of is None else self._score_of(self.model)
            before = self.plan and replace(self.plan, fingerprint=activity.fingerprint)
            plan = narrowed(activity, before, activity, score, partial(self._choose, part))
        self._silencer.keep(plan)
        self.plan = self.history[epoch] = plan

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the model's own steps back, and make the plan one of the weights as they are now."""
        if self._fitting is not None:
            self._fitting.leave()
        if self.plan is not None and self._silencer is not None:
            structure = self._silencer.graph.structure
            fingerprint = Fingerprint(structure, weights_digest(self.model))
            self.plan = replace(self.plan, fingerprint=fingerprint)
        self._fitting = self._silencer = self._observer = None

    def _planned(self) -> dict[int, float]:
        """Return which share of the units stays from the beginning of which epoch on."""
        epochs = int((self.params or {}).get("epochs") or 1)
        end = max(self._begin, epochs // 2) if self._end is None else self._end
        if end >= epochs:
            raise SelectionError(
                f"Units are removed until epoch {end} (from 0), and there are {epochs} epochs. "
                "Train for longer, or pass an earlier begin and end."
            )
        turns = range(self._begin, end + 1, self._every)
        return dict(zip(turns, shares_of(self._schedule, len(turns), self._share), strict=True))

    def _check(self) -> None:
        refuse(
            "GradualCut",
            "take units away between trainings, with nns.in_steps.",
            here=("jax",),
        )
        if replica_count(self.model) > 1:
            raise ModelError(
                "GradualCut under tf.distribute is not supported. Train on one device."
            )
        graph = trace(self.model)
        hidden_layout(graph)
        closed = [b.path for b in graph.blueprints.values() if b.close is not None]
        if closed:
            raise ModelError(
                f"GradualCut cannot leave experts out while {closed[0]!r} is trained: a token that "
                "one of them got would have to go to another. Take units away between trainings, "
                "with nns.in_steps."
            )
        batches = as_batches(
            self._data,
            self._y,
            model=self.model,
            batch_size=self._batch_size,
            label_names=self._label_names,
        )
        if not batches.repeatable:
            raise DataError(
                "GradualCut observes its data before several epochs, and a generator can be read "
                "only once. Pass arrays, a tf.data.Dataset, a keras.utils.PyDataset, or a "
                "function that returns a new generator."
            )


class _Silencer:
    """Forces removed units to zero wherever they are on an axis, while a model's layers run."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        # One more entry than there are units, for positions that are none (-1).
        self._kept = Accumulator((graph.unit_count + 1,), "bool", start=True)
        calls: dict[int, list[Key]] = {}
        for key, traced in graph.calls.items():
            calls.setdefault(id(traced.call.operation), []).append(key)
        self._carrying = [
            (graph.calls[keys[0]].call.operation, keys)
            for keys in calls.values()
            if any(stream.units for key in keys for stream in graph.calls[key].outputs)
        ]

    def keep(self, plan: Plan) -> None:
        """Let the units of a plan through from now on."""
        kept = self.graph.keep(plan).mask(np.arange(self.graph.unit_count))
        self._kept.assign(np.append(kept, True))

    def around(self, step: Callable[[Any], Any], data: Any) -> Any:
        """Run a training or test step with the removed units silent."""
        self._silence_inside()
        with self.silent():
            return step(data)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """While in the context, layers that run, or are compiled, give zero for removed units."""
        with ExitStack() as stack:
            for operation, keys in self._carrying:
                stack.enter_context(altering(operation, self._change(keys)))
            yield

    def _change(self, keys: Sequence[Key]) -> Callable[[Any, Any], Any]:
        count = 0

        def change(_: Any, outputs: Any) -> Any:
            nonlocal count
            streams = self.graph.calls[keys[count % len(keys)]].outputs
            count += 1
            flat = tree.flatten(outputs)
            silenced = [
                self._zeroed(tensor, stream.units)
                for tensor, stream in zip(flat, streams, strict=True)
            ]
            return tree.pack_sequence_as(outputs, silenced)

        return change

    def _zeroed(self, tensor: Any, units_by_axis: Any) -> Any:
        found = tensor
        for axis, units in units_by_axis.items():
            shape = [1] * len(tensor.shape)
            shape[axis] = len(units)
            found = _where(ops.reshape(self._mask(units), shape), found)
        return with_mask(found, mask_of(tensor))

    def _mask(self, units: Any) -> Any:
        places = np.where(np.asarray(units) < 0, self.graph.unit_count, units)
        return ops.take(self._kept.value, places, axis=0)

    def _silence_inside(self) -> None:
        """Zero rows of weights that read removed units inside a layer."""
        for blueprint in self.graph.blueprints.values():
            if blueprint.skip is not None:
                for index in blueprint.skip.silenced:
                    variable = blueprint.operation.variables[index]
                    mask = self._mask(blueprint.skip.unit)
                    variable.assign(_where(mask, as_tensor(variable)))
            for index, binding in blueprint.bindings.items():
                for axis in binding.silence:
                    variable = blueprint.operation.variables[index]
                    shape = [1] * len(variable.shape)
                    shape[axis] = variable.shape[axis]
                    mask = ops.reshape(self._mask(binding.axes[axis]), shape)
                    variable.assign(_where(mask, as_tensor(variable)))


def _where(mask: Any, tensor: Any) -> Any:
    """Return a tensor with zeros where a mask, which is broadcast, is false."""
    return ops.where(mask, tensor, ops.zeros((), tensor.dtype))
