"""Keep the words of native code off the user's terminal, and keep them for errors.

TensorFlow's converter and LiteRT write to the file descriptors 1 and 2 from C++, where
``contextlib.redirect_stdout`` cannot reach: the descriptors themselves are moved to a
temporary file and put back.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import IO

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
    """
    log = Log()
    with _LOCK, tempfile.TemporaryFile() as sink:
        python_side = io.StringIO()
        try:
            with contextlib.ExitStack() as stack:
                for descriptor in (1, 2):
                    stack.enter_context(_moved(descriptor, sink))
                stack.enter_context(contextlib.redirect_stdout(python_side))
                stack.enter_context(contextlib.redirect_stderr(python_side))
                stack.enter_context(_quiet_logger(logging.getLogger("tensorflow")))
                caught = stack.enter_context(warnings.catch_warnings(record=True))
                warnings.simplefilter("always")
                yield log
        finally:
            sink.seek(0)
            parts = [sink.read().decode("utf-8", "replace"), python_side.getvalue()]
            parts += [f"{w.category.__name__}: {w.message}" for w in caught]
            log.text = "\n".join(part.strip() for part in parts if part.strip())


@contextlib.contextmanager
def _moved(descriptor: int, sink: IO[bytes]) -> Iterator[None]:
    _flush()
    try:
        saved = os.dup(descriptor)
    except OSError:  # The process runs without this descriptor: nothing to protect.
        yield
        return
    try:
        os.dup2(sink.fileno(), descriptor)
        yield
    finally:
        _flush()
        os.dup2(saved, descriptor)
        os.close(saved)


@contextlib.contextmanager
def _quiet_logger(logger: logging.Logger) -> Iterator[None]:
    """Hold back a logger whose handlers kept a reference to the real stderr."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        # A detached or closed stream has nothing left to flush.
        if stream is not None:
            with contextlib.suppress(ValueError, OSError):
                stream.flush()
    # C's stdout keeps text of its own; unflushed, it would reach the terminal later.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)
