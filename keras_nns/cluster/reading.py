"""A data set of Ray's as units of work, read ahead of the workers."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from keras_nns.cluster.ledger import Piece, Unit
from keras_nns.errors import DataError

_FIRST, _MOST = 2**20, 2**25
"""Bytes of a unit: small at first, so that all workers soon have one; then 32 MiB."""

_AHEAD = 2
"""Units that are read before a worker asks."""


class Source:
    """Units of work of a data set, in the order in which Ray reads it.

    Ray reads and transforms in its own tasks; blocks stay where they were made until a worker
    takes rows of them. No block comes through the coordinator.

    Args:
        data: The data set.
        columns: Columns to read.
        batch_size: Units are of whole batches.
        workers: How many there are.
        least: Bytes that what a worker makes of a unit takes: a unit is not smaller.
    """

    def __init__(
        self, data: Any, columns: Sequence[str], *, batch_size: int, workers: int, least: int
    ) -> None:
        self._data = data.select_columns(list(columns))
        self._batch_size, self._workers, self._least = batch_size, workers, least
        self._queue: queue.Queue[Unit | Exception | None] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        self.ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def take(self, wait: float = 0.0) -> Unit | None:
        """Return the next unit; None where none has been read yet, or none is left (`ended`).

        Args:
            wait: Seconds to wait for one.

        Raises:
            DataError: Reading failed.
        """
        with suppress(queue.Empty):
            found = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            if found is None:
                self.ended = True
            elif isinstance(found, Exception):
                raise DataError(
                    f"The data set cannot be read: {_reason(found)}. data.take(1) shows the same."
                ) from found
            return found
        return None

    def close(self) -> None:
        """Stop reading."""
        self._stopped.set()
        self._thread.join(timeout=10)

    def _read(self) -> None:
        try:
            for unit in units(self._pieces(), self._quota):
                if not self._put(unit):
                    return
            self._put(None)
        except Exception as error:  # Of the user's own functions, or of Ray.
            self._put(error)

    def _put(self, item: Unit | Exception | None) -> bool:
        while not self._stopped.is_set():
            with suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return True
        return False

    def _pieces(self) -> Iterator[tuple[Piece, int]]:
        with _without_bars(self._data):
            for bundle in self._data.iter_internal_ref_bundles():
                for entry, part in zip(bundle.blocks, bundle.slices, strict=True):
                    rows, size = entry.metadata.num_rows, entry.metadata.size_bytes
                    if not rows:
                        continue
                    ends = (0, rows) if part is None else (part.start_offset, part.end_offset)
                    yield Piece(entry.ref, *ends), max(1, size // rows)

    def _quota(self, number: int, row: int) -> int:
        """Return how many samples a unit has, of so many bytes each: whole batches."""
        size: int = min(_FIRST << min(number // self._workers, 32), _MOST)
        return max(1, max(size, self._least) // (row * self._batch_size)) * self._batch_size


def units(pieces: Iterator[tuple[Piece, int]], quota: Callable[[int, int], int]) -> Iterator[Unit]:
    """Cut blocks into units of work, each row in exactly one.

    Args:
        pieces: Rows of blocks, with about how many bytes one takes.
        quota: From the number of a unit and the bytes of a sample, how many it is to have.
    """
    number, held, missing = 0, [], 0
    for given, row in pieces:
        piece = given
        while piece.start < piece.stop:
            missing = missing or quota(number, row)
            middle = min(piece.start + missing, piece.stop)
            held.append(Piece(piece.block, piece.start, middle))
            missing -= middle - piece.start
            piece = Piece(piece.block, middle, piece.stop)
            if not missing:
                yield Unit(number, tuple(held))
                number, held = number + 1, []
    if held:
        yield Unit(number, tuple(held))


def rows_known(data: Any) -> int | None:
    """Return how many rows a data set has, where Ray knows without reading it."""
    ask = getattr(data, "_meta_count", None)
    found = ask() if ask is not None else None
    return None if found is None else int(found)


@contextmanager
def _without_bars(data: Any) -> Iterator[None]:
    """Have Ray draw no bars of its own while ours is shown."""
    context = data.context
    before = context.enable_progress_bars
    context.enable_progress_bars = False
    try:
        yield
    finally:
        context.enable_progress_bars = before


def _reason(error: Exception) -> str:
    """Return what went wrong first: Ray's errors wrap one another, as the text of tracebacks."""
    found = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception)): (\S.*)$", str(error), re.MULTILINE)
    own = [f"{name}: {said}" for name, said in found if name != "UserCodeException"]
    lines = str(error).strip().splitlines()
    return own[0] if own else f"{type(error).__name__}: {lines[-1] if lines else ''}"
