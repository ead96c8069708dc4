"""Silence is one thread's own, and needs no real standard output."""
# ruff: noqa: T201 - printing is what is tested

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import pytest

from tflite_export.running.silence import captured


def in_another_thread(text: str) -> None:
    thread = threading.Thread(target=lambda: print(text, flush=True))
    thread.start()
    thread.join()


def test_text_of_python_and_of_native_code_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    with captured() as log:
        print("from Python")
        os.write(1, b"from C to stdout\n")
        os.write(2, b"from C to stderr\n")
    assert {"from Python", "from C to stdout", "from C to stderr"} <= set(log.text.splitlines())
    assert capfd.readouterr() == ("", "")


def test_other_threads_go_on_printing(capfd: pytest.CaptureFixture[str]) -> None:
    with captured() as log:
        print("mine")
        in_another_thread("theirs ✓")
    assert log.text == "mine"
    assert capfd.readouterr() == ("theirs ✓\n", "")


def test_a_notebooks_stream_is_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = io.StringIO()
    monkeypatch.setattr(sys, "stdout", notebook)
    with captured() as log:
        print("mine")
        in_another_thread("theirs")
    print("after")
    assert (log.text, notebook.getvalue()) == ("mine", "theirs\nafter\n")


def test_no_standard_output_at_all() -> None:
    code = (
        "import os, sys\n"
        "from tflite_export.running.silence import captured\n"
        "os.close(1); sys.stdout = None\n"
        "with captured() as log:\n"
        "    os.write(2, b'noise')\n"
        "sys.stderr.write(log.text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "noise")


def test_an_error_puts_everything_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError, match="inside"), captured() as log:
        print("mine")
        raise ValueError("inside")
    assert (sys.stdout, sys.stderr) == before
    os.write(1, b"after\n")
    assert (log.text, capfd.readouterr().out) == ("mine", "after\n")


def test_captures_of_several_threads_do_not_mix() -> None:
    logs: dict[int, str] = {}

    def work(number: int) -> None:
        with captured() as log:
            print(f"thread {number}")
        logs[number] = log.text

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logs == {number: f"thread {number}" for number in range(8)}
