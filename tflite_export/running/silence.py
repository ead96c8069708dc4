"""Keep the words of native code off the user's terminal, and keep them for errors.

TensorFlow's converter and LiteRT write to the file descriptors 1 and 2 from C++, where
``contextlib.redirect_stdout`` cannot reach: the descriptors themselves are moved to a
temporary file and put back. What other threads of Python print meanwhile goes where it would
have gone; native code of theirs, and processes they start, are caught with the rest.
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
from collections.abc import Iterator, Mapping
from typing import IO, TextIO

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
                kept = {fd: stack.enter_context(_moved(fd, sink)) for fd in (1, 2)}
                out = _Divided(python_side, sys.stdout, kept)
                err = _Divided(python_side, sys.stderr, kept)
                stack.enter_context(contextlib.redirect_stdout(out))
                stack.enter_context(contextlib.redirect_stderr(err))
                stack.enter_context(quiet_logger(logging.getLogger("tensorflow")))
                caught = stack.enter_context(warnings.catch_warnings(record=True))
                warnings.simplefilter("always")
                yield log
        finally:
            sink.seek(0)
            parts = [sink.read().decode("utf-8", "replace"), python_side.getvalue()]
            parts += [f"{w.category.__name__}: {w.message}" for w in caught]
            log.text = "\n".join(part.strip() for part in parts if part.strip())


class _Divided(io.TextIOBase):
    """A stream that keeps one thread's text and passes that of the others on.

    Args:
        mine: Takes the text of the thread that makes this.
        theirs: Where the others wrote so far: a terminal, a notebook's stream, or nothing.
        kept: Where each moved descriptor led; `None` where it was closed.
    """

    def __init__(
        self, mine: io.StringIO, theirs: TextIO | None, kept: Mapping[int, int | None]
    ) -> None:
        self._owner = threading.get_ident()
        self._mine = mine
        self._theirs = theirs
        self._kept = kept

    def write(self, text: str) -> int:
        if threading.get_ident() == self._owner:
            return self._mine.write(text)
        if self._theirs is None:
            return len(text)
        saved = self._kept.get(_descriptor(self._theirs))
        if saved is None:
            return self._theirs.write(text)
        # The stream itself would write into the moved descriptor.
        encoding = self._theirs.encoding or "utf-8"
        os.write(saved, text.encode(encoding, "backslashreplace"))
        return len(text)

    def writable(self) -> bool:
        return True


def _descriptor(stream: TextIO) -> int:
    """The descriptor a stream writes to; -1 for one that has none, such as a notebook's."""
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):
        return -1


@contextlib.contextmanager
def _moved(descriptor: int, sink: IO[bytes]) -> Iterator[int | None]:
    """Lead a descriptor into a file; gives where it led before."""
    _flush()
    try:
        saved = os.dup(descriptor)
    except OSError:  # The process runs without this descriptor: nothing to protect.
        yield None
        return
    try:
        os.dup2(sink.fileno(), descriptor)
        yield saved
    finally:
        _flush()
        os.dup2(saved, descriptor)
        os.close(saved)


@contextlib.contextmanager
def quiet_logger(logger: logging.Logger) -> Iterator[None]:
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
