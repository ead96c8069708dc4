"""The data of a repair or training, dealt into parts: two halves to fit on and one held out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch, Batches, as_batches
from keras_nns.data.labels import answers_labels, output_label_count
from keras_nns.data.outputs import of_output
from keras_nns.data.sketch import Seen, Sketcher
from keras_nns.data.targets import Kind
from keras_nns.engine import datasets
from keras_nns.errors import DataError
from keras_nns.observation.forward import parents_batches
from keras_nns.observation.moments import HALVES, HELD_OUT, PARTS
from keras_nns.progress import reached
from keras_nns.surgery.lineage import Lineage, answering_output


@dataclass(frozen=True, eq=False)
class Dealt:
    """One batch.

    Attributes:
        batch: The samples.
        part: For each sample 0 or 1, the two halves to fit on, or 2, held out.
    """

    batch: Batch
    part: NDArray[np.int32]

    def only(self, *parts: int) -> Batch:
        """Return the samples of some parts."""
        return self._some(np.isin(self.part, parts)).batch

    def having(self, labels: Sequence[int]) -> Dealt:
        """Return the samples that have one of these labels."""
        return self._some(self.batch.has(labels))

    def _some(self, mask: NDArray[np.bool_]) -> Dealt:
        chosen = np.flatnonzero(mask)
        return Dealt(self.batch.only(chosen), self.part[chosen])


class Division:
    """Data that can be gone over again and again, every sample always in the same part.

    A sample's part follows from its content. So a dataset that is shuffled in every pass leaks
    nothing, and equal samples stay on one side.

    Args:
        data: As `keras_nns.observe` takes it; or inputs alone: an array, a list or a
            dictionary of them, or a `tf.data.Dataset` of inputs.
        y: Labels, where `data` is inputs alone and there are any.
        model: The model that takes the inputs and answers all the labels.
        held_out: Share of the samples to hold out, 0 or more and below 1.
        seed: Which samples they are.
        batch_size: Samples in a batch, for arrays.
        label_names: As in `as_batches`.
        origin: Where the subnetwork comes from that the data is for, so that booleans are read as
            what a yes/no network answers.
        output: Name of the output that answers, where the model has several and `origin` does not
            tell.

    Attributes:
        share: Share of the samples that is held out.
        seed: Which samples they are.
        labelled: Whether the data has labels, or other targets.
        asked: What the model is to answer (`targets.Kind`); None where the data does not say: it
            has inputs alone, or labels that are no output of the model.

    Raises:
        DataError: The data does not fit, or can be gone over once only.
    """

    def __init__(
        self,
        data: Any,
        y: Any,
        *,
        model: Any,
        held_out: float,
        seed: int,
        batch_size: int,
        label_names: Sequence[Any] | None,
        origin: Lineage | None = None,
        output: str | None = None,
    ) -> None:
        if not 0 <= held_out < 1:
            raise DataError(
                f"`held_out` is a share of the samples, from 0 to below 1. Received: {held_out!r}."
            )
        output = output or answering_output(model, origin)
        self.labelled = y is not None or isinstance(data, Batches) or not _inputs_alone(data)
        self.share = held_out
        self.seed = seed
        self._known: list[NDArray[np.int32]] = []
        self._only: tuple[int, ...] | None = None
        self._key = int(seed).to_bytes(8, "little", signed=True)
        if isinstance(data, Batches):
            self._batches = data
        elif self.labelled and origin is not None and origin.head == "binary":
            self._batches = parents_batches(
                model,
                origin,
                data,
                y,
                batch_size=batch_size,
                label_names=label_names,
                output=output,
            )
        elif self.labelled:
            self._batches = as_batches(
                data,
                y,
                model=model,
                batch_size=batch_size,
                label_names=label_names,
                output=output,
            )
        else:
            self._batches = _without_labels(data, model, batch_size)
        names = self._batches.label_names
        answers = self._batches.kind != "labels" or answers_labels(
            of_output(model, output), len(names)
        )
        self.asked: Kind | None = self._batches.kind if self.labelled and answers else None
        if not self._batches.repeatable:
            raise DataError(
                "The data is gone over several times, and an iterator can be read once. Pass "
                "arrays, a tf.data.Dataset, or a function that returns a new iterator."
            )

    @property
    def whole(self) -> Batches:
        """The data as it was opened, before it is dealt: what another division may be made of."""
        return self._batches

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of all the parent's labels."""
        return self._batches.label_names

    @property
    def batches(self) -> int | None:
        """Number of batches, when it is known."""
        return self._batches.batches

    @property
    def constant(self) -> bool:
        """Whether every pass gives the same samples in the same order, as arrays do."""
        return self._batches.constant

    def of_labels(self, labels: Sequence[int]) -> Division:
        """Return the samples that have one of these labels, each in the part that it is in here.

        Args:
            labels: The parent's label numbers.
        """
        found = copy(self)
        found._only = tuple(labels)
        return found

    def again(self, share: float) -> Division:
        """Deal what is not held out once more, by another draw.

        Args:
            share: Share of those samples to hold out.
        """
        found = copy(self)
        found._batches, found._known, found._only = self.fitted, [], None
        found._key, found.share = self._key + b"again", share
        return found

    def __iter__(self) -> Iterator[Dealt]:
        for dealt in self._dealt():
            some = dealt if self._only is None else dealt.having(self._only)
            if some.batch.size:
                yield some

    def _dealt(self) -> Iterator[Dealt]:
        for number, batch in enumerate(self._batches):
            reached(number, self.batches)
            if number < len(self._known):
                yield Dealt(batch, self._known[number])
                continue
            part = self._parts(batch)
            if self.constant and number == len(self._known):
                self._known.append(part)
            yield Dealt(batch, part)

    @property
    def judged(self) -> Batches:
        """What was held out, to pass on as data; everything where nothing was."""
        return self._batches.of(self.held_out)

    @property
    def fitted(self) -> Batches:
        """What is not held out, to pass on as data."""
        return self._batches.of(self.to_fit)

    def held_out(self) -> Iterator[Batch]:
        """Iterate over what was held out, or over everything where nothing was."""
        parts = (HELD_OUT,) if self.share else HALVES
        for dealt in self:
            batch = dealt.only(*parts)
            if batch.size:
                yield batch

    def to_fit(self) -> Iterator[Batch]:
        """Iterate over what is not held out."""
        for dealt in self:
            batch = dealt.only(*HALVES)
            if batch.size:
                yield batch

    def survey(self) -> Survey:
        """Count the samples in one pass.

        Raises:
            DataError: A part that is needed has no sample.
        """
        count = len(self.label_names)
        found = Survey(
            np.zeros((PARTS, count), np.int64),
            np.zeros(PARTS, np.int64),
            np.zeros((PARTS, count)),
            np.zeros(PARTS),
        )
        sketcher = Sketcher()
        for dealt in self:
            sketcher.add(dealt.batch.inputs, dealt.batch.size)
            found = found.add(dealt.batch, dealt.part)
        found = replace(found, seen=sketcher.seen())
        needed = (*HALVES, HELD_OUT) if self.share else HALVES
        if (found.samples[list(needed)] < 2).any():
            names = [self.label_names[label] for label in self._only or ()]
            which = f" of labels {', '.join(names)}" if names else ""
            raise DataError(
                f"The data has {found.samples.sum()} samples{which}, which deal into halves of "
                f"{found.samples[0]} and {found.samples[1]} to fit on and {found.samples[2]} held "
                "out; each needs at least 2 different ones. Pass more data: a head that is "
                "refitted takes 10 samples of every answer beside those held out."
            )
        return found

    def content(self) -> str:
        """Digest every sample, with its labels and weight, whatever the order they come in."""
        total = 0
        for batch in self._batches:
            total += sum(self._numbers([batch.inputs, batch.labels, batch.each], batch.size))
        return f"{total % 2**64:016x}"

    def _parts(self, batch: Batch) -> NDArray[np.int32]:
        drawn = np.array(self._numbers(batch.inputs, batch.size), dtype=np.uint64)
        half = (drawn & np.uint64(1)).astype(np.int32)
        return np.where((drawn >> np.uint64(1)) / 2.0**63 < self.share, HELD_OUT, half)

    def _numbers(self, of_samples: Any, size: int) -> list[int]:
        arrays = [np.asarray(t) for t in tree.flatten(of_samples)]
        return [self._number([array[i] for array in arrays]) for i in range(size)]

    def _number(self, parts: list[Any]) -> int:
        digest = hashlib.blake2b(digest_size=8, key=self._key)
        for part in parts:
            array = np.asarray(part)
            text = array.dtype.kind in "OUS"
            digest.update(repr(array.tolist()).encode() if text else array.tobytes())
        return int.from_bytes(digest.digest(), "little")


