"""TFLite Micro's own interpreter: whether it takes a file, its answers, the arena it needs."""

from __future__ import annotations

import importlib.util
import re
from functools import partial

from tflite_export.errors import OptionError
from tflite_export.flatbuffer.container import parse
from tflite_export.runtimes.process import Process, RefusalError
from tflite_export.runtimes.refusals import NotRunError, operator_at
from tflite_export.runtimes.remote import RemoteRunner

_PROCESS = Process("micro")
_PLENTY = (1 << 26, 1 << 30)
"""Bytes of an arena that is to be enough; what is not touched takes no memory."""
_STEP = 16
"""Bytes that TFLite Micro aligns an arena to."""
_LACK = re.compile(r"missing: \d+")
_SOURCE = re.compile(r"^tensorflow/\S+\s+")
_NODE = re.compile(r"^Node (\S+) \(number (\d+)\w?\) failed to (\w+)")
_UNKNOWN = re.compile(r"Failed to get registration from op code (\S+)")
_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")


def micro_runner(flat: bytes) -> RemoteRunner:
    """Open a file in TFLite Micro.

    Raises:
        OptionError: The package is missing.
        NotRunError: TFLite Micro does not run it; the message says why.
    """
    _installed()
    return RemoteRunner(flat, _PROCESS, lambda _: _load(flat), partial(_error, flat))


def smallest_arena(flat: bytes) -> int:
    """Find the smallest arena that the interpreter runs a file with, in bytes.

    What it reports as used can be too little: allocation needs more for a while. So that is where
    the search begins, and arenas are tried.

    Raises:
        OptionError: The package is missing.
        NotRunError: TFLite Micro does not run the file.
    """
    _installed()
    with _PROCESS.lock:
        _PROCESS.holds = None
        _load(flat)
        told = _TOTAL.search(_PROCESS.ask("print_allocations")[1])
        used = int(told[1]) // _STEP if told else 1
        refused, taken = used - 1, used
        while not _takes(flat, taken):
            refused, taken = taken, 2 * taken
        while taken - refused > 1:
            middle = (taken + refused) // 2
            if _takes(flat, middle):
                taken = middle
            else:
                refused = middle
    return _STEP * taken


def _installed() -> None:
    if importlib.util.find_spec("tflite_micro") is None:
        raise OptionError(
            "TFLite Micro's own interpreter is the package tflite-micro: "
            "pip install 'keras-nns[micro]'."
        )


def _load(flat: bytes) -> None:
    """Load a file into an arena that is large enough."""
    for arena in _PLENTY:
        try:
            _PROCESS.ask("load", flat, arena)
        except RefusalError as error:
            if arena == _PLENTY[-1] or not _LACK.search(error.words):
                raise _error(flat, error) from error
        else:
            return


def _takes(flat: bytes, steps: int) -> bool:
    try:
        _PROCESS.ask("load", flat, _STEP * steps)
    except RefusalError:
        return False
    return True


def _error(flat: bytes, refusal: RefusalError) -> NotRunError:
    """Say in one line what the interpreter said in several."""
    lines = [_SOURCE.sub("", line).strip() for line in refusal.words.splitlines()]
    said = ""
    for line in filter(None, lines):
        unknown, node = _UNKNOWN.search(line), _NODE.match(line)
        if unknown:
            said = f"it has no operator {unknown[1]}."
            break
        if node:
            types = operator_at(parse(flat), int(node[2]), node[1])
            said = f"{node[1]} ({types or f'operator {node[2]}'}): {said or f'fails to {node[3]}.'}"
            break
        said = said or line
    if refusal.signal:
        said = f"{said} The file ends the process ({refusal.signal}).".strip()
    return NotRunError("TFLite Micro", said or str(refusal))
