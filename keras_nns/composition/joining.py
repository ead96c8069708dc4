"""A network and one that joins it for a label: what each answers, and the two side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from keras_nns.composition.branches import Asked, rebuilt_inputs, side_by_side
from keras_nns.data.batches import Batch, unweighted
from keras_nns.data.sketch import Seen
from keras_nns.errors import DataError, SelectionError, SurgeryError
from keras_nns.graph.keras_internals import model_of
from keras_nns.graph.tracing import Output, trace
from keras_nns.observation.forward import run, settle_labels
from keras_nns.repairing.regression import check_samples, logistic
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.endings import whole_plan
from keras_nns.surgery.lineage import Composition, Lineage, answering_place, origin_of, set_lineage

Label = int | str


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
            whole = replace(whole_plan(graph), label_names=found)
            members = (Lineage(whole, "parent", tuple(range(size)), found, output.name),)
        return cls(model, output, found, members)

    def place(self, label: Label) -> int:
        """Find a label among the host's, by name or number.

        Raises:
            SelectionError: It has none of that name or number.
        """
        return _position(label, self.names, f"The host {self.model.name!r}")

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
        if isinstance(origin, Lineage) and origin.plan.labels and not origin.taught:
            return cls._cut(donor, label, model, origin)
        output = trace(donor).outputs[0]
        size = output.size or 0
        if size == 1 and not isinstance(origin, Composition | Lineage) and isinstance(label, str):
            # Yes or no, and whoever passes it says of what.
            return cls(label, Asked(label, model, "binary", 0, ((0,),)), ())
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
        place = answering_place(donor, record)
        summed: tuple[tuple[int, ...], ...] = ((number,),)
        groups = summed
        if record.head == "binary":
            groups, summed = ((0,),), (plan.labels,)
        elif record.head != "parent":
            groups = ((record.labels.index(number),),)
        asked = Asked(name, model, record.head, place, groups, summed)
        return cls(name, asked, (record,))


class Joint:
    """A host and a donor side by side, before and after their scores are weighed.

    The new label's logit against all others, `u`, is a weighted sum of the host's logits, the
    logarithm of the sum of their exponentials, and the donor's log odds.

    Args:
        stock: The host.
        scion: The donor.
        names: Labels of the result.
        place: Which of them the donor answers. The host answers the others.

    Raises:
        ModelError: The two take different inputs.
    """

    def __init__(self, stock: Stock, scion: Scion, names: tuple[str, ...], place: int) -> None:
        self.known = Composition(names, (*stock.members, *scion.members))
        self.place = place
        self._stock = stock
        self._own = [i for i in range(len(names)) if i != place]
        kept = [stock.names.index(names[i]) for i in self._own]
        asked = replace(scion.asked, name=names[place])
        inputs, self._scores = side_by_side([stock.asked(kept), asked])
        self._inputs = rebuilt_inputs(stock.model, inputs)

    def as_it_is(self) -> keras.Model:
        """Return the model in which `u` is what the donor says."""
        weights = np.zeros(len(self._own) + 2)
        weights[-1] = 1
        return self._model(weights, 0.0, None)

    def calibrated(
        self,
        batches: Iterable[Batch],
        label_names: Sequence[str],
        seen: Callable[[], Seen | None],
        *,
        most_lost: float | None = None,
    ) -> keras.Model:
        """Return the model in which `u` is a logistic regression on all scores.

        Args:
            batches: Samples to fit on; those of labels that the result does not answer are left
                out.
            label_names: Name of every label in them.
            seen: Asked, when all are read, for a sketch of what the result was made from.
            most_lost: How much of the other labels' mean recall may go to the new one, on these
                samples, as a share. Where it is more, `u` is lowered by a constant.

        Raises:
            DataError: A sample has none or several labels, or there are too few of the new label
                or of the others.
        """
        names = self.known.label_names
        new = names[self.place]
        if new not in label_names:
            raise DataError(
                f"The data has no label named {new!r}: its labels are {list(label_names)}. Pass "
                "label_names, one for each label number in the data."
            )
        features = model_of(self._inputs, self._scores)
        # Scores are no answers: by them nobody can tell whether the inputs are scaled rightly.
        set_lineage(features, self.known)
        ran = run([(features, None)], unweighted(batches, "Weighing the donor against the host"))
        numbers, several = settle_labels(ran.labels, len(label_names), None)
        if several:
            raise DataError("A graft decides for one label, and samples have none or several.")
        answered = [i for i, name in enumerate(label_names) if name in names]
        asked = np.isin(numbers, answered)
        truth = numbers[asked] == list(label_names).index(new)
        check_samples("Weighing the donor against the host", truth[:, None], (new,))
        fit = logistic(ran.outputs[0][asked].astype(np.float64), truth, False)
        weights, bias = fit.kernel[:, 0], float(fit.bias[0])
        if most_lost is not None:
            place = {name: i for i, name in enumerate(label_names)}
            own = np.array([place.get(names[i], -1) for i in self._own])
            logits, total = ran.outputs[0][:, :-2], ran.outputs[0][:, -2]
            # By how much the new label's logit is above the highest of the others.
            lead = ran.outputs[0] @ weights + bias + total - logits.max(axis=1)
            right = own[logits.argmax(axis=1)] == numbers
            bias -= _excess(lead, right, numbers, own[own >= 0], most_lost)
        return self._model(weights, bias, seen())

    def _model(self, weights: NDArray[np.float64], bias: float, seen: Seen | None) -> keras.Model:
        own, count = self._own, len(self._own) + 1
        kernel, biases = np.zeros((count + 1, count)), np.zeros(count)
        kernel[range(len(own)), own] = 1
        kernel[:, self.place], biases[self.place] = weights, bias
        # Against all others: their sum, as the host has it, is added.
        kernel[len(own), self.place] += 1
        stock = self._stock
        dense = layers.Dense(
            count,
            activation="softmax" if stock.output.kind == "softmax" else None,
            name=self._free("grafted"),
            dtype="float32",
        )
        model = model_of(self._inputs, dense(self._scores), name=stock.model.name)
        dense.set_weights([kernel.astype(np.float32), biases.astype(np.float32)])
        carry_compile_settings(stock.model, model)
        set_lineage(model, replace(self.known, calibrated=seen, output=dense.name))
        return model

    def _free(self, name: str) -> str:
        """Return a name that no layer has yet."""
        taken = {one.name for one in model_of(self._inputs, self._scores).operations}
        while name in taken:
            name += "_"
        return name


def _excess(
    lead: NDArray[np.float64],
    right: NDArray[np.bool_],
    numbers: NDArray[Any],
    own: NDArray[np.int64],
    most_lost: float,
) -> float:
    """Return by how much a label's logit is too high for the others to lose no more than they may.

    Args:
        lead: By how much it is above the highest other, of each sample.
        right: Which samples the others alone answer rightly.
        numbers: Label of each sample.
        own: The other labels.
        most_lost: How much of their mean recall may be lost.
    """
    counts = np.bincount(numbers, minlength=int(own.max()) + 1)
    own = own[counts[own] > 0]
    right = right & np.isin(numbers, own)
    order = np.flatnonzero(right)[np.argsort(-lead[right], kind="stable")]
    lost = np.cumsum(1 / counts[numbers[order]]) / len(own)
    first = int(np.searchsorted(lost, most_lost, side="right"))
    if first >= len(order) or lead[order[first]] <= 0:
        return 0.0
    # Between the first that must not be lost and the last that may.
    above = lead[order[first - 1]] if first else lead[order[first]] + 1.0
    return float((lead[order[first]] + above) / 2)


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
