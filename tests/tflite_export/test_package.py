"""The package's surface: names, laziness, independence."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tflite_export

FOLDER = Path(tflite_export.__file__).parent

# From the ground up: each imports only from those before it.
PARTS = [
    "text", "perturbation", "errors", "variants", "reading", "writing", "files", "flatbuffer",
    "keras_model", "running", "browser", "runtimes", "memory", "conversion", "metadata",
    "operators", "vela", "ethos_u", "width_steps", "c_array", "c_sources", "c_project", "web_page",
    "web", "recipes", "generative", "litertlm", "converter", "diagnosis", "verification",
    "deployment", "retraining", "tfmot", "cli",
]  # fmt: skip


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module by its name below the package, `"folder.module"`."""
    for path in sorted(FOLDER.rglob("*.py")):
        parts = path.relative_to(FOLDER).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name not in ("", "__main__"):
            yield name, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules that a module imports, `"tflite_export.folder.module"`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                below = FOLDER.parent.joinpath(*str(node.module).split("."), alias.name)
                there = below.is_dir() or below.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if there else str(node.module)


def test_every_public_name_exists_and_is_documented() -> None:
    assert list(tflite_export.__all__) == sorted(tflite_export.__all__, key=_sort_key)
    assert dir(tflite_export) == sorted(tflite_export.__all__)
    for name in tflite_export.__all__:
        assert getattr(tflite_export, name).__doc__, name
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


@pytest.mark.slow
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
    for name, tree in modules():
        assert not [target for target in imported(tree) if target.split(".")[0] == "keras_nns"], (
            name
        )


def test_each_part_imports_only_from_those_before_it() -> None:
    assert {name.split(".")[0] for name, _ in modules()} == set(PARTS)
    for name, tree in modules():
        own = PARTS.index(name.split(".")[0])
        for target in imported(tree):
            parts = target.split(".")
            if parts[0] == "tflite_export" and len(parts) > 1:
                assert PARTS.index(parts[1]) <= own, f"{name} imports {target}"


@pytest.mark.slow
def test_no_module_imports_in_a_circle() -> None:
    names = {name for name, _ in modules()}
    builds_on = {
        name: {target.removeprefix("tflite_export.") for target in imported(tree)} & names - {name}
        for name, tree in modules()
    }
    # Raises CycleError, which names the circle.
    TopologicalSorter(builds_on).prepare()


def test_every_folder_says_what_it_is_for() -> None:
    for path in FOLDER.glob("*/__init__.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        # The command line's door is the command line.
        assert len(tree.body) == 1 or path.parent.name == "cli", path
