"""Every public name has an example in its docstring, and every example is true.

An example is run as a reader would type it, in an empty folder, with the words that the reference
lists (`docs/site/pages.py`) at hand; `docstring_world.py` makes them. One of something that is not
public has what its module has at hand too.
"""

from __future__ import annotations

import ast
import doctest
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import ismodule
from pathlib import Path

import pytest
from docstring_world import WORDS, world

import keras_nns
import tflite_export

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ("distributed", "scores", "steps", "schedules", "rules", "plots", "results", "errors")

# What examples call that needs more than the package itself: what is imported, and the extra.
EXTRAS = {
    "distributed.": ("ray", "ray"),
    "arena(": ("tflite_micro", "micro"),
    "to_c_project(": ("tflite_micro", "micro"),
    "npu(": ("ethosu", "npu"),
    "npu_steps(": ("ethosu", "npu"),
    "npu_widths(": ("ethosu", "npu"),
    "inspect(model, target": ("ethosu", "npu"),
    "weight_int8": ("ai_edge_quantizer", "quantize"),
    "to_litertlm(": ("litert_lm_builder", "litertlm"),
    "convert_generative(": ("keras_hub", "hub"),
    "cluster_weights(": ("tensorflow_model_optimization", "tfmot"),
    "prune_weights(": ("tensorflow_model_optimization", "tfmot"),
    "train_quantized(": ("tensorflow_model_optimization", "tfmot"),
}


def documented(path: Path) -> Iterator[tuple[str, str, int]]:
    """Every docstring of a module by the name of what it is of, and the line where it begins."""
    tree = ast.parse(path.read_text())
    yield from _documented(tree, "")


def _documented(node: ast.Module | ast.ClassDef, within: str) -> Iterator[tuple[str, str, int]]:
    if isinstance(node, ast.Module) and (text := ast.get_docstring(node)):
        yield "", text, 1
    for one, behind in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(one, (ast.FunctionDef, ast.ClassDef)):
            if text := ast.get_docstring(one):
                yield f"{within}{one.name}", text, one.body[0].lineno
            if isinstance(one, ast.ClassDef):
                yield from _documented(one, f"{within}{one.name}.")
        elif isinstance(one, (ast.Assign, ast.AnnAssign)) and isinstance(behind, ast.Expr):
            target = one.targets[0] if isinstance(one, ast.Assign) else one.target
            if isinstance(target, ast.Name) and isinstance(behind.value, ast.Constant):
                yield f"{within}{target.id}", str(behind.value.value), behind.lineno


# Docstrings with an example, as (module, name), to the text, the file and the line.
EXAMPLES = {
    (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), name): (
        text,
        path,
        line,
    )
    for package in ("keras_nns", "tflite_export")
    for path in sorted((ROOT / package).rglob("*.py"))
    for name, text, line in documented(path)
    if ">>>" in text
}


def needs_time(text: str) -> bool:
    """Whether an example uses a word for which something has to be trained or watched."""
    source = "".join(one.source for one in doctest.DocTestParser().get_examples(text))
    named = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    return bool(named & WORDS.keys() - {"x", "y", "x_test", "y_test", "kinds", "texts"})


@cache
def public() -> dict[tuple[str, str], str]:
    """Where every public name is written down, `{(module, name): public name}`."""
    found: dict[tuple[str, str], str] = {}
    for package in (keras_nns, *(getattr(keras_nns, name) for name in FAMILIES), tflite_export):
        for name in package.__all__:
            value = getattr(package, name)
            if ismodule(value):
                place = (value.__name__, "")
            elif hasattr(value, "__qualname__"):
                place = (value.__module__, value.__qualname__)
            else:  # A constant does not say where it is from.
                place = next((p for p in EXAMPLES if p[1] == name), (package.__name__, name))
            found.setdefault(place, f"{package.__name__}.{name}")
    return found


def test_every_public_name_has_an_example():
    missing = [name for place, name in public().items() if place not in EXAMPLES]
    assert not missing


def test_no_example_is_left_out():
    assert not [place for place, (text, *_) in EXAMPLES.items() if "+SKIP" in text]


def test_the_reference_lists_the_words_of_examples():
    tree = ast.parse((ROOT / "docs" / "site" / "pages.py").read_text())
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "WORDS"
    )
    names = {name for row in listed for name in row.replace(" ", "").split(",")}
    assert names == {*WORDS, '"photos"', "nns", "tflite_export", "keras", "np"}


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param(
            *place, id=".".join(filter(None, place)), marks=pytest.mark.slow if slow else ()
        )
        for place, (text, *_) in EXAMPLES.items()
        for slow in [needs_time(text)]
    ],
)
def test_example_is_true(module, name, tmp_path, monkeypatch):
    text, path, line = EXAMPLES[module, name]
    for call, (package, extra) in EXTRAS.items():
        if call in text and find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install 'keras-nns[{extra}]'")
    monkeypatch.chdir(tmp_path)
    parser = doctest.DocTestParser()
    source = "".join(one.source for one in parser.get_examples(text))
    names = world(source, tmp_path)
    if (module, name.split(".")[0]) not in public():
        names |= vars(import_module(module))
    test = parser.get_doctest(text, names, f"{module}.{name}", str(path), line - 1)
    told: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(optionflags=flags).run(test, out=told.append)
    assert not told, "".join(told)
