"""Write `docs/coverage.md` from the contract table and from measurements of `keras.applications`.

python tests/keras_nns/coverage_page.py                  # the page
python tests/keras_nns/coverage_page.py --applications   # measure first
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

import contract_layers  # noqa: E402, F401
import contract_operations  # noqa: E402, F401
import contract_sequences  # noqa: E402, F401
from contract import ROWS, Row  # noqa: E402

MEASURED = HERE / "applications.json"
PAGE = HERE.parent.parent / "docs" / "coverage.md"

HEAD = """# What can be cut

This page is written by `tests/keras_nns/coverage_page.py` from the contract table of the tests.
Every row is a small model that is cut with random plans at 10, 50 and 90 % and compared with its
mask: equal within 1e-5 of the output's scale. *Exact* means just that. *Protected* means that these
units stay whatever the plan says, and that the report names the reason.

A type that is not listed has no rule: units that reach it are protected. Teach it with
[`register_rule`](rules.md).

## Layers and operations

| type | case | result |
| --- | --- | --- |
"""

APPLICATIONS = """
## keras.applications

Random weights, smallest input, random plans. The difference is the largest one between cut and mask
relative to the scale of the output, over plans that keep 10, 50 and 90 % of the units.

| architecture | units | may go | parameters left | largest difference |
| --- | ---: | ---: | --- | ---: |
"""


def kind(type_: type) -> str:
    """Name a type as a user writes it."""
    module = type_.__module__
    if module.startswith("keras.src.ops"):
        return f"`keras.ops` {type_.__name__}"
    if "applications" in module:
        return f"{type_.__name__} (keras.applications)"
    return type_.__name__


def lines(rows: list[Row]) -> list[str]:
    """Write one line for each type of each row, by type."""
    found = [
        (kind(type_), row.name.replace("_", " "), row.note) for row in rows for type_ in row.covers
    ]
    return [f"| {one} | {case} | {note} |" for one, case, note in sorted(set(found))]


def applications(measured: dict[str, Any]) -> list[str]:
    """Write one line for each architecture that was measured."""
    page = []
    for name, found in sorted(measured.items()):
        left = ", ".join(f"{100 * one['parameters']:.0f} %" for one in found["shares"].values())
        worst = max(one["difference"] for one in found["shares"].values())
        page.append(f"| {name} | {found['units']} | {found['free']} | {left} | {worst:.0e} |")
    return page


def render() -> str:
    """Return the page."""
    page = HEAD + "\n".join(lines(ROWS)) + "\n"
    if MEASURED.is_file():
        measured = json.loads(MEASURED.read_text())
        page += APPLICATIONS + "\n".join(applications(measured)) + "\n"
    return page


def measure_all() -> None:
    """Measure every architecture that has not been measured."""
    import keras
    from test_applications import architectures, measure

    measured = json.loads(MEASURED.read_text()) if MEASURED.is_file() else {}
    large = ("Large", "Base", "201", "169", "152", "B4", "B5", "B6", "B7", "V2L", "V2M", "V2S")
    for name in sorted(architectures(), key=lambda name: (name.endswith(large), name)):
        if name not in measured:
            measured[name] = measure(name)
            MEASURED.write_text(json.dumps(measured, indent=1, sort_keys=True) + "\n")
            keras.backend.clear_session()


if __name__ == "__main__":
    if "--applications" in sys.argv[1:]:
        measure_all()
    PAGE.write_text(render())
