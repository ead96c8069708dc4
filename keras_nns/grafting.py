"""Graft a label: the subnetwork that knows it joins a network that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from keras_nns.adapting import Adapt, adapted
from keras_nns.branches import Asked, rebuilt_inputs, side_by_side
from keras_nns.calibration import check_samples, logistic
from keras_nns.compiling import carry_compile_settings
from keras_nns.errors import DataError, ModelError, SelectionError, SurgeryError
from keras_nns.forward import parents_batches, run, settle_labels
from keras_nns.graph import Output, trace
from keras_nns.keras_graph import functional
from keras_nns.model_files import Composition, Lineage, origin_of, set_lineage
from keras_nns.plan import Plan
from keras_nns.seen import Sketcher

Label = int | str


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
            `keras_nns.data.as_batches` takes them; others are left out. Neither those the networks
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
        >>> boot = nns.cut(fashion, plan, head="binary")  # doctest: +SKIP
        >>> eleven = nns.graft(digits, boot, "boot", x, y)  # doctest: +SKIP
        >>> print(nns.evaluate(eleven, x_test, y_test))  # doctest: +SKIP
    """
    stock = Stock.of(host, host_names)
    scion = Scion.of(donor, label, adapted(donor, host, adapt))
    name = scion.name if called is None else str(called)
    if name in stock.names:
        raise SelectionError(
            f"The host {host.name!r} has a label {name!r} already. Pass called='…' to give the new "
            "label another name, or use nns.patch to replace the host's."
        )
    places = (*range(len(stock.names)), len(stock.names))
    return joined(stock, scion, (*stock.names, name), places, data, y, label_names, batch_size)


@dataclass(frozen=True, eq=False)
class Stock:
    """A network that another joins.

    Attributes:
        model: The network.
        output: The output that answers.
        names: Name of every label it answers, in the order of its outputs.
        members: What it is made of.
    """

    model: keras.Model
    output: Output
    names: tuple[str, ...]
    members: tuple[Lineage, ...]

    @classmethod
    def of(cls, model: keras.Model, names: Sequence[Any] | None) -> Stock:
        """Read a host.

        Raises:
            SurgeryError: Its outputs are not one softmax or logits over its labels.
            DataError: The names are not as many as its outputs, or not distinct.
        """
        graph = trace(model)
        origin = origin_of(model)
        output, size = graph.outputs[0], graph.outputs[0].size
        summed = isinstance(origin, Lineage) and origin.head in ("binary", "other")
        several = len(graph.outputs) > 1
        if several or output.kind == "sigmoid" or summed or size is None or size < 2:
            raise SurgeryError(
                f"A label joins a host that tells labels apart by one softmax, or by logits. "
                f"{model.name!r} has {len(graph.outputs)} output(s), the first of "
                f"{size} value(s), {output.kind}"
                + (f", with head={origin.head!r}" if isinstance(origin, Lineage) else "")
                + ". Make a model of the output that answers, or cut with head='labels'."
            )
        found = _names(origin, size, names, model.name)
        members = origin.members if isinstance(origin, Composition) else ()
        if isinstance(origin, Lineage):
            members = (origin,)
        elif not members:
            sizes = {group.name: group.size for group in graph.layout.prunable}
            kept = {group: tuple(range(count)) for group, count in sizes.items()}
            whole = Plan(graph.fingerprint, sizes, kept, label_names=found)
            members = (Lineage(whole, "parent", tuple(range(size)), found, output.name),)
        return cls(model, output, found, members)

    def asked(self, kept: Sequence[int]) -> Asked:
        """Ask for the logits of some labels."""
        groups = tuple((i,) for i in kept)
        return Asked("host", self.model, "parent", 0, groups, logits=True, renamed=False)


@dataclass(frozen=True, eq=False)
class Scion:
    """A network that joins another for one label.

    Attributes:
        name: The label's name in the donor.
        asked: The question to it.
        members: What it is made of.
    """

    name: str
    asked: Asked
    members: tuple[Lineage, ...]

    @classmethod
    def of(cls, donor: keras.Model, label: Label, model: keras.Model) -> Scion:
        """Find a label in a donor.

        Args:
            donor: The donor.
            label: Name, or number among the labels of the donor's parent.
            model: The donor as it takes the host's inputs.

        Raises:
            SelectionError: It does not answer for it.
        """
        origin = origin_of(donor)
        if isinstance(origin, Lineage) and origin.plan.labels:
            return cls._cut(donor, label, model, origin)
        output = trace(donor).outputs[0]
        size = output.size or 0
        given = isinstance(origin, Composition | Lineage)
        names = _names(origin if given else None, size, None, donor.name) if size > 1 else ()
        number = _position(label, names, f"The donor {donor.name!r}")
        asked = Asked(names[number], model, "parent", 0, ((number,),))
        members = origin.members if isinstance(origin, Composition) else ()
        return cls(names[number], asked, (origin,) if isinstance(origin, Lineage) else members)

    @classmethod
    def _cut(cls, donor: keras.Model, label: Label, model: keras.Model, record: Lineage) -> Scion:
        plan = record.plan
        names = plan.label_names or tuple(str(i) for i in range(max(plan.labels) + 1))
        own = [names[i] for i in plan.labels]
        merged = record.head == "binary" and len(own) > 1
        if merged and label == record.label_names[0]:
            number, name = plan.labels[0], str(label)
        elif merged:
            raise SelectionError(
                f"The donor {donor.name!r} gives one answer for {own} together, called "
                f"{record.label_names[0]!r}, and none for {label!r} alone."
            )
        else:
            number = plan.labels[_position(label, own, f"The donor {donor.name!r}", plan.labels)]
            name = names[number]
        output = functional(donor).output_names
        place = output.index(record.output) if record.output in output else 0
        summed: tuple[tuple[int, ...], ...] = ((number,),)
        groups = summed
        if record.head == "binary":
            groups, summed = ((0,),), (plan.labels,)
        elif record.head != "parent":
            groups = ((record.labels.index(number),),)
        asked = Asked(name, model, record.head, place, groups, summed)
        return cls(name, asked, (record,))


