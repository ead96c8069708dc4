"""Labels of a network that answers yes or no: its parent's, or a yes or no of each sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batch, Batches
from keras_nns.errors import DataError, DataWarning
from keras_nns.surgery.lineage import Lineage, Origin

TWO = 2


def asks_yes_or_no(origin: Origin | None) -> bool:
    """Say whether a network answers yes or no to its parent's labels."""
    return isinstance(origin, Lineage) and origin.head == "binary" and not origin.taught


def in_parents_labels(batches: Batches, origin: Origin | None) -> Batches:
    """Read a yes or no of each sample, 1 for yes, as the parent's labels that it is about.

    A sample with a no has none of them: which other label it has is not known. Where the parent
    has two labels, a no is the other.

    Args:
        batches: Data whose label 1 is what a yes/no network answers, 0 all others.
        origin: Where the network comes from.

    Warns:
        DataWarning: The parent tells 0 and 1 apart, and the network answers 0 with yes.
    """
    assert isinstance(origin, Lineage)
    names, label = origin.plan.label_names, origin.plan.labels[0]
    if len(names) <= TWO:
        if label == 0:
            warnings.warn(
                f"Booleans are read as the parent's labels: False for {names[0]!r}, which the "
                f"network answers with yes, True for {names[-1]!r}. Pass numbers, 0 for "
                f"{names[0]!r}: np.where(yes, 0, 1) if True stands for {names[0]!r}.",
                DataWarning,
                stacklevel=3,
            )
        return batches

    def translated() -> Iterator[Batch]:
        for batch in batches:
            table = np.zeros((batch.size, len(names)), dtype=np.bool_)
            yes = batch.labels[:, 1] if batch.labels.ndim == TWO else batch.labels == 1
            table[:, label] = yes
            yield replace(batch, labels=table)

    found = batches.of(translated)
    found.label_names = names
    return found


def watch_numbers(batches: Batches, network: str, origin: Origin | None, *, told: bool) -> Batches:
    """Look, behind the first pass, for 0 and 1 that may mean no and yes.

    Args:
        batches: Data with the parent's labels.
        network: Name of the yes/no network.
        origin: Where it comes from.
        told: Whether the caller says what the labels are called, and so that they are the parent's.

    Returns:
        The data. A pass over it refuses 0 and 1 where the network is about neither, and warns
        where it is about 0.
    """
    assert isinstance(origin, Lineage)
    if len(batches.label_names) > TWO and not batches.truths:
        batches.when_read(partial(_check_numbers, network, origin, told))
    return batches


def _check_numbers(
    network: str, origin: Lineage, told: bool, batches: Batches, counts: NDArray[np.int64]
) -> None:
    held, own = np.flatnonzero(counts), list(origin.plan.labels)
    if not held.size or held[-1] > 1:
        return
    name, names = origin.label_names[0], batches.label_names
    if not np.isin(held, own).any():
        ways = "pass booleans, y == 1, or " if batches.constant else "pass "
        raise DataError(
            f"No sample has the label {name!r}: labels are read as the parent's, {names[0]!r} and "
            f"{names[1]!r}. If 1 stands for {name!r} and 0 for all others, {ways}"
            "label_names=['no', 'yes']."
        )
    if 0 in own and held[-1] == 1 and batches.plain and not told:
        warnings.warn(
            f"All labels are 0 or 1. They are read as the parent's: to 0, {names[0]!r}, the answer "
            f"of {network!r} should be yes. If this is meant, pass label_names, all of the "
            f"parent's; if 1 stands for {name!r} and 0 for all others, label_names=['no', 'yes'].",
            DataWarning,
            stacklevel=2,
        )
