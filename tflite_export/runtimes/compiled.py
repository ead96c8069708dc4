"""LiteRT's other way to run a file: compiled ahead, on the CPU (`CompiledModel`)."""

from __future__ import annotations

from tflite_export.runtimes.process import Process, RefusalError
from tflite_export.runtimes.refusals import NotRunError
from tflite_export.runtimes.remote import RemoteRunner

_PROCESS = Process("compiled")


def compiled_runner(flat: bytes) -> RemoteRunner:
    """Open a file as a compiled model, with the sizes that stand in it.

    Raises:
        NotRunError: LiteRT does not compile it; the message says why.
    """
    return RemoteRunner(flat, _PROCESS, lambda runner: _load(flat, runner), _error)


def _load(flat: bytes, runner: RemoteRunner) -> None:
    inputs, outputs = runner.in_order
    ends = {slot.name: (slot.dtype.name, slot.shape) for slot in outputs}
    try:
        _PROCESS.ask("load", flat, [slot.name for slot in inputs], ends)
    except RefusalError as error:
        raise _error(error) from error


def _error(refusal: RefusalError) -> NotRunError:
    said = [line for line in refusal.words.splitlines() if line.startswith("ERROR")]
    return NotRunError("LiteRT, compiled,", " ".join([str(refusal), *said[-1:]]))
