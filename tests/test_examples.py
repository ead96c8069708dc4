"""Every example runs and prints something."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import keras
import matplotlib as mpl
import numpy as np
import pytest
from sklearn.datasets import load_digits

FOLDER = Path(__file__).resolve().parent.parent / "examples"
# What scripts share has a name that starts with an underscore.
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))
# One runs as readers run it, in a process of its own, the others in that of the tests.
TYPED = FOLDER / "quickstart.py"
# What an example says of its figures is no matter here: all else is as well seen after two epochs.
EPOCHS = 2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "script", [path for path in EXAMPLES if path != TYPED], ids=lambda path: path.stem
)
def test_example_runs(script, tmp_path, monkeypatch, capsys):
    """In this process, which has imported TensorFlow already."""
    text = script.read_text(encoding="utf-8")
    if "import keras_hub" in text:
        pytest.importorskip("keras_hub", reason="needs KerasHub: pip install 'keras-nns[hub]'")
    if "npu(" in text:
        pytest.importorskip("ethosu", reason="needs Vela: pip install 'keras-nns[npu]'")
    options = ["--quick"] if "given.quick" in text else []
    if script.stem == "reproduce_paper":
        x, y = load_digits(n_class=4, return_X_y=True)
        np.savez(tmp_path / "four.npz", x=x / 16, y=y)
        options = ["--dataset", "four.npz"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), *options])
    monkeypatch.syspath_prepend(FOLDER)
    fit = keras.Model.fit

    def fit_a_little(model, *args, epochs=1, **kwargs):
        return fit(model, *args, epochs=min(epochs, EPOCHS), **kwargs)

    monkeypatch.setattr(keras.Model, "fit", fit_a_little)
    with mpl.rc_context():
        runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.strip()
    # Who draws leaves a picture.
    assert any(tmp_path.rglob("*.png")) or "savefig(" not in text
    if script.stem.startswith("ship_"):
        assert "Deployment card" in printed and "arena bytes, at least" in printed


@pytest.mark.slow
def test_an_example_runs_as_a_reader_runs_it(tmp_path):
    run = subprocess.run(
        [sys.executable, str(TYPED)],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip()


BENCHMARKS = [
    path
    for path in sorted((FOLDER.parent / "benchmarks").glob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8")
]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("script", BENCHMARKS, ids=lambda path: path.stem)
def test_every_benchmark_says_what_it_takes(script, monkeypatch, capsys):
    """Also where what it compares with is not installed."""
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.syspath_prepend(script.parent)
    known = set(sys.modules)
    # Some set what TensorFlow reads as it starts.
    with patch.dict(os.environ), pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(script.parent)):
            del sys.modules[name]


def test_there_are_benchmarks():
    assert len(BENCHMARKS) > 30
