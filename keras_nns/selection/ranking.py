"""The order in which units join a subnetwork, and how many of them fit what it may cost."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import SelectionError
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import Float
from keras_nns.plans.kept_units import Choice, Plan
from keras_nns.plans.units import Group

Balance = Literal["zeta", "share", "cost"]
Cost = Callable[[Plan], float]

_PIECES = 64
"""In how many steps a layer leaves at most, where units are set against what they cost."""

_AHEAD = 16
"""How many units of a layer are tried together where some of them may cost nothing, or less."""


class Ranking:
    """Units by how soon they join, from scores that were computed once.

    The plans are nested: of two, one holds all the units of the other.

    Args:
        activity: What was observed.
        scores: `(labels, units)` of every group that has a score.
        labels: The labels a subnetwork is for. A unit counts as much as for the label that needs it
            most.
        name: Name of the score.
        balance: How layers are compared: `"zeta"`, a unit's score in shares of its layer's highest,
            so that every plan is that of the paper's rule at some ζ; `"share"`, its rank in the
            layer, so that every layer keeps the same share of its units; or `"cost"`, its score by
            what leaving it out would save, for scores that can be compared between layers.
        cost: What a plan costs, for `"cost"`; one that holds another costs no less, unless
            `stepped`.
        stepped: Whether costs have steps, as on hardware that computes by eights of units: a unit
            more may cost nothing, or less. Units leave in the blocks that save most for what they
            are worth.
        guess: What units of which no score knows anything are ranked by among themselves,
            `(units,)` by group. They join before all others, so that they are the last to be
            missing. Where it is not given they all stay.
        without: Groups of which the smallest plan keeps nothing.
    """

    def __init__(
        self,
        activity: Activity,
        scores: Mapping[str, Float],
        labels: tuple[int, ...],
        *,
        name: str,
        balance: Balance,
        cost: Cost | None = None,
        stepped: bool = False,
        guess: Mapping[str, Float] | None = None,
        without: Collection[str] = (),
    ) -> None:
        check_balance(balance)
        self._activity = activity
        self._labels = labels
        self._name = name
        self._balance = balance
        self._cost = cost
        self._stepped = stepped
        self._guess = guess or {}
        self._without = without
        self._values = {}
        for group in activity.layout.prunable:
            if group.name in scores:
                own = np.asarray(scores[group.name])[list(labels)]
                self._values[group.name] = _comparable(own, balance)

    @cached_property
    def floor(self) -> dict[str, NDArray[np.bool_]]:
        """One unit of every layer: what cannot go, and the best unit of each."""
        found = {}
        for group in self._activity.layout.prunable:
            values = self._values.get(group.name, np.full(group.size, -np.inf))
            guess = self._guess.get(group.name)
            unknown = np.isneginf(values)
            if guess is None:
                found[group.name] = least_of(group, values) | unknown
            else:
                # What is known stands above what is guessed; of equals the first is best.
                ranks = np.empty(group.size)
                first = -np.arange(group.size)
                ranks[np.lexsort((first, np.where(unknown, guess, 0), values))] = first[::-1]
                found[group.name] = least_of(group, ranks)
        return found

    @cached_property
    def order(self) -> list[tuple[str, int]]:
        """Group and unit of all that may join beyond the smallest plan, the first to join first."""
        emptied = [
            (name, unit)
            for name, mask in self.floor.items()
            if name in self._without
            for unit in np.flatnonzero(mask).tolist()
        ]
        return (
            emptied
            + self._guessed()
            + (self._by_cost() if self._balance == "cost" else self._by_value())
        )

    def guessed(self, plan: Plan) -> tuple[str, ...]:
        """Name the groups of which a plan leaves out units that nothing is known of."""
        found = []
        for name in self._guess:
            values = self._values.get(name, np.full(plan.sizes[name], -np.inf))
            gone = np.setdiff1d(np.arange(plan.sizes[name]), plan.kept[name])
            if plan.kept[name] and np.isneginf(values[gone]).any():
                found.append(name)
        return tuple(found)

    def _guessed(self) -> list[tuple[str, int]]:
        """Return the units that nothing is known of, in the order of their ranks in their layer."""
        waiting = []
        for place, (name, guess) in enumerate(self._guess.items()):
            values = self._values.get(name, np.full(len(guess), -np.inf))
            ranks = np.empty(len(guess))
            ranks[np.argsort(-guess, kind="stable")] = np.arange(len(guess)) / len(guess)
            waiting += [
                (ranks[unit], place, name, unit)
                for unit in np.flatnonzero(np.isneginf(values) & ~self.floor[name]).tolist()
            ]
        return [(name, unit) for _, _, name, unit in sorted(waiting)]

    def _by_value(self) -> list[tuple[str, int]]:
        waiting = [
            (-value, place, name, unit)
            for place, (name, values) in enumerate(self._values.items())
            for unit, value in enumerate(values.tolist())
            if not self.floor[name][unit] and not np.isneginf(value)
        ]
        return [(name, unit) for _, _, name, unit in sorted(waiting)]

    def _by_cost(self) -> list[tuple[str, int]]:
        return [one for block in reversed(self._leaving) for one in reversed(block)]

    @cached_property
    def _leaving(self) -> list[list[tuple[str, int]]]:
        """Let go, again and again, of the units that are worth least for what they cost.

        What a unit costs depends on how many are left of the layers around it. It only falls as
        they leave, so what was found earlier for others is still a bound (lazy greedy: Minoux
        1978).
        """
        assert self._cost is not None
        kept = {name: np.ones_like(mask) for name, mask in self.floor.items()}
        cost = self._cost
        whole = cost(self.plan(kept))
        leaving = {}
        for name, values in self._values.items():
            units = [
                unit
                for unit in np.argsort(values, kind="stable").tolist()
                if not self.floor[name][unit] and not np.isneginf(values[unit])
            ]
            piece = max(1, kept[name].size // _PIECES)
            ends = [*range(piece, len(units), piece), len(units)]
            if self._stepped:
                ends = self._hull(name, units, ends, whole)
            starts = [0, *ends]
            leaving[name] = [
                units[start:end] for start, end in zip(starts, ends, strict=False) if end > start
            ]

        def price(name: str) -> tuple[float, float, float]:
            units = leaving[name][0]
            kept[name][units] = False
            left = cost(self.plan(kept))
            kept[name][units] = True
            lost = float(self._values[name][units].sum())
            saved = whole - left
            return (lost / saved if saved > 0 else np.inf), lost, left

        queue = [(0.0, 0.0, name) for name, blocks in leaving.items() if blocks]
        heapq.heapify(queue)
        blocks: list[list[tuple[str, int]]] = []
        while queue:
            _, _, name = heapq.heappop(queue)
            ratio, lost, left = price(name)
            if queue and (ratio, lost) > queue[0][:2]:
                heapq.heappush(queue, (ratio, lost, name))
                continue
            units = leaving[name].pop(0)
            kept[name][units] = False
            whole = left
            blocks.append([(name, unit) for unit in units])
            if leaving[name]:
                heapq.heappush(queue, (ratio, lost, name))
        return blocks

    def _hull(self, name: str, units: list[int], ends: list[int], whole: float) -> list[int]:
        """Choose after which units of a layer to stop: where most was saved for what was lost.

        These are the corners of the convex hull of what is lost over what is saved. The widths
        between them cost more, or as good as more, than one of them for what they are worth.
        """
        assert self._cost is not None
        kept = {group: np.ones_like(mask) for group, mask in self.floor.items()}
        lost, saved = np.zeros(len(ends) + 1), np.zeros(len(ends) + 1)
        for place, end in enumerate(ends, start=1):
            kept[name][units[:end]] = False
            lost[place] = self._values[name][units[:end]].sum()
            saved[place] = whole - self._cost(self.plan(kept))
        corners, at = [], 0
        while at < len(ends):
            more = saved[at + 1 :] - saved[at]
            slopes = np.full(len(more), np.inf)
            np.divide(lost[at + 1 :] - lost[at], more, out=slopes, where=more > 0)
            # Of equals the last; where nothing is saved any more, all that is left.
            at += len(slopes) - int(np.argmin(slopes[::-1]))
            corners.append(ends[at - 1])
        return corners

    def plan(self, kept: Mapping[str, NDArray[np.bool_]]) -> Plan:
        """Return the plan that keeps these units."""
        thresholds = []
        for name, values in sorted(self._values.items()):
            chosen = values[kept[name] & ~np.isneginf(values)]
            if chosen.size:
                thresholds.append((name, float(chosen.min())))
        choice = Choice(self._labels, self._name, f"budget, {self._balance}", tuple(thresholds))
        activity = self._activity
        return Plan(
            fingerprint=activity.fingerprint,
            sizes={group.name: group.size for group in activity.layout.prunable},
            kept={name: tuple(np.flatnonzero(mask).tolist()) for name, mask in kept.items()},
            labels=self._labels,
            label_names=activity.label_names,
            choices=(choice,),
            seen=activity.seen,
        )

    @property
    def smallest(self) -> Plan:
        """The plan of the fewest units: of the floor, less the groups to do without."""
        return self.first(0)

    @property
    def everything(self) -> Plan:
        """The plan that keeps every unit."""
        return self.plan({name: np.ones_like(mask) for name, mask in self.floor.items()})

    def first(self, count: int) -> Plan:
        """Return the smallest plan and the first units to join."""
        return self.plan(self._first(count))

    def fit(self, cost: Cost, limit: float) -> Plan:
        """Return the largest plan that costs at most this much.

        As many of the first units as fit; then, where the next does not, whichever of the rest
        still do, each the first of its layer. Where costs have steps, several at a time: what costs
        nothing is kept, and no network is smaller than one that was found to cost as much.

        Args:
            cost: What a plan costs; one that holds another costs no less, unless `stepped`.
            limit: The most it may cost.
        """
        low, high = 0, len(self._counts) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if cost(self.first(self._counts[middle])) <= limit:
                low = middle
            else:
                high = middle - 1
        kept = self._first(self._counts[low])
        rest: dict[str, list[int]] = {}
        for name, unit in self.order[self._counts[low] :]:
            rest.setdefault(name, []).append(unit)
        for name, unit in self.order[self._counts[low] :]:
            if rest[name] and not kept[name][unit]:
                more = self._more(kept, name, rest[name], cost, limit)
                rest[name] = rest[name][more:] if more else []
        return self.plan(kept)

    @cached_property
    def _counts(self) -> list[int]:
        """How many of the first units there may be: as many as leave whole blocks out."""
        most = len(self.order)
        if not self._stepped or self._balance != "cost":
            return list(range(most + 1))
        left = most - np.cumsum([0, *map(len, self._leaving)])
        return [*range(int(left[-1])), *left[::-1].tolist()]

    def _more(
        self,
        kept: dict[str, NDArray[np.bool_]],
        name: str,
        units: list[int],
        cost: Cost,
        limit: float,
    ) -> int:
        """Keep the fewest of a layer's next units that fit, and return how many."""
        for count in range(1, min(_AHEAD if self._stepped else 1, len(units)) + 1):
            kept[name][units[:count]] = True
            if cost(self.plan(kept)) <= limit:
                return count
        kept[name][units[:count]] = False
        return 0

    def _first(self, count: int) -> dict[str, NDArray[np.bool_]]:
        kept = {
            name: np.zeros_like(mask) if name in self._without else mask.copy()
            for name, mask in self.floor.items()
        }
        for name, unit in self.order[:count]:
            kept[name][unit] = True
        return kept


