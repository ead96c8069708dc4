"""Split data into a part to observe and repair on, one to calibrate on, and one to judge on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from keras_nns.data.encodings import category_names, label_array, refuse_missing
from keras_nns.engine import datasets
from keras_nns.errors import DataError

PARTS = ("observe", "calibrate", "test")

_GOLDEN = (5**0.5 - 1) / 2
_RARE = 3


@dataclass(frozen=True, eq=False)
class Split:
    """Three parts of one data set that have no sample in common.

    Each is `(x, y)`, or a `tf.data.Dataset` where that is what was split, as `observe`, `repair`
    and `evaluate` take it.

    Attributes:
        observe: To train, observe, select and repair with.
        calibrate: To choose with (how much to keep, which repair) and to calibrate scores on.
        test: To judge on, once, at the very end.

    Example:
        >>> parts = nns.split(x, y, calibrate=0, test=0.25)
        >>> [len(labels) for _, labels in (parts.observe, parts.calibrate, parts.test)]
        [900, 0, 300]
    """

    observe: Any
    calibrate: Any
    test: Any

    def __str__(self) -> str:
        sizes = [f"{part}: {_size(getattr(self, part))}" for part in PARTS]
        return f"Split into {', '.join(sizes)}"


def split(
    data: Any,
    y: Any = None,
    *,
    calibrate: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    stratify: bool = True,
) -> Split:
    """Split data so that nothing is chosen, fitted or calibrated on what it is judged on.

    Arrays are split at random, every label in the same shares in each part (stratified); targets
    that are fractions are no labels, and are split at random alone. A
    `tf.data.Dataset` is dealt batch by batch in its own order, so it must come in the same order
    in every pass, and its batches must each be a mixture of the labels.

    Args:
        data: `(x, y)`, or x alone with `y` beside it; x is an array, or a list, tuple or dict of
            them. Or a batched `tf.data.Dataset`.
        y: Labels, where `data` is inputs alone: numbers, names, one-hot or multi-hot rows.
        calibrate: Share of the samples to calibrate on; 0 gives an empty part.
        test: Share of the samples to judge on.
        seed: Which samples go where, for arrays.
        stratify: Whether to keep the shares of labels; not for whole numbers of a regression.

    Raises:
        DataError: The shares leave nothing to observe, a label has too few samples to be in every
            part, a sample count does not fit, or the data is of another kind.

    Example:
        >>> parts = nns.split(x, y)
        >>> print(parts)
        Split into observe: 720 samples, calibrate: 240 samples, test: 240 samples
    """
    if not (0 <= calibrate < 1 and 0 < test < 1 and calibrate + test < 1):
        raise DataError(
            "`calibrate` and `test` are shares of the samples that leave some to observe: 0 or "
            "more, above 0, and below 1 together. Received: "
            f"calibrate={calibrate!r}, test={test!r}."
        )
    if datasets.is_dataset(data):
        if y is not None:
            raise DataError("A tf.data.Dataset brings its own labels. Leave y out.")
        return _dataset(data, calibrate, test)
    if y is None:
        if not isinstance(data, tuple) or len(data) != 2:
            raise DataError(
                "split takes (x, y), x with y beside it, or a batched tf.data.Dataset. Received: "
                f"{type(data).__name__}."
            )
        data, y = data
    return _arrays(data, y, calibrate, test, seed, stratify=stratify)


def _arrays(x: Any, y: Any, calibrate: float, test: float, seed: int, *, stratify: bool) -> Split:
    labels = label_array(y)
    refuse_missing(labels)
    count = len(labels)
    sizes = {len(part) for part in keras.tree.flatten(x)}
    if sizes != {count}:
        raise DataError(
            f"Inputs and labels must have as many samples. Received: inputs {sorted(sizes)}, "
            f"{count} labels."
        )
    strata = _strata(labels) if stratify else np.zeros(count, dtype=np.int64)
    places = np.arange(count)
    rest, held = _dealt(places, strata, test, seed, "test")
    if calibrate:
        rest, tuned = _dealt(rest, strata[rest], calibrate / (1 - test), seed + 1, "calibrate")
    else:
        tuned = places[:0]

    ordered = category_names(y) is not None

    def part(chosen: NDArray[np.int64]) -> Any:
        chosen = np.sort(chosen)
        # An array would forget the order of categories.
        own = y.take(chosen) if ordered else np.asarray(y)[chosen]
        return keras.tree.map_structure(lambda a: np.asarray(a)[chosen], x), own

    return Split(part(rest), part(tuned), part(held))


def _dealt(
    places: NDArray[np.int64], strata: NDArray[np.int64], share: float, seed: int, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    try:
        rest, held = train_test_split(
            places, test_size=share, random_state=seed, shuffle=True, stratify=strata
        )
    except ValueError as error:
        fewest = int(np.bincount(strata).min())
        raise DataError(
            f"The {len(places)} samples cannot be dealt out with a share of {share:.3g} for "
            f"{name}, every label in each part: the rarest has {fewest}. Pass more samples of it, "
            "leave it out, or take another share; for numbers of a regression pass stratify=False."
        ) from error
    return rest, held


def _strata(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Number the kinds of label; in multi-label data rare combinations are one kind.

    Fractions are no labels: all are of one kind.
    """
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels)):
        return np.zeros(len(labels), dtype=np.int64)
    if labels.ndim == 1:
        return np.asarray(np.unique(labels, return_inverse=True)[1], dtype=np.int64)
    kinds, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)[1:]
    rare = counts[kinds] < _RARE
    if 0 < rare.sum() < _RARE:
        rare |= kinds == np.argmax(counts)
    kinds = np.where(rare, len(counts), kinds)
    return np.asarray(np.unique(kinds, return_inverse=True)[1], dtype=np.int64)


def _dataset(data: Any, calibrate: float, test: float) -> Split:
    batches = datasets.cardinality(data)
    if batches is None:
        raise DataError(
            "The dataset does not say how many batches it has, so no shares can be taken. Tell it: "
            "data.apply(tf.data.experimental.assert_cardinality(n)); or data.take(n) of one that "
            "never ends."
        )
    held = max(round(batches * test), 1)
    tuned = max(round(batches * calibrate), 1) if calibrate else 0
    if batches - held - tuned < 1:
        raise DataError(
            f"The dataset has {batches} batches, too few for {held} to test on, {tuned} to "
            "calibrate on and one to observe. Use smaller batches."
        )
    # Dealt evenly over the whole, since data is often sorted by label.
    order = np.argsort(np.arange(batches) * _GOLDEN % 1.0, kind="stable")
    owner = np.zeros(batches, dtype=np.int64)
    owner[order[:held]] = 2
    owner[order[held : held + tuned]] = 1
    return Split(*(datasets.only(data, owner == part) for part in range(3)))


def _size(part: Any) -> str:
    if datasets.is_dataset(part):
        return f"{datasets.cardinality(part):,} batches"
    return f"{len(part[1]):,} samples"
