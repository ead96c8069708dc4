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


def table(content: Table, *, caption: bool = True) -> None:
    """Print a table, with colours and the terminal's width where there is a terminal."""
    if not sys.stdout.isatty():
        result(str(content) if caption else str(content).removesuffix(f"\n{content.caption}"))
        return
    from rich.console import Console

    Console().print(content.to_rich())
    if caption and content.caption:
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
