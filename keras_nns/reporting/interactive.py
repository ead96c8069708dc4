"""A page that people play with: one HTML file that holds its charts' library, and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from os import PathLike
from pathlib import Path
from string import Template
from typing import Any

from keras_nns import tables
from keras_nns.files.atomic import Json
from keras_nns.reporting import charts, findings
from keras_nns.reporting.document import surgery_report
from keras_nns.reporting.explorer import page_data
from keras_nns.reporting.page import (
    MARKDOWN,
    Block,
    Heading,
    Paragraph,
    Report,
    Stage,
    as_html,
    write,
)
from keras_nns.reporting.record import Subnetwork, SurgeryRecord

_SCRIPTS = ("core", "charts", "sizes", "units", "rule", "overlap", "figures", "main")
"""In this order; each uses what those before it have."""

# Scripts run by what they hold: any other, whatever a name smuggled in, is refused.
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; "
    "base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True)
class Published:
    """A page that was written.

    Attributes:
        path: The HTML file.
        still: Why nothing on it can be played with; empty where it can.
    """

    path: Path
    still: str = ""


def publish(
    record: SurgeryRecord, folder: str | PathLike[str], *, overwrite: bool = False
) -> Published:
    """Write the page of an operation: to be played with as HTML, and as Markdown beside it.

    Without Altair and vl-convert (`pip install 'keras-nns[page]'`) the HTML page has still
    pictures and says so.

    Args:
        record: What was done, with at least one subnetwork.
        folder: Where to; it is made when it does not exist.
        overwrite: Whether existing files of these names may be replaced.

    Raises:
        SelectionError: The record has no subnetwork.
        FileError: A file exists and `overwrite` is false, or cannot be written.
    """
    report = surgery_report(record)
    try:
        page, why = interactive_html(report, record), ""
    except ImportError as error:
        why = str(error)
        told = Paragraph(f"The pictures of this page stand still. {why}")
        page = Report(report.title, (told, *report.blocks)).to_html()
    return Published(write(report, folder, overwrite=overwrite, interactive=page), why)


def interactive_html(report: Report, record: SurgeryRecord) -> str:
    """Return the page of an operation as one HTML document that loads nothing.

    Args:
        report: What is told of it.
        record: What was done.

    Raises:
        ImportError: Altair or vl-convert is not installed.
    """
    specifications = charts.specifications()
    library = _alone(charts.javascript())
    script = _alone("\n".join(_asset(f"{name}.js") for name in _SCRIPTS))
    blocks = (*report.blocks, Stage("files", "Files"))
    body, contents = _body(report.title, blocks, record)
    return Template(_asset("page.html")).substitute(
        policy=_POLICY.format(scripts=" ".join(map(_hash, (library, script)))),
        title=html.escape(report.title),
        style=_asset("page.css"),
        contents=contents,
        body=body,
        markdown=MARKDOWN,
        data=as_json(page_data(record)),
        charts=as_json(specifications),
        library=library,
        script=script,
    )


def as_json(content: Json) -> str:
    r"""Write plain data so that it can stand in a script of a page: nothing in it ends the script.

    Example:
        >>> as_json({"name": "</script><b>"})
        '{"name":"\\u003c/script\\u003e\\u003cb\\u003e"}'
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    # A lone half of a pair is no text that a file can hold.
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _alone(script: str) -> str:
    """Keep the names that a script declares to itself: the library's bundle declares thousands."""
    return f"(() => {{\n{script}\n}})();"


