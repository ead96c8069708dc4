"""What came of an extraction: the network, what it costs and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import keras

from keras_nns import tables
from keras_nns.errors import FileError
from keras_nns.files.atomic import Json
from keras_nns.graph.budgets import Budget
from keras_nns.judgement.compared import Comparison
from keras_nns.observation.activity import Activity
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.steps import Repair
from keras_nns.shipping.forms import Shipped
from keras_nns.surgery.lineage import save_model
from keras_nns.training.outcome import Trained


@dataclass(frozen=True, eq=False, repr=False)
class Extraction(tables.Tabular):
    """A subnetwork made to a budget, and how it came about. Printing it gives a table.

    Attributes:
        model: The subnetwork, a new model.
        plan: Which of the parent's units it holds.
        budget: What it may cost.
        costs: What it costs, by the units of the budget.
        least_costs: What the smallest subnetwork that was looked at costs: of one unit in every
            layer, or without what networks can do without, where the budget is below that.
        comparison: It beside the parent, asked the same, on samples held out from all of it. Where
            `quantize` was given, these are the figures of the file, run in LiteRT.
        in_keras: The same of the network as Keras runs it.
        shipped: Its `.tflite` file, made when it is first asked for.
        repaired: What repair gained; None without repair.
        trained: What distillation gained; None without.
        activity: What was observed, in the one pass that all plans were made from.
        exports: How many `.tflite` files were made to measure plans.
        seconds: Where the time went: to `"observe"`, to `"score"`, to `"search"`, to `"export"` and
            measure files, to `"repair"` and train, and to `"judge"`.

    Example:
        >>> small = nns.extract(model, (x, y), labels=3, budget="parameters=700", repair=False)
        >>> small.costs["parameters"] <= 700
        True
        >>> small.comparison.after[3].auc
        0.9...
    """

    model: keras.Model
    plan: Plan
    budget: Budget
    costs: Mapping[str, float]
    least_costs: Mapping[str, float]
    comparison: Comparison
    in_keras: Comparison
    shipped: Shipped
    repaired: Repair | None
    trained: Trained | None
    activity: Activity
    exports: int
    seconds: Mapping[str, float]

    def to_table(self) -> tables.Table:
        """Return what it costs and what it is worth as a table."""
        table = self.comparison.to_table()
        return tables.Table(
            table.columns, table.rows, f"{self.summary}\n{table.caption}", table.prose
        )

    @property
    def cost(self) -> float:
        """What it costs, in the budget's unit; of several limits, its share of the tightest."""
        return self.budget.amount(self.costs)

    @property
    def least(self) -> float:
        """The same of the smallest subnetwork."""
        return self.budget.amount(self.least_costs)

    @property
    def flat(self) -> bytes:
        """The bytes of its `.tflite` file: the network, its labels and its record.

        In the variant that was asked for; float32 where none was.
        """
        return self.shipped.flat

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the network as `.keras`, or its file as `.tflite`: the suffix says which.

        A `.keras` file remembers what the network answers and where it was cut from
        (`load_model`).

        Args:
            path: Where to.
            overwrite: Whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            FileError: The path has another suffix, exists already, or cannot be written.
            tflite_export.VerificationError: The `.tflite` file does not answer as the network.
            tflite_export.ExportError: There is no such file, or it cannot be written.

        Example:
            >>> small = nns.extract(model, (x, y), labels=3, budget="parameters=700", repair=False)
            >>> small.save("three.tflite").name
            'three.tflite'
        """
        path = Path(path)
        if path.suffix == ".tflite":
            return self.shipped.save(path, overwrite=overwrite)
        if path.suffix != ".keras":
            raise FileError(f"save writes .keras or .tflite. Received: {str(path)!r}.")
        save_model(self.model, path, overwrite=overwrite)
        return path

    @property
    def summary(self) -> str:
        """What was asked and what came of it, in a sentence."""
        plan = self.plan
        shown = partial(self.budget.shown, variant=self.shipped.form.variant)
        units = sum(map(len, plan.kept.values()))
        without = f", none of {', '.join(map(repr, plan.empty))}" if plan.empty else ""
        whole = f", {', '.join(map(repr, plan.unknown))} whole" if plan.unknown else ""
        return (
            f"{shown(self.costs)}, of a budget of {shown(self.budget.limits, unit=False)} "
            f"(the smallest network: {shown(self.least_costs, unit=False)}): {units} of "
            f"{sum(plan.sizes.values())} units{without}{whole}."
        )

    def to_json(self) -> Json:
        """Return everything but the model and the activity as plain data."""
        return {
            "budget": {**self.budget.limits, "target": self.budget.target},
            "costs": dict(self.costs),
            "least_costs": dict(self.least_costs),
            "units": {name: len(units) for name, units in self.plan.kept.items()},
            "exports": self.exports,
            "seconds": dict(self.seconds),
            "quantize": self.shipped.form.quantize,
            "comparison": self.comparison.to_json(),
            "in_keras": self.in_keras.to_json(),
            "repaired": None if self.repaired is None else self.repaired.to_json(),
            "trained": None if self.trained is None else self.trained.to_json(),
        }
