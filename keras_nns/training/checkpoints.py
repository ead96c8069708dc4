"""Trainings that survive a kill: all that one needs to go on, in one file, after every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import FileError, what_is_wrong
from keras_nns.files import atomic
from keras_nns.files.atomic import Json

_FORMAT = "keras_nns.training"

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Moment:
    """A training at the end of an epoch.

    Attributes:
        epoch: How many epochs are done.
        best_epoch: Whose weights are the best so far.
        before: Loss on what is held out, before the training.
        loss: The same with the best weights.
        history: As Keras keeps it, so far.
        variables: Of the model, also of its seeds.
        optimizer: Of the optimizer.
        best: Of the model, at its best.
    """

    epoch: int
    best_epoch: int
    before: float
    loss: float
    history: Mapping[str, Sequence[float]]
    variables: Arrays
    optimizer: Arrays
    best: Arrays


@dataclass(frozen=True, eq=False)
class State:
    """How far a training in stages has come.

    Attributes:
        done: What came of every stage that is done, as plain data.
        whole: Variables of the whole model after them; None before the first is done.
        moment: The stage that is under way; None at its start.
    """

    done: tuple[Json, ...] = ()
    whole: Arrays | None = None
    moment: Moment | None = None


class Checkpoint:
    """A training's state in a file. Writing is atomic: a kill leaves the old state or the new one.

    Args:
        path: The file.
        about: What the training is: what it starts from, on what, and how. A file that is about
            another is refused.

    Attributes:
        state: What the file holds, or the very beginning.

    Raises:
        FileError: The file is damaged, foreign, or of another training.
    """

    def __init__(self, path: atomic.Path_, about: Json) -> None:
        self._path = Path(path)
        self._about = about
        self.state = self._read() if self._path.exists() else State()

    def save(self, moment: Moment) -> None:
        """Write the end of an epoch."""
        self._write(replace(self.state, moment=moment))

    def finish(self, done: Json, whole: Arrays) -> None:
        """Write the end of a stage."""
        self._write(State((*self.state.done, done), whole))

    def _write(self, state: State) -> None:
        moment = state.moment
        arrays = _numbered("whole", state.whole or [])
        header: dict[str, Any] = {"version": 1, "about": self._about, "done": list(state.done)}
        if moment is not None:
            header["moment"] = {
                "epoch": moment.epoch,
                "best_epoch": moment.best_epoch,
                "before": moment.before,
                "loss": moment.loss,
                "history": {name: list(values) for name, values in moment.history.items()},
            }
            for name in ("variables", "optimizer", "best"):
                arrays |= _numbered(name, getattr(moment, name))
        atomic.write_arrays(self._path, _FORMAT, header, arrays, overwrite=True)
        self.state = state

    def _read(self) -> State:
        header, arrays = atomic.read_arrays(self._path, _FORMAT)
        with atomic.blame(self._path):
            if header.get("about") != self._about:
                found, about = header.get("about"), self._about
                known = found if isinstance(found, dict) else {}
                other = sorted(k for k in {*known, *about} if known.get(k) != about.get(k))
                raise FileError(
                    f"The checkpoint is of another training: it differs in {', '.join(other)}. "
                    "Start it as it was, or name another file."
                )
            try:
                whole = _together(arrays, "whole") or None
                return State(tuple(header["done"]), whole, _moment(header, arrays))
            except (KeyError, TypeError, ValueError) as error:
                raise FileError(f"The checkpoint is damaged: {what_is_wrong(error)}.") from error


def values(variables: Sequence[Any]) -> Arrays:
    """Copy the values of variables."""
    return [np.array(variable.numpy()) for variable in variables]


def assign(variables: Sequence[Any], given: Arrays) -> None:
    """Give variables values that `values` copied.

    Raises:
        FileError: There are others than these.
    """
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [value.shape for value in given]:
        raise FileError("The checkpoint is of a model or optimizer with other variables.")
    for variable, value in zip(variables, given, strict=True):
        variable.assign(value)


def _moment(header: Json, arrays: Mapping[str, NDArray[Any]]) -> Moment | None:
    found = header.get("moment")
    if found is None:
        return None
    return Moment(
        epoch=found["epoch"],
        best_epoch=found["best_epoch"],
        before=found["before"],
        loss=found["loss"],
        history=found["history"],
        variables=_together(arrays, "variables"),
        optimizer=_together(arrays, "optimizer"),
        best=_together(arrays, "best"),
    )


def _numbered(name: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    return {f"{name}/{i}": array for i, array in enumerate(arrays)}


def _together(arrays: Mapping[str, NDArray[Any]], name: str) -> Arrays:
    count = sum(key.startswith(f"{name}/") for key in arrays)
    return [arrays[f"{name}/{i}"] for i in range(count)]
