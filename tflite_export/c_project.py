"""A folder that builds: a file as a program for a microcontroller."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

from tflite_export.c_array import in_flash, to_c
from tflite_export.c_sources import headers
from tflite_export.c_sources.checks import checks, dense_scales
from tflite_export.errors import OptionError
from tflite_export.files import read
from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.ends import End, ends
from tflite_export.metadata import read_metadata
from tflite_export.operators import Anatomy, anatomy
from tflite_export.runtimes.micro import smallest_arena
from tflite_export.runtimes.refusals import NotRunError
from tflite_export.text import visible
from tflite_export.writing.folders import replacing_folder

__all__ = ["PROJECTS", "to_c_project"]

_SOURCES = Path(__file__).parent / "c_sources"
_NETWORK = ("network.h", "network.cpp")
_TEXT = (*_NETWORK, "text_sample.h")
_FILES: Mapping[str, tuple[str, Sequence[str], Mapping[str, str], Sequence[str]]] = {
    "plain": (
        "",
        _NETWORK,
        {
            "plain/main.cpp": "main.cpp",
            "plain/Makefile": "Makefile",
        },
        ("model", "*.o"),
    ),
    "arduino": ("", _TEXT, {"arduino/sketch.ino": "$name.ino"}, ()),
    "esp-idf": (
        "main/",
        _TEXT,
        {
            "esp_idf/main/main.cpp": "main/main.cpp",
            "esp_idf/main/CMakeLists.txt": "main/CMakeLists.txt",
            "esp_idf/main/idf_component.yml": "main/idf_component.yml",
            "esp_idf/CMakeLists.txt": "CMakeLists.txt",
            "esp_idf/sdkconfig.defaults": "sdkconfig.defaults",
        },
        (),
    ),
}
"""Of each project: where its sources lie, which are shared, which are its own and what they are
called, and what building makes."""
PROJECTS = tuple(_FILES)
"""What `to_c_project` writes: "plain", "arduino" and "esp-idf".

Example:
    >>> tflite_export.PROJECTS
    ('plain', 'arduino', 'esp-idf')
