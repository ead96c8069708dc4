"""The compiler's process, kept from one file to the next, and begun again where a file ends it."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence

from tflite_export.errors import ConversionError

_SERVING = "tflite_export.vela.serving"


class _Process:
    """One process, and the file its words go to."""

    def __init__(self) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", _SERVING],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            # What can be imported here can be imported there.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def ask(self, arguments: list[str]) -> object:
        """Return the status that Vela ends with; raise `EOFError` where it ended the process."""
        requests, answers = self._child.stdin, self._child.stdout
        assert requests is not None
        assert answers is not None
        self._words.seek(0)
        self._words.truncate()
        try:
            pickle.dump(arguments, requests)
            requests.flush()
            return pickle.load(answers)
        except BrokenPipeError:
            raise EOFError from None

    @property
    def said(self) -> str:
        """What was written since it was asked last."""
        self._words.seek(0)
        return self._words.read().decode("utf-8", "replace")

    def end(self) -> int:
        """End it, and return how it ended."""
        with contextlib.suppress(BrokenPipeError):
            self._child.communicate()
        self._words.close()
        return self._child.returncode


class Compiler:
    """Vela in a process of its own, started with the first file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Process | None = None

    def run(self, arguments: Sequence[str]) -> str:
        """Run Vela with the arguments of its command line.

        Returns:
            What it wrote.

        Raises:
            ConversionError: It is not installed, or it failed; `.log` holds what it wrote.
        """
        with self._lock:
            if self._process is None:
                _refuse_missing()
                self._process = _Process()
            try:
                status = self._process.ask(list(arguments))
                said = self._process.said
            except EOFError:
                said = self._process.said
                status = self._process.end()
                self._process = None
        if status:
            last = (said.strip().splitlines() or ["nothing"])[-1]
            raise ConversionError(
                f"Vela cannot compile this file: it ended with {status}, and wrote last: {last} "
                "(the rest is in this error's .log).",
                log=said,
            )
        return said

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            if self._process is not None:
                self._process.end()
                self._process = None


def _refuse_missing() -> None:
    if importlib.util.find_spec("ethosu") is None:
        raise ConversionError(
            "what an NPU does with a file is told by Arm's compiler Vela, which is not installed. "
            "Install it with: pip install 'keras-nns[npu]'"
        )


COMPILER = Compiler()
atexit.register(COMPILER.close)
