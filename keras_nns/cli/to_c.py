"""`keras-nns to-c`: a .tflite file as a C array, or as a folder that builds."""

from __future__ import annotations

import re
from argparse import Namespace

from keras_nns.cli import arguments, reading, screen
from tflite_export.cli.options import add_project

EXAMPLE = """\
keras-nns to-c nns_demo/tflite/merged_int8.tflite -o merged.h
keras-nns to-c nns_demo/tflite/merged_int8.tflite --project plain -o merged"""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "to-c",
        run,
        help="write a .tflite file as a C array, or a folder that builds",
        description="Write a .tflite file as a C header with an aligned array, as TFLite Micro "
        "reads it. What it does not read is left out: names, metadata, labels and other files. "
        "With --project write a "
        "folder that builds: the array, a header with shapes, scales, labels and the arena that "
        "was measured, exactly the operators of the file, a program that reads samples and prints "
        "labels, and README.txt, which says how to build it. Files that TFLite Micro does not run "
        "are refused, with the reason.",
        example=EXAMPLE,
    )
    parser.add_argument("tflite", metavar="TFLITE", help="a file that export wrote, or any other")
    arguments.add_output(parser, "header (.h), or with --project the folder,")
    parser.add_argument(
        "--name", help="name of the array in a header (default: from the output's name)"
    )
    add_project(parser)


def run(given: Namespace) -> None:
    """Write the header, or the folder."""
    from tflite_export.files import read, save

    if given.project:
        from tflite_export.cli import commands

        screen.remark(given, commands.project(given))
        return
    output = reading.free_output(given, ".h")
    from tflite_export.c_array import to_c

    name = given.name or re.sub(r"\W", "_", output.stem, flags=re.ASCII)
    save(to_c(read(given.tflite), name), output, overwrite=given.overwrite)
    screen.remark(given, f"{output}: the array {name}")
