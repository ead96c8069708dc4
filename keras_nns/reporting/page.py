"""A page of text, tables and pictures, written once as Markdown and rendered to HTML from it."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from matplotlib.figure import Figure

from keras_nns.files import atomic
from keras_nns.reporting import image_files
from keras_nns.tables import Table, escape
from tflite_export.text import one_line

MARKDOWN, HTML, FIGURES = "report.md", "report.html", "figures"

_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; line-height: 1.5;
  font-family: system-ui, sans-serif; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 2.2rem; border-bottom: 1px solid #8884; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #8884; white-space: nowrap; }
""".strip()

# The page may show its own pictures and style; it can load and run nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Heading:
    """The title of a part of the page.

    Attributes:
        text: Plain text.
        level: 2 for a part, 3 for a part of a part.
    """

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Plain text. Nothing in it is read as Markdown or HTML, so users' names are safe in it."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of plain sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows in words.

    Attributes:
        name: Short name, which the file's name is made from and which stands in for the picture.
        png: The picture as the bytes of a PNG file.
        caption: What it shows, in words.
    """

    name: str
    png: bytes
    caption: str

    @classmethod
    def of(cls, name: str, figure: Figure, caption: str) -> Picture:
        """Render a figure."""
        return cls(name, image_files.rendered(figure), caption)


@dataclass(frozen=True)
class Stage:
    """A part that is played with where a page can run scripts, as `reporting/interactive.py` makes.

    Attributes:
        name: Which part: the name of its file in `reporting/assets/parts`.
        title: What stands over it there, if anything.
        instead: What says the same in Markdown, and where nothing can be played with.
    """

    name: str
    title: str = ""
    instead: tuple[Block, ...] = ()


Block = Heading | Paragraph | Bullets | Picture | Table | Stage


@dataclass(frozen=True)
class Report:
    """A page: a title and what stands under it, in order.

    Example:
        >>> page = Report("Two labels", (Paragraph("Nothing was lost."),))
        >>> print(page.to_markdown())
        # Two labels
        <BLANKLINE>
        Nothing was lost.
        <BLANKLINE>
    """

    title: str
    blocks: tuple[Block, ...] = ()

    @property
    def still(self) -> tuple[Block, ...]:
        """What stands under the title where nothing is played with, in order."""
        return tuple(_still(self.blocks))

    @property
    def pictures(self) -> Mapping[str, bytes]:
        """The pictures by their path beside the page, in order."""
        return {path: block.png for path, block in self._paths()}

    def _paths(self) -> Iterator[tuple[str, Picture]]:
        pictures = [block for block in self.still if isinstance(block, Picture)]
        for number, block in enumerate(pictures, 1):
            slug = re.sub(r"[^a-z0-9]+", "-", block.name.lower()).strip("-")[:40]
            yield f"{FIGURES}/{number:02}-{slug or 'picture'}.png", block

    def to_markdown(self) -> str:
        """Return the page as Markdown; its pictures are files beside it."""
        paths = {id(block): path for path, block in self._paths()}
        parts = [f"# {escape(self.title)}"]
        for block in self.still:
            parts += _markdown(block, paths.get(id(block), ""))
        return "\n\n".join(parts) + "\n"

    def to_html(self) -> str:
        """Return the page as one HTML document that holds its pictures and loads nothing."""
        body = as_html(self.to_markdown(), self.pictures)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(one_line(self.title))}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n"
            f"<body>\n{body}</body>\n</html>\n"
        )


def as_html(markdown: str, pictures: Mapping[str, bytes]) -> str:
    """Render Markdown, with pictures by their paths, as HTML that loads nothing."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    _embed(tokens, pictures)
    body: str = reader.renderer.render(tokens, reader.options, {})
    body = body.replace("<table>", '<div class="wide"><table>')
    return body.replace("</table>", "</table></div>")


def write(
    report: Report,
    folder: str | PathLike[str],
    *,
    overwrite: bool = False,
    interactive: str | None = None,
) -> Path:
    """Write a report as `report.md` with its pictures in `figures/`, and as `report.html`.

    Each file is written atomically, pictures first, so a page never names a picture that is not
    there. The HTML file holds everything and can be sent around alone.

    Args:
        report: The page.
        folder: Where to; it is made when it does not exist.
        overwrite: Whether existing files of these names may be replaced.
        interactive: The page as HTML, where it is another than `to_html` gives.

    Returns:
        Path of the HTML file.

    Raises:
        FileError: A file exists and `overwrite` is false, in which case nothing is written, or
            cannot be written.
    """
    folder = Path(folder)
    html_ = report.to_html() if interactive is None else interactive
    pages = {MARKDOWN: report.to_markdown().encode(), HTML: html_.encode()}
    contents = {**report.pictures, **pages}
    for name in contents:
        atomic.refuse_existing(folder / name, overwrite=overwrite)
    for name, content in contents.items():
        atomic.write_bytes(folder / name, content, overwrite=overwrite)
    return folder / HTML


def _still(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        if isinstance(block, Stage):
            yield from _still(block.instead)
        else:
            yield block


def _markdown(block: Block, path: str) -> Sequence[str]:
    match block:
        case Stage():
            raise AssertionError("what is played with is replaced before")
        case Heading():
            return [f"{'#' * block.level} {escape(block.text)}"]
        case Paragraph():
            return [escape(block.text)]
        case Bullets():
            return ["\n".join(f"- {escape(item)}" for item in block.items)]
        case Picture():
            return [f"![{escape(block.name)}]({path})", escape(block.caption)]
        case Table():
            caption = [escape(line) for line in block.caption.splitlines()]
            return [block.to_markdown(), *caption]


def _embed(tokens: Sequence[Token], pictures: Mapping[str, bytes]) -> None:
    """Put pictures into the page in place of their paths."""
    for token in tokens:
        for child in token.children or ():
            if child.type == "image":
                path: Any = child.attrs["src"]
                data = base64.b64encode(pictures[path]).decode()
                child.attrs["src"] = f"data:image/png;base64,{data}"
