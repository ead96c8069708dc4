"""What a command shows: results on standard output, progress on a terminal's standard error."""

from __future__ import annotations

import contextlib
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_nns.tables import Table


def remark(given: Namespace, text: str) -> None:
    """Say what was done, unless asked to be quiet."""
    if not given.quiet:
        result(text)


def result(text: str) -> None:
    """Print what was asked for."""
    print(text)


def table(content: Table) -> None:
    """Print a table with its caption; in colours where there is a terminal."""
    if not sys.stdout.isatty():
        result(str(content))
        return
    from rich.console import Console
    from rich.measure import Measurement

    shown = content.to_rich()
    shown.show_edge, shown.collapse_padding = False, True
    console = Console()
    # A terminal that is too narrow breaks the lines; rich would cut figures off.
    needed = Measurement.get(console, console.options.update(width=500), shown).maximum
    console.width = max(console.width, needed)
    console.print(shown)
    if content.caption:
        result(content.caption)


@contextlib.contextmanager
def working(given: Namespace, text: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done while it is done, on a terminal, unless asked to be quiet.

    Yields:
        A function that changes the text.
    """
    if given.quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{text} …") as status:
        yield lambda new: status.update(f"{new} …")
