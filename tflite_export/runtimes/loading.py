"""Whether a file can be loaded at all: tried where nothing else can be lost."""

from __future__ import annotations

from tflite_export.runtimes.process import Process, RefusalError

_PROCESS = Process("plain")


def ended_by(flat: bytes) -> str | None:
    """Load a file with LiteRT in another process, and say how that one ended.

    Args:
        flat: The flatbuffer.

    Returns:
        The signal that ended it; None where it lives, whether or not it has loaded the file.
    """
    with _PROCESS.lock:
        try:
            _PROCESS.ask("load", flat)
        except RefusalError as error:
            return error.signal or None
    return None
