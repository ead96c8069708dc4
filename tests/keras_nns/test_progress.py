"""How far work is, by a clock that stands still until it is told."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from keras_nns import progress
from keras_nns.progress import Part
from tflite_export.cli.signals import Terminated


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def written(monkeypatch):
    """What is shown, on a terminal or in a log."""
    text = io.StringIO()
    where = {"force_terminal": False}
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=text, width=100, **where))
    return text, where


def test_a_log_gets_shares_and_the_time_that_is_left(clock, written):
    text, _ = written
    with progress.job(True) as job:
        job.expect(look=Part("looking", 1), fit=Part("fitting", 3, times=3))
        with job.part("look"):
            clock[0] += 4  # Over before anybody would wait.
            progress.reached(1, 2)
            clock[0] += 6
        with job.part("fit"):  # 1 of 10 is done after 10 seconds.
            progress.stage(0, 2, "conv_1")
            clock[0] += 10
            progress.stage(1, 2, "conv_2")  # 2.5 of 10 after 20.
            clock[0] += 1
            progress.reached(1, 2)  # Too soon for another line.
    assert text.getvalue().splitlines() == [
        "10%, fitting; 10 s so far, about 90 s left",
        "25%, fitting: conv_2; 20 s so far, about 60 s left",
    ]


def test_more_than_was_expected_never_ends_early(clock, written):
    text, _ = written
    with progress.job(True) as job:
        job.expect(fit=Part("fitting", 1, times=1))
        for _ in range(3):
            with job.part("fit"):
                clock[0] += 60
                progress.reached(1, 2)
    lines = text.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["50%", "75%", "83%"]
    assert lines[-1].endswith("3 min 00 s so far, about 36 s left")


def test_work_within_work_is_a_part_of_it(clock, written):
    text, _ = written
    with progress.job(True) as job:
        job.expect(one=Part("first", 1, times=2))
        with job.part("one"), progress.job(True) as inner:
            inner.expect(fit=Part("fitting", 1, times=2))
            with inner.part("fit"):
                clock[0] += 30
            with inner.part("fit"):
                pass
        with job.part("one"):
            assert list(progress.track("ab", "letters", total=2, verbose=True)) == ["a", "b"]
    assert text.getvalue().splitlines() == ["25%, first: fitting; 30 s so far, about 90 s left"]


def test_a_terminal_gets_a_bar(clock, written):
    text, where = written
    where["force_terminal"] = True
    with progress.job("auto") as job:
        job.expect(fit=Part("fitting", 1))
        with job.part("fit"):
            clock[0] += 30
            progress.reached(1, 2)
    assert "fitting" in text.getvalue() and "%" in text.getvalue()


def test_nothing_is_said_where_nobody_listens(clock, written):
    text, _ = written
    progress.reached(1, 2)
    progress.stage(1, 2)
    for verbose in ("auto", False):
        with progress.job(verbose) as job, job.part("anything"):
            clock[0] += 100
            progress.reached(1, 2)
    assert not text.getvalue()


class Finalized:
    """Raises in its finalizer, where a signal may come as well as anywhere."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), Terminated("end")])
def test_what_cuts_work_off_in_a_finalizer_ends_it_at_the_next_step(error):
    before = sys.unraisablehook
    reached_at = []
    with pytest.raises(type(error)) as told, progress.job(False) as shown, shown.part("work"):
        for step in range(5):
            reached_at.append(step)
            if step == 2:
                Finalized(error)
            progress.reached(step, 5)
    assert told.value is error and reached_at == [0, 1, 2]
    assert sys.unraisablehook is before
    with progress.job(False) as shown, shown.part("work"):
        progress.reached(1, 2)


def test_other_errors_of_finalizers_are_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: told.append(one.exc_type))
    with progress.job(False) as shown, shown.part("work"):
        Finalized(ValueError("odd"))
        progress.reached(1, 2)
    assert told == [ValueError]
