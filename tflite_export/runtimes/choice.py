"""The runtimes by their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tflite_export.errors import OptionError
from tflite_export.running.interpreter import Runner
from tflite_export.runtimes.compiled import compiled_runner
from tflite_export.runtimes.micro import micro_runner
from tflite_export.runtimes.remote import RemoteRunner
from tflite_export.runtimes.web import web_runner

RUNTIMES: dict[str, Callable[[bytes], Runner | RemoteRunner]] = {
    "litert": Runner,
    "compiled": compiled_runner,
    "micro": micro_runner,
    "web": web_runner,
}
TITLES = {
    "litert": "LiteRT",
    "compiled": "LiteRT, compiled",
    "micro": "TFLite Micro",
    "web": "LiteRT.js",
}


def known(runtimes: Sequence[str]) -> tuple[str, ...]:
    """Check names of runtimes.

    Raises:
        OptionError: There is no such runtime.
    """
    for name in (runtimes,) if isinstance(runtimes, str) else runtimes:
        if name not in RUNTIMES:
            listed = ", ".join(repr(other) for other in RUNTIMES)
            raise OptionError(f"unknown runtime {name!r}; expected one of {listed}.")
    return (runtimes,) if isinstance(runtimes, str) else tuple(runtimes)


def opened(flat: bytes, runtime: str) -> Runner | RemoteRunner:
    """Open a file in a runtime.

    Raises:
        OptionError: There is no such runtime, or its package is missing.
        FlatbufferError: The runtime does not run the file; the message says why.
    """
    (name,) = known((runtime,))
    return RUNTIMES[name](flat)
