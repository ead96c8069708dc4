"""Sweep: the whole trade-off between what subnetworks cost and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_nns.data.texts import are_kinds
from keras_nns.errors import SelectionError
from keras_nns.extraction.clocks import Clock
from keras_nns.extraction.emptied import EmptyBranches, Order, check_branches, order_units
from keras_nns.extraction.language import LanguageOptions, refuse_of_labels
from keras_nns.extraction.language_sweep import sweep_language
from keras_nns.extraction.meters import Meter
from keras_nns.extraction.networks import (
    Judged,
    Network,
    fitted_worth,
    judge_network,
    make_network,
)
from keras_nns.extraction.observed import (
    form_of,
    observe_parent,
    open_division,
    score_units,
    warn_of_guesses,
    warn_of_refusals,
)
from keras_nns.extraction.sizes import either
from keras_nns.extraction.swept import UNITS, Point, Sweep, Unit, size_of
from keras_nns.extraction.tasks import Task, set_task, write_recipe
from keras_nns.extraction.unfinished import left_behind
from keras_nns.graph import costs
from keras_nns.graph.budgets import Budget
from keras_nns.graph.costs import Costs, usual_batch_size
from keras_nns.observation.next_token import foretells
from keras_nns.plans.kept_units import Plan
from keras_nns.progress import Verbose, job
from keras_nns.repairing.patient import Step
from keras_nns.repairing.prepared import MEMORY
from keras_nns.selection.activations import Score
from keras_nns.selection.choosing import Label
from keras_nns.selection.leaving import Cost
from keras_nns.selection.ranking import Balance, check_balance
from keras_nns.shipping.forms import Quantization
from keras_nns.surgery.lineage import Head
from keras_nns.training.augmentation import Augment


def sweep(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label] = "all",
    sizes: int | Sequence[float] = 8,
    unit: Unit = "parameters",
    quantize: Quantization | None = None,
    head: Head | None = None,
    score: Score | str | None = None,
    balance: Balance | None = None,
    empty_branches: EmptyBranches = "auto",
    repair: bool | Step | Sequence[Step] = True,
    distill_epochs: int = 0,
    augment: Augment | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    batch_size: int | None = None,
    label_names: Sequence[Any] | None = None,
    output: str | None = None,
    memory: int = MEMORY,
    verbose: Verbose = "auto",
) -> Sweep | Any:
    """Make subnetworks of many sizes for some labels, from one observation, and judge each.

    Of a language model the labels are kinds of text, as in `extract`; sizes are shares of its
    parameters without embeddings, or so many from nine tenths to a half.

    All are judged on the same samples held out from everything else. Choosing one by these figures
    makes its own figure here a little too good: judge the one you chose on other data.

    Args:
        model: The parent. It is not changed.
        data: As in `extract`.
        y: As in `extract`.
        labels: As in `extract`.
        sizes: How many sizes, in equal ratios from one unit in every layer to the whole parent; or
            the sizes themselves, as shares of the parent's, above 0 and at most 1.
        unit: What sizes are measured in: `"parameters"`, `"macs"` or `"bytes"`.
        quantize: As in `extract`: bytes are counted in that variant, and files are judged.
        head: As in `extract`.
        score: As in `extract`.
        balance: As in `extract`.
        empty_branches: As in `extract`.
        repair: As in `extract`.
        distill_epochs: As in `extract`.
        augment: As in `extract`.
        held_out: As in `extract`.
        seed: As in `extract`.
        batch_size: As in `extract`.
        label_names: As in `extract`.
        output: As in `extract`.
        memory: As in `extract`.
        verbose: As in `extract`.

    Returns:
        The subnetworks with their costs and figures, which `nns.plots.trade_off` draws; of a
        language model a `LanguageSweep`.

    Raises:
        SelectionError: The sizes or the unit make no sense.
        NNSError: As in `extract`.
        KeyboardInterrupt: It was cut off. Where networks had been judged by then, a sweep of them
            is its `.found`.

    Example:
        >>> found = nns.sweep(model, (x, y), labels=3, sizes=[0.1, 0.3], repair=False)
        >>> [point.model.output_shape for point in found.points]  # 3 or not
        [(None, 1), (None, 1)]
        >>> figure = nns.plots.trade_off(found)
    """
    if unit not in UNITS:
        raise SelectionError(f"`unit` must be one of {', '.join(UNITS)}. Received: unit={unit!r}.")
    _check_sizes(sizes)
    if foretells(model) and are_kinds(data, y):
        refuse_of_labels(
            quantize=quantize,
            head=head,
            distill_epochs=distill_epochs,
            augment=augment,
            output=output,
            memory=None if memory == MEMORY else memory,
            empty_branches=None if empty_branches == "auto" else empty_branches,
            unit=None if unit == "parameters" else unit,
        )
        told: dict[str, Any] = {} if batch_size is None else {"batch_size": batch_size}
        options = LanguageOptions(
            labels=labels,
            score=score,
            balance=balance,
            repair=repair,
            held_out=held_out,
            seed=seed,
            label_names=label_names,
            **told,
        )
        return sweep_language(model, data, y, sizes, options, verbose=verbose)
    batch_size = usual_batch_size(model) if batch_size is None else batch_size
    check_branches(empty_branches)
    if balance is not None:
        check_balance(balance)
    with job(verbose) as shown:
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
        recipe = write_recipe(task, repair, distill_epochs, augment)
        expected = sizes if isinstance(sizes, int) else len(sizes)
        clock = Clock(shown, networks=expected, files=expected + 1)
        meter = Meter(task, recipe, clock, form_of(task, division, quantize))
        with clock("observe"):
            parent = observe_parent(task, division, batch_size=batch_size, memory=memory)
        with clock("score"):
            scored = score_units(parent, task, score, balance)
        ranking = order_units(
            parent, task, scored, meter.estimate(unit), empty_branches=empty_branches
        )
        plans = _plans(ranking, meter.estimate(unit), sizes)
        warn_of_guesses(parent, scored, ranking.guessed, plans)
        parent_costs = _measured(meter, model)
        made: list[tuple[Judged, Costs]] = []

        def found() -> Sweep | None:
            return _swept(task, unit, made, parent_costs, meter, asked=len(plans)) if made else None

        def build(plan: Plan) -> Network:
            with clock("repair"):
                return make_network(parent, task, recipe, plan)

        worth = fitted_worth(parent, task, recipe)
        best = either(build, ranking, meter.estimate(unit), worth=worth)
        with left_behind(found):
            for plan in plans:
                network = best(plan)
                with clock("judge"):
                    judged = judge_network(parent, task, network, meter.shipped(network.model))
                made.append((judged, _measured(meter, network.model)))
        with clock("judge"):
            warn_of_refusals([judged.shipped for judged, _ in made])
    return _swept(task, unit, made, parent_costs, meter, asked=len(plans))


def _swept(
    task: Task,
    unit: Unit,
    made: Sequence[tuple[Judged, Costs]],
    parent_costs: Costs,
    meter: Meter,
    *,
    asked: int,
) -> Sweep:
    """Put networks in order, and say which of them nothing beats."""
    amounts = [size_of(unit, cost) for _, cost in made]
    fronts = _front(amounts, [judged.worth for judged, _ in made])
    points = [
        Point(
            model=judged.network.model,
            plan=judged.network.plan,
            costs=cost,
            worth=judged.worth,
            comparison=judged.comparison,
            in_keras=judged.in_keras,
            shipped=judged.shipped,
            on_front=front,
        )
        for (judged, cost), front in zip(made, fronts, strict=True)
    ]
    first = made[0][0].comparison.before
    return Sweep(
        labels=tuple(task.label_names[label] for label in task.labels),
        head=task.head,
        unit=unit,
        points=tuple(points[i] for i in np.argsort(amounts, kind="stable")),
        parent_costs=parent_costs,
        parent_worth=first.worth,
        samples=first.samples,
        variant=meter.form.variant,
        missing=asked - len(made),
    )


def _plans(ranking: Order, cost: Cost, sizes: int | Sequence[float]) -> list[Plan]:
    """Return the plans of the sizes asked for, no two alike, the smallest first."""
    least, most = cost(ranking.smallest), cost(ranking.everything)
    if isinstance(sizes, int):
        targets = np.geomspace(least, most, sizes)
    else:
        targets = np.maximum(np.sort(sizes) * most, least)
    plans: list[Plan] = []
    for target in targets.tolist():
        plan = ranking.fit(cost, target * (1 + 1e-9))
        if not plans or plan != plans[-1]:
            plans.append(plan)
    return plans


def _measured(meter: Meter, model: keras.Model) -> Costs:
    return costs.measure(model, tflite_bytes=round(meter.cost(Budget(bytes=1), model)["bytes"]))


def _check_sizes(sizes: int | Sequence[float]) -> None:
    if isinstance(sizes, int) and not isinstance(sizes, bool):
        if sizes < 1:
            raise SelectionError(f"`sizes` must be 1 or more. Received: sizes={sizes}.")
        return
    shares = np.asarray(sizes, dtype=np.float64) if np.size(sizes) else np.zeros(1)
    if isinstance(sizes, bool) or shares.ndim != 1 or not ((shares > 0) & (shares <= 1)).all():
        raise SelectionError(
            "`sizes` is a number of sizes, or shares of the parent above 0 and at most 1. "
            f"Received: sizes={sizes!r}."
        )


def _front(sizes: Sequence[int], worths: Sequence[float]) -> list[bool]:
    """Say which points no other beats."""
    both = list(zip(sizes, worths, strict=True))
    return [
        not any((s <= size and w > worth) or (s < size and w >= worth) for s, w in both)
        and not math.isnan(worth)
        for size, worth in both
    ]
