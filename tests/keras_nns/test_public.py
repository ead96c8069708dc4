"""The public surface: names, what importing costs, and which module may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import keras_nns

PACKAGE = Path(keras_nns.__file__).parent

# Each module imports only from those before it. A new module is one word here.
ORDER = [
    "errors", "progress", "staging", "moments", "macs", "tables",
    "files", "layout", "seen", "keep", "keras_graph", "labels", "inputs", "stepping",
    "partial", "rules",
    "plan", "costs", "vectors", "formats", "folders", "activity",
    "model_files", "grouping", "rows", "graph", "datasets", "sources", "data",
    "splitting", "sharing", "probing", "unfolding", "rebuild", "head", "question",
    "estimates", "inspection",
    "linear", "junctions", "weights",
    "watching", "projections", "cohesion", "sums", "observation",
    "scores", "weight_scores", "selection", "greedy",
    "forward", "label_losses", "gradients", "gradient_scores", "elimination", "readings",
    "refit_losses",
    "intervals", "bounding", "bounds", "decision", "constants", "rewriting", "folding",
    "leakage", "compiling", "vocabulary", "matching", "surgery",
    "bundle", "storing", "division", "tuning",
    "copying", "treatment", "targets", "simplification", "writing_back",
    "schedules", "stepwise", "fitting", "gradual",
    "resampling", "figures", "judging", "evaluation", "comparison",
    "ending", "refitting", "calibration", "tempering", "branches", "composing",
    "adapting", "joining", "grafting", "patching", "repairs",
    "feeding", "resuming", "settling", "schooling", "lessons", "teaching", "training", "scratch",
    "transplanting",
    "budgets", "ranking", "maker", "extraction", "sweeping",
    "feature_extraction", "new_heads", "transferring", "label_removal", "growing", "new_labels",
    "findings", "drawing", "plots", "monitor", "page", "report",
    "shipping", "operation", "demo",
    "paper", "paper_best", "paper_tables", "paper_beyond", "paper_plots", "reproduction", "cli",
]  # fmt: skip

# Who ships what was cut: everything else knows nothing of TFLite.
SHIPPING = {"maker", "shipping", "operation", "demo", "cli"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if first not in ("__init__", "__main__"):
            yield first, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "keras_nns":
                yield from (f"keras_nns.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def test_all_names_what_there_is():
    assert len(set(keras_nns.__all__)) == len(keras_nns.__all__)
    assert set(keras_nns.__all__) == set(keras_nns._MODULE_OF)
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
    assert seen == keras_nns._MODULE_OF


def test_every_error_is_public():
    errors = import_module("keras_nns.errors")
    assert {name for name in vars(errors) if name.endswith("Error")} <= set(keras_nns.__all__)


def test_no_module_hides_a_name():
    """A module `keras_nns.x` would stand for `keras_nns.x(…)` once something has imported it."""
    names = {path.stem for path in PACKAGE.iterdir()} & set(keras_nns.__all__)
    assert not names
    for name in keras_nns.__all__:
        assert not isinstance(getattr(keras_nns, name), ModuleType)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_importing_loads_nothing_heavy_and_prints_nothing():
    done = run(
        "import sys, keras_nns, keras_nns.errors, keras_nns.layout\n"
        "keras_nns.FileError\n"
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


def test_every_module_has_its_place_in_the_order():
    found = {name for name, _ in modules()}
    assert found <= set(ORDER), "say in ORDER which modules the new one builds on"
    assert len(ORDER) == len(set(ORDER))


def test_modules_import_only_from_those_before_them():
    for name, tree in modules():
        if name not in ORDER:
            continue
        for target in imported(tree):
            parts = target.split(".")
            if parts[0] == "keras_nns" and len(parts) > 1 and parts[1] != name:
                assert parts[1] in ORDER[: ORDER.index(name)], f"{name} imports {parts[1]}"


def test_only_those_who_ship_know_of_tflite():
    for name, tree in modules():
        if any(target.split(".")[0] == "tflite_export" for target in imported(tree)):
            assert name in SHIPPING, name


def test_the_exporter_stands_alone():
    for path in (PACKAGE.parent / "tflite_export").glob("*.py"):
        for target in imported(ast.parse(path.read_text())):
            assert target.split(".")[0] != "keras_nns", path.name


def test_the_library_neither_prints_nor_logs_nor_pickles():
    for name, tree in modules():
        roots = {target.split(".")[0] for target in imported(tree)}
        assert not roots & {"pickle", "shelve", "marshal", "dill", "joblib"}, name
        if name == "cli":
            continue
        assert "logging" not in roots, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "breakpoint"), f"{name}: {called}"
                unsafe = [k for k in node.keywords if k.arg == "allow_pickle"]
                assert all(ast.unparse(k.value) == "False" for k in unsafe), name
