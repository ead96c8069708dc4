"""Processes that observe one data set together: they agree, and their activities become one."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.sketch import Seen, unite
from keras_nns.engine.replicas import Replicas
from keras_nns.errors import ModelError, NNSError, WorkerError
from keras_nns.files.atomic import Json
from keras_nns.graph.keras_internals import recurrent_states
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import LayerActivity, add

_WHAT = {
    "model": "models, or other weights",
    "label_names": "labels",
    "statistics": "statistics",
    "threshold": "thresholds",
    "layers": "layers",
    "passes": "layers in a pass",
    "samples": "numbers of samples",
    "batches": "numbers of batches",
    "data": "data, or in another order",
}


_SAME = "Give all workers the same script, model file and data."


def hold_against(seen: Json, first: Json, who: str, whom: str, advice: str) -> None:
    """Hold what one worker sees against what the first one saw.

    Args:
        seen: What the one sees, by names that `_WHAT` puts into words.
        first: What the first saw.
        who: The one, in words.
        whom: The first, in words.
        advice: What to do where they differ.

    Raises:
        WorkerError: They see different things.
    """
    for name, theirs in first.items():
        if seen.get(name) != theirs:
            raise WorkerError(
                f"{who} sees other {_WHAT[name]} than {whom}. It sees {_short(seen.get(name))}, "
                f"and {whom} {_short(theirs)}. {advice}"
            )


def check_stateless(model: Any, asked: str) -> None:
    """Raise where parts of the data do not add up, since layers keep a state between batches.

    Args:
        model: The model.
        asked: What deals the data into parts, to be left out.

    Raises:
        ModelError: Some layers do.
    """
    if recurrent_states(model):
        raise ModelError(
            f"Layers of model {model.name!r} are stateful: what they answer depends on the "
            "batches before, so that parts of the data would not add up to the whole. "
            f"Build it with stateful=False, or leave {asked} out."
        )


class Workers:
    """The processes of a strategy, of which this is one.

    Every method is called by all of them, in the same order.

    Args:
        replicas: The strategy's replicas; None where there is no strategy.

    Attributes:
        count: How many there are.
        number: Which of them this is, from 1.
    """

    def __init__(self, replicas: Replicas | None) -> None:
        self._replicas = replicas
        self.count = 1 if replicas is None else replicas.workers
        self.number = 1 if replicas is None else replicas.worker + 1

    @contextmanager
    def telling(self) -> Iterator[None]:
        """While in the context, let the others know of an error, wherever they wait for this one.

        Raises:
            NNSError: What was raised.
        """
        try:
            yield
        except NNSError as error:
            if self.count > 1 and not isinstance(error, WorkerError):
                self._exchange({"error": str(error)})
            raise

    def agree(self, seen: Json) -> None:
        """Hold what this worker sees against what the others see.

        Raises:
            WorkerError: They see different things, or one of them has stopped. The same on all.
        """
        if self.count == 1:
            return
        told = self._exchange(seen)
        for number, one in enumerate(told, start=1):
            if "error" in one:
                raise WorkerError(f"Worker {number} of {self.count} has stopped: {one['error']}")
        for number, one in enumerate(told, start=1):
            hold_against(one, told[0], f"Worker {number} of {self.count}", "worker 1", _SAME)

    def united(self, activity: Activity) -> Activity:
        """Return the sum of all workers' activities, the same bits on each of them."""
        if self.count == 1:
            return activity
        (samples,) = self._gathered([activity.samples])
        sketches = self._exchange(None if activity.seen is None else activity.seen.to_json())
        seen = [None if one is None else Seen.from_json(one) for one in sketches]
        return replace(
            activity,
            samples=samples.sum(axis=0),
            layers={name: self._sum(layer, samples) for name, layer in activity.layers.items()},
            seen=functools.reduce(unite, seen),
            shards=None,
        )

    def _sum(self, layer: LayerActivity, samples: NDArray[np.int64]) -> LayerActivity:
        same = layer.magnitude is not None and layer.magnitude is layer.total
        own = {k: v for k, v in layer.arrays().items() if not (same and k == "magnitude")}
        found = dict(zip(own, self._gathered(list(own.values())), strict=True))
        total: LayerActivity | None = None
        counted = np.zeros_like(samples[0])
        for worker, count in enumerate(samples):
            arrays: dict[str, Any] = {name: all_[worker] for name, all_ in found.items()}
            if same:
                arrays["magnitude"] = arrays["total"]
            part = LayerActivity(**arrays)
            total = part if total is None else add(total, part, counted, count)
            counted = counted + count
        assert total is not None
        return total

    def _gathered(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        assert self._replicas is not None
        return self._replicas.gathered(arrays)

    def _exchange(self, content: Any) -> list[Any]:
        """Return plain data of all workers, in their order."""
        text = np.frombuffer(json.dumps(content).encode(), np.uint8).astype(np.int32)
        (sizes,) = self._gathered([np.array([len(text)], np.int64)])
        padded = np.zeros(int(sizes.max()), np.int32)
        padded[: len(text)] = text
        (texts,) = self._gathered([padded])
        pairs = zip(texts, sizes[:, 0], strict=True)
        return [json.loads(one[:size].astype(np.uint8).tobytes()) for one, size in pairs]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
