"""The public surface: names, what importing costs, and which module may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import keras_nns

PACKAGE = Path(keras_nns.__file__).parent

# What the top level shows of the rooms; nothing inside is built on it.
FAMILIES = {"distributed", "plots", "results", "rules", "schedules", "scores", "steps"}

# Rooms from the ground up: each imports only from those before it.
ROOMS = [
    "errors", "progress", "tables", "files", "engine", "data", "plans", "graph", "surgery",
    "observation", "selection", "judgement", "bundles", "repairing", "training", "shipping",
    "extraction", "cluster", "composition", "transferring", "reporting", "callbacks", "paper",
    "demo", "playing", "cli",
]  # fmt: skip

# Who ships what was cut: everything else knows nothing of TFLite.
SHIPPING = {
    "shipping",
    "extraction/meters",
    "extraction/sizes",
    "extraction/devices",
    "extraction/widths",
    "reporting/operation",
    "demo",
    "cli",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module by its path without suffix, `"room/module"`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").as_posix()
        if name not in ("__init__", "__main__", *FAMILIES):
            yield name, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules that a module imports, `"keras_nns.room.module"`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                below = PACKAGE.parent.joinpath(*str(node.module).split("."), alias.name)
                there = below.is_dir() or below.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if there else str(node.module)


def test_all_names_what_there_is():
    assert len(set(keras_nns.__all__)) == len(keras_nns.__all__)
    families = {*FAMILIES, "errors"}
    assert set(keras_nns.__all__) == {*keras_nns._MODULE_OF, *families}
    assert dir(keras_nns) == keras_nns.__all__
    for name in keras_nns.__all__:
        assert getattr(keras_nns, name).__doc__, name
    with pytest.raises(AttributeError, match="nothing"):
        _ = keras_nns.nothing


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: str(node.module).removeprefix("keras_nns.")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    families = {*FAMILIES, "errors"}
    assert {name: module for name, module in seen.items() if name not in families} == (
        keras_nns._MODULE_OF
    )
    assert families <= set(seen)


def test_every_error_is_public():
    errors = import_module("keras_nns.errors")
    assert {name for name in vars(errors) if name.endswith("Error")} == set(errors.__all__)


def test_no_module_hides_a_name():
    """A module `keras_nns.x` would stand for `keras_nns.x(…)` once something has imported it."""
    families = {*FAMILIES, "errors"}
    assert not {path.stem for path in PACKAGE.iterdir()} & {*keras_nns._MODULE_OF}
    for name in keras_nns.__all__:
        assert isinstance(getattr(keras_nns, name), ModuleType) == (name in families)


@pytest.mark.parametrize("family", sorted({*FAMILIES, "errors"}))
def test_a_family_shows_its_names_and_no_stray_imports(family):
    module = getattr(keras_nns, family)
    assert dir(module) == sorted(set(module.__all__))
    # What is drawn, and what is done on a cluster, bears the name of what is done here.
    again = ("distributed", "plots")
    for name in module.__all__:
        assert name not in keras_nns._MODULE_OF or name == "NNSError" or family in again, name
        assert isinstance(getattr(module, name).__doc__, str), name


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_importing_loads_nothing_heavy_and_prints_nothing():
    done = run(
        "import sys, keras_nns, keras_nns.errors, keras_nns.plans.units\n"
        "keras_nns.errors.FileError\n"
        "heavy = {'tensorflow', 'keras', 'sklearn', 'matplotlib', 'scipy', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_plans_and_keep_rules_need_no_keras():
    done = run(
        "import sys, keras_nns\n"
        "keras_nns.Plan, keras_nns.above, keras_nns.Activity\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_room_has_its_place_in_the_order():
    assert {name.split("/")[0] for name, _ in modules()} == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


@pytest.mark.slow
def test_rooms_import_only_from_those_before_them():
    for name, tree in modules():
        room = name.split("/")[0]
        for target in imported(tree):
            parts = target.split(".")
            if parts[0] == "keras_nns" and len(parts) > 1:
                assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{name} imports {target}"


@pytest.mark.slow
def test_no_module_imports_in_a_circle():
    names = {name for name, _ in modules()}
    builds_on = {
        name: {
            target.removeprefix("keras_nns.").replace(".", "/")
            for target in imported(tree)
            if target.startswith("keras_nns.")
        }
        & names
        for name, tree in modules()
    }
    # Raises CycleError, which names the circle.
    TopologicalSorter(builds_on).prepare()


def test_every_room_says_what_it_is_for_and_nothing_else():
    for path in PACKAGE.rglob("__init__.py"):
        room = path.parent.relative_to(PACKAGE).as_posix()
        if room in (".", "graph/rules", "cli"):
            continue
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), room
        assert len(tree.body) == 1, room


def test_no_module_says_the_word_of_its_room_again():
    """Nor another form of it: `trained` in `training/`."""
    for path in PACKAGE.rglob("*.py"):
        *folders, _ = path.relative_to(PACKAGE).parts
        words = [*(folder.removesuffix("s") for folder in folders), *(f[:5] for f in folders[:1])]
        assert path.stem == "__init__" or not [word for word in words if word in path.stem], path


def test_one_room_names_tensorflow():
    """Beside it the command line, which keeps it quiet while it starts."""
    for path in PACKAGE.rglob("*.py"):
        if "tensorflow" in path.read_text():
            name = path.relative_to(PACKAGE).as_posix()
            assert name.split("/")[0] == "engine" or name == "cli/quiet.py", name


def test_only_those_who_ship_know_of_tflite():
    """How both packages read and write files, and measure rounding, is not about TFLite."""
    for name, tree in modules():
        low = tuple(
            f"tflite_export.{part}" for part in ("reading", "writing", "text", "perturbation")
        )
        others = [t for t in imported(tree) if not t.startswith(low)]
        if any(target.split(".")[0] == "tflite_export" for target in others):
            assert name in SHIPPING or name.split("/")[0] in SHIPPING, name


def test_the_exporter_stands_alone():
    for path in (PACKAGE.parent / "tflite_export").rglob("*.py"):
        for target in imported(ast.parse(path.read_text())):
            assert target.split(".")[0] != "keras_nns", path.name


@pytest.mark.slow
def test_the_library_neither_prints_nor_logs_nor_pickles():
    for name, tree in modules():
        roots = {target.split(".")[0] for target in imported(tree)}
        assert not roots & {"pickle", "shelve", "marshal", "dill", "joblib"}, name
        if name.split("/")[0] == "cli":
            continue
        assert "logging" not in roots, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "breakpoint"), f"{name}: {called}"
                unsafe = [k for k in node.keywords if k.arg == "allow_pickle"]
                assert all(ast.unparse(k.value) == "False" for k in unsafe), name
