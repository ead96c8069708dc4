"""The house: lint, format, types, what the wheel holds, and what README promises."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check")])
def test_ruff(command):
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_types():
    done = run("mypy")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(tmp_path):
    done = run("pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"keras_nns", "tflite_export"}
    packed = {name for name in names if name.endswith(".py")}
    there = {
        str(path.relative_to(ROOT))
        for package in ("keras_nns", "tflite_export")
        for path in (ROOT / package).rglob("*.py")
    }
    assert packed == there
    assert {"keras_nns/py.typed", "tflite_export/py.typed"} <= set(names)
    # What programs and pages are made of is no Python.
    parts = {
        str(path.relative_to(ROOT))
        for folder in ("browser", "c_sources", "web_page")
        for path in (ROOT / "tflite_export" / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert len(parts) > 15 and parts <= set(names)
    assets = (ROOT / "keras_nns" / "reporting" / "assets").rglob("*.*")
    assert {str(path.relative_to(ROOT)) for path in assets} <= set(names)


def test_no_file_is_too_long_to_read():
    long = {
        str(path.relative_to(ROOT)): count
        for package in ("keras_nns", "tflite_export")
        for path in (ROOT / package).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_readme_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_python_names_exist():
    import keras_nns
    import tflite_export

    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for module, name in re.findall(r"\b(nns|tflite_export)\.(\w+)\(", page.read_text()):
            assert hasattr(keras_nns if module == "nns" else tflite_export, name), name
