"""Make subnetworks of any size from one observation, and say what each costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

import tflite_export
from keras_nns.errors import DataError, ModelError, SelectionError, SurgeryError
from keras_nns.graph import costs
from keras_nns.graph.budgets import Budget
from keras_nns.graph.estimates import Estimates
from keras_nns.graph.tracing import trace
from keras_nns.judgement.comparison import Comparison, compare
from keras_nns.observation.holdout import Division
from keras_nns.observation.streaming import observe
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.head_fit import calibrate_head, with_plain_head
from keras_nns.repairing.least_squares import least_squares
from keras_nns.repairing.patient import Step, record_of
from keras_nns.repairing.steps import Repair, repair
from keras_nns.selection.activations import Score, contrast, name_of
from keras_nns.selection.choosing import Label, checked_scores, label_numbers
from keras_nns.selection.greedy import forward_selection
from keras_nns.selection.ranking import Balance, Ranking
from keras_nns.selection.reconstruction import reconstruction
from keras_nns.surgery.copying import copied
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.heads import answer_of, answers_labels_alone
from keras_nns.surgery.lineage import Head
from keras_nns.training.distillation import distill
from keras_nns.training.trained import Trained

_SECONDS = 0.3
"""How long a latency is measured."""


@dataclass(frozen=True, eq=False)
class Made:
    """A subnetwork and what it is worth.

    Attributes:
        model: The subnetwork.
        plan: Which units it holds.
        comparison: It beside the parent, on the samples held out.
        repaired: What repair gained.
        trained: What distillation gained.
    """

    model: keras.Model
    plan: Plan
    comparison: Comparison
    repaired: Repair | None = None
    trained: Trained | None = None

    @property
    def worth(self) -> float:
        """Mean balanced accuracy over the labels."""
        return self.comparison.after.mean_balanced_accuracy

    @property
    def drop(self) -> float:
        """How far it is below the parent: the larger of the drops in it and in AUC."""
        return self.comparison.drop


def _usual_head(labels: int, known: int, kind: str) -> Head:
    if labels == known:
        return "parent"
    if labels == 1:
        return "binary"
    return "labels" if kind == "sigmoid" and known > 2 else "other"


class Maker:
    """One observation of a model, from which subnetworks of any size are made.

    Args: those of `extract`.

    Attributes:
        activity: What was observed.
        exports: How many `.tflite` files were made so far.
        seconds: How long it took so far to `"observe"`, to `"score"`, to `"export"` and measure
            files, to `"repair"` and train, and to `"judge"`.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Any,
        y: Any = None,
        *,
        labels: Label | Sequence[Label],
        head: Head | None = None,
        score: Score | None = None,
        balance: Balance | None = None,
        repair: bool | Step | Sequence[Step] = True,
        distill_epochs: int = 0,
        held_out: float = 0.2,
        seed: int = 0,
        batch_size: int = 256,
        label_names: Sequence[Any] | None = None,
        output: str | None = None,
    ) -> None:
        self.model = model
        self.exports = 0
        self.seconds = dict.fromkeys(("observe", "score", "export", "repair", "judge"), 0.0)
        self._data = (data, y)
        self._epochs = distill_epochs
        self._division = Division(
            data,
            y,
            model=model,
            held_out=held_out,
            seed=seed,
            batch_size=batch_size,
            label_names=label_names,
        )
        if not self._division.labelled:
            raise DataError("extract needs labels: pass (x, y), or y beside x.")
        if not held_out:
            raise DataError("extract judges on samples held out. Pass held_out above 0.")
        self._sharing: dict[str, Any] = {
            "held_out": held_out,
            "seed": seed,
            "label_names": label_names,
        }
        self._batch_size = batch_size
        names = self._division.label_names
        with self._clock("observe"):
            self.activity = observe(model, self._fit, label_names=names, verbose=False)
        numbers = tuple(label_numbers(self.activity, labels))
        self.graph = trace(model)
        kind = self.graph.output(output).kind
        self.head: Head = _usual_head(len(numbers), len(names), kind) if head is None else head
        self._output = output
        self._asked = self._division
        self._alone = answers_labels_alone(self.head, kind)
        if self._alone:
            self._asked = self._division.of_labels(numbers)
        self._numbers = numbers
        with self._clock("score"):
            chosen = self._usual_score() if score is None else score
            self._scores = checked_scores(self.activity, chosen, list(numbers))
        name = name_of(chosen)
        usual: Balance = "cost" if name == reconstruction.__name__ else "share"
        self._scored = name, usual if balance is None else balance
        self._rankings: dict[str, Ranking] = {}
        plan = self._ranked("macs").everything
        self._answer = answer_of(self.graph, plan, self.head, output)
        self._estimates = Estimates(self.graph)
        self._steps: list[Step] = []
        self._steps = self._chosen_steps(repair)

    # Units ------------------------------------------------------------------------------------

    def ranking(self, unit: str) -> Ranking:
        """Return which units join first, for a budget in some unit."""
        # What memory and time grow with can be set against units; they themselves jump.
        counted = {"drop": "parameters", "activation_memory": "macs", "latency_ms": "macs"}
        return self._ranked(counted.get(unit, unit))

    def _ranked(self, unit: str) -> Ranking:
        if unit not in self._rankings:
            name, balance = self._scored
            self._rankings[unit] = Ranking(
                self.activity,
                self._scores,
                self._numbers,
                name=name,
                balance=balance,
                cost=lambda plan: self.estimate(unit, plan),
            )
        return self._rankings[unit]

    # Costs --------------------------------------------------------------------------------------

    def estimate(self, unit: str, plan: Plan) -> float:
        """Return about what a plan costs, without building it."""
        keep = self.graph.keep(plan, outputs=self._answer.narrowed)
        return self._estimates.of(unit, keep)

    def cost(self, budget: Budget, model: keras.Model) -> float:
        """Return what a model costs, in a budget's unit."""
        if budget.unit == "parameters":
            return float(costs.parameters(model))
        if budget.unit == "macs":
            return float(costs.count_macs(model))
        self.exports += 1
        with self._clock("export"):
            return self._measured(budget, tflite_export.convert(model), model.name)

    def _measured(self, budget: Budget, flat: bytes, name: str) -> float:
        if budget.unit == "bytes":
            return float(len(flat))
        if budget.unit == "activation_memory":
            alive = tflite_export.anatomy(flat).activation_bytes
            if alive is None:
                raise SelectionError(
                    f"The memory of {name!r} is not known beforehand: its .tflite leaves shapes "
                    "open, or has loops. Use another unit."
                )
            return float(alive)
        return self._timed(flat)

    def _timed(self, flat: bytes) -> float:
        """Return the median milliseconds of one sample on one thread of this machine."""
        return tflite_export.card(flat, seconds=_SECONDS).rows[0].latency[0].p50 / 1000

    # Making -------------------------------------------------------------------------------------

    def skeleton(self, plan: Plan) -> keras.Model:
        """Return a model of the shape that a plan will have in the end."""
        small = cut(self.model, plan, head=self.head, output=self._output)
        if not any(step.for_head for step in self._steps):
            return small
        # A copy: adding a layer to a Sequential leaves its layers called twice.
        return with_plain_head(copied(small), record_of(small, self.model))

    @property
    def mends(self) -> bool:
        """Whether networks are repaired or trained behind the cut."""
        return bool(self._steps) or self._epochs > 0

    def make(self, plan: Plan, *, bare: bool = False) -> Made:
        """Cut what a plan keeps, repair and train it, and judge it on the samples held out.

        Args:
            plan: Which units stay.
            bare: Leave the cut as it is.
        """
        repaired = trained = None
        with self._clock("repair"):
            small = cut(self.model, plan, head=self.head, output=self._output)
            if not bare:
                repaired, trained, small = self._mended(small)
        return Made(small, plan, self._judged(small), repaired, trained)

    def _mended(self, small: keras.Model) -> tuple[Repair | None, Trained | None, keras.Model]:
        """Repair and train a cut model, as asked."""
        repaired = self._repaired(small, self._steps) if self._steps else None
        small = small if repaired is None else repaired.model
        trained = self._trained(small) if self._epochs else None
        small = small if trained is None else trained.model
        for_head = [step for step in self._steps if step.for_head]
        if trained is not None and for_head:
            small = self._repaired(small, for_head).model
        return repaired, trained, small

    def _judged(self, small: keras.Model) -> Comparison:
        with self._clock("judge"):
            return compare(
                self.model,
                small,
                self._held_out,
                label_names=self._division.label_names,
                output=self._output,
                allow_overlap=True,
            )

    def _repaired(self, small: keras.Model, steps: Sequence[Step]) -> Repair:
        data, y = self._data
        return repair(
            small, self.model, data, y, steps=steps, batch_size=self._batch_size, **self._sharing
        )

    def _trained(self, small: keras.Model) -> Trained:
        data, y = self._data
        return distill(small, self.model, data, y, epochs=self._epochs, **self._sharing)

    @contextmanager
    def _clock(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start

    def _fit(self) -> Iterator[tuple[Any, ...]]:
        return (batch.as_data for batch in self._division.to_fit())

    def _asked_to_fit(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over what the head has an answer for."""
        return (batch.as_data for batch in self._asked.to_fit())

    def _held_out(self) -> Iterator[tuple[Any, ...]]:
        return (batch.as_data for batch in self._division.held_out())

    def _usual_score(self) -> Score:
        names = self._division.label_names
        try:
            return reconstruction(
                self.model,
                self._asked_to_fit,
                labels=list(self._numbers),
                alone=self._alone,
                output=self._output,
                batch_size=self._batch_size,
                label_names=names,
            )
        except (ModelError, SelectionError):
            pass
        try:
            return forward_selection(self.model, self._asked_to_fit, label_names=names)
        except SelectionError:
            return contrast

    def _chosen_steps(self, asked: bool | Step | Sequence[Step]) -> list[Step]:
        if asked is False:
            return []
        if asked is not True:
            return list(asked) if isinstance(asked, Sequence) else [asked]
        self._steps = [least_squares(), calibrate_head()]
        try:
            self.skeleton(self._ranked("macs").smallest)
        except SurgeryError:
            # No Dense of its own stands before the answer: what lies before it can be repaired.
            return self._steps[:1]
        return self._steps
