"""Pages of the site that are made of what stands elsewhere: README, examples, docstrings, help.

MkDocs calls the functions that begin with `on_`, as `mkdocs.yml` says.
"""

from __future__ import annotations

import ast
import re
from argparse import ArgumentParser
from argparse import _SubParsersAction as SubParsers
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import keras_nns.cli
import tflite_export.cli

ROOT = Path(__file__).parents[2]

TOPICS = {
    "Extract": ("extraction", "graph"),
    "Watch": ("observation", "callbacks"),
    "Select": ("selection", "plans"),
    "Cut and prove": ("surgery", "reporting"),
    "Judge": ("judgement", "data", "playing"),
    "Repair and train": ("repairing", "training"),
    "Networks together, labels that move": ("composition", "bundles"),
    "Transfer": ("transferring",),
}
"""The rooms of `keras_nns` whose public names stand under each heading."""

FAMILIES = ["distributed", "scores", "steps", "schedules", "rules", "plots", "results", "errors"]
"""Modules of `keras_nns` that show names of one kind."""

WORDS: dict[str, str] = {
    "nns, tflite_export, keras, np": "`keras_nns`, `tflite_export`, Keras and NumPy, imported",
    "x, y, x_test, y_test": "scikit-learn's digits, `(samples, 64)` in 0 to 1, and their labels: "
    "1,200 to train and watch with, 597 to judge on",
    "parts": "`nns.split(x, y)`",
    "model": "a trained network that tells the digits apart, with 32 hidden units in the layer "
    "`dense` and 16 in `dense_1`",
    "activity": "`nns.observe(model, (x, y))`",
    "plan": "`nns.select(activity, labels=3)`",
    "three, eight": "subnetworks for 3 and for 8 that were cut from it, "
    '`nns.cut(model, plan, head="binary")`',
    "tiny": "a small network that was not trained, for two labels",
    "flat": '`tflite_export.convert(model, quantize="int8", samples=x)`',
    '"photos"': "a folder of photos in three sub-folders, `bird`, `cat` and `dog`",
    "resnet": "a trained residual network that tells them apart",
    "lm": "a language model of three residual blocks over 40 tokens",
    "writer": "a language model of two residual blocks with 32 hidden units each",
    "llama": "a small `keras_hub.models.LlamaCausalLM` of 30 tokens, not trained",
    "letters": "a tokenizer of the package `tokenizers` that has a token for each letter",
    "texts, kinds": "texts in tokens, `(200, 12)`, and what each is: code or prose",
}
"""What stands for what in the examples of docstrings; a test holds it to what they are run with."""

