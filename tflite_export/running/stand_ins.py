"""Streams that stand in for stdout and stderr while their descriptors are moved."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, TextIO


class StandIn(io.TextIOBase):
    """A stream that keeps one thread's text and passes that of the others on.

    It can be kept by whoever found it, as a logging handler does: released, it is the real
    stream under another name.

    Args:
        mine: Takes the text of the thread that makes this; `None` passes that on too.
        real: Where text went so far: a terminal, a notebook's stream, or nothing.
        saved: Where each moved descriptor led; `None` where it was closed.
    """

    def __init__(
        self, mine: io.StringIO | None, real: TextIO | None, saved: Mapping[int, int | None]
    ) -> None:
        self._owner = threading.get_ident()
        self._mine = mine
        self._real = real
        self._saved: int | None = None if real is None else saved.get(descriptor_of(real))
        # A write that is under way must be over before its descriptor is closed.
        self._lock = threading.RLock()

    def release(self) -> None:
        """Keep nothing from now on, and use no descriptor of the capture."""
        with self._lock:
            self._mine = self._saved = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The real stream's; UTF-8 where it has none, as a notebook's."""
        return getattr(self._real, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Keep or pass on text; gives how much of it."""
        with self._lock:
            if self._mine is not None and threading.get_ident() == self._owner:
                return self._mine.write(text)
            if self._saved is not None and self._real is not None:
                # The stream itself would write into the moved descriptor.
                os.write(self._saved, text.encode(self.encoding, "backslashreplace"))
                return len(text)
        return len(text) if self._real is None else self._real.write(text)

    def flush(self) -> None:
        """Flush the real stream, unless it leads astray for now."""
        if self._real is not None and self._saved is None:
            self._real.flush()

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether the real stream is a terminal."""
        return self._real is not None and self._real.isatty()

    def fileno(self) -> int:
        """The real stream's descriptor."""
        if self._real is None:
            raise io.UnsupportedOperation("fileno")
        return self._real.fileno()

    def close(self) -> None:
        """Leave the real stream open: it is not this one's."""

    def __getattr__(self, name: str) -> Any:
        # Its buffer, its encoding and what else only the real stream knows.
        return getattr(self._real, name)


class Replaced:
    """Put a stream in the place of `sys.stdout` or `sys.stderr`, and take only that away again.

    Args:
        name: "stdout" or "stderr".
        stream: What shall stand there.
    """

    def __init__(self, name: str, stream: StandIn) -> None:
        self._name, self._stream = name, stream

    def __enter__(self) -> StandIn:
        self._before = getattr(sys, self._name)
        setattr(sys, self._name, self._stream)
        return self._stream

    def __exit__(self, *_: object) -> None:
        # Another thread may have put a stream of its own there meanwhile.
        if getattr(sys, self._name) is self._stream:
            setattr(sys, self._name, self._before)


def descriptor_of(stream: Any) -> int:
    """The descriptor a stream writes to; -1 for one that has none, such as a notebook's."""
    try:
        found = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return -1
    return found if isinstance(found, int) else -1
