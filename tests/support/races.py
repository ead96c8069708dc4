"""Two real processes that do the same work at the same moment."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

from keras_nns.errors import FileError

_FORK = multiprocessing.get_context("fork")


def race(work: Callable[[str, Callable[[], Any]], None]) -> dict[str, bool]:
    """Run work in two processes; tell which of them, by its name, ended without a FileError.

    Args:
        work: Called with the name of its process and with what waits until both are there.
    """
    barrier = _FORK.Barrier(2)

    def run(name: str) -> None:
        try:
            work(name, lambda: barrier.wait(30))
        except FileError:
            os._exit(3)
        except BaseException:
            os._exit(1)
        os._exit(0)

    processes = {name: _FORK.Process(target=run, args=(name,)) for name in ("one", "two")}
    for process in processes.values():
        process.start()
    for process in processes.values():
        process.join(60)
    codes = {name: process.exitcode for name, process in processes.items()}
    assert set(codes.values()) <= {0, 3}, codes
    return {name: code == 0 for name, code in codes.items()}
