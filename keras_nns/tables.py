"""Tables of figures: one content, shown in a terminal or as Markdown."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rich.box
import rich.console
import rich.table
from rich.cells import cell_len
from rich.text import Text

from tflite_export.text import one_line, visible

UNDEFINED = "–"
"""Shown where a figure is undefined, such as the recall of a label without samples."""

_MARKUP = re.compile(r"([\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_]))")
_BLOCK_START = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+#=]))")
_FIGURE = re.compile(r"[+\-\N{MINUS SIGN}]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?( ?%)?")
_WIDTH = 120
_NAME = 24
"""Columns of names are never folded to less, unless all names are shorter."""


@dataclass(frozen=True)
class Table:
    """Cells of text under column names; the first column names the row.

    Attributes:
        columns: Column names.
        rows: Cells, one tuple per row.
        caption: What the table says about, in words.
        prose: Positions of columns that hold words, which may be folded.

    Example:
        >>> print(Table(("label", "samples"), (("cat", "12"),)).to_markdown())
        | label | samples |
        | :--- | ---: |
        | cat | 12 |
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    prose: tuple[int, ...] = (0,)

    def to_rich(self) -> rich.table.Table:
        """Return the table for a rich console, every cell as literal text."""
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(self.columns):
            # What is figured stays whole; only names may be folded when a terminal is narrow.
            words = i in self.prose
            table.add_column(
                Text(one_line(column)),
                justify="left" if words else "right",
                no_wrap=not words,
                # A name without blanks too: cut off, names of layers are often all alike.
                overflow="fold",
                # Else many columns of figures would leave nothing of the names.
                min_width=min(self._longest(i), _NAME) if words else None,
            )
        for row in self.rows:
            # A name of the user's may hold a line end, or what a terminal obeys.
            table.add_row(*(Text(one_line(cell)) for cell in row))
        return table

    def _longest(self, column: int) -> int:
        cells = (self.columns[column], *(row[column] for row in self.rows))
        return max(map(cell_len, map(one_line, cells)))

    def to_markdown(self) -> str:
        """Return the table as Markdown, every cell escaped; the caption is not part of it."""
        rule = " | ".join(":---" if i in self.prose else "---:" for i in range(len(self.columns)))
        lines = [" | ".join(escape(cell) for cell in row) for row in (self.columns, *self.rows)]
        return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))

    def to_html(self) -> str:
        """Return the table and its caption as HTML, every cell escaped."""

        def row(kind: str, cells: tuple[str, ...]) -> str:
            sides = ("left" if i in self.prose else "right" for i in range(len(cells)))
            return "".join(
                f'<{kind} style="text-align:{side}">{html.escape(one_line(cell))}</{kind}>'
                for side, cell in zip(sides, cells, strict=True)
            )

        body = "".join(f"<tr>{row('td', cells)}</tr>" for cells in self.rows)
        head = f"<thead><tr>{row('th', self.columns)}</tr></thead>"
        table = f"<table>{head}<tbody>{body}</tbody></table>" if self.rows else ""
        return f"{table}<p>{html.escape(visible(self.caption))}</p>" if self.caption else table

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_frame(self) -> Any:
        """Return the table as a `pandas.DataFrame`, numbers as numbers.

        Figures are as the table shows them: rounded, a share of 12.5 % as 0.125, an undefined one
        as NaN. A column that holds anything else than numbers stays text.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> Table(("label", "samples"), (("cat", "1,200"),)).to_frame()["samples"].sum()
            np.int64(1200)
        """
        try:
            import pandas  # noqa: PLC0415
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install pandas.") from error
        cells = list(zip(*self.rows, strict=True)) or [()] * len(self.columns)
        columns = [
            list(column) if i in self.prose else _numbers(column) for i, column in enumerate(cells)
        ]
        # Built by place: two columns may have one name.
        frame = pandas.DataFrame(dict(enumerate(columns)))
        frame.columns = pandas.Index(self.columns)
        return frame

    def __str__(self) -> str:
        if not self.rows and self.caption:  # Column names alone say nothing.
            return visible(self.caption)
        stream = io.StringIO()
        console = rich.console.Console(
            file=stream, width=_WIDTH, color_system=None, legacy_windows=False, highlight=False
        )
        # Wider than a page where figures would be cut off: what shows it breaks the lines.
        lengths = [self._longest(i) for i in range(len(self.columns))]
        least = [min(n, _NAME) if i in self.prose else n for i, n in enumerate(lengths)]
        console.width = max(_WIDTH, sum(least) + 3 * len(least))
        console.print(self.to_rich())
        lines = [line.rstrip() for line in stream.getvalue().splitlines()]
        text = "\n".join(line for line in lines if line)
        return f"{text}\n{visible(self.caption)}" if self.caption else text


class Tabular:
    """What is shown as a table: printed, and in a notebook."""

    def to_table(self) -> Table:
        """Return it as a table."""
        raise NotImplementedError

    def to_markdown(self) -> str:
        """Return it as a Markdown table."""
        return self.to_table().to_markdown()

    def to_frame(self) -> Any:
        """Return it as a `pandas.DataFrame`, as `Table.to_frame` does."""
        return self.to_table().to_frame()

    def _shown(self) -> Sequence[Table]:
        """Return all tables that it is shown as."""
        return [self.to_table()]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self._shown()))

    def __repr__(self) -> str:
        caption = self.to_table().caption.splitlines()
        return f"<{type(self).__name__}{f': {one_line(caption[0])}' if caption else ''}>"

    def _repr_html_(self) -> str:
        return "".join(table.to_html() for table in self._shown())


def _numbers(cells: Sequence[str]) -> list[Any]:
    """Read a column of figures as it is shown; text where one of them is no number."""
    found = [_number(cell) for cell in cells]
    return list(cells) if None in found else found


def _number(cell: str) -> float | int | None:
    text = cell.strip()
    if text in (UNDEFINED, ""):
        return math.nan
    if not _FIGURE.fullmatch(text):
        return None
    plain = text.rstrip(" %").replace(",", "").replace("\N{MINUS SIGN}", "-")
    if text.endswith("%"):
        return float(plain) / 100
    return int(plain) if plain.lstrip("+-").isdigit() else float(plain)


def escape(text: str) -> str:
    r"""Escape text that is not Markdown, such as a label's name, for one line of Markdown.

    Example:
        >>> print(escape("# <b>1_000</b> *"))
        \# \<b\>1_000\</b\> \*
    """
    line = _MARKUP.sub(r"\\\1", visible(" ".join(text.split())))
    return _BLOCK_START.sub(r"\1\\", line, count=1)


def share(value: float) -> str:
    """Write a share between 0 and 1 with three digits; undefined figures as a dash."""
    return UNDEFINED if math.isnan(value) else f"{value:.3f}"


def count(value: int | None) -> str:
    """Write a whole number with its thousands set apart."""
    return UNDEFINED if value is None else f"{value:,}"


def ratio(part: int | None, whole: int | None) -> str:
    """Write one count as a share of another, in percent."""
    if part is None or not whole:
        return UNDEFINED
    return f"{100 * part / whole:.1f} %"
