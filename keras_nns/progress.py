"""How far long work is: a bar on a terminal, plain lines in a log, nothing when asked to be silent.

Work that has parts is a `Job`; whatever runs inside one says how far it is with `reached` or
`track`, without being handed anything.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
Verbose = bool | Literal["auto"]

_SILENT_SECONDS = 5.0
"""Work that is over by then is not told of in a log."""

_EVERY_SECONDS = 10.0
"""A line of a log comes no sooner behind the last."""

_EARLY = 0.03
"""Nothing is said of what is left before this share is done."""

_MINUTES = 120

_MOST = 0.99
"""What is not over is not complete."""

_current: ContextVar[Job | None] = ContextVar("job", default=None)


def track(
    items: Iterable[T], title: str, *, total: int | None, verbose: Verbose, done: int = 0
) -> Generator[T]:
    """Pass items through, showing how far it is on standard error.

    Args:
        items: What is worked through.
        title: What is being done.
        total: How many items, if known, those done before included.
        verbose: True shows the bar also where there is no terminal, False never; `"auto"` on a
            terminal only. Inside a job it is the job that shows it.
        done: How many were done before.

    Yields:
        The items.
    """
    console = Console(stderr=True, force_terminal=True if verbose is True else None)
    if _current.get() is not None:
        for number, item in enumerate(items, done):
            reached(number, total)
            yield item
        return
    if not verbose or (verbose == "auto" and not console.is_terminal):
        yield from items
        return
    with Progress(*_columns(total), console=console, transient=True) as bar:
        yield from bar.track(items, total=total, completed=done, description=title)


@contextmanager
def counted(title: str, *, total: int | None, verbose: Verbose) -> Iterator[Callable[[int], None]]:
    """Show how many of something are done, as `track` shows what passes through it.

    Args:
        title: What is being done.
        total: How many there are, if known.
        verbose: As in `track`.

    Yields:
        What is to be called with how many are done by now.
    """
    console = Console(stderr=True, force_terminal=True if verbose is True else None)
    if _current.get() is not None:
        yield lambda done: reached(done, total)
        return
    if not verbose or (verbose == "auto" and not console.is_terminal):
        yield lambda done: None
        return
    with Progress(*_columns(total), console=console, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)


def _columns(total: int | None) -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}" if total else "{task.completed:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


def reached(done: float, total: int | None) -> None:
    """Say how far a pass is within the part of a job that runs; outside of one nobody hears it.

    Args:
        done: How much of it is done.
        total: Of how much, if known.
    """
    job = _current.get()
    if job is not None and total:
        job.reached(done / total)


def stage(number: float, of: float, what: str = "") -> None:
    """Say which of several stages of a part of a job begins; outside of one nobody hears it.

    Args:
        number: Its number, from 0.
        of: How many there are.
        what: What it is about, such as the name of a layer.
    """
    job = _current.get()
    if job is not None and of:
        job.stage(number / of, (number + 1) / of, what)


class Shown(Protocol):
    """Where a job is shown."""

    def show(self, share: float, text: str, seconds: float, left: float | None) -> None:
        """Show how far it is.

        Args:
            share: Share of the whole that is done.
            text: What is being done.
            seconds: How long it has taken so far.
            left: About how many seconds are left; None where nothing can be said yet.
        """

    def close(self) -> None:
        """Take it away."""


@dataclass
class Part:
    """A part of a job, which may come several times.

    Attributes:
        words: What it does.
        weight: How much work one time of it is, beside the other parts.
        times: How often it is expected.
        done: How often it is done.
        stage: Where the stage of it that runs begins and ends, as shares of one time.
        what: What that stage is about.
    """

    words: str
    weight: float = 0.0
    times: float = 1.0
    done: int = 0
    stage: tuple[float, float] = (0.0, 1.0)
    what: str = ""


class Job:
    """Work that has parts, some of which come several times or inside others.

    Args:
        shown: Where it is shown.
    """

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._start = time.monotonic()
        self._parts: dict[str, Part] = {}
        self._within: list[Part] = []

    def expect(self, **parts: Part) -> None:
        """Say what there is to be done, as far as it is known by now."""
        for name, part in parts.items():
            before = self._parts.get(name)
            self._parts[name] = part if before is None else replace(part, done=before.done)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Do one time of a part inside."""
        part = self._parts.setdefault(name, Part(name))
        self._within.append(part)
        self.stage(0.0, 1.0)
        try:
            yield
        finally:
            self._within.pop()
            part.done += 1

    def stage(self, low: float, high: float, what: str = "") -> None:
        """Say which stage of the innermost part begins.

        Args:
            low: Where it begins, as a share of the part.
            high: Where it ends.
            what: What it is about.
        """
        if self._within:
            now = self._within[-1]
            now.stage, now.what = (low, high), what
        self.reached(0.0)

    @property
    def about(self) -> str:
        """What the stage that runs is about."""
        return self._within[-1].what if self._within else ""

    def reached(self, share: float, what: str = "") -> None:
        """Say how far the innermost part is.

        Args:
            share: Share of its stage that is done.
            what: What is done in it, where its stage does not say.

        Raises:
            KeyboardInterrupt: The work was cut off where nothing could be raised.
        """
        if _swallowed:
            raise _swallowed.pop()
        if not self._within:
            return
        now = self._within[-1]
        done = sum(part.weight * part.done for part in self._parts.values())
        low, high = now.stage
        done += now.weight * (low + (high - low) * min(share, 1.0))
        # There may be more to do than was expected.
        whole = sum(
            part.weight * max(part.times, part.done + (part in self._within))
            for part in self._parts.values()
        )
        so_far = min(done / whole, _MOST) if whole else 0.0
        seconds = time.monotonic() - self._start
        left = seconds * (1 - so_far) / so_far if so_far > _EARLY else None
        what = what or now.what
        text = f"{now.words}: {what}" if what else now.words
        self._shown.show(so_far, text, seconds, left)