"""

_HELD = {"ASSIGN_VARIABLE", "CALL_ONCE", "READ_VARIABLE", "VAR_HANDLE"}
_RECENT = {"DYNAMIC_UPDATE_SLICE", "REDUCE_ALL", "REDUCE_MIN", "REVERSE_V2"}
"""Operators that TFLite Micro learned last: ports of it for boards may lack them."""
_DENSE = """
It needs a release of TFLite Micro of the autumn of 2024 or later: older ones read the first scale
of a dense layer for all its units, and answer wrongly or refuse. A program that begins with such a
build says so.
"""
_INDENT = 19 * " "
_MARGIN = 1024
"""Bytes that are added to the arena, and an eighth of it."""


def to_c_project(
    flat: bytes | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    project: str = "plain",
    overwrite: bool = False,
) -> Path:
    """Write a folder that builds into a program with the model in TFLite Micro.

    In the folder are the model as an array; a header with shapes, types, scale and zero point of
    its inputs and outputs, its labels and the arena, which is measured; exactly the operators of
    the file; a program that reads samples and prints their labels; the files that build it, and
    README.txt, which says how.

    Args:
        flat: The model's bytes, or its path.
        folder: The folder to write; an Arduino sketch is called like it.
        project: "plain" for C++ with a Makefile, whose program reads samples from a file or the
            standard input; "arduino" for a sketch, or "esp-idf" for an ESP-IDF project, which read
            them as lines of text.
        overwrite: Whether a folder that was written before may be replaced.

    Returns:
        The folder that was written, whole, or not at all.

    Raises:
        OptionError: There is no such project; the folder's name is none for a sketch; the package
            tflite-micro, which measures the arena, is missing (`pip install 'keras-nns[micro]'`).
        FlatbufferError: Not a TFLite model, or one that TFLite Micro does not run: the message says
            why.
        ExportFileError: The folder exists, holds other files, or cannot be written.

    Example:
        >>> tflite_export.to_c_project(flat, "digits", project="arduino")
        PosixPath('digits')
    """
    if project not in PROJECTS:
        listed = ", ".join(repr(name) for name in PROJECTS)
        raise OptionError(f"unknown project {project!r}; expected one of {listed}.")
    data = bytes(read(flat) if isinstance(flat, (str, os.PathLike)) else flat)
    place = Path(folder)
    name = place.resolve().name
    if project == "arduino" and not re.fullmatch(r"\w[\w.-]{0,61}\w|\w", name, re.ASCII):
        raise OptionError(
            f"an Arduino sketch is called like its folder, and {name!r} is no name for one: take "
            "letters without accents, digits, '_', '.' and '-', at most 63, with a letter, a digit "
            "or '_' at both ends."
        )
    parts = anatomy(data)
    _refuse(parts)
    below, shared, own, made = _FILES[project]
    written = {f"{below}{file}": f"common/{file}" for file in shared}
    written |= {target.replace("$name", name): source for source, target in own.items()}
    generated = [f"{below}model_{file}.h" for file in ("check", "data", "info", "operators")]
    known = [*written, *generated, "README.txt", *made]
    with replacing_folder(place, made=known, overwrite=overwrite) as part:
        arena = smallest_arena(data)
        contents = _contents(data, parts, arena)
        for target, source in written.items():
            contents_of = (_SOURCES / source).read_bytes()
            (part / target).parent.mkdir(exist_ok=True)
            (part / target).write_bytes(contents_of)
        for target in generated:
            (part / target).write_text(contents[target.rpartition("/")[2]], encoding="ascii")
        text = _readme(project, name, data, parts, arena)
        (part / "README.txt").write_text(text, encoding="utf-8")
    return place


def _refuse(parts: Anatomy) -> None:
    """Refuse what TFLite Micro does not run, or runs wrongly, or what needs more than a program.

    Raises:
        NotRunError: The message says why.
    """
    if parts.not_in_micro:
        raise NotRunError("TFLite Micro", " ".join(parts.not_in_micro))
    held = sorted(_HELD & set(parts.operators))
    if held:
        raise NotRunError(
            "a program written here",
            f"it holds variables from call to call ({', '.join(held)}), which TFLite Micro wants "
            "room for besides the arena.",
        )


def _margin(arena: int) -> int:
    return 16 * ((_MARGIN + arena // 8) // 16)


def _ends(data: bytes) -> tuple[list[End], list[End]]:
    return ends(container.parse(data), read_metadata(data))


def _contents(data: bytes, parts: Anatomy, arena: int) -> dict[str, str]:
    inputs, outputs = _ends(data)
    return {
        "model_check.h": headers.check_header(checks(data, inputs, outputs)),
        "model_data.h": to_c(data, "model_data"),
        "model_info.h": headers.info_header(inputs, outputs, arena, _margin(arena)),
        "model_operators.h": headers.operators_header(tuple(parts.operators)),
    }


def _readme(project: str, name: str, data: bytes, parts: Anatomy, arena: int) -> str:
    inputs, outputs = _ends(data)
    folder = project.replace("-", "_")
    own = {
        "plain": "main.cpp           the program: samples from a file or the standard input\n",
        "arduino": f"{name}.ino\n                   the sketch: samples from the serial port\n",
        "esp-idf": "main.cpp           the program: samples from the console\n",
    }
    recent = sorted(_RECENT & set(parts.operators))
    return (
        Template((_SOURCES / "common" / "README.txt").read_text())
        .substitute(
            name=visible(name),
            inputs="\nand ".join(_said(end) for end in inputs),
            outputs="\nand ".join(_said(end) for end in outputs),
            bytes=f"{len(in_flash(data)):,}",
            operators=_wrapped(parts.operators),
            files=own[project],
            normalization=_normalization(inputs),
            arena=f"{arena:,}",
            margin=f"{_margin(arena):,}",
            dense=_DENSE if dense_scales(container.parse(data)) else "",
            recent=(
                f"\nNot every port of TFLite Micro has {', '.join(recent)} yet: where "
                f"{headers.method(recent[0])} is unknown, take a later one.\n"
                if recent
                else ""
            ),
            build=Template((_SOURCES / folder / "BUILD.txt").read_text()).substitute(name=name),
        )
        .rstrip()
        + "\n"
    )


def _wrapped(words: Iterable[str]) -> str:
    return textwrap.fill(" ".join(words), 96, initial_indent=_INDENT, subsequent_indent=_INDENT)


def _said(end: End) -> str:
    shape = " x ".join(map(str, end.shape[1:])) or "1"
    labels = f", {len(end.labels)} labels" if end.labels else ""
    return f"{visible(end.name)!r}, {shape} numbers of {end.type}{labels}"


def _normalization(inputs: Sequence[End]) -> str:
    said = [
        f"{visible(end.name)!r} is (raw - mean) / std, mean {_listed(end.normalization.mean)} and "
        f"std {_listed(end.normalization.std)}"
        for end in inputs
        if end.normalization is not None
    ]
    return f"\n{'; '.join(said)}.\n" if said else ""


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
