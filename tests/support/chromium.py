"""A page in a headless Chromium, as a person has it: a size, a picture, what the console says."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tflite_export.browser import chromium

PROGRAM = chromium.program()
needs_browser = pytest.mark.skipif(
    PROGRAM is None or shutil.which("npm") is None,
    reason="needs chromium and npm: apt-get install chromium npm",
)


class Page(chromium.Browser):
    """One page.

    Attributes:
        complaints: Errors of its console, and exceptions that nobody caught.
    """

    def __init__(self, *, width: int = 800, height: int = 900) -> None:
        assert PROGRAM is not None
        self.complaints: list[str] = []
        camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
        super().__init__(PROGRAM, *camera)
        self.ask("DOM.enable")
        self.resize(width, height)

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def resize(self, width: int, height: int) -> None:
        """Give the page a size."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def picture(self, path: Path) -> Path:
        """Take a screenshot of the whole page."""
        told = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))
        return path

    def note(self, told: Any) -> None:
        about = told.get("params", {})
        if told["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif told["method"] == "Runtime.consoleAPICalled" and about["type"] == "error":
            self.complaints.append(json.dumps(about["args"]))
        elif told["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.complaints.append(about["entry"]["text"])
