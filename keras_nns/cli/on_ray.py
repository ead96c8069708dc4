"""`--ray`: a command's work on a cluster, or on several cores."""

from __future__ import annotations

import argparse
import logging
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from keras_nns.cli import arguments, reading, screen
from keras_nns.errors import SelectionError

if TYPE_CHECKING:
    from keras_nns.observation.activity import Activity

_OPTIONS = {"workers": "--workers", "x": "--x", "y": "--y"}
_OTHERS = {"shard": "--shard", "checkpoint": "--checkpoint"}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group(
        "on a cluster",
        "--ray starts Ray on this machine, or joins the cluster that RAY_ADDRESS names; DATA is "
        "then also Parquet or TFRecord files, or a folder of them, here or in an object store",
    )
    group.add_argument("--ray", action="store_true", help="have workers of Ray do it")
    group.add_argument(
        "--workers",
        type=arguments.count,
        metavar="N",
        help="how many (default: one for each processor)",
    )
    group.add_argument(
        "--x",
        type=arguments.names,
        metavar="A,B,…",
        help="column of the inputs in Parquet or TFRecord files; several are the features of one "
        "input",
    )
    group.add_argument("--y", metavar="COLUMN", help="column of the labels there")


def check(given: Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        SelectionError: They do not.
    """
    if not given.ray:
        asked = [option for name, option in _OPTIONS.items() if getattr(given, name) is not None]
        if asked:
            raise SelectionError(f"{asked[0]} goes with --ray, which has workers of Ray do it.")
        return
    for name, option in _OTHERS.items():
        if getattr(given, name) is not None:
            raise SelectionError(
                f"{option} is of one process, and with --ray Ray deals out the data and does again "
                f"what is lost. Leave one of the two out."
            )


def observe(given: Namespace) -> Activity:
    """Observe on Ray's workers."""
    from keras_nns.cluster import opening, starting
    from keras_nns.cluster.observing import observe as observe_on

    # Neither its greeting nor what it says of every stage.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    starting.start(quiet=True)
    data: Any
    names, x, y = given.label_names, given.x, given.y
    if x is not None or y is not None or opening.reader_of(given.data):
        data = opening.from_files(given.data)
        x = x[0] if x is not None and len(x) == 1 else x
    else:
        with screen.working(given, "loading"):
            data, names = _opened(given)
        x, y = "x", "y"
    return observe_on(
        given.model,
        data,
        x=x,
        y=y,
        layers=given.layers,
        statistics=given.statistics,
        threshold=given.threshold,
        batch_size=given.batch_size,
        label_names=names,
        output=given.answer,
        workers=given.workers,
        unsafe=given.unsafe,
        modules=given.modules,
        verbose=False if given.quiet else "auto",
    )


def _opened(given: Namespace) -> tuple[Any, Any]:
    """Open what the command takes without Ray too, checked as it is there."""
    from keras_nns.cluster import opening
    from keras_nns.data import formats, named
    from keras_nns.data.batches import as_batches

    model = reading.model(given, given.model)
    data, names = reading.data(given, model, given.data)
    settings = {"model": model, "label_names": names, "output": given.answer}
    if isinstance(data, tuple):
        checked = as_batches(data, batch_size=given.batch_size, **settings)
        return opening.from_arrays(*data), checked.label_names
    scale = isinstance(data, str)
    if scale:
        checked = as_batches(data, batch_size=given.batch_size, **settings)
        names, scale = checked.label_names, checked.divisor != 1
    folder = named.find(given.data, part=given.default_part)
    assert isinstance(folder, formats.ImageFolder)
    shape = tuple(model.inputs[0].shape[1:])
    return opening.from_folder(folder, opening.Reading(shape, scale)), names
