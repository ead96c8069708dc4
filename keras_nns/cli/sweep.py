"""`keras-nns sweep`: what networks of many sizes for some labels cost and are worth."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from keras_nns.cli import arguments, extract, reading, screen

EXAMPLE = """\
keras-nns sweep nns_demo/parent.keras digits --label 3 -o trade_off.png
keras-nns sweep model.keras photos --label cat --label dog --unit macs --sizes 12 -o found.json"""
_PICTURES = (".png", ".svg", ".pdf")


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "sweep",
        run,
        help="the trade-off between size and balanced accuracy, as table, data and picture",
        description="Make networks of many sizes for some labels, judge each on samples held out, "
        "and show which of them nothing beats.",
        example=EXAMPLE,
    )
    arguments.add_model(parser)
    arguments.add_data(parser, part="train")
    arguments.add_output(parser, "picture (.png, .svg, .pdf) or data (.json)")
    parser.add_argument(
        "--sizes",
        type=arguments.count,
        default=8,
        metavar="N",
        help="how many sizes (default: 8); of a language model from 90%% to a half of the "
        "parameters without embeddings",
    )
    parser.add_argument(
        "--unit",
        choices=("parameters", "macs", "bytes"),
        default="parameters",
        help="what sizes are measured in (default: parameters)",
    )
    extract.add_making(parser)
    # As many as suit what is read: images, or texts.
    parser.set_defaults(batch_size=None)


def run(given: Namespace) -> None:
    """Sweep, write the picture or the data, and print the table."""
    output = reading.free_output(given, *_PICTURES, ".json")
    model, data, options = extract.opened(given)
    from keras_nns.extraction.language_sweep import LanguageSweep
    from keras_nns.extraction.swept import Sweep
    from keras_nns.extraction.trade_off import sweep
    from keras_nns.files import atomic
    from keras_nns.reporting import image_files, sweeps

    def write(found: Sweep | LanguageSweep, path: Path, *, overwrite: bool) -> None:
        if path.suffix == ".json":
            atomic.write_bytes(path, screen.json_text(found).encode(), overwrite=overwrite)
        else:
            image_files.save(sweeps.trade_off(found), path, overwrite=overwrite)

    def left(found: Sweep | LanguageSweep) -> str:
        path = output.with_stem(f"{output.stem}.unfinished")
        write(found, path, overwrite=True)
        return f"{path}:\n{found}"

    with screen.cut_off(given, left):
        found = sweep(model, data, sizes=given.sizes, unit=given.unit, **options)
    write(found, output, overwrite=given.overwrite)
    screen.figures(given, found, found.to_table())
