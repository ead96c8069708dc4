"""Pages that teach: a reader who types their code from top to bottom meets no error.

A page joins by its name in `PAGES`. Its blocks of Python run in order, in one namespace and an
empty folder, with nothing at hand but what the package installs. A block that begins with
`# needs NAME` is left out where that package is not there.
"""

from __future__ import annotations

import re
import runpy
from importlib.util import find_spec
from pathlib import Path

import matplotlib as mpl
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ("paper.md", "judgement.md", "hubs.md")

_LARGEST_PICTURE = 150_000


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_runs(name, tmp_path, monkeypatch):
    page = (ROOT / "docs" / name).read_text()
    blocks = [
        (match[1], page.count("\n", 0, match.start(1)))
        for match in re.finditer(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        if not (needs := re.match(r"# needs (\w+)", match[1])) or find_spec(needs[1])
    ]
    assert blocks, "a page that teaches has code"
    # One script with the page's own line numbers, so that an error names the line of the page.
    lines = [""] * (page.count("\n") + 1)
    for code, start in blocks:
        for number, line in enumerate(code.splitlines()):
            lines[start + number] = line
    # As typed, but trained little: what is right does not depend on it.
    typed = re.sub(r"\bepochs=\d+", "epochs=2", "\n".join(lines))
    script = tmp_path / f"{Path(name).stem}_page.py"
    script.write_text(typed)
    monkeypatch.chdir(tmp_path)
    with mpl.rc_context():
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("name", PAGES)
def test_the_pictures_of_a_page_are_small(name):
    page = (ROOT / "docs" / name).read_text()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size < _LARGEST_PICTURE, picture