def check_balance(balance: Balance) -> None:
    """Make sure that there is such a way to compare layers.

    Raises:
        SelectionError: There is none.
    """
    if balance not in get_args(Balance):
        raise SelectionError(
            f"Expected `balance` to be one of {get_args(Balance)}. Received: balance={balance!r}."
        )


def least_of(group: Group, worth: Float) -> NDArray[np.bool_]:
    """Choose the fewest units that can be left of a group, `(units,)`.

    Those that cannot go; of every layer's own, one: a unit that is of most layers which have none
    yet, of several such the one that is worth most; and the best of the rest, up to as many as the
    group cannot do without.

    Args:
        group: The unit group.
        worth: What each unit is worth, `(units,)`.
    """
    kept = np.zeros(group.size, dtype=bool)
    kept[list(group.protected)] = True
    while waiting := [need for need in group.needs if not kept[need].any()]:
        serves = np.zeros(group.size)
        for need in waiting:
            serves[need] += 1
        most = np.flatnonzero(serves == serves.max())
        kept[most[np.argmax(worth[most])]] = True
    rest = np.flatnonzero(~kept)
    short = max(0, group.least - int(kept.sum()))
    kept[rest[np.argsort(-worth[rest], kind="stable")[:short]]] = True
    return kept


def _comparable(scores: Float, balance: Balance) -> Float:
    """Make scores of one layer comparable with those of another, and join the labels."""
    known = ~np.isneginf(scores)
    if balance == "cost":
        return np.asarray(np.where(known, scores, -np.inf).max(axis=0))
    highest = np.where(known, np.maximum(scores, 0), 0).max(axis=1, keepdims=True)
    found = (np.where(known, scores, -np.inf) / np.where(highest > 0, highest, 1)).max(axis=0)
    if balance == "share":
        ranks = np.empty(len(found))
        ranks[np.argsort(-found, kind="stable")] = np.arange(len(found))
        return np.where(known.any(axis=0), 1 - (ranks + 0.5) / len(found), -np.inf)
    return np.asarray(found)