@dataclass(frozen=True, eq=False)
class Survey:
    """How many samples there are.

    Attributes:
        labels: Of each part and label, `(parts, labels)`.
        samples: Of each part, `(parts,)`.
        label_weights: Sums of the sample weights of each part and label, `(parts, labels)`.
        weights: Sums of the sample weights of each part, `(parts,)`.
        seen: A sketch of all of them.
    """

    labels: NDArray[np.int64]
    samples: NDArray[np.int64]
    label_weights: NDArray[np.float64]
    weights: NDArray[np.float64]
    seen: Seen | None = None

    def add(self, batch: Batch, part: NDArray[np.int32]) -> Survey:
        """Count one more batch."""
        labels = batch.labels
        each = np.ones(batch.size) if batch.weights is None else batch.weights
        table = labels if labels.ndim == 2 else labels[:, None] == np.arange(self.labels.shape[1])
        dealt = np.arange(PARTS)[:, None] == part
        return replace(
            self,
            labels=self.labels + dealt.astype(np.int64) @ table.astype(np.int64),
            samples=self.samples + dealt.sum(axis=1),
            label_weights=self.label_weights + (dealt * each) @ table.astype(np.float64),
            weights=self.weights + dealt @ each,
        )


def _inputs_alone(data: Any) -> bool:
    if datasets.is_dataset(data):
        return not isinstance(datasets.element_spec(data), tuple)
    if isinstance(data, list):
        return all(hasattr(part, "shape") for part in data)
    return hasattr(data, "shape") or isinstance(data, Mapping)


def _without_labels(data: Any, model: Any, batch_size: int) -> Batches:
    """Read inputs alone: every sample gets label 0, which nobody looks at."""
    count = output_label_count(model) or 1
    if datasets.is_dataset(data):
        return as_batches(datasets.with_zeros(data), model=model, label_count=count)
    zeros = np.zeros(len(tree.flatten(data)[0]), dtype=np.int64)
    return as_batches(data, zeros, model=model, batch_size=batch_size, label_count=count)
