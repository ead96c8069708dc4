"""What `extract` returns of a language model: the network, its figures, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import keras

from keras_nns import tables
from keras_nns.errors import FileError
from keras_nns.files.atomic import Json
from keras_nns.graph.budgets import Budget
from keras_nns.judgement.perplexity import Perplexity
from keras_nns.observation.activity import Activity
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.steps import Repair
from keras_nns.surgery.lineage import save_model
from keras_nns.training.next_tokens import Distilled


@dataclass(frozen=True, eq=False, repr=False)
class LanguageExtraction(tables.Tabular):
    """A smaller language model made to a budget, and how it came about. Printing it gives a table.

    Attributes:
        model: The network, a new model; of the parent's class where that can say what is left.
        plan: Which of the parent's units it holds.
        budget: What it may cost.
        costs: What it costs: `"parameters"`, `"without_embeddings"`, and `"bytes"` of weights in
            float32.
        figures: Its perplexity beside the parent's for each kind of text, on texts held out from
            all of it.
        repaired: What repair gained; None without repair.
        trained: What distillation came to; None without.
        activity: What was observed.
        windows: How many windows of texts were read, and of how many: `"calibrated"` of the kinds
            it is for, to observe, score and refit on; `"judged"` of all kinds, held out.
        seconds: Where the time went: to `"observe"`, `"score"`, `"cut"`, `"repair"`, `"distill"`
            and `"judge"`.

    Example:
        >>> small = nns.extract(writer, (texts, kinds), labels="code", budget=0.8,
        ...                     label_names=("code", "prose"))
        >>> small.costs["parameters"] < writer.count_params()
        True
        >>> small.figures["subnetwork", "code"].perplexity < 40  # tokens
        True
    """

    model: keras.Model
    plan: Plan
    budget: Budget
    costs: Mapping[str, float]
    figures: Perplexity
    repaired: Repair | None
    trained: Distilled | None
    activity: Activity
    windows: Mapping[str, tuple[int, int]]
    seconds: Mapping[str, float]

    def to_table(self) -> tables.Table:
        """Return what it costs and what it is worth as a table."""
        table = self.figures.to_table()
        return tables.Table(
            table.columns, table.rows, f"{self.summary}\n{table.caption}", table.prose
        )

    @property
    def summary(self) -> str:
        """What was asked and what came of it, in a sentence."""
        names = ", ".join(self.plan.label_names[number] for number in self.plan.labels)
        units = sum(map(len, self.plan.kept.values()))
        taught = ""
        if self.trained is not None:
            taught = f" Distilled for {self.trained.steps:,} steps, {self.trained.tokens:,} tokens."
        for what, (read, whole) in self.windows.items():
            if read < whole:
                taught += f" {what.capitalize()} on {read:,} of {whole:,} windows of texts."
        return (
            f"A {type(self.model).__name__} for {names}: {self.costs['parameters']:,.0f} "
            f"parameters, {self.costs['without_embeddings']:,.0f} without embeddings, of a budget "
            f"of {self.budget}; {units:,} of {sum(self.plan.sizes.values()):,} units.{taught}"
        )

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the network as `.keras`, which remembers where it was cut from.

        Args:
            path: Where to.
            overwrite: Whether an existing file may be replaced.

        Raises:
            FileError: The path has another suffix, exists already, or cannot be written.
        """
        path = Path(path)
        if path.suffix != ".keras":
            raise FileError(
                f"A language model is saved as .keras. Received: {str(path)!r}. For a .tflite of "
                "its forward pass: tflite_export.convert, for texts of one length."
            )
        save_model(self.model, path, overwrite=overwrite)
        return path

    def to_json(self) -> Json:
        """Return everything but the model and the activity as plain data."""
        return {
            "budget": self.budget.limits,
            "costs": dict(self.costs),
            "windows": {what: list(counts) for what, counts in self.windows.items()},
            "units": {name: len(units) for name, units in self.plan.kept.items()},
            "seconds": dict(self.seconds),
            "figures": self.figures.to_json(),
            "repaired": None if self.repaired is None else self.repaired.to_json(),
            "trained": None if self.trained is None else self.trained.to_json(),
        }
