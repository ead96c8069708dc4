"""Every example runs and prints something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"
# What scripts share has a name that starts with an underscore.
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    text = script.read_text(encoding="utf-8")
    quick = ["--quick"] if "given.quick" in text else []
    run = subprocess.run(
        [sys.executable, str(script), *quick],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip()
    # Who draws leaves a picture.
    assert any(tmp_path.rglob("*.png")) or "savefig(" not in text

    if script.stem.startswith("ship_"):
        assert "Deployment card" in run.stdout and "arena bytes, at least" in run.stdout
