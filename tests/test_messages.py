"""What messages name exists: public names and their options, commands, options of the shell.

Every string literal with a blank in it counts, but no docstring: errors, warnings, notes, help. An
f-string is read as one, with a mark where values go in.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import keras_nns
import tflite_export
from keras_nns.cli import _parser as nns_parser
from tflite_export.cli import _parser as export_parser

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"nns": keras_nns, "keras_nns": keras_nns, "tflite_export": tflite_export}
MARK = "\N{REPLACEMENT CHARACTER}"
NAME = re.compile(r"(?<![\w/.])(nns|keras_nns|tflite_export)((?:\.[A-Za-z_]\w*)+)(\([^()]*\))?")
COMMAND = re.compile(r"(keras-nns|python -m keras_nns|python -m tflite_export) ([a-z][\w-]*)")
OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")
CALL = re.compile(r"(?<![\w.])([a-z_]\w*)\(")
KEYWORD = re.compile(r"(?<![\w.])([a-z_]\w*)=(?!=)")
FOREIGN = {"--file-batch", "--unroll"}
"""Options that are not ours, named in words about other programs."""

NOT_OURS = {"clip", "aligned"}
"""What formulas and C call so."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("keras_nns", "tflite_export"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def literals(tree: ast.Module) -> Iterator[str]:
    """Texts of a module: literals with a blank, f-strings as one, docstrings left out."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in
             ast.walk(node) if isinstance(part, ast.Constant)}  # fmt: skip
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.Expr))
        and getattr(node, "body", None)
        and isinstance(node.body[0], ast.Expr)
    }
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    left_out = docs | alone | inner
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        text = ""
        if isinstance(node, ast.JoinedStr):
            parts = (v.value if isinstance(v, ast.Constant) else MARK for v in node.values)
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        if " " in text:
            yield text


@cache
def texts() -> list[tuple[str, str]]:
    """Every text with its file. Read when first asked for, not while tests are collected."""
    return [(name, text) for name, tree in modules() for text in literals(tree)]


def resolved(package: str, path: str):
    """Return what a dotted name stands for, by public names alone.

    Raises:
        AttributeError: There is no such name.
    """
    found = PACKAGES[package]
    for part in path.strip(".").split("."):
        if inspect.ismodule(found) and part not in dir(found):
            raise AttributeError(part)
        found = getattr(found, part)
    return found


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def test_public_names_in_messages_exist_and_take_what_is_passed():
    odd, seen = [], 0
    for where, text in texts():
        for package, path, arguments in NAME.findall(text):
            seen += 1
            try:
                found = resolved(package, path)
            except AttributeError:
                odd.append(f"{where}: {package}{path}")
                continue
            if not arguments or not callable(found):
                continue
            taken = inspect.signature(found).parameters.values()
            names = {parameter.name for parameter in taken}
            if all(parameter.kind != parameter.VAR_KEYWORD for parameter in taken):
                odd += [
                    f"{where}: {package}{path}({name}=)"
                    for name in KEYWORD.findall(arguments)
                    if name not in names
                ]
    assert not odd
    assert seen > 30


def test_commands_in_messages_exist():
    known = {
        "keras-nns": dict(parsers(nns_parser())),
        "python -m keras_nns": dict(parsers(nns_parser())),
        "python -m tflite_export": dict(parsers(export_parser())),
    }
    found = [(w, program, name) for w, t in texts() for program, name in COMMAND.findall(t)]
    assert not [one for one in found if one[2] not in known[one[1]]]
    assert len(found) > 20


def test_options_in_messages_exist():
    known = {
        option
        for parser in (nns_parser(), export_parser())
        for one in (parser, *(sub for _, sub in parsers(parser)))
        for action in one._actions
        for option in action.option_strings
    }
    found = [(where, option) for where, text in texts() for option in OPTION.findall(text)]
    assert not [one for one in found if one[1] not in known | FOREIGN]
    assert len(found) > 30


def test_functions_that_messages_call_are_public():
    """A function of the package that users cannot reach is no way on."""
    own = {node.name for _, tree in modules() for node in tree.body
           if isinstance(node, ast.FunctionDef)}  # fmt: skip
    public = set(dir(builtins))
    for package in (keras_nns, tflite_export):
        for name in dir(package):
            value = getattr(package, name)
            public.add(name)
            if inspect.ismodule(value) or inspect.isclass(value):
                public |= set(dir(value))
    own -= public | NOT_OURS
    called = [(where, name) for where, text in texts() for name in CALL.findall(text)]
    assert not [one for one in called if one[1] in own]


@pytest.mark.parametrize("name", ["keras_nns", "tflite_export"])
def test_names_that_are_missing_would_be_noticed(name):
    package = importlib.import_module(name)
    with pytest.raises(AttributeError):
        resolved(name, "..no_such_name")
    assert resolved(name, f".{dir(package)[0]}") is not None
