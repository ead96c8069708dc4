"""`keras-nns to-c`: a .tflite file as a C array, for microcontrollers without files."""

from __future__ import annotations

import re
from argparse import Namespace

from keras_nns.cli import arguments, reading, screen

EXAMPLE = "keras-nns to-c nns_demo/tflite/merged_int8.tflite -o merged.h"


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "to-c",
        run,
        help="write a .tflite file as an aligned C array",
        description="Write a .tflite file as a C header with an aligned array, as TFLite Micro "
        "reads it. Labels and other files that it carries are left out.",
        example=EXAMPLE,
    )
    parser.add_argument("tflite", metavar="TFLITE", help="a file that export wrote, or any other")
    arguments.add_output(parser, "header (.h)")
    parser.add_argument("--name", help="name of the array (default: from the output's name)")


def run(given: Namespace) -> None:
    """Write the header."""
    output = reading.free_output(given, ".h")
    from tflite_export.c_array import to_c
    from tflite_export.files import read, save

    name = given.name or re.sub(r"\W", "_", output.stem, flags=re.ASCII)
    save(to_c(read(given.tflite), name), output, overwrite=given.overwrite)
    screen.remark(given, f"{output}: the array {name}")
