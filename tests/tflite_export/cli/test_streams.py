"""Standard streams of any encoding, and none at all."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tflite_export.cli.streams import any_text, takes_unicode
from tflite_export.text import visible

SHIPPED = "ζ ≥ 0.4 → café × 2 … 猫 🐈"


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="")


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", SHIPPED),
        ("ascii", r"zeta >= 0.4 -> caf\xe9 x 2 ... \u732b \U0001f408"),
        ("latin-1", r"zeta >= 0.4 -> café × 2 ... \u732b \U0001f408"),
        ("cp1252", r"zeta >= 0.4 -> café × 2 … \u732b \U0001f408"),
    ],
)
def test_what_an_encoding_lacks_is_written_plainly(
    encoding: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    with any_text():
        sys.stdout.write(SHIPPED)
    out.flush()
    assert out.errors == "strict"
    assert out.buffer.getvalue().decode(encoding) == written  # type: ignore[attr-defined]


def test_a_name_that_is_no_text_is_written_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.fsdecode` makes such strings of file names that are not UTF-8."""
    out = stream("utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    with any_text():
        sys.stdout.write("caf\udce9")
        sys.stdout.flush()
    assert out.buffer.getvalue() == b"caf\\udce9"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", ["none", "closed"])
def test_a_stream_that_is_not_there_swallows(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = None if kind == "none" else stream("utf-8")
    if gone is not None:
        gone.close()
    monkeypatch.setattr(sys, name, gone)
    with any_text():
        getattr(sys, name).write("text")
        assert getattr(sys, name).isatty() is False
    assert getattr(sys, name) is gone


def test_a_file_never_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What native code prints would land in it."""
    code = (
        "import os, sys\n"
        "from tflite_export.cli.streams import any_text\n"
        "with any_text(), open(sys.argv[1], 'wb') as file:\n"
        "    os.write(1, b'noise'); os.write(2, b'noise')\n"
        "    file.write(b'TFL3')\n"
    )
    path = tmp_path / "model.tflite"
    command = f'"{sys.executable}" -c "$CODE" "{path}" <&- >&- 2>&-'
    known = {"CODE": code, "PYTHONPATH": ":".join(sys.path)}
    subprocess.run(["sh", "-c", command], env=known, check=True)
    assert path.read_bytes() == b"TFL3"


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b[31m\x00\x9b2J\r") == r"a\x1b[31m\x00\x9b2J\r"
    assert visible("\u202etxt.exe\u2028") == r"\u202etxt.exe\u2028"
    assert visible("one\ttwo\nthrée 猫") == "one\ttwo\nthrée 猫"


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("UTF_8", True), ("cp1252", False), ("ascii", False)]
)
def test_streams_that_take_everything(encoding: str, can: bool) -> None:
    assert takes_unicode(stream(encoding)) is can
    assert takes_unicode(None)
    assert json.loads(json.dumps(SHIPPED, ensure_ascii=not can)) == SHIPPED
