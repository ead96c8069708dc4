"""Sequences and texts for the examples: real sets from a folder, or what comes with Python.

The folder holds `sequence/japanese_vowels.npz` (UCI Japanese Vowels: `x_train` and `x_test` of 29
steps × 12 features, `y_train`, `y_test`) and `text/sms_tokens.npz` (SMS spam: word numbers, 0 in
front where a message is short). Without it digits are read row by row, and the texts are Python's
own library and the tables that come with scikit-learn.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import sklearn.datasets
from sklearn.model_selection import train_test_split

MODULES = (  # of the standard library, those that say most in their docstrings
    "argparse", "ast", "bdb", "calendar", "code", "codecs", "configparser", "contextlib", "copy",
    "csv", "datetime", "decimal", "difflib", "dis", "doctest", "enum", "fractions", "functools",
    "gettext", "heapq", "inspect", "ipaddress", "mailbox", "optparse", "os", "pdb", "pickle",
    "pickletools", "platform", "random", "sched", "shelve", "shlex", "smtplib", "socket",
    "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "timeit",
    "traceback", "turtle", "typing", "uuid", "weakref", "zipfile",
)  # fmt: skip
FEW = MODULES[:6]  # say enough for a few hundred lines
SYMBOLS = "\n" + "".join(map(chr, range(32, 127)))
KINDS = ("prose", "code", "tables")


@dataclass(frozen=True)
class Data:
    """A data set in three parts: to fit on, to choose with, and to report figures on, once."""

    name: str
    labels: tuple[str, ...]
    x_train: np.ndarray
    y_train: np.ndarray
    x_valid: np.ndarray
    y_valid: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def options(text: str) -> argparse.Namespace:
    """Read the options that the examples share."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the real data sets")
    parser.add_argument("--quick", action="store_true", help="train little, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def vowels(folder: Path | None) -> Data:
    """Nine speakers saying a vowel; or digits, as eight steps of eight pixels."""
    if folder is None:
        images, y = sklearn.datasets.load_digits(return_X_y=True)
        x = (images / 16).astype("float32").reshape(-1, 8, 8)
        parts = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
        return _parted("scikit-learn digits, row by row", map(str, range(10)), parts)
    file = np.load(folder / "sequence" / "japanese_vowels.npz")
    x, x_test = file["x_train"], file["x_test"]
    y, y_test = file["y_train"].astype(int), file["y_test"].astype(int)
    return _parted("UCI Japanese Vowels", map(str, range(9)), (x, x_test, y, y_test))


def messages(
    folder: Path | None, length: int = 40, words: int = 2000, *, quick: bool = False
) -> Data:
    """Text messages, ham or spam, as word numbers; or lines of three kinds of text as symbols."""
    if folder is None:
        x, y = lines(length, 150 if quick else 900)
        parts = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
        return _parted(f"{length} symbols of prose, code, tables", KINDS, parts)
    file = np.load(folder / "text" / "sms_tokens.npz")
    # The last words of each message; rare ones share one number.
    cut = [
        np.minimum(file[part][:, -length:], words - 1).astype("int32")
        for part in ("x_train", "x_test")
    ]
    y, y_test = file["y_train"].astype(int), file["y_test"].astype(int)
    return _parted("SMS spam", ("ham", "spam"), (*cut, y, y_test))


def _parted(name, labels, parts) -> Data:
    x, x_test, y, y_test = parts
    x, x_valid, y, y_valid = train_test_split(x, y, test_size=0.3, stratify=y, random_state=0)
    return Data(name, tuple(labels), x, y, x_valid, y_valid, x_test, y_test)


@cache
def texts(modules: tuple[str, ...] = MODULES) -> dict[str, str]:
    """Three kinds of text: docstrings, code without them, and tables of numbers."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in modules:
        spec = find_spec(name) if name in sys.stdlib_module_names else None
        if spec is None or not spec.origin or not spec.origin.endswith(".py"):
            continue
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                said = ast.get_docstring(node)
                if said is not None:
                    found["prose"].append(inspect.cleandoc(said))
                    node.body = node.body[1:] or [ast.Pass()]
        found["code"].append(ast.unparse(tree))
    folder = Path(sklearn.datasets.__file__).parent / "data"
    for path in sorted(folder.glob("*.csv")):
        found["tables"].append(path.read_text(encoding="utf-8"))
    return {kind: "\n".join(parts) for kind, parts in found.items()}


def lines(length: int, most: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of text that do not overlap: symbol numbers `(pieces, length)`, and their kinds."""
    number = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    x, y = [], []
    source = FEW if most <= 150 else MODULES
    for kind, text in enumerate(texts(source).values()):
        symbols = np.array([number[s] for s in text if s in number], dtype="int32")
        pieces = symbols[: len(symbols) // length * length].reshape(-1, length)
        random = np.random.default_rng(seed)
        x.append(pieces[random.permutation(len(pieces))[:most]])
        y += [kind] * len(x[-1])
    return np.concatenate(x), np.array(y)
