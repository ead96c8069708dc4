"""Keep the words of native code off the user's terminal, and keep them for errors.

TensorFlow's converter and LiteRT write to the file descriptors 1 and 2 from C++, where
``contextlib.redirect_stdout`` cannot reach: the descriptors themselves are moved to a
temporary file and put back. What other threads of Python print, log or warn meanwhile goes where
it would have gone, and so does what the program's own log says in this thread; native code of
other threads, and processes they start, are caught with the rest.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

from tflite_export.running.loggers import held_back, program_logs
from tflite_export.running.stand_ins import Replaced, StandIn
from tflite_export.running.thread_warnings import caught_here

# Descriptors, warning filters and sys.stdout belong to the whole process: two captures
# that overlapped would put the wrong ones back.
_LOCK = threading.RLock()


class Log:
    """What was written while a capture was open."""

    def __init__(self) -> None:
        self.text = ""


@contextlib.contextmanager
def captured() -> Iterator[Log]:
    """Collect everything written to stdout and stderr, by Python or by native code.

    The text is complete once the block has ended, also when it ended with an error.
    Warnings become text too, so that a caller who turns warnings into errors is not
    stopped by one of TensorFlow's own.

    Nothing of the capture outlives it: handlers that the block gives the root logger are taken
    back, and whoever kept one of the streams that stood in writes to the real one.
    """
    log = Log()
    with _LOCK, tempfile.TemporaryFile() as sink:
        python_side = io.StringIO()
        said: list[str] = []
        try:
            with contextlib.ExitStack() as stack:
                saved = {fd: stack.enter_context(_copied(fd)) for fd in (1, 2)}
                for name in ("stdout", "stderr"):
                    stand_in = StandIn(python_side, getattr(sys, name), saved)
                    stack.callback(stand_in.release)
                    stack.enter_context(Replaced(name, stand_in))
                stack.enter_context(program_logs(saved))
                # Moved last and put back first: no text of others finds the sink.
                for fd, copy in saved.items():
                    if copy is not None:
                        stack.enter_context(_moved(fd, copy, sink))
                stack.enter_context(held_back(said, "tensorflow", "absl"))
                stack.enter_context(caught_here(said))
                yield log
        finally:
            sink.seek(0)
            parts = [sink.read().decode("utf-8", "replace"), python_side.getvalue(), *said]
            log.text = "\n".join(part.strip() for part in parts if part.strip())


@contextlib.contextmanager
def _copied(descriptor: int) -> Iterator[int | None]:
    """A second descriptor of where one leads; `None` where the process runs without it."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        yield None
        return
    try:
        yield copy
    finally:
        os.close(copy)


@contextlib.contextmanager
def _moved(descriptor: int, copy: int, sink: IO[bytes]) -> Iterator[None]:
    """Lead a descriptor into a file, and back to where its copy leads."""
    _flush()
    os.dup2(sink.fileno(), descriptor)
    try:
        yield
    finally:
        _flush()
        os.dup2(copy, descriptor)


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        # A detached or closed stream has nothing left to flush.
        if stream is not None:
            with contextlib.suppress(ValueError, OSError):
                stream.flush()
    # C's stdout keeps text of its own; unflushed, it would reach the terminal later.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
