"""The labels of ImageNet, in the order in which the models of `keras.applications` answer them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from keras_nns.data.names import read_names
from keras_nns.errors import DataError

COUNT = 1000
_SYNSET = re.compile(r"n\d{8}")
_INDEX = "imagenet_class_index.json"


def are_synsets(names: Sequence[str]) -> bool:
    """Return whether all names are identifiers of WordNet, as ImageNet's folders have them."""
    return bool(names) and all(_SYNSET.fullmatch(name) for name in names)


def synsets() -> tuple[str, ...]:
    """Return the 1,000 synsets in order, from the index that Keras has fetched before.

    Raises:
        DataError: It has not; the message says how to get it.
    """
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    path = Path(home) / "models" / _INDEX
    if not path.is_file():
        raise DataError(
            "The labels are synsets of ImageNet, and their order is not at hand. Pass label_names "
            "(--label-names FILE in a shell) with all 1,000 in order: timm ships them as "
            "timm/data/_info/imagenet_synsets.txt; or let Keras fetch them once, with "
            "keras.applications.imagenet_utils.decode_predictions(np.zeros((1, 1000)))."
        )
    return read_names(path)
