"""Names of labels from a file."""

from __future__ import annotations

import os
from typing import Any

from keras_nns.errors import FileError
from keras_nns.files import atomic


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the name of every label, in the order of a model's outputs.

    Args:
        path: Text with one name on each line; or JSON: a list, or an object by label number as
            Keras's `imagenet_class_index.json`, of whose pairs the first is taken: synsets are
            unique, words are not.

    Raises:
        FileError: The file cannot be read, or holds something else.
    """
    data = atomic.read_bytes(path)
    name = os.fspath(path)
    with atomic.blame(path):
        if name.endswith(".json"):
            found = _listed(atomic.parse_json(data), name)
        else:
            try:
                found = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
            except UnicodeDecodeError as error:
                raise FileError(f"{name!r} is no text in UTF-8: {error}.") from error
            found = [line for line in found if line]
    if not found or len(set(found)) < len(found):
        twice = sorted({one for one in found if found.count(one) > 1})
        raise FileError(
            f"{name!r} must hold every label's name once, each on its own line. Received: "
            f"{len(found)} names{f', some of them twice: {twice[:5]}' if twice else ''}."
        )
    return tuple(found)


def _listed(data: Any, name: str) -> list[str]:
    if isinstance(data, dict) and set(data) == {str(i) for i in range(len(data))}:
        data = [data[str(i)] for i in range(len(data))]
    if not isinstance(data, list):
        raise FileError(
            f"{name!r} must hold a list of names, or an object of them by label number from 0. "
            f"Received: {type(data).__name__}."
        )
    return [str(one[0]) if isinstance(one, list) and one else str(one) for one in data]
