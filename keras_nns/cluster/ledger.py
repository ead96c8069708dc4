"""What became of every unit of work, so that each counts once, whichever workers die."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from keras_nns.errors import WorkerError

TRIES = 3
"""How often a unit of work may come to nothing."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one block of a data set that follow one another.

    Attributes:
        block: Where the block is.
        start: The first row.
        stop: The row behind the last.
    """

    block: Any
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Unit:
    """Samples that one worker sees at a time.

    Attributes:
        number: By which it is known, from 0, in the order of the data.
        pieces: The rows.
    """

    number: int
    pieces: tuple[Piece, ...]

    @property
    def samples(self) -> int:
        """Number of rows."""
        return sum(piece.stop - piece.start for piece in self.pieces)


class Ledger:
    """Where every unit of work is: it waits, is out with a worker, is handed in, or is counted.

    What a worker hands in is taken once: only of the worker that the unit is out with. It is
    counted when its sum has arrived, and waits again when that is lost on the way. Of what is
    counted nothing is kept but how many samples there were, so that the ledger does not grow.

    Attributes:
        counted: How many samples are in the sum.
    """

    def __init__(self) -> None:
        self._waiting: deque[Unit] = deque()
        self._out: dict[int, tuple[int, Unit]] = {}
        self._handed_in: dict[int, Unit] = {}
        self._failed: dict[int, int] = {}
        self.counted = 0

    @property
    def seen(self) -> int:
        """How many samples are counted or handed in."""
        return self.counted + sum(unit.samples for unit in self._handed_in.values())

    @property
    def over(self) -> bool:
        """Whether nothing waits, is out, or is handed in."""
        return not (self._waiting or self._out or self._handed_in)

    @property
    def quiet(self) -> bool:
        """Whether nothing waits or is out: whatever there is has been handed in."""
        return not (self._waiting or self._out)

    def held_by(self, worker: int) -> int:
        """Return how many units are out with a worker."""
        return sum(holder == worker for holder, _ in self._out.values())

    def again(self) -> Unit | None:
        """Return a unit that has to be given out once more, the oldest first."""
        return self._waiting.popleft() if self._waiting else None

    def give(self, unit: Unit, worker: int) -> None:
        """Give a unit to a worker."""
        self._out[unit.number] = (worker, unit)

    def accept(self, number: int, worker: int) -> bool:
        """Take in what a worker did; say whether it counts.

        It does not where the unit is not out with this worker: it was given to another since.
        """
        holder, unit = self._out.get(number, (None, None))
        if unit is None or holder != worker:
            return False
        del self._out[number]
        self._handed_in[number] = unit
        return True

    def lost(self, worker: int, why: str) -> None:
        """Take back all that is out with a worker that is gone.

        Raises:
            WorkerError: One of the units came to nothing too often.
        """
        theirs = [number for number, (holder, _) in self._out.items() if holder == worker]
        self._return({number: self._out.pop(number)[1] for number in theirs}, why)

    def failed(self, number: int, why: str) -> None:
        """Take back one unit that a worker could not do, and goes on without.

        Raises:
            WorkerError: As `lost`.
        """
        self._return({number: self._out.pop(number)[1]}, why)

    def count(self, numbers: Iterable[int]) -> None:
        """Note that the sum of these units has arrived."""
        for number in numbers:
            self.counted += self._handed_in.pop(number).samples
            self._failed.pop(number, None)

    def recall(self, numbers: Iterable[int], why: str) -> None:
        """Take back units that were handed in, and whose sum was lost on the way.

        Raises:
            WorkerError: As `lost`.
        """
        self._return({number: self._handed_in.pop(number) for number in numbers}, why)

    def _return(self, units: dict[int, Unit], why: str) -> None:
        for number, unit in units.items():
            tries = self._failed[number] = self._failed.get(number, 0) + 1
            if tries >= TRIES:
                raise WorkerError(
                    f"{unit.samples:,} samples have come to nothing {tries} times, each time with "
                    f"their worker or what it made of them. The last time: {why} Where workers run "
                    "out of memory, give fewer workers or a smaller batch_size."
                )
            self._waiting.append(unit)
