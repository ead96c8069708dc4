"""A progress bar on long passes: on a terminal only, and never when asked to be silent."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Literal, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
Verbose = bool | Literal["auto"]


def track(
    items: Iterable[T], title: str, *, total: int | None, verbose: Verbose, done: int = 0
) -> Generator[T]:
    """Pass items through, showing how far it is on standard error.

    Args:
        items: What is worked through.
        title: What is being done.
        total: How many items, if known, those done before included.
        verbose: True shows the bar also where there is no terminal, False never; `"auto"` on a
            terminal only.
        done: How many were done before.

    Yields:
        The items.
    """
    console = Console(stderr=True, force_terminal=True if verbose is True else None)
    if not verbose or (verbose == "auto" and not console.is_terminal):
        yield from items
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}" if total else "{task.completed:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(items, total=total, completed=done, description=title)
