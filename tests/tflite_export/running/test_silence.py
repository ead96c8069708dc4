"""Silence is one thread's own, and needs no real standard output."""
# ruff: noqa: T201 - printing is what is tested

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from tflite_export.running.silence import captured


@contextlib.contextmanager
def bare_root() -> Iterator[logging.Logger]:
    """The root logger as a program finds it: without pytest's handlers."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, []
    try:
        yield root
    finally:
        root.handlers = before


def elsewhere(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_another_thread(text: str) -> None:
    elsewhere(lambda: print(text, flush=True))


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


def test_a_handler_that_is_made_meanwhile_writes_to_the_real_stream(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The handler keeps what stood for stderr: later lines vanished, or went into other files."""
    with captured():
        handler = logging.StreamHandler()
    with open(os.devnull, "wb") as reused:  # noqa: PTH123 - takes the capture's descriptors
        handler.emit(logging.makeLogRecord({"msg": "from here"}))
        elsewhere(lambda: handler.emit(logging.makeLogRecord({"msg": "from there"})))
    assert reused.closed
    assert capfd.readouterr().err == "from here\nfrom there\n"


def test_a_handler_that_asks_for_the_stream_each_time_is_left_alone() -> None:
    """Some libraries give a logger `logging.lastResort`, which cannot be told another stream."""
    code = (
        "import logging\n"
        "from tflite_export.running.silence import captured\n"
        "logging.getLogger('theirs').addHandler(logging.lastResort)\n"
        "with captured() as log:\n"
        "    logging.getLogger('theirs').warning('within')\n"
        "logging.getLogger('theirs').warning('after ' + log.text.strip())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["after within"]


def test_the_root_logger_is_left_as_it_was() -> None:
    """What absl does when it finds no handler made the program's own basicConfig do nothing."""
    with bare_root() as root:
        with captured():
            logging.basicConfig()
            assert root.handlers
            elsewhere(lambda: root.addHandler(logging.NullHandler()))
        (kept,) = root.handlers
        assert isinstance(kept, logging.NullHandler)
        root.removeHandler(kept)
        stream = io.StringIO()
        logging.basicConfig(stream=stream, format="%(message)s")
        root.warning("mine")
        assert stream.getvalue() == "mine\n"


def test_the_programs_log_goes_on() -> None:
    """Its handlers hold the real stderr, whose descriptor is moved."""
    code = (
        "import logging, threading\n"
        "from tflite_export.running.silence import captured\n"
        "logging.basicConfig(format='%(message)s')\n"
        "with captured() as log:\n"
        "    logging.warning('here')\n"
        "    thread = threading.Thread(target=logging.warning, args=('there',))\n"
        "    thread.start(); thread.join()\n"
        "logging.warning('after' + log.text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["here", "there", "after"]


def test_loggers_of_tensorflow_are_held_back_in_this_thread_alone() -> None:
    with bare_root() as root:
        stream = io.StringIO()
        root.addHandler(logging.StreamHandler(stream))
        absl = logging.getLogger("absl")
        level = absl.level
        with captured() as log:
            absl.setLevel(logging.CRITICAL)
            absl.critical("mine")
            elsewhere(lambda: absl.critical("theirs"))
        assert (log.text, stream.getvalue(), absl.level) == ("CRITICAL: mine", "theirs\n", level)


def test_warnings_of_other_threads_meet_their_filters() -> None:
    seen: list[str] = []

    def warn() -> None:
        warnings.warn("shown", UserWarning, stacklevel=1)
        warnings.warn("ignored", FutureWarning, stacklevel=1)
        try:
            warnings.warn("raised", RuntimeWarning, stacklevel=1)
        except RuntimeWarning as error:
            seen.append(str(error))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("error", RuntimeWarning)
        with captured() as log:
            warnings.warn("mine", RuntimeWarning, stacklevel=1)
            elsewhere(warn)
    assert log.text == "RuntimeWarning: mine"
    assert ([str(one.message) for one in caught], seen) == (["shown"], ["raised"])


def test_a_stream_put_in_its_place_meanwhile_stays() -> None:
    other = io.StringIO()
    before = sys.stdout
    try:
        with captured():
            sys.stdout = other
        assert sys.stdout is other
    finally:
        sys.stdout = before


def test_what_stands_in_is_a_stream_for_others(capfd: pytest.CaptureFixture[str]) -> None:
    found: list[object] = []

    def look() -> None:
        found.extend((sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno()))

    real = sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno()
    with captured():
        elsewhere(look)
    assert tuple(found) == real


@pytest.mark.slow
def test_converting_leaves_the_process_as_it_was() -> None:
    """In a process of its own: pytest gives the root logger handlers."""
    code = (
        "import logging, sys\n"
        "import keras, tflite_export\n"
        "tflite_export.convert(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))\n"
        "assert not logging.root.handlers, logging.root.handlers\n"
        "logging.basicConfig(level='INFO', format='%(name)s %(message)s')\n"
        "logging.getLogger('absl').info('one')\n"
        "logging.getLogger('mine').info('two')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-2:] == ["absl one", "mine two"]
