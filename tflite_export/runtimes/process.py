"""A process of its own for native code that prints, or that ends the process it runs in."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, cast

_PROGRAM = Path(__file__).parent / "child.py"


class RefusalError(Exception):
    """What was asked cannot be done.

    Args:
        message: What Python said.
        words: What native code said before.
        signal: Name of the signal that ended the process; empty where it lives.
    """

    def __init__(self, message: str, words: str, signal: str = "") -> None:
        super().__init__(message)
        self.words = words
        self.signal = signal


class Process:
    """A runtime in a process of its own, started when it is first asked.

    Args:
        runtime: Which one, as `child` knows it.

    Attributes:
        lock: Held while several questions belong together.
    """

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime
        self._running: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._owner = 0
        self._holds: object | None = None
        self._inherited: list[Any] = []
        self.lock = threading.RLock()

    @property
    def holds(self) -> object | None:
        """Whose file it has loaded, as those who ask say; nobody's once it has ended."""
        return self._holds if self._owner == os.getpid() else None

    @holds.setter
    def holds(self, owner: object | None) -> None:
        self._holds = owner

    def ask(self, *question: Any) -> tuple[Any, str]:
        """Ask, and give back the answer and what native code said meanwhile.

        Raises:
            RefusalError: It cannot be done, or it ended the process; the next question starts
                another.
        """
        with self.lock:
            running = self._started()
            before = self._length()
            try:
                with contextlib.suppress(BrokenPipeError):
                    pickle.dump(question, cast("IO[bytes]", running.stdin))
                    cast("IO[bytes]", running.stdin).flush()
                done, value = pickle.load(cast("IO[bytes]", running.stdout))
            except (EOFError, pickle.UnpicklingError):
                status = running.wait()
                words = self._words(before)
                self.end()
                name = signal.Signals(-status).name if status < 0 else f"status {status}"
                raise RefusalError(f"the process ended ({name})", words, name) from None
            except BaseException:
                # Ctrl-C while it works: what it answers then is no answer to the next question.
                self.end()
                raise
            words = self._words(before)
        if not done:
            raise RefusalError(str(value), words)
        return value, words

    def end(self) -> None:
        """Stop it, if it runs."""
        running, said, self._running = self._running, self._said, None
        self._holds = None
        if running is None or said is None:
            return
        if self._owner != os.getpid():
            # After a fork it is the parent's: neither ended nor let go of.
            self._inherited += [running, said]
            return
        running.kill()
        for pipe in (running.stdin, running.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        running.wait()
        said.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._running is not None and self._owner == os.getpid():
            return self._running
        if not self._owner:
            atexit.register(self.end)
        self.end()
        self._owner = os.getpid()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._running = subprocess.Popen(
            # Not from the program's folder, whose modules have names of their own.
            [sys.executable, "-P", str(_PROGRAM), self._runtime],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        return self._running

    def _length(self) -> int:
        return 0 if self._said is None else os.fstat(self._said.fileno()).st_size

    def _words(self, start: int) -> str:
        """What was written since; the child's own place in the file stays where it is."""
        if self._said is None:
            return ""
        written = os.pread(self._said.fileno(), self._length() - start, start)
        return written.decode("utf-8", "replace").strip()
