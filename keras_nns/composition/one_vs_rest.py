"""A yes/no network for each label of a model, all on the same layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keras_nns.extraction.tasks import everything
from keras_nns.graph.tracing import trace
from keras_nns.observation.holdout import Division
from keras_nns.repairing.head_fit import calibrate_head
from keras_nns.repairing.prepared import MEMORY, Prepared
from keras_nns.repairing.steps import mend
from keras_nns.selection.choosing import Label, label_numbers
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.lineage import lineage


def one_vs_rest(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Iterable[Label] = "each",
    held_out: float = 0.2,
    seed: int = 0,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    memory: int = MEMORY,
) -> dict[str, keras.Model]:
    """Make a yes/no network for each label of a model, which all have its layers but the last.

    The head of each is fitted to the features that reach the model's own, as `repair` fits one.
    What they have in common `compose` holds once, so ten of them take hardly more than the model:
    cut it first, for all labels, by `extract`. Each is a subnetwork of the model by itself.

    Args:
        model: A model that tells labels apart, such as what `extract` gave for all labels. It is
            not changed.
        data: Training data with labels, as `keras_nns.observe` takes it.
        y: Labels, where `data` is inputs alone.
        labels: Which, by name or number; `"each"` makes one for every label.
        held_out: Share of the samples that no head is fitted to.
        seed: Which samples are held out.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label of the model, in the order of its outputs; by default those
            it remembers, or the data's own.
        memory: As in `repair`.

    Returns:
        The networks by the names of their labels, in the order of the labels.

    Raises:
        SelectionError: A label is unknown, or there is none.
        DataError: The data has no labels, too few samples of one, or does not fit.
        SurgeryError: The model does not end in a Dense that answers its labels.

    Example:
        >>> ones = nns.one_vs_rest(model, x, y)
        >>> ones["3"].output_shape
        (None, 1)
        >>> whole = nns.compose(ones, *parts.calibrate)
        >>> whole.count_params() < 1.2 * model.count_params()
        True
    """
    record = lineage(model)
    if label_names is None and record is not None and record.head == "parent":
        label_names = record.label_names
    division = Division(
        data,
        y,
        model=model,
        held_out=held_out,
        seed=seed,
        batch_size=batch_size,
        label_names=label_names,
        origin=record,
    )
    graph, names = trace(model), division.label_names
    prepared = Prepared(model, division, memory=memory)
    found = {}
    for label in label_numbers(names, labels):
        plan = everything(graph, (label,), names)
        network = cut(model, plan, head="binary")
        found[names[label]] = mend(network, prepared, calibrate_head())[0].model
    return found
