"""The package's surface: names, laziness, independence."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tflite_export

FOLDER = Path(tflite_export.__file__).parent


def test_every_public_name_exists_and_is_documented() -> None:
    assert list(tflite_export.__all__) == sorted(tflite_export.__all__, key=_sort_key)
    assert dir(tflite_export) == sorted(tflite_export.__all__)
    for name in tflite_export.__all__:
        value = getattr(tflite_export, name)
        if name != "VARIANTS":
            assert "Example:" in (value.__doc__ or ""), name
    with pytest.raises(AttributeError, match="nothing_like_this"):
        tflite_export.nothing_like_this  # noqa: B018


def _sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_every_error_is_an_export_error() -> None:
    errors = importlib.import_module("tflite_export.errors")
    for name in errors.__all__:
        root = UserWarning if name.endswith("Warning") else tflite_export.ExportError
        assert issubclass(getattr(tflite_export, name), root)


def test_importing_loads_and_prints_nothing() -> None:
    code = (
        "import sys, tflite_export\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'ai_edge_litert'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_reading_metadata_needs_no_tensorflow(flat: bytes, tmp_path: Path) -> None:
    path = tflite_export.save(flat, tmp_path / "model.tflite")
    code = (
        "import sys, tflite_export\n"
        f"print(tflite_export.read_metadata({str(path)!r}).labels[0])\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "zero\n")


def test_stands_alone() -> None:
    """No import of the sister package, which must be able to import this one."""
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not [name for name in names if name.split(".")[0] == "keras_nns"], path


@pytest.mark.parametrize("module", sorted(path.stem for path in FOLDER.glob("[a-z]*.py")))
def test_docstring_examples_are_true(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"tflite_export.{module}"))
    assert outcome.failed == 0
