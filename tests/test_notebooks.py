"""Every notebook runs from top to bottom, and was committed as it ran, without a trace of where."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
pytestmark = [
    pytest.mark.slow,
    *(
        pytest.mark.skipif(
            find_spec(name) is None, reason=f"needs {name}: pip install 'keras-nns[notebooks]'"
        )
        for name in ("nbclient", "nbformat", "ipykernel")
    ),
]


def read(path):
    return import_module("nbformat").read(path, as_version=4)


def test_there_are_some():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path):
    book = read(path)
    before = [len(cell.outputs) for cell in book.cells if cell.cell_type == "code"]
    client = import_module("nbclient").NotebookClient(
        book, timeout=500, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = [[one for one in c.outputs if one.get("name") != "stderr"] for c in cells]
    assert [len(outputs) for outputs in shown] == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_was_committed_as_it_ran(path):
    book = read(path)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    told = "".join(str(cell.outputs) for cell in cells)
    assert "Traceback" not in told and "Warning" not in told
    assert not re.search(r"/(tmp|home|root|work|Users)/", told)
    assert any("image/png" in str(cell.outputs) for cell in cells) or "text/html" in told
