"""Watch a model's layers in several passes over the data, where one would take too much memory."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_nns.data.batches import Batches
from keras_nns.errors import DataError, SelectionError
from keras_nns.graph.budgets import parse
from keras_nns.graph.unwatched import unwatched
from keras_nns.observation.activity import Activity
from keras_nns.observation.sums import known_statistics
from keras_nns.observation.unit_values import Tap
from keras_nns.observation.watcher import Observer
from keras_nns.observation.workers import check_stateless

_HELD = {"fired": 8, "mean": 8, "variance": 8, "maximum": 4, "active": 8, "mean_square": 8}
_ADDED, _VALUE = 12, 4
"""Bytes for each label and unit that a statistic holds, and that adding a batch to one takes: its
product in float32 and in float64. Bytes of one value of a unit in a batch."""

_UNASKED = 512_000_000
"""What may be held unless it is said: with the activity itself and what the backend needs beside it
about 1 GiB over the model's own forward pass."""


def observe_in_passes(
    observer: Observer,
    data: Any,
    y: Any,
    *,
    memory: str | int | None,
    batch_size: int,
    **settings: Any,
) -> Activity:
    """Watch all taps of an observer, as many in one pass as fit into memory; see `observe`.

    Raises:
        SelectionError: `memory` is no size, or one layer alone takes more.
        DataError: The data can be read only once, or gave other samples in another pass.
    """
    if settings.get("shard") is not None:
        check_stateless(observer.model, "shard")
    # Another worker waits for this one, also where it comes to nothing here.
    with observer.workers.telling():
        batches = observer.opened(data, y, batch_size)
        groups = _groups(observer, batches, memory, batch_size)
    observer.workers.agree({"passes": [[tap.name for tap in group] for group in groups]})
    taps = observer.taps
    found: list[Activity] = []
    for number, group in enumerate(groups, start=1):
        if len(groups) > 1:
            observer.watch(group, f"observing, pass {number} of {len(groups)}")
        found.append(observer.observe(batches, batch_size=batch_size, **settings))
        _check_same(found[0], found[-1], number)
    layers = {name: layer for one in found for name, layer in one.layers.items()}
    return replace(
        found[0],
        layers={tap.name: layers[tap.name] for tap in taps},
        unwatched=unwatched(observer.graph, {tap.name for tap in taps}),
    )


def _groups(
    observer: Observer, batches: Batches, memory: str | int | None, batch_size: int
) -> list[list[Tap]]:
    """Deal the taps of an observer into passes."""
    if memory is None:
        return [list(observer.taps)]
    asked = memory != "auto"
    limit = _size(memory) if asked else _UNASKED
    labels, samples = len(batches.label_names), batch_size
    if batches.size and batches.batches:
        samples = -(-batches.size // batches.batches)
    statistics = known_statistics(observer.statistics)
    sized = [(tap, needed(tap, labels, statistics, samples)) for tap in observer.taps]
    if not asked:
        # A layer that is too large alone has a pass of its own; nobody set a limit to keep.
        limit = max(limit, *(size for _, size in sized))
    groups = grouped(sized, limit)
    if len(groups) > 1 and not asked:
        return _told(groups, sized, again=batches.repeatable)
    if len(groups) > 1 and not batches.repeatable:
        raise DataError(
            f"Within {limit:,} bytes the layers are seen in {len(groups)} passes, and an iterator "
            "can be read once. Pass arrays, a tf.data.Dataset, or a function that returns a new "
            "iterator; or more memory."
        )
    return groups


def needed(tap: Tap, labels: int, statistics: Sequence[str], batch: int) -> int:
    """Return about how many bytes watching a layer takes.

    Sums for each label and unit, another copy of them when they are read, what adding one takes;
    and of each unit in a batch its value, its absolute value and what a statistic makes of them.

    Args:
        tap: The layer.
        labels: How many labels.
        statistics: What is watched.
        batch: Samples in a batch.
    """
    held = sum(_HELD[statistic] for statistic in statistics)
    if "mean" in statistics and not tap.nonnegative:
        held += _HELD["mean"]
    return tap.units * (labels * (2 * held + _ADDED) + 3 * _VALUE * batch)


def grouped(sized: Sequence[tuple[Tap, int]], limit: int) -> list[list[Tap]]:
    """Deal taps into groups, in their order, each within a limit.

    Args:
        sized: Taps, each with what it takes.
        limit: What a group may take.

    Raises:
        SelectionError: One takes more alone.
    """
    groups: list[list[Tap]] = []
    taken = 0
    for tap, size in sized:
        if size > limit:
            raise SelectionError(
                f"Layer {tap.name!r} alone takes about {size:,} bytes, for {tap.units} units. "
                f"Received: memory of {limit:,}. Give more, or ask for fewer statistics."
            )
        if groups and taken + size <= limit:
            groups[-1].append(tap)
            taken += size
        else:
            groups.append([tap])
            taken = size
    return groups


def _told(
    groups: list[list[Tap]], sized: Sequence[tuple[Tap, int]], *, again: bool
) -> list[list[Tap]]:
    """Say that there are several passes though none were asked for; one, where data come once."""
    whole = sum(size for _, size in sized)
    if not again:
        return [[tap for tap, _ in sized]]
    warnings.warn(
        f"Watching {sum(tap.units for tap, _ in sized):,} units takes about {whole / 1e6:,.0f} MB, "
        f"so they are watched in {len(groups)} passes over the data. Pass memory=None to observe "
        "for one pass, or memory= with what may be held.",
        stacklevel=5,
    )
    return groups


def _size(memory: str | int) -> int:
    if isinstance(memory, str):
        limit = parse(memory)
        if limit.units == ("bytes",) and limit.bytes is not None:
            return limit.bytes
    elif isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    raise SelectionError(
        f"`memory` is a size such as '512MB', or a number of bytes. Received: {memory!r}."
    )


def _check_same(first: Activity, other: Activity, number: int) -> None:
    if np.array_equal(first.samples, other.samples) and first.shards == other.shards:
        return
    raise DataError(
        f"Pass {number} over the data gave other samples than the first, or a shard of them in "
        "another order. Pass data that come alike each time, or more memory."
    )
