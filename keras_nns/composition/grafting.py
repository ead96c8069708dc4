"""Graft a label: the subnetwork that knows it joins a network that does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_nns.composition.input_adapters import Adapt, adapted
from keras_nns.composition.joining import Joint, Label, Scion, Stock
from keras_nns.data.sketch import Sketcher
from keras_nns.errors import SelectionError
from keras_nns.observation.forward import parents_batches


def graft(
    host: keras.Model,
    donor: keras.Model,
    label: Label,
    data: Any = None,
    y: Any = None,
    *,
    called: str | None = None,
    adapt: Adapt = None,
    host_names: Sequence[Any] | None = None,
    label_names: Sequence[Any] | None = None,
    batch_size: int = 256,
) -> keras.Model:
    """Give a network one more label: the subnetwork of another that knows it joins, side by side.

    With `z` the host's logits and `u` the logit of the new label against all of the host's, the
    result answers softmax of `(z, logsumexp(z) + u)`: the new label has probability sigmoid(u), and
    the host's labels share what is left exactly as the host would share it. `u` is what the donor
    says, or with data a logistic regression on what both say, which is convex.

    The result is an ordinary functional Keras model with the host's layer names, compile settings
    and kind of output (logits or probabilities). Layers that both have in common are there once.
    Neither model is changed. Graft again to add another label.

    Args:
        host: A model that tells labels apart by a softmax or logits; a subnetwork, a composition,
            or what `graft` gave.
        donor: The subnetwork that `cut` gave for the label, repaired or not, or any model that
            answers it.
        label: Name of the label that the donor answers for, or its number among the labels of the
            donor's parent.
        data: Labelled samples of the host's labels and the new one to calibrate on, as
            `keras_nns.observe` takes them; others are left out. Neither those the networks
            were made from nor those the result is judged on. None: `u` is the log odds that the
            donor gives, which was trained on other data, so the result is not calibrated.
        y: Labels, where `data` is inputs alone.
        called: The new label's name in the result; by default the donor's.
        adapt: What makes the host's inputs into the donor's, where they differ: `"resize"`, or
            layers of your own.
        host_names: Name of every label of the host, where it does not remember them; numbers by
            default.
        label_names: Name of every label in the data, in the order of their numbers; by default the
            host's and then the new one.
        batch_size: Samples in a batch, for arrays.

    Returns:
        A `keras.Model` that answers the host's labels, and last the new one. `evaluate` and
        `compare` know what it answers, also from a file that `save_model` wrote.

    Raises:
        SelectionError: The host has a label of that name, or the donor does not answer it.
        ModelError: The inputs differ and `adapt` does not bring the one to the other.
        SurgeryError: The host's outputs are not one softmax or logits over its labels.
        DataError: The data does not fit, or has too few samples of the new label or the others.

    Example:
        >>> host = nns.remove_label(model, 9).model
        >>> nine = nns.cut(model, nns.select(activity, labels=9), head="binary")
        >>> ten = nns.graft(host, nine, "9", *parts.calibrate)
        >>> ten.output_shape
        (None, 10)
    """
    stock = Stock.of(host, host_names)
    scion = Scion.of(donor, label, adapted(donor, host, adapt))
    name = scion.name if called is None else str(called)
    if name in stock.names:
        raise SelectionError(
            f"The host {host.name!r} has a label {name!r} already. Pass called='…' to give the new "
            "label another name, or use nns.patch to replace the host's."
        )
    joint = Joint(stock, scion, (*stock.names, name), len(stock.names))
    if data is None:
        return joint.as_it_is()
    batches = parents_batches(
        joint.as_it_is(), joint.known, data, y, batch_size=batch_size, label_names=label_names
    )
    sketcher = Sketcher()
    return joint.calibrated(sketcher.watch(batches), batches.label_names, sketcher.seen)
