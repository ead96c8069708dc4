"""Extract: observe, select to a budget, cut, repair, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_nns import tables
from keras_nns.errors import FileError
from keras_nns.extraction.clocks import Clock
from keras_nns.extraction.meters import Meter, warn_of_cpu
from keras_nns.extraction.networks import Judged, judge_network, make_network
from keras_nns.extraction.observed import (
    form_of,
    observe_parent,
    open_division,
    rank_units,
    score_units,
    warn_of_guesses,
    warn_of_refusals,
)
from keras_nns.extraction.sizes import (
    expected,
    largest_within,
    smallest_needed,
    smallest_within,
)
from keras_nns.extraction.tasks import Recipe, set_task, write_recipe
from keras_nns.extraction.unfinished import Keeper, left_behind
from keras_nns.files.atomic import Json
from keras_nns.graph.budgets import Budget, as_budget
from keras_nns.judgement.compared import Comparison
from keras_nns.observation.activity import Activity
from keras_nns.plans.kept_units import Plan
from keras_nns.progress import Verbose, job
from keras_nns.repairing.patient import Step
from keras_nns.repairing.prepared import MEMORY
from keras_nns.repairing.steps import Repair
from keras_nns.selection.activations import Score
from keras_nns.selection.choosing import Label
from keras_nns.selection.ranking import Balance, check_balance
from keras_nns.shipping.forms import Quantization, Shipped
from keras_nns.surgery.lineage import Head, save_model
from keras_nns.training.trained import Trained


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


def extract(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label] = "all",
    budget: Budget | str,
    quantize: str | Quantization | None = None,
    head: Head | None = None,
    score: Score | str | None = None,
    balance: Balance | None = None,
    repair: bool | Step | Sequence[Step] = True,
    distill_epochs: int = 0,
    held_out: float = 0.2,
    seed: int = 0,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    output: str | None = None,
    memory: int = MEMORY,
    verbose: Verbose = "auto",
) -> Extraction:
    """Make the subnetwork for some labels that a budget allows: observe, select, cut, repair.

    The model is observed once. Which units stay is searched over the scores of that one pass, by
    what networks cost; files are exported only to measure bytes and memory. For a budget of size or
    time the answer is the largest network that fits, within what one unit costs and never over; for
    a `drop`, the smallest that was found to lose no more.

    Args:
        model: The parent. It is not changed.
        data: Training or validation data with labels or other targets, as `keras_nns.observe`
            takes it, which can be gone over several times. Never the data to judge by in the end.
        y: Labels, where `data` is inputs alone.
        labels: A label's number or name, several, or `"all"`. Targets that are numbers have none to
            choose from.
        budget: What the network may cost, such as `Budget(bytes=60_000)`, or in words `"60kB"`,
            `"parameters=20k"`, `"drop=0.01"`.
        quantize: The variant of `.tflite` that ships, a key of `tflite_export.VARIANTS`, or a
            recipe. Budgets of bytes, memory and time count that file; ranges are measured on
            samples that nothing judges; and the figures are those of the file. None: bytes count
            a float32 file, and the figures are those of the network in Keras.
        head: What it answers, as in `cut`. None: `"binary"` for one label; `"other"` for several;
            `"parent"` for all, and where the model answers no labels; `"labels"` where each label
            has its own probability.
        score: How much a label needs a unit. None: `reconstruction`; where that cannot be
            had or would take too much memory, `forward_selection` or `contrast`. Or the name of a
            score of activity or weights.
        balance: How layers are compared: `"share"` keeps the same share of every layer; `"zeta"`
            compares scores in shares of the layer's highest, the paper's rule at some ζ; `"cost"`
            keeps the units of highest score for what they cost in the budget's unit, for scores
            that can be compared between layers. None: `"cost"` for `reconstruction`, `"share"`
            for others.
        repair: Whether to repair it: least squares, then the head. Or the steps, as in `repair`.
        distill_epochs: For how many epochs to distil it from the parent behind that; the head is
            set once more afterwards.
        held_out: Share of the samples that nothing looks at but the figures, and the choice itself
            for a `drop`.
        seed: Which samples those are, and their order in training.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label of the parent, in the order of its outputs.
        output: Name of the output that answers the labels, where the parent has several.
        memory: How many bytes of activations may be kept at a time, beside the model's own forward
            pass. With less, layers are reached from the input again: the same answer, later.
        verbose: Whether to show what is done and about how long it will take: `"auto"` a bar on a
            terminal; True plain lines elsewhere too, for a log; False nothing.

    Returns:
        The subnetwork as `.model`, with what it costs, what is the least there can be, and its
        figures on the samples held out beside the parent's. Printing it gives a table.

    Raises:
        SelectionError: The budget has no unit or is below one unit in every layer; the message says
            what is the least. Or a label, a score or the head makes no sense.
        DataError: The data does not fit, has no labels, or has too few samples for the repair; the
            message says how many it takes.
        SurgeryError: The model cannot be cut or repaired in this way.
        tflite_export.ExportError: There is no such variant, or no such file of the network.
        KeyboardInterrupt: It was cut off. Where a network had been cut by then, that is its
            `.found`: it can be saved, and says what it lacks.

    Warns:
        UserWarning: The file that was asked for does not answer as its network.

    Example:
        >>> small = nns.extract(model, (x, y), labels=[3, 8], budget="parameters=1500")
        >>> small.model.count_params() <= 1500
        True
        >>> path = small.save("small.keras")

        From a folder of photos to a file for a device:

        >>> pets = nns.extract(
        ...     resnet, "photos", labels=["cat", "dog"], budget="parameters=500", quantize="int8"
        ... )
        >>> path = pets.save("pets.tflite")
    """
    budget = as_budget(budget)
    if balance is not None:
        check_balance(balance)
    keeper = Keeper(budget.drop)
    with job(verbose) as shown, left_behind(keeper.found):
        division = open_division(
            model,
            data,
            y,
            held_out=held_out,
            seed=seed,
            batch_size=batch_size,
            label_names=label_names,
            output=output,
        )
        task = set_task(
            model,
            labels,
            label_names=division.label_names,
            head=head,
            output=output,
            asked=division.asked,
        )
        recipe = write_recipe(task, repair, distill_epochs)
        clock = Clock(shown, **expected(budget, quantize))
        meter = Meter(task, recipe, clock, form_of(task, division, quantize))
        smallest, least = task.one_of_each(), dict[str, float]()
        if budget.drop is None:
            # Before the data are gone over, which may take long.
            smallest, least = smallest_needed(meter, budget, task)
            meter.gauge(budget, smallest, least)
        with clock("observe"):
            parent = observe_parent(task, division, batch_size=batch_size, memory=memory)
        with clock("score"):
            scored = score_units(parent, task, score, balance)
        ranking = rank_units(
            parent,
            task,
            scored,
            meter.weighed(budget),
            stepped=meter.stepped(budget),
            without=smallest.empty,
        )

        def make(plan: Plan, recipe: Recipe = recipe) -> Judged:
            with clock("repair"):
                network = make_network(parent, task, recipe, plan, made=keeper.made)
            with clock("judge"):
                judged = judge_network(parent, task, network, meter.shipped(network.model))
            keeper.judged(judged)
            return judged

        with clock("search"):
            if budget.drop is not None:
                bare = None if recipe.nothing else partial(make, recipe=Recipe())
                found, lost, most = smallest_within(meter, ranking, budget, make, bare)
                costs, least = {"drop": lost}, {"drop": most}
            else:
                found, costs = largest_within(meter, ranking, budget, make, least=least)
        warn_of_guesses(parent, scored, ranking, [found.network.plan])
        with clock("judge"):
            warn_of_refusals([found.shipped])
            warn_of_cpu(budget, found.shipped)
    return Extraction(
        model=found.network.model,
        plan=found.network.plan,
        budget=budget,
        costs=costs,
        least_costs=least,
        comparison=found.comparison,
        in_keras=found.in_keras,
        shipped=found.shipped,
        repaired=found.network.repaired,
        trained=found.network.trained,
        activity=parent.activity,
        exports=clock.times["export"],
        seconds=clock.seconds,
    )
