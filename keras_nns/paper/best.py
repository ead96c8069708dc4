"""Our best at the paper's number of parameters, on samples that had no part in making it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.engine.blas import one_thread
from keras_nns.observation.activity import Activity
from keras_nns.paper.method import Float, Judge, LabelWorth, Subject, average, units_of
from keras_nns.plans.keep_rules import top
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.head_fit import calibrate_head
from keras_nns.repairing.steps import repair
from keras_nns.selection.activations import Score, contrast
from keras_nns.selection.choosing import select
from keras_nns.selection.greedy import forward_selection
from keras_nns.surgery.cutting import cut

WAY = (
    "units by forward_selection, which adds the one that best completes those before it; the last "
    "layer refitted to all labels by calibrate_head, without a gradient step"
)
"""How our best is made. benchmarks/repair_mlp.py chose it, on samples that are not judged here."""

PARTS = 5
"""Parts of the samples where a subject has no others to judge on."""

_MOST = 5_000
"""Samples to make networks from: more change little and take long."""


@dataclass(frozen=True, eq=False)
class Part:
    """Samples to make networks from, and others to judge them on.

    Attributes:
        model: The parent.
        x: Inputs to make networks from.
        y: Their labels.
        judged: Places of the samples to judge on, among all that are judged.
    """

    model: keras.Model
    x: Float
    y: NDArray[np.int64]
    judged: NDArray[np.int64]

    @cached_property
    def activity(self) -> Activity:
        """Averages over the samples to make networks from."""
        return average(self.model, self.x, self.y)

    @cached_property
    def alone(self) -> Score:
        """Ranks units by how well they tell one label from the rest."""
        return forward_selection(self.model, (self.x, self.y))

    @cached_property
    def together(self) -> Score:
        """Ranks units by how well they tell all labels from each other."""
        return forward_selection(self.model, (self.x, self.y), jointly=True)

    def repaired(self, plan: Plan, *, label: int | None = None) -> keras.Model:
        """Cut a network for one label, or for all, and refit its last layer."""
        small = cut(self.model, plan, head="parent" if label is None else "binary")
        step = calibrate_head(every_label=label is not None, rounding=None)
        return repair(small, self.model, (self.x, self.y), steps=step, held_out=0.0).model


class Workshop:
    """Makes networks of as many units as the paper's, and judges them on other samples.

    A subject with samples held out is judged on those. One that is watched and judged on the same
    samples is divided into five parts, each label in proportion: each part is judged by a network
    made from the other four, so a figure over all samples is of five networks made alike.

    Args:
        subject: The network and its data.
        judge: Judges any of its units.
    """

    def __init__(self, subject: Subject, judge: Judge) -> None:
        self._x, self._truth, self._judge = subject.x_test, subject.y_test, judge
        self._parts = divided(subject)

    def by_contrast(self, counts: Sequence[int]) -> list[LabelWorth]:
        """Judge each label's network of so many units, chosen by contrast, nothing repaired."""
        found = []
        for label, count in enumerate(counts):
            called = np.zeros(len(self._truth), dtype=bool)
            for part in self._parts:
                plan = select(part.activity, label, score=contrast, keep=top(count))
                answers = self._judge.answers(units_of(plan))
                called[part.judged] = answers[part.judged] == label
            found.append(LabelWorth.of(called, self._truth == label))
        return found

    def best(self, counts: Sequence[int]) -> list[LabelWorth]:
        """Judge each label's best network of so many units: units chosen, last layer refitted."""
        found = []
        for label, count in enumerate(counts):
            called = np.zeros(len(self._truth), dtype=bool)
            for part in self._parts:
                plan = select(part.activity, label, score=part.alone, keep=top(count))
                called[part.judged] = self._answers(part, plan, label)[:, 0] >= 0.5
            found.append(LabelWorth.of(called, self._truth == label))
        return found

    def merged(self, count: int) -> float:
        """Return the accuracy of the best network of so many units for all labels."""
        called = np.zeros_like(self._truth)
        for part in self._parts:
            plan = select(part.activity, "all", score=part.together, keep=top(count))
            called[part.judged] = self._answers(part, plan, None).argmax(axis=1)
        return float(np.mean(called == self._truth))

    def _answers(self, part: Part, plan: Plan, label: int | None) -> Float:
        # Fits of a few hundred numbers: threads would wait for each other longer than they work.
        with one_thread():
            return np.asarray(part.repaired(plan, label=label)(self._x[part.judged]))


def divided(subject: Subject, *, seed: int = 0) -> list[Part]:
    """Divide samples into those to make networks from and those to judge them on.

    Args:
        subject: The network and its data.
        seed: Which samples go where.
    """
    random = np.random.default_rng(seed)
    model, x, y = subject.model, subject.x, subject.y
    if not subject.judged_on_the_same:
        chosen = np.sort(random.permutation(len(y))[:_MOST])
        return [Part(model, x[chosen], y[chosen], np.arange(len(subject.y_test)))]
    part = np.zeros(len(y), dtype=np.int64)
    for label in subject.labels:
        own = random.permutation(np.flatnonzero(y == label))
        part[own] = np.arange(len(own)) % PARTS
    return [
        Part(model, x[part != i], y[part != i], np.flatnonzero(part == i)) for i in range(PARTS)
    ]
