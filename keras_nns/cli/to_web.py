"""`keras-nns to-web`: a .tflite file as a page that runs it in a browser."""

from __future__ import annotations

from argparse import Namespace

from keras_nns.cli import arguments, screen
from tflite_export.cli.options import add_page

EXAMPLE = "keras-nns to-web nns_demo/merged.tflite -o merged_page --library litertjs-core-2.5.3.tgz"


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "to-web",
        run,
        help="write a page that runs a .tflite file in a browser, from disk",
        description="Write a folder with a page, index.html, that has the file inside, and "
        "LiteRT.js beside it. It works from disk: pictures are drawn, opened or taken by the "
        "camera, other inputs typed, and answers are bars with their labels. LiteRT.js is the npm "
        "package @litertjs/core, which you fetch; it takes no int8 at the ends of a file "
        "(export --quantize int8_float is its int8).",
        example=EXAMPLE,
    )
    parser.add_argument("tflite", metavar="TFLITE", help="a file that export wrote, or any other")
    arguments.add_output(parser, "folder")
    add_page(parser)


def run(given: Namespace) -> None:
    """Write the page."""
    from tflite_export.cli import commands

    screen.remark(given, commands.page(given))
