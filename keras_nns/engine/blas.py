"""Products of matrices by numpy's BLAS, whose threads do not wait for each other.

OpenBLAS ends every product with its threads waiting for each other in a loop. Where other work has
a core, that is a time slice for each product: of 14,563 rows of 144 numbers 720 ms by the clock and
335 of the processor, here 18 and 9 (numpy 2.4.6, OpenBLAS 0.3.31, two cores at a load of 18).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

LARGE = 1024
"""Rows of a square matrix from which on threads within one operation are worth their waiting."""


class _Limit:
    """One thread for BLAS while anyone wants that: the first sets it, the last undoes it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._wanted = 0
        self._held: Any = None

    def take(self) -> None:
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                self._held = _controller().limit(limits=1, user_api="blas")

    def leave(self) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted:
                self._held.restore_original_limits()


_LIMIT = _Limit()


@contextmanager
def one_thread(size: int = 0) -> Iterator[None]:
    """Let BLAS run on the thread that calls it, in the whole process, for as long as this lasts.

    Args:
        size: Rows of the largest square matrix; from `LARGE` on everything stays as it is.
    """
    if size >= LARGE:
        yield
        return
    _LIMIT.take()
    try:
        yield
    finally:
        _LIMIT.leave()


def gram(rows: NDArray[Any]) -> NDArray[Any]:
    """Return `rowsᵀ rows` of a matrix `(rows, columns)`, on all cores.

    BLAS knows that the answer is symmetric, and computes half of it. Each core takes some of the
    rows, as long as its product is more work than adding it to the others.
    """
    count = min(_cores(), len(rows) // max(1, rows.shape[1]))
    with one_thread():
        if count < 2:
            return np.asarray(rows.T @ rows)
        first, *others = _pool().map(lambda some: some.T @ some, np.array_split(rows, count))
    for other in others:
        first += other
    return np.asarray(first)


@cache
def _controller() -> ThreadpoolController:
    # Looks through all that is loaded, which takes milliseconds; scipy has a BLAS of its own.
    import_module("scipy.linalg")
    return ThreadpoolController()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), thread_name_prefix="gram")


@cache
def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
