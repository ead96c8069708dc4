"""What a command shows: results on standard output, progress on a terminal's standard error."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from tflite_export.cli.streams import takes_unicode
from tflite_export.text import visible

if TYPE_CHECKING:
    from keras_nns.tables import Table


def remark(given: Namespace, text: str) -> None:
    """Say what was done, unless asked to be quiet."""
    if not given.quiet:
        result(text)


def note(given: Namespace, text: str) -> None:
    """Say beside the result what a reader of it must know, unless asked to be quiet."""
    if not given.quiet:
        print(visible(text), file=sys.stderr)


def result(text: str) -> None:
    """Print what was asked for."""
    print(visible(text))


def table(content: Table) -> None:
    """Print a table with its caption; in colours where there is a terminal."""
    if not sys.stdout.isatty() or not content.rows:
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


class Told(Protocol):
    """What a verb found, as plain data."""

    def to_json(self) -> Any:
        """Return it."""


def figures(given: Namespace, found: Told, *tables: Table) -> None:
    """Print what was found: as tables, or as JSON where that was asked for."""
    if given.json:
        data(found.to_json())
        return
    for content in tables:
        table(content)


def data(content: Any) -> None:
    """Print plain data as JSON; escaped where a stream does not take every character."""
    print(json.dumps(content, indent=1, ensure_ascii=not takes_unicode(sys.stdout)))


def json_text(found: Told) -> str:
    """Write what was found as JSON."""
    from keras_nns.files import atomic

    return atomic.json_text(found.to_json(), indent=1)


@contextlib.contextmanager
def cut_off(given: Namespace, left: Callable[[Any], str]) -> Iterator[None]:
    """Write what a verb had found by the time that it was cut off, and go on ending.

    Args:
        given: The arguments.
        left: Writes what had been found, and returns what to say of it.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        found = getattr(stop, "found", None)
        if found is None:
            raise
        note(given, left(found))
        # As it came, so that the exit status says how the command ended.
        raise (stop.__cause__ or stop) from None


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
