"""A file in a browser: LiteRT.js, on the CPU, in headless Chromium."""

from __future__ import annotations

import atexit
import base64
import json
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tflite_export.browser import library, limits
from tflite_export.browser.chromium import Browser, BrowserError, program
from tflite_export.errors import OptionError
from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.ends import ends
from tflite_export.flatbuffer.metadata_types import Metadata, TensorMetadata
from tflite_export.flatbuffer.packing import tensor_names
from tflite_export.runtimes.process import RefusalError
from tflite_export.runtimes.refusals import NotRunError
from tflite_export.runtimes.remote import RemoteRunner

Array = np.ndarray[Any, Any]
_PAGE = Path(library.__file__).parent / "runner.html"


class _Kept:
    """A browser that is kept from one file to the next, asked as a `Process` is."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._browser: Browser | None = None
        self._owner = 0
        self._holds: object | None = None
        self._inherited: list[Browser] = []
        self._outputs: list[tuple[str, tuple[int, ...]]] = []

    @property
    def holds(self) -> object | None:
        """Whose file it has loaded; nobody's in another process than the one that began."""
        return self._holds if self._owner == os.getpid() else None

    @holds.setter
    def holds(self, owner: object | None) -> None:
        self._holds = owner

    def ask(self, *question: Any) -> tuple[Any, str]:
        """Load a file or run it.

        Raises:
            RefusalError: It cannot be done.
        """
        verb, *rest = question
        try:
            browser = self._started()
            return (self._load if verb == "load" else self._run)(browser, *rest), ""
        except BrowserError as error:
            self.end()
            raise RefusalError(str(error), "") from None
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Stop the browser, if it is this process's."""
        browser, self._browser, self._holds = self._browser, None, None
        if browser is None:
            return
        if self._owner == os.getpid():
            browser.end()
        else:
            # After a fork it is the parent's: neither ended nor let go of.
            self._inherited.append(browser)

    def _started(self) -> Browser:
        if self._browser is not None and self._owner == os.getpid():
            return self._browser
        path = program()
        if path is None:
            raise OptionError(
                "runtime='web' runs a file in Chromium or Chrome, and neither is on the PATH: "
                "apt-get install chromium, for instance."
            )
        if not library.installed():
            raise OptionError(
                f"runtime='web' takes LiteRT.js, the npm package {library.NAME}, from node_modules "
                f"here or above, and it is not there: {library.INSTALL}."
            )
        script = library.script(None)
        if not self._owner:
            atexit.register(self.end)
        self.end()
        self._owner = os.getpid()
        self._browser = Browser(path)
        # What is loaded is in the browser: the files may go.
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "litert.js").write_text(script, encoding="utf-8")
            page = Path(folder) / "index.html"
            page.write_bytes(_PAGE.read_bytes())
            self._browser.open(page)
        return self._browser

    def _load(self, browser: Browser, flat: bytes, known: dict[str, Any]) -> None:
        file = base64.b64encode(flat).decode()
        browser.run(f"load({json.dumps(file)}, {json.dumps(known)})")
        self._outputs = [(kind, tuple(shape)) for _, kind, shape in known["outputs"]]

    def _run(self, browser: Browser, values: Sequence[Array]) -> list[Array]:
        given = [base64.b64encode(value.tobytes()).decode() for value in values]
        found = browser.run(f"run({json.dumps(given)})")
        return [
            np.frombuffer(base64.b64decode(text), kind).reshape(shape)
            for text, (kind, shape) in zip(found, self._outputs, strict=True)
        ]


_KEPT = _Kept()


def web_runner(flat: bytes) -> RemoteRunner:
    """Open a file in LiteRT.js.

    Raises:
        OptionError: Chromium or LiteRT.js is missing.
        NotRunError: LiteRT.js does not run it; the message says why.
    """
    model = container.parse(flat)
    blank = Metadata(
        inputs=tuple(map(TensorMetadata, tensor_names(model, "inputs"))),
        outputs=tuple(map(TensorMetadata, tensor_names(model, "outputs"))),
    )
    inputs, outputs = ends(model, blank)
    reason = limits.refused(model, [*inputs, *outputs])
    if reason:
        raise NotRunError(limits.NAME, reason)
    known = {
        side: [(end.name, end.type, end.shape) for end in found]
        for side, found in (("inputs", inputs), ("outputs", outputs))
    }
    alone = limits.alone(flat)

    def load(_: RemoteRunner) -> None:
        try:
            _KEPT.ask("load", alone, known)
        except RefusalError as error:
            raise _error(error) from error

    return RemoteRunner(flat, _KEPT, load, _error)


def _error(refusal: RefusalError) -> NotRunError:
    return NotRunError(limits.NAME, f"{refusal}.")
