"""Writing whole folders: all of one or nothing, and never over files of the user's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_nns.errors import FileError
from keras_nns.files.atomic import Path_
from tflite_export.writing import folders


@contextlib.contextmanager
def replacing_folder(
    path: Path_, *, made: Sequence[str], overwrite: bool = False
) -> Iterator[Path]:
    """Give a temporary folder beside `path`; move it there when the block ends without an error.

    As `tflite_export.writing.folders.replacing_folder` does, with an error of this package.

    Args:
        path: The folder that shall be. An empty one that exists is as good as none.
        made: Patterns of the files that the work makes, relative to the folder, `"plans/*.json"`.
        overwrite: Whether an earlier run's folder may be replaced.

    Raises:
        FileError: The folder exists and `overwrite` is false, it holds other files, or it cannot
            be written. All but a disk that gets full and what another process made meanwhile is
            found out before the block starts.

    Example:
        >>> with replacing_folder("plans", made=["*.json"]) as folder:
        ...     plan.save(folder / "3.json")
    """
    try:
        with folders.replacing_folder(path, made=made, overwrite=overwrite) as folder:
            yield folder
    except folders.FolderError as error:
        raise FileError(str(error)) from error.__cause__


def safe_names(names: Sequence[str]) -> list[str]:
    """Turn names, such as those of labels, into different names that any file system takes.

    Example:
        >>> safe_names(["T-shirt/top", "Bag", "bag", "7"])
        ['T-shirt-top', 'Bag', 'bag-2', '7']
    """
    taken: set[str] = set()
    safe = []
    for number, name in enumerate(names):
        base = re.sub(r"[^\w.+-]+", "-", name).strip("-.")[:80] or str(number)
        one = base
        # Some file systems do not tell upper from lower case.
        while one.lower() in taken:
            one = f"{base}-{number}"
            base += "_"
        taken.add(one.lower())
        safe.append(one)
    return safe
