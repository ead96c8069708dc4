"""Figures of a subnetwork beside its parent's, and beside other models'."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras_nns import tables
from keras_nns.files.atomic import Json
from keras_nns.graph.costs import Costs
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.question import listed
from keras_nns.judgement.rows import plain

_BESIDE = 5
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


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(tables.Tabular):
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

    Example:
        >>> told = nns.compare(model, three, x_test, y_test)
        >>> print(told.to_costs_table())
                                      parent   subnetwork    share
         ─────────────────────────────────────────────────────────
         parameters                    2,778        1,277   46.0 %
         multiply-adds                 2,720        1,242   45.7 %
         bytes of weights (float32)   11,112        5,108   46.0 %
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
        """How far the subnetwork is below the parent, by name of the figure (`Evaluation.worths`).

        For labels these are `"balanced accuracy"`, which depends on where each decides, and
        `"AUC"`, which does not. NaN where a figure is undefined.
        """
        after = self.after.worths
        return {name: worth - after[name] for name, worth in self.before.worths.items()}

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
        shown, columns = self.before.shown, self.before.columns[:_BESIDE]
        rows = tuple(
            (
                old.name,
                tables.count(old.samples),
                *(f"{shown(get(old))} → {shown(get(new))}" for _, _, get in columns),
            )
            for old, new in zip(self.before.reported, self.after.reported, strict=True)
        )
        headings = self.before.headings[: 2 + _BESIDE]
        return tables.Table(headings, rows, self._caption(("Before", "After")))

    def _long_table(self) -> tables.Table:
        named = [("parent", self.before), ("subnetwork", self.after)]
        named += [(one.name, one.figures) for one in self.beside]
        rows: list[tuple[str, ...]] = []
        for place, row in enumerate(self.before.reported):
            for name, evaluation in named:
                first, *rest = evaluation.lines(evaluation.reported[place])
                label = row.name if evaluation is self.before else ""
                rows.append((label, name, *first[1:]))
                rows += [("", *line) for line in rest]
        heading, *others = self.before.headings
        columns = (heading, "model", *others)
        return tables.Table(columns, tuple(rows), self._caption(("Parent", "Subnetwork")), (0, 1))

    def _caption(self, titles: tuple[str, str]) -> str:
        lines = [f"{titles[0]}: {self.before.caption}", f"{titles[1]}: {self.after.caption}"]
        lines += [f"{one.name}: {one.figures.caption}" for one in self.beside]
        if self.parent is not self.before:
            lines.append(f"The parent about all its labels: {self.parent.caption}")
        drops = ", ".join(f"{name} {tables.share(drop)}" for name, drop in self.drops.items())
        larger = "the larger of " if len(self.drops) > 1 else ""
        lines.append(f"Drop: {tables.share(self.drop)} ({larger}{drops}).")
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

    def to_frame(self) -> Any:
        """Return the figures as a `pandas.DataFrame`, a row for each label and model.

        As `Table.to_frame` does, without intervals.
        """
        named = [("parent", self.before), ("subnetwork", self.after)]
        named += [(one.name, one.figures) for one in self.beside]
        heading, *others = self.before.headings
        rows = [
            (told.name, name, *evaluation.lines(told)[0][1:])
            for name, evaluation in named
            for told in evaluation.reported
        ]
        columns = (heading, "model", *others)
        return tables.Table(columns, tuple(rows), prose=(0, 1)).to_frame()

    def _shown(self) -> list[tables.Table]:
        unseen = [self.after.to_unseen_table()] if self.after.unseen else []
        return [self.to_table(), self.to_costs_table(), *unseen]
