"""The order in which units join a subnetwork, and how many of them fit what it may cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import SelectionError
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import Float
from keras_nns.plans.kept_units import Choice, Plan
from keras_nns.plans.units import Group
from keras_nns.selection.leaving import Block, Cost, Leaving, telling

Balance = Literal["zeta", "share", "cost"]

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
        branches: Groups of units that can leave all together, for `"cost"`: where that loses less
            for what it saves than thinning does. The smallest plan keeps nothing of them.
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
        branches: Sequence[tuple[str, ...]] = (),
    ) -> None:
        check_balance(balance)
        self._activity = activity
        self._labels = labels
        self._name = name
        self._balance = balance
        self._cost = cost
        self._stepped = stepped
        self._guess = guess or {}
        self._values = {}
        for group in activity.layout.prunable:
            if group.name in scores:
                own = np.asarray(scores[group.name])[list(labels)]
                self._values[group.name] = _comparable(own, balance)
        self._branches = telling(self._values, branches) if balance == "cost" else {}
        self._inside = {name for branch in self._branches for name in branch}
        self._without = {*without, *self._inside}

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
            if name in self._without - self._inside
            for unit in np.flatnonzero(mask).tolist()
        ]
        return (
            emptied
            + self._guessed()
            + (self._by_cost() if self._balance == "cost" else self._by_value())
        )

    def lost(self, plan: Plan) -> float:
        """Return what is lost without the units that a plan leaves out, by the scores alone.

        Of a branch that is gone as much as the last of its layers that has scores tells.
        """
        gone = [b for b in self._branches if not any(plan.kept[name] for name in b)]
        told = {self._branches[b] for b in gone if not any(set(b) < set(o) for o in gone)}
        left_out = {name for branch in gone for name in branch} - told
        total = 0.0
        for name in self._values.keys() - left_out:
            values = np.delete(self._values[name], list(plan.kept[name]))
            total += float(values[~np.isneginf(values)].sum())
        return total

    def tempted(self, plan: Plan, cost: Cost) -> bool:
        """Return whether some branch would lose less for what it saves than the plan just lost.

        Args:
            plan: A plan of units that were thinned.
            cost: What a plan costs.
        """
        kept = {name: np.zeros_like(mask) for name, mask in self.floor.items()}
        for name, units in plan.kept.items():
            kept[name][list(units)] = True
        whole = cost(plan)

        def ratio(units: Sequence[tuple[str, int]], teller: str) -> float:
            lost = sum(float(self._values[teller][unit]) for name, unit in units if name == teller)
            for name, unit in units:
                kept[name][unit] ^= True
            change = abs(whole - cost(self.plan(kept)))
            for name, unit in units:
                kept[name][unit] ^= True
            return lost / change if change > 0 else np.inf

        dearest = 0.0
        for name, values in self._values.items():
            gone = np.where(kept[name], -np.inf, values)
            if not np.isneginf(gone).all():
                dearest = max(dearest, ratio([(name, int(gone.argmax()))], name))
        return any(
            ratio([(n, u) for n in branch for u in np.flatnonzero(kept[n]).tolist()], teller)
            < dearest
            for branch, teller in self._branches.items()
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
            if name in self._inside:
                continue
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
        return [one for block in reversed(self._leaving) for one in reversed(block.units)]

    @cached_property
    def _leaving(self) -> list[Block]:
        assert self._cost is not None
        return Leaving(
            self._values,
            self.floor,
            self.plan,
            self._cost,
            stepped=self._stepped,
            branches=self._branches,
        ).blocks()

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
        closed = {name for name in self._inside if not kept[name].any()}
        rest: dict[str, list[int]] = {}
        for name, unit in self.order[self._counts[low] :]:
            rest.setdefault(name, []).append(unit)
        for name, unit in self.order[self._counts[low] :]:
            if name not in closed and rest[name] and not kept[name][unit]:
                more = self._more(kept, name, rest[name], cost, limit)
                rest[name] = rest[name][more:] if more else []
        return self.plan(kept)

    @cached_property
    def _counts(self) -> list[int]:
        """How many of the first units there may be: of what leaves together, all or none."""
        together = self._stepped and self._balance == "cost"
        blocks = self._leaving if self._balance == "cost" else []
        count = len(self.order) - sum(len(block.units) for block in blocks)
        found = list(range(count + 1))
        for block in reversed(blocks):
            size = len(block.units)
            first = count + (size if together or block.whole else 1)
            count += size
            found += range(first, count + 1)
        return found if self._balance == "cost" else list(range(len(self.order) + 1))

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
