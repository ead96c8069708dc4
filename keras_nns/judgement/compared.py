"""A subnetwork beside its parent: what a comparison found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from keras_nns import tables
from keras_nns.files.atomic import Json
from keras_nns.graph.costs import Costs
from keras_nns.judgement.figures import FIGURES, Evaluation, plain
from keras_nns.judgement.question import listed

_BESIDE = FIGURES[:5]
_COSTS: tuple[tuple[str, Callable[[Costs], int | None]], ...] = (
    ("parameters", lambda cost: cost.parameters),
    ("multiply-adds", lambda cost: cost.macs),
    ("bytes of weights (float32)", lambda cost: cost.weight_bytes),
    ("bytes of .tflite", lambda cost: cost.tflite_bytes),
)


@dataclass(frozen=True, eq=False)
class Beside:
    """Another model that answers the same question, and what it costs.

    Attributes:
        name: What it is called.
        figures: How it answers.
        costs: What it costs.
    """

    name: str
    figures: Evaluation
    costs: Costs


@dataclass(frozen=True, eq=False)
class Comparison:
    """A subnetwork beside its parent, on the same data. Printing it gives tables.

    Attributes:
        before: The parent, asked what the subnetwork is asked.
        after: The subnetwork.
        parent: The parent, asked about all its labels; `before` itself where that is what the
            subnetwork answers too.
        parent_costs: What the parent costs.
        costs: What the subnetwork costs.
        beside: Further models that answer the same.
        unequal: Which models' decisions were set for balanced accuracy while the parent's were
            not, so that balanced accuracies flatter them; their AUC does not.
    """

    before: Evaluation
    after: Evaluation
    parent: Evaluation
    parent_costs: Costs
    costs: Costs
    beside: tuple[Beside, ...] = ()
    unequal: tuple[str, ...] = ()

    @property
    def drops(self) -> dict[str, float]:
        """How far the subnetwork is below the parent, in means over the labels reported.

        By name of the figure: `"balanced accuracy"`, which depends on where each decides, and
        `"AUC"`, which does not. NaN where a figure is undefined.
        """
        return {
            "balanced accuracy": self.before.mean_balanced_accuracy
            - self.after.mean_balanced_accuracy,
            "AUC": self.before.mean_auc - self.after.mean_auc,
        }

    @property
    def drop(self) -> float:
        """The larger of the drops; NaN where none is defined."""
        known = [drop for drop in self.drops.values() if not math.isnan(drop)]
        return max(known, default=math.nan)

    def to_table(self, *, brief: bool = False) -> tables.Table:
        """Return the figures of each label as a table.

        Before and after the cut in one cell; with intervals or further models, a line for each.

        Args:
            brief: Leave intervals and further models out.
        """
        if not brief and (self.beside or self.after.confidence is not None):
            return self._long_table()
        rows = tuple(
            (
                old.name,
                tables.count(old.samples),
                *(f"{tables.share(get(old))} → {tables.share(get(new))}" for _, _, get in _BESIDE),
            )
            for old, new in zip(self.before.rows, self.after.rows, strict=True)
        )
        columns = ("label", "samples", *(name for name, _, _ in _BESIDE))
        return tables.Table(columns, rows, self._caption(("Before", "After")))

    def _long_table(self) -> tables.Table:
        named = [("parent", self.before), ("subnetwork", self.after)]
        named += [(one.name, one.figures) for one in self.beside]
        rows: list[tuple[str, ...]] = []
        for place, row in enumerate(self.before.rows):
            for name, evaluation in named:
                first, *rest = evaluation.lines(evaluation.rows[place])
                label = row.name if evaluation is self.before else ""
                rows.append((label, name, *first[1:]))
                rows += [("", *line) for line in rest]
        columns = ("label", "model", "samples", *(heading for heading, _, _ in FIGURES))
        return tables.Table(columns, tuple(rows), self._caption(("Parent", "Subnetwork")), (0, 1))

    def _caption(self, titles: tuple[str, str]) -> str:
        lines = [f"{titles[0]}: {self.before.caption}", f"{titles[1]}: {self.after.caption}"]
        lines += [f"{one.name}: {one.figures.caption}" for one in self.beside]
        if self.parent is not self.before:
            lines.append(f"The parent about all its labels: {self.parent.caption}")
        drops = ", ".join(f"{name} {tables.share(drop)}" for name, drop in self.drops.items())
        lines.append(f"Drop: {tables.share(self.drop)} (the larger of {drops}).")
        if self.unequal:
            lines.append(
                f"Decisions of {listed(self.unequal)} were set for balanced accuracy and the "
                "parent's were not: compare AUC, or pass calibrate= to set all on the same samples."
            )
        return "\n".join(lines)

    def to_costs_table(self) -> tables.Table:
        """Return what the models cost as a table, and what share of the parent's that is."""
        named = [("subnetwork", self.costs), *((one.name, one.costs) for one in self.beside)]
        rows = []
        for name, get in _COSTS:
            old, new = get(self.parent_costs), [get(cost) for _, cost in named]
            if old is None and all(one is None for one in new):
                continue
            cells = [cell for one in new for cell in (tables.count(one), tables.ratio(one, old))]
            rows.append((name, tables.count(old), *cells))
        every = (self.parent_costs, *(cost for _, cost in named))
        unknown = dict.fromkeys(layer for cost in every for layer in cost.macs_unknown)
        caption = f"Multiply-adds leave out {', '.join(unknown)}." if unknown else ""
        columns = ("", "parent", *(cell for name, _ in named for cell in (name, "share")))
        return tables.Table(columns, tuple(rows), caption)

    def to_markdown(self) -> str:
        """Return the tables and their captions as Markdown."""
        parts = []
        for table in (self.to_table(), self.to_costs_table()):
            parts.append(table.to_markdown())
            parts += [tables.escape(line) for line in table.caption.splitlines()]
        return "\n\n".join(parts) + "\n"

    def to_json(self) -> Json:
        """Return the comparison as plain data, None where a figure is undefined."""
        found: Json = {
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "parent": self.parent.to_json(),
            "costs": {
                "parent": self.parent_costs.to_json(),
                "subnetwork": self.costs.to_json(),
            },
        }
        found["drop"] = {name: plain(drop) for name, drop in self.drops.items()}
        found["unequal"] = list(self.unequal)
        if self.beside:
            found["beside"] = {
                one.name: {"figures": one.figures.to_json(), "costs": one.costs.to_json()}
                for one in self.beside
            }
        return found

    def __str__(self) -> str:
        parts = [self.to_table(), self.to_costs_table()]
        if self.after.unseen:
            parts.append(self.after.to_unseen_table())
        return "\n\n".join(map(str, parts))