def _asset(name: str) -> str:
    return resources.files("keras_nns.reporting").joinpath("assets", name).read_text("utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _body(title: str, blocks: Sequence[Block], record: SurgeryRecord) -> tuple[str, str]:
    """Return the page under its title, and its contents list."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    contents: list[str] = []
    taken: set[str] = set()

    def headed(level: int, words: str) -> str:
        anchor = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "part"
        while anchor in taken:
            anchor += "-"
        taken.add(anchor)
        shown = html.escape(words)
        if level == 2:
            contents.append(f'<li><a href="#{anchor}">{shown}</a></li>')
        return f'<h{level} id="{anchor}">{shown}</h{level}>'

    for block in blocks:
        if isinstance(block, Stage):
            if block.title:
                parts.append(headed(2, block.title))
            if block.name == "cards":
                parts.append(_cards(record))
            else:
                parts.append(_asset(f"parts/{block.name}.html"))
        elif isinstance(block, Heading):
            parts.append(headed(block.level, block.text))
        else:
            markdown = Report("", (block,)).to_markdown().split("\n", 1)[1]
            parts.append(as_html(markdown, {}))
    return "\n".join(parts), "\n".join(contents)


def _cards(record: SurgeryRecord) -> str:
    cards = (
        f"<div><dt>{name}</dt><dd><div class='value'>{html.escape(value)}</div>"
        f"<div class='note'>{html.escape(note)}</div></dd></div>"
        for name, value, note in headlines(record)
    )
    return f'<dl class="cards">{"".join(cards)}</dl>'


def headlines(record: SurgeryRecord) -> Iterator[tuple[str, str, str]]:
    """Yield what a page begins with: name, figure and a note of each card."""
    every, each = record.every, record.subnetworks
    costs = [one.comparison.costs for one in each]
    whole = each[0].comparison.parent_costs
    least = min(each, key=lambda one: one.comparison.costs.parameters)
    shares = sorted(cost.parameters / whole.parameters for cost in costs)
    yield (
        "Size",
        _range([f"{100 * share:.1f}" for share in (shares[0], shares[-1])]) + " %",
        f"of the parent's {tables.count(whole.parameters)} parameters; the smallest is the network "
        f"for {findings.called(least.name)}",
    )
    yield _accuracy(record)
    exact = [one.proof for one in every if one.proof is not None and one.proof.exact]
    worst = max((proof.relative for proof in exact), default=math.nan)
    yield (
        "Proof",
        f"{len(exact)} of {len(every)}",
        "cuts equal the masked parent"
        + (f"; the largest difference is {worst:.1g} of the output's scale" if worst > 0 else ""),
    )
    sizes = sorted(cost.tflite_bytes for cost in costs if cost.tflite_bytes is not None)
    if sizes:
        yield (
            "File",
            _range([f"{size / 1000:.1f}" for size in (sizes[0], sizes[-1])]) + " kB",
            ".tflite for each label" + _parent_file(record),
        )
    else:
        yield "File", tables.UNDEFINED, "no .tflite file was made"


def _accuracy(record: SurgeryRecord) -> tuple[str, str, str]:
    worths = [_worths(one) for one in record.subnetworks]
    after, before = (_mean([pair[place] for pair in worths]) for place in (1, 0))
    first = record.subnetworks[0].comparison.after
    note = (
        f"mean {first.measure} of {findings.plural(len(worths), 'network')}, the parent "
        f"{tables.share(before)}; {findings.plural(first.samples, 'held-out sample')}"
    )
    if record.merged is not None and not math.isnan(record.merged.comparison.after.accuracy):
        merged = record.merged.comparison
        note += (
            f". The merged network answers {merged.after.accuracy:.1%} right, the parent "
            f"{merged.before.accuracy:.1%}"
        )
    return "Accuracy", tables.share(after), note


def _worths(one: Subnetwork) -> tuple[float, float]:
    return one.comparison.before.worth, one.comparison.after.worth


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _range(ends: Sequence[Any]) -> str:
    low, high = ends
    return low if low == high else f"{low} to {high}"


def _parent_file(record: SurgeryRecord) -> str:
    size = record.subnetworks[0].comparison.parent_costs.tflite_bytes
    return "" if size is None else f"; the parent's is {size / 1000:.1f} kB"
