"""Open the models and data that a command was given; imports Keras."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from keras_nns.cli import screen
from keras_nns.cli.arguments import DATASETS
from keras_nns.cli.quiet import start_backend
from keras_nns.errors import FileError


def free_output(given: Namespace, *suffixes: str) -> Path:
    """Check, before any work, that the output can be written.

    Args:
        given: The arguments.
        suffixes: What its name may end in; anything where there are none.

    Raises:
        FileError: It exists and may not be replaced, is a folder, has another suffix, or its folder
            cannot be written.
    """
    from keras_nns.files.atomic import refuse_existing

    path = Path(given.output)
    if suffixes and path.suffix not in suffixes:
        raise FileError(f"--output must end in {' or '.join(suffixes)}. Received: {str(path)!r}.")
    refuse_existing(path, overwrite=given.overwrite)
    if path.is_dir():
        raise FileError(f"{str(path)!r} is a folder. Name a file in it.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise FileError(f"Cannot write {str(path)!r}: {str(folder)!r} is no folder to write in.")
    return path


def model(given: Namespace, path: str) -> Any:
    """Load a model, with its lineage where it has one.

    Raises:
        FileError: The file is missing, damaged, or holds code.
    """
    # Before seconds of waiting for what could read it.
    if not os.path.lexists(path):
        raise FileError(f"Cannot read {path!r}: no such file.")
    start_backend()
    from keras_nns.surgery.loading import load_model

    import_modules(given)
    return load_model(path, unsafe=given.unsafe)


@contextmanager
def opened(given: Namespace, path: str) -> Iterator[Any]:
    """Open a model whose weights are read when asked for, where its file has them one by one.

    Raises:
        FileError: As `model` does.
    """
    if not os.path.lexists(path):
        raise FileError(f"Cannot read {path!r}: no such file.")
    start_backend()
    from keras_nns.surgery.on_file import parent_of

    import_modules(given)
    with parent_of(path, unsafe=given.unsafe, tell=False) as found:
        yield found


def import_modules(given: Namespace) -> None:
    """Import what the user named with --import, from the folder at hand too.

    Raises:
        FileError: There is no such module, or it fails.
    """
    if given.modules and "" not in sys.path:
        sys.path.insert(0, "")
    for name in given.modules:
        try:
            import_module(name)
        except Exception as error:  # It is the user's own code.
            raise FileError(
                f"Cannot import {name!r}: {' '.join(str(error).split())}. --import takes the name "
                "of a Python module, as `python -c 'import NAME'` does."
            ) from error


def models(given: Namespace, *paths: str) -> list[Any]:
    """Load several models, as `model` does one."""
    return [model(given, path) for path in paths]


def data(
    given: Namespace, network: Any, name: str, *, own_labels: bool = False
) -> tuple[Any, Sequence[str] | None]:
    """Open the data as `observe` and `evaluate` take it.

    A folder of images is read batch by batch; anything else is loaded.

    Args:
        given: The arguments of `add_reading`.
        network: The model it is for.
        name: A data set's name or path.
        own_labels: Whether the labels are the data's own, and not what the network answers.

    Returns:
        The data, and the names of its labels where it has any or the user gave them.

    Raises:
        DataError: There is no such set, or it does not fit.
        FileError: A file is missing or damaged.
    """
    import numpy as np

    from keras_nns.data import formats, named
    from keras_nns.data.order import check_splits
    from keras_nns.demo import image_options

    if given.part or name in DATASETS:
        splits = named.load_dataset(
            name,
            scale=partial(_scales, given, network),
            label_names=given.label_names,
            **image_options(network),
        )
        part = given.part or given.default_part
        pair = {"train": (splits.x_train, splits.y_train), "test": (splits.x_test, splits.y_test)}
        x, y = pair[part]
        if splits.sorted_by == "strings":
            # As strings again, since the network may number them otherwise.
            return (x, np.array(splits.label_names)[y]), None
        if not own_labels:
            check_splits(network, splits)
        return (x, y), splits.label_names
    found = named.find(name, part=given.default_part)
    unsettled = isinstance(found, formats.Arrays) and found.alphabetical
    label_names = given.label_names or (None if unsettled else found.label_names)
    if isinstance(found, formats.ImageFolder):
        # What reads the path scales as the model wants it; here it is said.
        if _scales(given, network, 255.0) or given.scale:
            return found.path, label_names
        shape = network.inputs[0].shape[1:]
        read = found.reader(shape=shape, batch_size=given.batch_size, scale=False)
        names = np.array(found.label_names)
        # By name, since the user may have named the labels in another order.
        return lambda: ((x, names[np.asarray(y)]) for x, y in read(0)), label_names
    scales = found.divisor is not None and _scales(given, network, found.divisor)
    return (found.scaled(found.x) if scales else found.x, found.y), label_names


def texts(given: Namespace) -> Any:
    """Open texts of several kinds as `extract` takes them of a language model.

    Args:
        given: The arguments of `add_reading`: the path of a folder with one sub-folder of text
            files for each kind, or of an `.npz` of texts or tokens `x` and their kinds `y`.

    Raises:
        FileError: A file is missing or damaged, or has other arrays.
    """
    import zipfile

    import numpy as np

    path = Path(given.data)
    if not path.exists():
        raise FileError(f"There is no {path}: expected a folder of texts, or an .npz.")
    if path.is_dir():
        return path
    try:
        with np.load(path, allow_pickle=False) as held:
            found = {name: held[name] for name in held.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise FileError(f"{path} is no .npz of texts and kinds: {error}") from error
    for x, y in (("x", "y"), ("x_train", "y_train"), ("texts", "kinds"), ("tokens", "kinds")):
        if x in found and y in found:
            return found[x], found[y]
    raise FileError(
        f"{path} has {sorted(found)}. Expected x and y, x_train and y_train, texts and kinds, or "
        "tokens and kinds."
    )


def _scales(given: Namespace, network: Any, white: float) -> bool:
    """Decide whether pixels of 0..white are scaled to 0..1, and say where the model does it."""
    from keras_nns.data.preprocessing import rescaled_by
    from keras_nns.data.streams import scale_note

    why = rescaled_by(network, white) if given.scale else None
    if why:
        screen.note(given, scale_note(white, why))
    return bool(given.scale) and why is None


def labels_of(given: list[str], names: Sequence[str] | None) -> list[int | str]:
    """Read labels as names where there is such a name, else as numbers."""
    known = set(names or ())
    return [text if text in known or not text.isdigit() else int(text) for text in given]


def plain_samples(given: Namespace, network: Any, name: str) -> tuple[Any, Any] | None:
    """Read inputs out of a file that is no data set: inputs alone, or one array for each input.

    Args:
        given: The arguments of `add_reading`, with `sample_count`.
        network: The model they are for.
        name: A data set's name or path.

    Returns:
        The inputs, and the position of the right answer of each or None; None for a data set.

    Raises:
        tflite_export.ExportError: The file cannot be read, or holds no inputs.
    """
    path = Path(name)
    if path.suffix not in (".npz", ".npy") or not path.is_file():
        return None
    from keras_nns.graph.keras_internals import functional, is_graph
    from tflite_export.cli.sample_files import entries, read_samples

    found = entries(name)
    if found is not None and ({"x", "y"} <= set(found) or "x_train" in found):
        return None
    ends = functional(network).inputs if is_graph(network) else []
    return read_samples(
        name,
        count=given.sample_count,
        scale=_scales(given, network, 255.0),
        shape=tuple(ends[0].shape) if len(ends) == 1 else None,
    )