def joined(
    stock: Stock,
    scion: Scion,
    names: tuple[str, ...],
    places: tuple[int, ...],
    data: Any,
    y: Any,
    label_names: Sequence[Any] | None,
    batch_size: int,
) -> keras.Model:
    """Build a host and a donor side by side.

    Args:
        stock: The host.
        scion: The donor.
        names: Labels of the result.
        places: Place in the result of every label of the host that stays, in order, and last that
            of the donor's.
        data: To calibrate on, or None.
        y: Labels, where `data` is inputs alone.
        label_names: Names of the labels in the data.
        batch_size: Samples in a batch.
    """
    *own, place = places
    kept = [stock.names.index(names[i]) for i in own]
    scion = replace(scion, asked=replace(scion.asked, name=names[place]))
    inputs, scores = side_by_side([stock.asked(kept), scion.asked])
    inputs_like = rebuilt_inputs(stock.model, inputs)
    sums, donors = len(own), len(own) + 1
    weights, bias = np.zeros(len(own) + 2), 0.0
    weights[donors] = 1.0
    known = Composition(names, (*stock.members, *scion.members))
    if data is not None:
        features = keras.Model(inputs_like, scores)
        sketcher = Sketcher()
        batches = parents_batches(
            features, known, data, y, batch_size=batch_size, label_names=label_names
        )
        ran = run([(features, None)], sketcher.watch(batches))
        weights, bias = _fitted(ran.outputs[0], ran.labels, batches.label_names, names, place)
        known = replace(known, calibrated=sketcher.seen())
    kernel, biases = np.zeros((len(own) + 2, len(names))), np.zeros(len(names))
    kernel[range(len(own)), own] = 1
    kernel[:, place], biases[place] = weights, bias
    kernel[sums, place] += 1
    dense = layers.Dense(
        len(names),
        activation="softmax" if stock.output.kind == "softmax" else None,
        name=_free_name(_operations(inputs_like, scores), "grafted"),
        dtype="float32",
    )
    model = keras.Model(inputs_like, dense(scores), name=stock.model.name)
    dense.set_weights([kernel.astype(np.float32), biases.astype(np.float32)])
    carry_compile_settings(stock.model, model)
    set_lineage(model, known)
    return model


def _operations(inputs: Any, scores: Any) -> set[str]:
    """Return the names of all layers between two symbolic tensors."""
    return {operation.name for operation in keras.Model(inputs, scores).operations}


def _fitted(
    scores: NDArray[np.float32],
    labels: NDArray[Any],
    known: Sequence[str],
    names: tuple[str, ...],
    place: int,
) -> tuple[NDArray[np.float64], float]:
    """Fit the logit of the new label against all others; return weights of the scores, and bias."""
    missing = [name for name in names if name not in known]
    if names[place] in missing:
        raise DataError(
            f"The data has no label named {names[place]!r}: its labels are {list(known)}. Pass "
            "label_names, one for each label number in the data."
        )
    numbers, several = settle_labels(labels, len(known), None)
    if several:
        raise DataError("A graft decides for one label, and samples have none or several.")
    asked = np.isin(numbers, [list(known).index(name) for name in names if name not in missing])
    truth = numbers[asked] == list(known).index(names[place])
    check_samples("graft", truth[:, None], (names[place],))
    fit = logistic(scores[asked].astype(np.float64), truth, False)
    return fit.kernel[:, 0], float(fit.bias[0])


def _names(
    origin: Lineage | Composition | None, size: int, given: Sequence[Any] | None, model: str
) -> tuple[str, ...]:
    """Name the answers of a model, from the most to the least certain source."""
    if given is not None:
        names = tuple(str(name) for name in given)
        if len(names) != size or len(set(names)) != size:
            raise DataError(
                f"host_names must be {size} names that differ, one for each output of {model!r}. "
                f"Received: {list(names)}."
            )
        return names
    if origin is not None and len(origin.label_names) == size:
        return origin.label_names
    return tuple(str(i) for i in range(size))


def _position(
    label: Label, names: Sequence[str], whose: str, numbers: Sequence[int] | None = None
) -> int:
    """Find a label by name, or by number; return its place among the names."""
    numbers = range(len(names)) if numbers is None else numbers
    if isinstance(label, str) and label in names:
        return list(names).index(label)
    if isinstance(label, int) and not isinstance(label, bool) and label in numbers:
        return list(numbers).index(label)
    raise SelectionError(
        f"{whose} does not answer for label {label!r}. It answers for "
        + (f"{list(names)}, numbers {list(numbers)}." if names else "none that it names.")
    )


def _free_name(taken: set[str], name: str) -> str:
    while name in taken:
        name += "_"
    return name
