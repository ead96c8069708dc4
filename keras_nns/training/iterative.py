"""Cut in steps: a little, repair, look again, and on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_nns.data.batches import as_batches
from keras_nns.errors import DataError, ModelError, SelectionError
from keras_nns.graph.tracing import trace
from keras_nns.observation.activity import DEFAULT_STATISTICS, Activity, Statistic
from keras_nns.observation.layer_sums import Float
from keras_nns.observation.streaming import observe
from keras_nns.plans.keep_rules import KeepRule, fraction
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.schedules import Schedule, agp, shares_of
from keras_nns.selection.activations import Score, Scores, contrast, name_of
from keras_nns.selection.choosing import Label, select
from keras_nns.selection.naming import as_score
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.lineage import Head, lineage, set_lineage

ScoreOf = Callable[[Any], Score]
"""Makes the score for a model that is by now smaller than it was, or has other weights."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A subnetwork on the way to a smaller one.

    Attributes:
        number: Which step it is, from 1.
        steps: How many there are.
        plan: Which units of the parent it has.
        model: The subnetwork, repaired; `lineage(model)` tells of the parent.

    Example:
        >>> first, last = nns.in_steps(model, (x, y), labels=3, share=0.25, steps=2)
        >>> print(last)
        step 2 of 2: 12 of 48 units
    """

    number: int
    steps: int
    plan: Plan
    model: keras.Model

    def __str__(self) -> str:
        kept = sum(map(len, self.plan.kept.values()))
        return (
            f"step {self.number} of {self.steps}: {kept} of {sum(self.plan.sizes.values())} units"
        )


def in_steps(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Iterable[Label] = "all",
    share: float,
    steps: int = 4,
    schedule: Schedule = agp,
    score: Score | str = contrast,
    score_of: ScoreOf | None = None,
    keep: Callable[[float], KeepRule] = fraction,
    repair: Callable[[Any], Any] | None = None,
    head: Head = "parent",
    output: str | None = None,
    min_units: int = 1,
    multiple_of: int = 1,
    statistics: Sequence[Statistic] = DEFAULT_STATISTICS,
    batch_size: int = 256,
    label_names: Sequence[str] | None = None,
) -> Iterator[Stage]:
    """Cut in steps: cut, repair, observe again.

    What a unit is worth changes as others leave and the rest is repaired, so each step scores the
    subnetwork as it is by then. Take the last stage, or stop at the first that is not good enough
    any more and keep the one before.

    Args:
        model: The parent, a built Sequential or functional `keras.Model`. It is not changed.
        data: What to observe, as `observe` takes it; it is gone over once for every step.
        y: Labels, where `data` holds inputs only.
        labels: A label's number or name, a list of them, or `"all"`.
        share: The share of the parent's units that stays in the end, in (0, 1]. For several labels
            with a rule that is not global it is each label's own share, as in `select`.
        steps: How many steps.
        schedule: How much is gone by when: `nns.schedules.agp`, `linear` or `cosine`.
        score: How much a label needs a unit, from activity alone.
        score_of: In place of `score`, makes one for the subnetwork as it is by then, such as
            `lambda small: nns.scores.taylor(nns.observe_gradients(small, data))`.
        keep: Makes the keep rule from the share of the parent's units that is to stay, such as
            `functools.partial(nns.fraction, scope="global", normalise="mean")`.
        repair: From a subnetwork to a repaired one, such as
            `lambda small: nns.repair(small, model, data).model`. It has the parent's head in every
            step but the last.
        head: As in `cut`, for the last step.
        output: As in `cut`.
        min_units: As in `select`.
        multiple_of: As in `select`.
        statistics: As in `observe`.
        batch_size: As in `observe`.
        label_names: As in `observe`.

    Yields:
        One stage for each step.

    Raises:
        SelectionError: A share, number of steps, schedule, score or label that makes no sense.
        DataError: The data does not fit, or can be gone over once only.
        ModelError: `repair` gives no model.

    Example:
        >>> mended = lambda small: nns.repair(small, model, (x, y)).model
        >>> for stage in nns.in_steps(model, (x, y), labels=3, share=0.25, steps=2, repair=mended):
        ...     print(stage)
        step 1 of 2: 17 of 48 units
        step 2 of 2: 12 of 48 units
        >>> small = stage.model
    """
    if isinstance(labels, str) and labels == "each":
        raise SelectionError(
            "in_steps makes one subnetwork. Call it once for each label, with labels=label."
        )
    shares, scored = shares_of(schedule, steps, share), as_score(score, model)
    batches = as_batches(data, y, model=model, batch_size=batch_size, label_names=label_names)
    if not batches.repeatable and steps > 1:
        raise DataError(
            "in_steps goes over the data once for every step, and an iterator can be read once. "
            "Pass arrays, a tf.data.Dataset, or a function that returns a new iterator."
        )
    watching: dict[str, Any] = {
        "statistics": statistics,
        "batch_size": batch_size,
        "label_names": label_names,
    }
    way = _Way(
        watch=lambda small: observe(small, data, y, verbose=False, **watching),
        score_of=lambda small: scored if score_of is None else score_of(small),
        choose=lambda part, activity, own: select(
            activity,
            labels,
            score=own,
            keep=keep(part),
            min_units=min_units,
            multiple_of=multiple_of,
        ),
        cut=lambda small, plan, last: cut(
            small, plan, head=head if last else "parent", output=output
        ),
        repair=repair,
    )
    return way.stages(model, shares)


@dataclass(frozen=True)
class _Way:
    """What is done in every step."""

    watch: Callable[[Any], Activity]
    score_of: ScoreOf
    choose: Callable[[float, Activity, Score], Plan]
    cut: Callable[[Any, Plan, bool], Any]
    repair: Callable[[Any], Any] | None

    def stages(self, parent: Any, shares: Sequence[float]) -> Iterator[Stage]:
        model, plan = parent, None
        first = self.watch(parent)
        for number, part in enumerate(shares, start=1):
            activity = first if number == 1 else self.watch(model)
            again = partial(self.choose, part)
            plan = narrowed(first, plan, activity, self.score_of(model), again)
            model = self._repaired(self._cut(model, plan, number == len(shares)))
            yield Stage(number, len(shares), plan, model)

    def _cut(self, model: Any, plan: Plan, last: bool) -> Any:
        small = self.cut(model, _as_of(plan, model), last)
        record = lineage(small)
        assert record is not None
        # Of the parent, not of the stage before: that is gone.
        set_lineage(small, replace(record, plan=plan))
        return small

    def _repaired(self, small: Any) -> Any:
        if self.repair is None:
            return small
        repaired, record = self.repair(small), lineage(small)
        if not isinstance(repaired, keras.Model):
            raise ModelError(
                f"`repair` must return the repaired model. Received: {type(repaired).__name__}."
            )
        if lineage(repaired) is None and record is not None:
            set_lineage(repaired, record)
        return repaired


def narrowed(
    first: Activity,
    before: Plan | None,
    activity: Activity,
    score: Score,
    choose: Callable[[Activity, Score], Plan],
) -> Plan:
    """Choose again among the units that are left.

    Args:
        first: Activity of the parent.
        before: What is left of it; None for all.
        activity: Activity of what is left, of its units alone or of all with those that are gone.
        score: How much a label needs a unit of what is left.
        choose: From the parent's activity and a score to a plan of the parent.

    Returns:
        A plan of the parent that keeps nothing that was gone.
    """
    if before is None:
        return choose(first, score)

    def of_parent(_: Activity) -> Scores:
        return {
            name: _spread(values, before.kept[name], before.sizes[name])
            for name, values in score(activity).items()
            if name in before.kept
        }

    of_parent.__name__ = name_of(score)
    return choose(first, of_parent) & before


def _spread(values: Float, kept: Sequence[int], size: int) -> Float:
    """Move scores of the units that are left to their parent's numbers, the others below all."""
    units = list(kept)
    own = values if values.shape[1] == len(units) else values[:, units]
    known = own[np.isfinite(own)]
    lowest = min(0.0, float(known.min(initial=0.0))) - 1.0
    found = np.full((len(values), size), lowest)
    found[:, units] = own
    return found


def _as_of(plan: Plan, model: Any) -> Plan:
    """Turn a plan of the parent into one of the subnetwork that is left of it."""
    graph = trace(model)
    record = lineage(model)
    if record is None or record.plan.fingerprint != plan.fingerprint:
        return plan
    found = plan.relative_to(record.plan, graph.fingerprint)
    # Where only protected units are left, nothing can be removed any more.
    names = [group.name for group in graph.layout.prunable]
    return replace(
        found,
        sizes={name: found.sizes[name] for name in names},
        kept={name: found.kept[name] for name in names},
    )
