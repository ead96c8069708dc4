"""Python's logging while native code is captured: the program's goes on, libraries' is kept."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from tflite_export.running.stand_ins import StandIn, descriptor_of


@contextlib.contextmanager
def program_logs(saved: Mapping[int, int | None]) -> Iterator[None]:
    """Let the program's own handlers go on, and leave the root logger as it was.

    Handlers that hold the real stdout or stderr would write into the moved descriptors: they
    write past them. A library that finds no handler configures the root logger (absl does), after
    which `logging.basicConfig` of the program would do nothing: what this thread adds is taken
    back.

    Args:
        saved: Where each moved descriptor led; `None` where it was closed.
    """
    swapped: list[tuple[Any, StandIn, Any]] = []
    for handler in _stream_handlers():
        if saved.get(descriptor_of(handler.stream)) is not None:
            past = StandIn(None, handler.stream, saved)
            swapped.append((handler, past, handler.stream))
            handler.setStream(past)
    added: list[logging.Handler] = []
    root, owner = logging.getLogger(), threading.get_ident()

    def add(handler: logging.Handler) -> None:
        logging.Logger.addHandler(root, handler)
        if threading.get_ident() == owner:
            added.append(handler)

    # On the object: only the root logger is watched, and whoever asks finds the method.
    vars(root)["addHandler"] = add
    try:
        yield
    finally:
        vars(root).pop("addHandler", None)
        for handler in added:
            root.removeHandler(handler)
        for handler, past, real in swapped:
            if handler.stream is past:
                handler.setStream(real)
            past.release()


def _stream_handlers() -> Iterator[Any]:
    """Every handler that some logger writes to a stream with; files are no streams here."""
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    seen: set[int] = set()
    for logger in loggers:
        for found in getattr(logger, "handlers", ()):
            # absl's own handler writes through another.
            handler = getattr(found, "python_handler", found)
            stream = isinstance(handler, logging.StreamHandler)
            # One that asks for sys.stderr each time, as logging's last resort, has what stands in.
            follows = isinstance(getattr(type(handler), "stream", None), property)
            if follows or isinstance(handler, logging.FileHandler):
                continue
            if stream and id(handler) not in seen:
                seen.add(id(handler))
                yield handler


@contextlib.contextmanager
def held_back(said: list[str], *names: str) -> Iterator[None]:
    """Keep what loggers say in this thread, and their levels as they were.

    Args:
        said: Gets the messages.
        names: The loggers' names.
    """
    owner = threading.get_ident()

    def theirs(record: logging.LogRecord) -> bool:
        if record.thread != owner:
            return True
        said.append(f"{record.levelname}: {record.getMessage()}")
        return False

    found = [(logger, logger.level) for logger in map(logging.getLogger, names)]
    for logger, _ in found:
        logger.addFilter(theirs)
    try:
        yield
    finally:
        for logger, level in found:
            logger.removeFilter(theirs)
            logger.setLevel(level)
