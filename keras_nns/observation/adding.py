"""Add the activities, or the gradients, of shards and of other data of a model. numpy only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeVar, overload

from keras_nns.data.shards import Shards
from keras_nns.errors import DataError
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.observation.activity import Activity
from keras_nns.observation.activity_files import FORMAT, blaming, check_version, header_of
from keras_nns.observation.gradient_sums import FORMAT as OF_GRADIENTS
from keras_nns.observation.gradient_sums import VERSION, Gradients

Sum = Activity | Gradients
S = TypeVar("S", Activity, Gradients)
File = str | PathLike[str]

_SETTINGS = {
    "model": "another model",
    "label_names": "other labels",
    "statistics": "other statistics",
    "threshold": "another threshold",
    "layers": "other layers",
}


_KINDS = {FORMAT: "activity", OF_GRADIENTS: "gradients"}
_COMPARED = ("model", "label_names", "statistics", "threshold", "layers", "seen")


@dataclass(frozen=True)
class _Given:
    name: str
    part: Sum | File
    header: Json
    shards: Shards | None

    def load(self) -> Any:
        if isinstance(self.part, Sum):
            return self.part
        return (Activity if self.header["kind"] == FORMAT else Gradients).load(self.part)

    @property
    def set(self) -> tuple[int, str] | None:
        """What the set that it is a shard of is known by; None for a whole one."""
        return None if self.shards is None else (self.shards.count, self.shards.data)

    @property
    def numbers(self) -> tuple[int, ...]:
        return () if self.shards is None else self.shards.numbers

    def __str__(self) -> str:
        return self.name if self.shards is None else f"{self.name} ({self.shards})"


@overload
def add(parts: Iterable[S], *, incomplete: bool = ..., other_data: bool = ...) -> S: ...


@overload
def add(parts: Iterable[Any], *, incomplete: bool = ..., other_data: bool = ...) -> Any: ...


def add(parts: Iterable[Any], *, incomplete: bool = False, other_data: bool = False) -> Any:
    """Add the activities of the shards of one data set; or of several data sets of one model.

    Gradients (`observe_gradients`) are added in the same way. Parts are added in the order of their
    shards, whatever the order they are given in, so that the same parts give the same bits. Two are
    in memory at a time. Everything is checked before the first is added.

    Args:
        parts: Activities, or gradients, or the files that their `save` wrote: every shard of one
            data set; or those of whole data sets, which add up as they are.
        incomplete: Add shards though some are missing. What is returned remembers which it has.
        other_data: Add shards of several data sets, all of each; or shards of one that came in
            another order in every process, so that nobody knows whether a sample counts twice.

    Returns:
        The activity, or the gradients, equal to one pass over all of the data: counts bit for bit,
        means to rounding.

    Raises:
        DataError: Parts of different models, labels, statistics or layers; a shard that is missing,
            there twice, or of other data. The message names the part.
        FileError: A file that is missing, damaged or none of these.

    Example:
        >>> halves = [nns.observe(model, (x, y), shard=(i, 2)) for i in (1, 2)]
        >>> halves[1]
        <Activity of 48 units in 2 layers for 10 labels over 600 samples, shard 2 of 2 of the data>
        >>> nns.add(halves)
        <Activity of 48 units in 2 layers for 10 labels over 1200 samples>
    """
    several = [parts] if isinstance(parts, Sum | str | PathLike) else parts
    given = [_read(part, place) for place, part in enumerate(several, start=1)]
    if not given:
        raise DataError("There is nothing to add: no activity was given.")
    for one in given[1:]:
        _check_settings(one, given[0])
    _check_twice(given)
    if not other_data:
        _check_one_set(given)
    sets = sorted({one.set for one in given if one.set is not None})
    for some in sets:
        _check_complete([g for g in given if g.set == some], incomplete and len(sets) == 1)
    total = _sum(one for one in given if one.set is None)
    for some in sets:
        # In one order, whatever the order they were given in: sums of floats depend on it.
        here = [one for one in given if one.set == some]
        total = _plus(total, _sum(sorted(here, key=lambda one: one.numbers)))
    assert total is not None
    return total


def _sum(parts: Iterable[_Given]) -> Any:
    total = None
    for part in parts:
        total = _plus(total, part.load())
    return total


def _plus(one: Any, other: Any) -> Any:
    return other if one is None else one if other is None else one + other


def _read(part: Any, place: int) -> _Given:
    """Look at what a part says of itself, without its sums.

    Raises:
        DataError: It is nothing that can be added.
        FileError: Its file is missing, damaged or foreign.
    """
    if isinstance(part, Activity):
        return _Given(f"part {place}", part, _compared(header_of(part), FORMAT), part.shards)
    if isinstance(part, Gradients):
        return _Given(f"part {place}", part, _compared(part.header(), OF_GRADIENTS), part.shards)
    if not isinstance(part, str | PathLike):
        raise DataError(
            f"Activities or gradients are added, or files of them. Received: "
            f"{type(part).__name__}, as part {place}."
        )
    header = atomic.read_header(part, FORMAT, OF_GRADIENTS)
    kind = header["format"]
    with atomic.blame(part), blaming(_KINDS[kind]):
        check_version(header, *((VERSION, "gradients") if kind == OF_GRADIENTS else ()))
        shards = Shards.from_json(header["shards"]) if header.get("shards") else None
        return _Given(os.fspath(part), part, _compared(header, kind), shards)


def _compared(header: Json, kind: str) -> Json:
    """Return what parts are held against each other by.

    Raises:
        KeyError: A file lacks it.
    """
    there = _COMPARED if kind == FORMAT else ("model", "label_names", "layers")
    return {"kind": kind, **{name: header[name] for name in there}}


def _check_settings(one: _Given, first: _Given) -> None:
    kinds = [_KINDS[some.header["kind"]] for some in (one, first)]
    if kinds[0] != kinds[1]:
        raise DataError(f"{one} holds {kinds[0]} and {first} {kinds[1]}. Add each for itself.")
    for field, what in _SETTINGS.items():
        if field not in one.header:  # Gradients have no statistics.
            continue
        mine, theirs = one.header[field], first.header[field]
        if field == "layers":
            mine, theirs = list(mine), list(theirs)
        if mine == theirs:
            continue
        if field == "model":
            same = mine.get("structure") == theirs.get("structure")
            told = "its weights are others" if same else "its layers are others"
        else:
            told = f"{mine!r} there, {theirs!r} in {first.name}"
        raise DataError(
            f"{one} was observed with {what} than {first}: {told}. Only activity of one model with "
            "the same settings adds up. Observe it again like the others, or leave it out."
        )


def _check_twice(given: Sequence[_Given]) -> None:
    found: dict[Any, _Given] = {}
    for one in given:
        if one.set is None:
            seen = one.header.get("seen")
            keys: list[Any] = [] if seen is None else [str(sorted(seen.items()))]
        else:
            keys = [(one.set, number) for number in one.numbers]
        for key in keys:
            if key in found:
                what = "samples" if one.set is None else f"shard {key[1]}"
                raise DataError(
                    f"{one} holds the same {what} as {found[key]}, so these would count twice. "
                    "Leave one of the two out."
                )
            found[key] = one


def _check_one_set(given: Sequence[_Given]) -> None:
    first = given[0]
    for one in given[1:]:
        if one.set == first.set:
            continue
        raise DataError(
            f"{one} is of other data than {first}: of another run, or of a set that comes in "
            "another order in every process (shuffled, or drawn anew), whose shards may hold the "
            "same samples. Leave it out; or fix the order and observe all shards again. Sums of "
            "several data sets are made with other_data=True (--other-data in a shell)."
        )


def _check_complete(of_set: Sequence[_Given], incomplete: bool) -> None:
    """Raise where shards of one set are missing, unless that is wanted."""
    have = tuple(sorted(number for one in of_set for number in one.numbers))
    shards = of_set[0].shards
    assert shards is not None
    missing = Shards(have, shards.count, shards.data).missing
    if not missing or incomplete:
        return
    word = "is" if len(missing) == 1 else "are"
    lacking, first = Shards(missing, shards.count, ""), f"{missing[0]}, {shards.count}"
    raise DataError(
        f"{str(lacking).capitalize()} {word} missing beside {of_set[0]}. Observe with "
        f"shard=({first}) (--shard {first.replace(', ', '/')} in a shell) and "
        "add all; or pass incomplete=True (--incomplete) to add what there is of one data set."
    )
