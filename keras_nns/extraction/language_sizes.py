"""Which units of a language model stay, so that it fits a budget."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import SelectionError
from keras_nns.graph.budgets import Budget, as_budget
from keras_nns.graph.estimates import FLOAT32_BYTES, Estimates
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph
from keras_nns.observation.activity import Activity
from keras_nns.observation.next_token import tables_of
from keras_nns.plans.kept_units import Choice, Plan
from keras_nns.plans.units import Group
from keras_nns.selection.branches import branch_reconstruction
from keras_nns.selection.ranking import Balance, least_of
from keras_nns.surgery.cutting import cut

Kept = dict[str, NDArray[np.bool_]]
Cost = Callable[[Kept], float]

_NARROW = 64
"""Groups of so many units or fewer are tried at every width; wider ones by halving."""


def parameters_of(budget: Budget | str | float, graph: Graph) -> tuple[Budget, int]:
    """Return a budget of a language model, and how many parameters it allows.

    Args:
        budget: A budget of parameters or bytes; or a share of the parameters without embeddings.
        graph: The model.

    Raises:
        SelectionError: It is in another unit, or no share.
    """
    whole, tables = sizes_of(graph.model)
    share = _share(budget)
    if share is not None:
        allowed = tables + int(share * (whole - tables))
        return Budget(parameters=allowed), allowed
    if isinstance(budget, str | float | int):
        budget = as_budget(budget)  # type: ignore[arg-type]
    others = [unit for unit in budget.units if unit not in ("parameters", "bytes")]
    if others:
        raise SelectionError(
            f"A language model's budget is in parameters, in bytes, or a share of the parameters "
            f"without embeddings such as 0.8 or '80%'. Received: {', '.join(others)}."
        )
    limits = budget.limits
    least = [limits.get("parameters"), limits.get("bytes", np.inf) // FLOAT32_BYTES]
    return budget, int(min(limit for limit in least if limit is not None and np.isfinite(limit)))


def _share(budget: Any) -> float | None:
    share: float | None = None
    if isinstance(budget, float):
        share = budget
    elif isinstance(budget, str) and budget.strip().endswith("%"):
        try:
            share = float(budget.strip()[:-1]) / 100
        except ValueError:
            share = -1.0
    if share is not None and not 0 < share <= 1:
        raise SelectionError(
            "A share of a language model's parameters without embeddings is above 0 and at most 1, "
            f"such as 0.8 or '80%'. Received: {budget!r}."
        )
    return share


def sizes_of(model: Any) -> tuple[int, int]:
    """Return a model's parameters, and how many of them are tables of tokens or positions."""
    tables = {id(w): int(np.prod(w.shape)) for layer in tables_of(model) for w in layer.weights}
    return int(model.count_params()), sum(tables.values())


