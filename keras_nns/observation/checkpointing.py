"""The file that lets an observation go on where it was stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree

from keras_nns.data.batches import Batch, Batches
from keras_nns.data.sketch import Sketcher
from keras_nns.errors import FileError
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.observation.sums import Sums

_FORMAT = "keras_nns.observation"


class Checkpoint:
    """What has been summed so far, of which samples, in a file.

    Args:
        path: The file.
        run: What tells one run from another, besides what is summed.
        sums: What is summed.
        states: Variables of the model that carry over from batch to batch.
        sketcher: Remembers which samples were seen.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        run: Json,
        sums: Sums,
        states: Sequence[Any],
        sketcher: Sketcher,
    ) -> None:
        self._path = Path(path)
        self._sums = sums
        self._sketcher = sketcher
        self._states = {f"state.{i}": v for i, v in enumerate(states)}
        self._run = {
            "version": 1,
            **run,
            "layers": [tap.name for tap in sums.taps],
            "statistics": list(sums.statistics),
            "threshold": sums.threshold,
        }
        self._first: str | None = None
        self._last: str | None = None
        self._recent: dict[int, Batch] = {}

    def resume(self, batches: Batches) -> tuple[int, Iterator[Batch]]:
        """Take up an earlier run where there is one, over the same data.

        That it is the same shows in the last batch that was summed, and in the first where the data
        can be read again: their inputs and labels are compared by a digest.

        Args:
            batches: All of the data.

        Returns:
            How many batches were summed, and the rest of them.

        Raises:
            FileError: The checkpoint is damaged, or of another run, other data or another order.
        """
        if not self._path.exists():
            return 0, iter(batches)
        header, arrays = atomic.read_arrays(self._path, _FORMAT)
        for name, value in self._run.items():
            if header.get(name) != value:
                raise FileError(
                    f"{str(self._path)!r} is the checkpoint of another run: {name} is "
                    f"{header.get(name)!r} there and {value!r} here. Delete it to start anew."
                )
        try:
            self._sums.restore(arrays)
            for name, variable in self._states.items():
                variable.assign(arrays[name])
            self._sketcher.restore(header["sketch"])
            self._first, self._last = header["first"], header["last"]
            done = int(arrays["batches"])
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise FileError(f"{str(self._path)!r}: the checkpoint is damaged: {error}.") from error
        if batches.repeatable and done > 1:
            self._compare(next(iter(batches), None), self._first, 0)
        rest = iter(batches.skip(done - 1))
        self._compare(next(rest, None), self._last, done - 1)
        return done, rest

    def _compare(self, batch: Batch | None, digest: str | None, number: int) -> None:
        if batch is None or _digest(batch) != digest:
            raise FileError(
                f"{str(self._path)!r} is the checkpoint of a run over other data, or over this in "
                f"another order: batch {number} is not the one that was summed. Delete it to start "
                "anew."
            )

    def note(self, number: int, batch: Batch) -> None:
        """Be told of a batch before it is summed.

        Args:
            number: Its number, from 1.
            batch: The batch.
        """
        if number == 1:
            self._first = _digest(batch)
        self._recent = {n: b for n, b in self._recent.items() if n == number - 1} | {number: batch}

    def save(self) -> None:
        """Write what has been summed so far.

        The number of batches is counted in the compiled step, with the sums, so that an interrupt
        between two lines of Python cannot part them.
        """
        sums = self._sums.state()
        done = int(sums["batches"])
        if not done:
            return
        if self._sketcher.batches > done:
            self._sketcher.take_back()
        if done in self._recent:
            self._last = _digest(self._recent[done])
        header = {
            **self._run,
            "first": self._first,
            "last": self._last,
            "sketch": self._sketcher.state(),
        }
        states = {name: np.asarray(variable) for name, variable in self._states.items()}
        atomic.write_arrays(self._path, _FORMAT, header, {**sums, **states}, overwrite=True)

    def remove(self) -> None:
        """Delete the file: the run is complete."""
        self._path.unlink(missing_ok=True)


def _digest(batch: Batch) -> str:
    """Return what tells a batch from any other, as a model would read it."""
    found = hashlib.blake2b(digest_size=16)
    weights = [] if batch.weights is None else [batch.weights]
    for part in [*tree.flatten(batch.inputs), batch.labels, *weights]:
        array = np.asarray(part)
        if array.dtype.kind in "OUST":
            found.update(repr(array.tolist()).encode())
        else:
            found.update(repr(array.shape).encode())
            found.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return found.hexdigest()
