"""`keras-nns play`: a model and its networks, asked live."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from keras_nns.cli import arguments, reading, screen
from keras_nns.errors import DataError, FileError, SelectionError

EXAMPLE = """\
keras-nns play
keras-nns play nns_demo/parent.keras nns_demo/tflite/3.tflite --samples digits"""

_WRITTEN = ("paper/*.tflite", "same/*.tflite", "tflite/*.tflite", "merged.tflite")
"""Networks that the demo writes, of every size."""

_SAMPLES = 200
"""How many there are to choose from."""


def add(commands: arguments.Commands) -> None:
    """Add the command."""
    parser = arguments.command(
        commands,
        "play",
        run,
        help="draw or choose a sample, and see what a model and its networks say of it",
        description="Open a page on this machine on which a sample is drawn, loaded or chosen. "
        "The model and every network cut from it answer beside each other, units that fire light "
        "up, and a slider switches between sizes. Without arguments it takes what demo wrote.",
        example=EXAMPLE,
    )
    parser.add_argument(
        "model",
        nargs="?",
        default="nns_demo",
        metavar="MODEL",
        help="a .keras or .h5 file, or a folder that demo wrote (default: nns_demo)",
    )
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help=".keras and .tflite files cut from it"
    )
    parser.add_argument("--samples", metavar="DATA", help="samples to choose from, as evaluate")
    arguments.add_own_code(parser)
    arguments.add_reading(parser, part="test")
    parser.add_argument("--port", type=arguments.count, help="port of 127.0.0.1 (default: 7860)")
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="do not open the browser"
    )


def run(given: Namespace) -> None:
    """Read what is played with, and serve the page."""
    with screen.working(given, "loading"):
        folder = Path(given.model) if Path(given.model).is_dir() else None
        file = given.model if folder is None else str(folder / "parent.keras")
        if not Path(file).is_file():
            raise FileError(
                f"There is no {file!r}. Run `keras-nns demo` first, or name a model and networks: "
                "keras-nns play MODEL NETWORK …"
            )
        networks = list(given.networks)
        if folder is not None:
            found = (path for pattern in _WRITTEN for path in sorted(folder.glob(pattern)))
            networks = [*map(str, found), *networks]
        if not networks:
            raise SelectionError(
                "Name networks that were cut from the model: keras-nns play MODEL NETWORK …"
            )
        parent = reading.model(given, file)
        samples, names = _samples(given, parent, folder)
        from keras_nns.playing.playground import play

        game = play(parent, networks, samples, label_names=names, unsafe=given.unsafe)
    game.launch(port=given.port, open_browser=given.browser)


def _samples(given: Namespace, parent: Any, folder: Path | None) -> tuple[Any, Any]:
    """Return samples and names of labels: those asked for, or what the demo was judged on."""
    if given.samples is not None:
        return _read(given, parent, given.samples)
    if folder is None:
        return None, given.label_names
    try:
        settings = json.loads((folder / "results.json").read_text(encoding="utf-8"))["settings"]
        return _read(given, parent, settings["dataset"])
    except (OSError, ValueError, KeyError, TypeError, DataError, FileError) as error:
        screen.note(given, f"The demo's samples cannot be read, draw your own: {error}")
        return None, given.label_names


def _read(given: Namespace, parent: Any, name: str) -> tuple[Any, Any]:
    from keras_nns.shipping.tflite_files import labelled_samples

    data, names = reading.data(given, parent, name)
    x, y, found = labelled_samples(parent, data, _SAMPLES, label_names=names)
    return (x, y), found or names
