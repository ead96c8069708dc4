"""Standard streams that take any text, also where a console is not UTF-8 or there is none."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_HANDLER = "plain_or_escaped"
_PLAIN = {
    **dict.fromkeys("–—─━‐‑−╴╶╸╺", "-"),
    **dict.fromkeys("│┃", "|"),
    **dict.fromkeys("•·", "*"),
    "×": "x",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "→": "->",
    "←": "<-",
    "…": "...",
    "ζ": "zeta",
    "±": "+-",
    "\N{NO-BREAK SPACE}": " ",
    "\N{NARROW NO-BREAK SPACE}": " ",
}


def takes_unicode(stream: object) -> bool:
    """Whether a stream can write every character."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("_", "-") in (
        "utf-8", "utf8", "utf-8-sig", "utf-16", "utf-32",
    )  # fmt: skip


@contextlib.contextmanager
def any_text() -> Iterator[None]:
    """Let standard output and error take any text while a command runs.

    What their encoding does not have is written in plain characters, or as an escape. A stream that
    is closed, or that the process never had, swallows what it is given: a file that the command
    opens would else be given its number, and whatever is printed by native code.
    """
    _fill_descriptors()
    codecs.register_error(_HANDLER, _plain)
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None or stream.closed:
                sink = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                setattr(sys, name, sink)
                stack.callback(setattr, sys, name, stream)
            elif hasattr(stream, "reconfigure"):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors=_HANDLER)
        yield


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace what cannot be encoded; a handler for `str.encode`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or _escape(c) for c in text), error.end


def _escape(character: str) -> str:
    return character.encode("ascii", errors="backslashreplace").decode()


def _fill_descriptors() -> None:
    """Open the null device in the place of standard streams that were closed from outside."""
    while True:
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            return
        os.set_inheritable(number, True)