class Sizes:
    """What is left of a model where units leave, and what that costs.

    Args:
        graph: The model.
        scores: Of every group that has some, `(units,)`: what is lost with each unit.
    """

    def __init__(self, graph: Graph, scores: Mapping[str, NDArray[np.float64]]) -> None:
        self._graph = graph
        self._estimates = Estimates(graph)
        self._groups: dict[str, Group] = {
            group.name: group for group in graph.layout.prunable if group.name in scores
        }
        self._scores = {name: np.asarray(scores[name]) for name in self._groups}
        # What nothing is known of stays.
        self.floor = {
            name: least_of(group, self._scores[name]) | np.isneginf(self._scores[name])
            for name, group in self._groups.items()
        }

    def cost(self, kept: Kept) -> float:
        """Return the parameters of what is left; groups that are not named stay whole."""
        mask = np.ones(self._graph.unit_count, dtype=bool)
        for name, stays in kept.items():
            for member in self._groups[name].members:
                units = self._graph.families[member.layer].units
                mask[units] = stays[list(member.units)]
        return self._estimates.of("parameters", Keep(mask))

    def refuse_below(self, limit: int) -> None:
        """Make sure that a budget allows one unit of every group.

        Raises:
            SelectionError: It does not; the message says what is the least.
        """
        least = int(self.cost(self.floor))
        if least > limit:
            raise SelectionError(
                f"A budget of {limit:,} parameters would empty blocks: one unit of every kind in "
                f"every block costs {least:,}, embeddings included. The nearest possible is "
                f"Budget(parameters={least})."
            )

    def by_loss(self, limit: int) -> Kept:
        """Let the units go that lose least for the parameters they have, until the rest fits.

        For scores that can be compared between groups.
        """
        whole = self.cost(self._everything())
        waiting = []
        for place, (name, values) in enumerate(self._scores.items()):
            free = np.flatnonzero(~self.floor[name])
            if not free.size:
                continue
            one = self._everything()
            one[name] = one[name].copy()
            one[name][free[0]] = False
            saved = max(whole - self.cost(one), 1e-9)
            waiting += [(float(values[u]) / saved, place, name, int(u)) for u in free]
        waiting.sort()
        low, high = 0, len(waiting)
        while low < high:
            middle = (low + high) // 2
            if self.cost(self._without(waiting[:middle])) <= limit:
                high = middle
            else:
                low = middle + 1
        return self._without(waiting[:low])

    def uniform(self, limit: int, *, comparable: bool) -> Kept:
        """Keep the same number of units in all blocks that are alike, as many as fit.

        Hidden units leave first, of all kinds the same share; heads only where that loses less, or
        where hidden units alone are not enough.

        Args:
            limit: How many parameters there may be.
            comparable: Whether scores of different groups can be added up.
        """
        kinds: dict[tuple[str, int], list[str]] = {}
        for name, group in self._groups.items():
            kinds.setdefault((group.kind or name, group.size), []).append(name)
        narrow = [key for key in kinds if key[1] <= _NARROW]
        wide = [key for key in kinds if key[1] > _NARROW]
        best: tuple[float, Kept] | None = None
        for widths in itertools.product(*(range(key[1], 0, -1) for key in narrow)):
            fixed = dict(zip(narrow, widths, strict=True))
            kept = self._widest(kinds, fixed, wide, limit)
            if kept is None:
                continue
            lost = sum(
                float(np.where(np.isneginf(values), 0, values)[~kept[name]].sum())
                for name, values in self._scores.items()
            )
            # Heads are what a model can least spare: the first that fits is the widest in them.
            if not comparable:
                return kept
            if best is None or lost < best[0]:
                best = lost, kept
        if best is None:
            self.refuse_below(limit)
            return dict(self.floor)
        return best[1]

    def _widest(
        self,
        kinds: Mapping[tuple[str, int], list[str]],
        fixed: Mapping[tuple[str, int], int],
        wide: list[tuple[str, int]],
        limit: int,
    ) -> Kept | None:
        most = max((size for _, size in wide), default=1)

        def kept(level: int) -> Kept:
            found: Kept = {}
            for key, names in kinds.items():
                width = fixed.get(key, max(1, key[1] * level // most))
                for name in names:
                    found[name] = self._best(name, width)
            return found

        if self.cost(kept(1 if wide else most)) > limit:
            return None
        low, high = 1, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.cost(kept(middle)) <= limit:
                low = middle
            else:
                high = middle - 1
        return kept(low)

    def _best(self, name: str, count: int) -> NDArray[np.bool_]:
        order = np.lexsort((-self._scores[name], ~self.floor[name]))
        stays = np.zeros(len(order), dtype=bool)
        stays[order[:count]] = True
        return stays | self.floor[name]

    def _everything(self) -> Kept:
        return {name: np.ones(group.size, dtype=bool) for name, group in self._groups.items()}

    def _without(self, gone: list[Any]) -> Kept:
        kept = self._everything()
        for _, _, name, unit in gone:
            kept[name][unit] = False
        return kept


@dataclass(frozen=True, eq=False)
class Chosen:
    """Chooses the units that a budget allows, and cuts.

    Attributes:
        graph: The traced parent.
        activity: What was observed of it.
        labels: Numbers of the kinds of text that the network is for.
        score: Name of the score.
        budget: What the network may cost.
        allowed: How many parameters that is.
    """

    graph: Graph
    activity: Activity
    labels: tuple[int, ...]
    score: str
    budget: Budget
    allowed: int

    def cut(self, scores: Mapping[str, Any], balance: Balance | None) -> tuple[Plan, keras.Model]:
        """Return the plan, and the network that is cut by it.

        Raises:
            SelectionError: The budget would empty a block.
        """
        sizes = Sizes(self.graph, scores)
        sizes.refuse_below(self.allowed)
        comparable = self.score == branch_reconstruction.__name__
        model = self.graph.model
        if balance == "cost" or (balance is None and comparable):
            plan = self._plan(sizes.by_loss(self.allowed), "cost")
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                small = cut(model, plan)
            if balance == "cost" or isinstance(small, type(model)):
                for one in told:
                    warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
                return plan, small
        plan = self._plan(sizes.uniform(self.allowed, comparable=comparable), "share")
        return plan, cut(model, plan)

    def _plan(self, kept: Kept, balance: str) -> Plan:
        groups = self.graph.layout.prunable
        everything = {group.name: tuple(range(group.size)) for group in groups}
        own = {name: tuple(np.flatnonzero(mask).tolist()) for name, mask in kept.items()}
        return Plan(
            fingerprint=self.activity.fingerprint,
            sizes={group.name: group.size for group in groups},
            kept=everything | own,
            labels=self.labels,
            label_names=self.activity.label_names,
            choices=(Choice(self.labels, self.score, f"budget, {balance}", ()),),
            seen=self.activity.seen,
        )
