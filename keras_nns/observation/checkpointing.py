"""The file that lets an observation go on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from keras_nns.data.batches import Batch, Batches
from keras_nns.data.checksums import checksum
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
            "version": 2,
            **run,
            "layers": [tap.name for tap in sums.taps],
            "statistics": list(sums.statistics),
            "threshold": sums.threshold,
        }
        self._checksums: list[int] = []

    def resume(self, batches: Batches) -> tuple[int, Iterator[Batch]]:
        """Take up an earlier run where there is one, over the same data.

        What was summed is read once more, and every batch held against its checksum.

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
            done = int(arrays["batches"])
            self._checksums = [int(number) for number in arrays["checksums"]]
            if len(self._checksums) != done:
                raise ValueError(f"{len(self._checksums)} checksums of {done} batches")
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise FileError(f"{str(self._path)!r}: the checkpoint is damaged: {error}.") from error
        stream = iter(batches)
        for number, known in enumerate(self._checksums):
            batch = next(stream, None)
            if batch is None or checksum(batch) != known:
                raise FileError(
                    f"{str(self._path)!r} is the checkpoint of a run over other data, or over this "
                    f"in another order: batch {number} is not the one that was summed. Delete it "
                    "to start anew."
                )
        return done, stream

    def note(self, batch: Batch) -> None:
        """Be told of a batch before it is summed."""
        self._checksums.append(checksum(batch))

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
        header = {**self._run, "sketch": self._sketcher.state()}
        states = {name: np.asarray(variable) for name, variable in self._states.items()}
        checksums = {"checksums": np.array(self._checksums[:done], dtype=np.uint64)}
        arrays = {**sums, **states, **checksums}
        atomic.write_arrays(self._path, _FORMAT, header, arrays, overwrite=True)

    def remove(self) -> None:
        """Delete the file: the run is complete."""
        self._path.unlink(missing_ok=True)