# Where the site has what a link names, beside pages of `docs/`.
_MOVED = (
    (r"README\.md", "index.md"),
    (r"CONTRIBUTING\.md", "contributing.md"),
    (r"CHANGELOG\.md", "changelog.md"),
    (r"findings/README\.md", "findings/index.md"),
    (r"findings/(\w+)\.sh", r"findings/\1.md"),
    (r"(examples|benchmarks)/(\w+)\.py", r"\1/\2.md"),
    (r"docs/(.+)", r"\1"),
    (r"LICENSE", "license.md"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for path, text in made():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links at files of the repository to the pages made of them."""
    source = page.file.src_uri
    origin = ORIGINS.get(source, f"docs/{source}")

    def moved(match: re.Match[str]) -> str:
        target, anchor = match["target"], match["anchor"] or ""
        if ":" in target or not target:
            return match[0]
        absolute = (ROOT / origin).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()
        for old, new in _MOVED:
            if re.fullmatch(old, absolute):
                up = "../" * source.count("/")
                return f"]({up}{re.sub(old, new, absolute)}{anchor})"
        raise ValueError(f"{origin} links to {target}, of which the site has no page.")

    # What stands in a fence is code.
    parts = re.split(r"(^```.*?^```[ ]*$)", markdown, flags=re.MULTILINE | re.DOTALL)
    link = re.compile(r"\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
    if source.startswith("reference/"):
        return markdown
    return "".join(part if part.startswith("```") else link.sub(moved, part) for part in parts)


ORIGINS = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "findings/index.md": "findings/README.md",
}
"""Which file of the repository a page is."""


def made() -> Iterator[tuple[str, str]]:
    """Give the path and the text of every page that is made."""
    for page, origin in ORIGINS.items():
        yield page, (ROOT / origin).read_text()
    yield "license.md", f"# License\n\n```text\n{(ROOT / 'LICENSE').read_text()}```\n"
    yield from scripts("examples", "Examples", "Each runs as it stands: `python examples/NAME.py`.")
    yield from scripts("benchmarks", "Benchmarks", "Every figure of these pages comes from one.")
    for path in sorted((ROOT / "findings").glob("*.sh")):
        title = comment_of(path.read_text()).split("\n")[0].removesuffix(".")
        yield f"findings/{path.stem}.md", f"# {title}\n\n```bash\n{path.read_text()}```\n"
    yield "reference/keras_nns.md", verbs()
    yield "reference/families.md", families()
    yield "reference/tflite_export.md", exporter()
    yield "reference/commands.md", commands()


def scripts(folder: str, title: str, words: str) -> Iterator[tuple[str, str]]:
    """Give a page for each Python script of a folder, and one that lists them."""
    rows = []
    for path in sorted((ROOT / folder).glob("[!_]*.py")):
        text = path.read_text()
        first = (ast.get_docstring(ast.parse(text)) or path.stem).split("\n")[0].removesuffix(".")
        rows.append(f"- [{first}]({path.stem}.md) `{path.name}`")
        page = f"# {first}\n\n`{folder}/{path.name}`\n\n```python\n{text}```\n"
        yield f"{folder}/{path.stem}.md", page
    yield f"{folder}/index.md", "\n".join([f"# {title}", "", words, "", *rows, ""])


def comment_of(script: str) -> str:
    """Return the comment that a shell script begins with."""
    lines = script.splitlines()[1:]
    return "\n".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


# Reference --------------------------------------------------------------------------------------


def homes(path: Path, package: str) -> dict[str, str]:
    """Return where each public name of a module comes from, `{"cut": "keras_nns.surgery…cut"}`.

    Args:
        path: The module; its `__all__` says what is public, its imports where that is.
        package: Its dotted name, the home of what it holds itself.
    """
    tree = ast.parse(path.read_text())
    public: list[str] = []
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            public = ast.literal_eval(node.value)
    return {name: found.get(name, f"{package}.{name}") for name in public}


def words() -> str:
    """Tell what the names in examples stand for."""
    lines = [
        "Every example is run by a test. They begin where these are at hand, and `...` stands for "
        "what differs from machine to machine:",
        "",
        "| in examples | is |",
        "| --- | --- |",
    ]
    for names, what in WORDS.items():
        called = ", ".join(f"`{name}`" for name in names.split(", "))
        lines.append(f"| {called} | {what} |")
    return "\n".join([*lines, ""])


def entry(home: str) -> str:
    """Return what asks mkdocstrings for one name."""
    return f"::: {home}\n"


def verbs() -> str:
    """Make the page of what stands in `keras_nns` itself, by topic."""
    names = homes(ROOT / "keras_nns" / "__init__.py", "keras_nns")
    # Families, and the error that is in one, have a page of their own.
    names = {name: home for name, home in names.items() if home.count(".") > 2}
    room_of = {name: home.split(".")[1] for name, home in names.items()}
    missing = {
        room for room in room_of.values() if not any(room in some for some in TOPICS.values())
    }
    if missing:
        raise ValueError(f"TOPICS of {Path(__file__).name} has no heading for {sorted(missing)}.")
    lines = ["# `keras_nns`", "", "```python", "import keras_nns as nns", "```", "", words()]
    for topic, rooms in TOPICS.items():
        own = sorted((rooms.index(room), name) for name, room in room_of.items() if room in rooms)
        lines += [f"## {topic}", "", *(entry(names[name]) for _, name in own)]
    return "\n".join(lines)


def families() -> str:
    """Make the page of the families of names beside the verbs."""
    lines = ["# Families", "", "[What names in examples stand for](keras_nns.md)", ""]
    for name in FAMILIES:
        path = ROOT / "keras_nns" / f"{name}.py"
        words = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines += [f"## `nns.{name}`", "", words, ""]
        lines += [entry(home) for home in homes(path, f"keras_nns.{name}").values()]
    return "\n".join(lines)


def exporter() -> str:
    """Make the page of `tflite_export`."""
    path = ROOT / "tflite_export" / "__init__.py"
    lines = ["# `tflite_export`", "", ast.get_docstring(ast.parse(path.read_text())) or "", ""]
    lines += ["[What names in examples stand for](keras_nns.md)", ""]
    names = homes(path, "tflite_export")
    verbs_first = sorted(names, key=lambda name: (not name.islower(), name.isupper(), name))
    return "\n".join([*lines, *(entry(names[name]) for name in verbs_first)])


def commands() -> str:
    """Make the page of what the two commands say of themselves."""
    lines = ["# Commands", ""]
    both = {
        "keras-nns": keras_nns.cli._parser(),
        "python -m tflite_export": tflite_export.cli._parser(),
    }
    for program, parser in both.items():
        lines += [f"## `{program}`", "", "```text", parser.format_help(), "```", ""]
        for name, sub in subcommands(parser):
            lines += [f"### `{program} {name}`", "", "```text", sub.format_help(), "```", ""]
    return "\n".join(lines)


def subcommands(parser: ArgumentParser) -> Iterator[tuple[str, ArgumentParser]]:
    """Give each command of a parser and its own parser."""
    for action in parser._actions:
        if isinstance(action, SubParsers):
            yield from action.choices.items()
