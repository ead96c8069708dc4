"""A headless Chromium, spoken to over a pipe in its DevTools protocol."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SWITCHES = (
    *("--headless", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"),
    *("--disable-background-networking", "--disable-extensions", "--hide-scrollbars"),
)
_PATIENCE = 120.0
"""Seconds to wait for an answer."""
# It reads from descriptor 3 and writes to 4.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)


class BrowserError(Exception):
    """What the page did instead of answering."""


def program() -> str | None:
    """Find Chromium or Chrome."""
    if sys.platform == "win32":
        return None
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """A browser with one page.

    Args:
        path: The program.
        switches: More of its switches.
    """

    def __init__(self, path: str, *switches: str) -> None:
        self._folder = tempfile.mkdtemp(prefix="chromium-")
        ours, theirs = os.pipe(), os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (ours[0], theirs[1])]
        # As root it starts only without a sandbox, and nothing foreign is opened here.
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()
        line = [path, *_SWITCHES, *root, *switches, f"--user-data-dir={self._folder}"]
        self._running = subprocess.Popen(
            [sys.executable, "-c", _START, *map(str, high), *line, "about:blank"],
            pass_fds=high,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (ours[0], theirs[1], *high):
            os.close(end)
        self._send, self._read = os.fdopen(ours[1], "wb"), os.fdopen(theirs[0], "rb")
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        try:
            page = self.ask("Target.createTarget", url="about:blank")["targetId"]
            attached = self.ask("Target.attachToTarget", targetId=page, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.ask(f"{domain}.enable")
        except BaseException:
            self.end()
            raise

    def ask(self, method: str, **parameters: Any) -> Any:
        """Ask, and wait for the answer.

        Raises:
            BrowserError: There is none.
        """
        self._number += 1
        question = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            question["sessionId"] = self._session
        try:
            self._send.write(json.dumps(question).encode() + b"\0")
            self._send.flush()
        except OSError as error:
            raise BrowserError("the browser has ended") from error
        while True:
            told = self._next()
            if told.get("id") == self._number:
                if "error" in told:
                    raise BrowserError(str(told["error"].get("message")))
                return told["result"]
            self.note(told)

    def note(self, told: Any) -> None:
        """Take what the browser says unasked."""

    def open(self, path: Path) -> None:
        """Open a page from disk, and wait until it is loaded."""
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self.run(
            "new Promise((done) => document.readyState === 'complete' ? done()"
            " : addEventListener('load', done))"
        )

    def run(self, expression: str) -> Any:
        """Evaluate, wait for a promise, and give back its value.

        Raises:
            BrowserError: It throws.
        """
        told = self.ask(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in told:
            about = told["exceptionDetails"]
            thrown = about.get("exception", {})
            words = thrown.get("description") or thrown.get("value") or about["text"]
            raise BrowserError(str(words).splitlines()[0].removeprefix("Error: "))
        return told["result"].get("value")

    def end(self) -> None:
        """Stop it, and remove what it has written."""
        self._running.kill()
        self._running.wait()
        for pipe in (self._send, self._read):
            with contextlib.suppress(OSError):
                pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], _PATIENCE)
            data = os.read(self._read.fileno(), 1 << 20) if ready else b""
            if not data:
                raise BrowserError("the browser has ended" if ready else "the browser hangs")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)