@contextmanager
def job(verbose: Verbose) -> Iterator[Job]:
    """Begin work that has parts. Inside another job it is shown as a part of that.

    Args:
        verbose: True shows a bar on a terminal and plain lines elsewhere; `"auto"` the bar on a
            terminal only; False nothing.

    Yields:
        The job, to be told what to expect.
    """
    shown = _place(verbose)
    begun = Job(shown)
    heard = _heard() if _current.get() is None else nullcontext()
    token = _current.set(begun)
    try:
        with heard:
            yield begun
    finally:
        _current.reset(token)
        shown.close()


_swallowed: list[BaseException] = []
"""What was to cut work off, and was raised in a finalizer or a callback, which hand nothing on."""


@contextmanager
def _heard() -> Iterator[None]:
    """Keep Ctrl-C, or a signal that says so, where Python would print that it is ignored.

    The backend runs finalizers all the time, and what a signal raises in one gets no further. The
    work ends where it next says how far it is.
    """
    before = sys.unraisablehook

    def hook(told: sys.UnraisableHookArgs) -> None:
        if issubclass(told.exc_type, KeyboardInterrupt):
            _swallowed.append(told.exc_value or told.exc_type())
        else:
            before(told)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        _swallowed.clear()


def _place(verbose: Verbose) -> Shown:
    outer = _current.get()
    if outer is not None:
        return _Inside(outer)
    console = Console(stderr=True)
    if verbose and console.is_terminal:
        return _Bar(console)
    return _Lines(console) if verbose is True else _Nowhere()


class _Nowhere:
    """Shows nothing."""

    def show(self, share: float, text: str, seconds: float, left: float | None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _Inside(_Nowhere):
    """Shows a job as the part of another that runs at the moment."""

    def __init__(self, outer: Job) -> None:
        self._outer = outer

    def show(self, share: float, text: str, seconds: float, left: float | None) -> None:
        about = self._outer.about
        self._outer.reached(share, f"{about}, {text}" if about else text)


class _Lines(_Nowhere):
    """Writes plain lines, for a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0

    def show(self, share: float, text: str, seconds: float, left: float | None) -> None:
        if seconds < _SILENT_SECONDS or seconds - self._last < _EVERY_SECONDS:
            return
        self._last = seconds
        line = f"{share:.0%}, {text}; {_duration(seconds)} so far{_left(left)}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Bar(_Nowhere):
    """Shows a bar, for a terminal."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("", total=1.0, left="")
        self._bar.start()

    def show(self, share: float, text: str, seconds: float, left: float | None) -> None:
        self._bar.update(self._task, completed=share, description=text, left=_left(left)[2:])

    def close(self) -> None:
        self._bar.stop()


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", about {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole} s" if whole < _MINUTES else f"{whole // 60} min {whole % 60:02} s"
