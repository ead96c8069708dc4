"""Signals that end a command: what it had begun is cleaned up as at Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM, as schedulers and `timeout` send it)."""


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Raise `Terminated` in the block when the process is asked to end.

    Without it Python ends at once: no `finally` runs and temporary files stay. Handlers that
    someone else has set are left alone, and so are threads beside the main one, which get none.
    """
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(_: int, __: FrameType | None) -> None:
        # A second signal must not cut the cleaning up short.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
