"""Whether networks are thinned alone, or lose whole branches where that costs less."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Literal

from keras_nns.errors import SelectionError
from keras_nns.extraction.observed import ObservedParent, Scored, rank_units
from keras_nns.extraction.tasks import Task
from keras_nns.plans.kept_units import Plan
from keras_nns.selection.leaving import Cost
from keras_nns.selection.ranking import Ranking

EmptyBranches = bool | Literal["auto"]

_CLEARLY = 0.95
"""Where nothing else tells which is better: branches go that lose no more than this share."""


@dataclass(frozen=True)
class Rival:
    """A plan without some branches, beside one that was thinned.

    Attributes:
        plan: The plan.
        clearly: Whether the scores tell clearly that it loses less.
    """

    plan: Plan
    clearly: bool


class ThinnedOrEmptied:
    """Plans that are thinned, each with one that is thinned less and lacks branches beside it.

    Args:
        thinned: The order in which units join where no branch leaves.
        emptied: The same where branches leave too.
        possible: Says whether a network of a plan can be cut.
    """

    def __init__(
        self, thinned: Ranking, emptied: Ranking, possible: Callable[[Plan], bool]
    ) -> None:
        self._thinned, self._emptied, self._possible = thinned, emptied, possible

    @property
    def smallest(self) -> Plan:
        """The smallest plan in which no branch is gone."""
        return self._thinned.smallest

    @property
    def everything(self) -> Plan:
        """The plan that keeps every unit."""
        return self._thinned.everything

    def fit(self, cost: Cost, limit: float) -> Plan:
        """Return the largest plan without a branch gone; see `Ranking.fit`."""
        return self._thinned.fit(cost, limit)

    def rival(self, plan: Plan, cost: Cost, limit: float = 0.0) -> Rival | None:
        """Return a plan without some branches that costs no more and may be better.

        None where the scores tell that it would lose more: then nothing has to be made to know it.

        Args:
            plan: A thinned plan.
            cost: What a plan costs.
            limit: What it may cost where that is more than what the plan costs.
        """
        if not self._emptied.tempted(plan, cost):
            return None
        other = self._emptied.fit(cost, max(limit, cost(plan) * (1 + 1e-9)))
        lost, alone = self._emptied.lost(other), self._emptied.lost(plan)
        if not other.empty or lost > alone or not self._possible(other):
            return None
        return Rival(other, lost <= _CLEARLY * alone)

    def guessed(self, plan: Plan) -> tuple[str, ...]:
        """Name the groups of which a plan leaves out units that nothing is known of."""
        return (self._emptied if plan.empty else self._thinned).guessed(plan)


Order = Ranking | ThinnedOrEmptied
"""In which order units join networks."""


def order_units(
    parent: ObservedParent,
    task: Task,
    scored: Scored,
    cost: Cost,
    *,
    empty_branches: EmptyBranches,
    stepped: bool = False,
    without: Collection[str] = (),
) -> Order:
    """Say in which order units join networks, and whether branches may be missing.

    Args:
        parent: The parent.
        task: What networks are to answer.
        scored: How much it needs each unit.
        cost: What the network of a plan costs.
        empty_branches: As in `extract`.
        stepped: Whether costs have steps.
        without: Groups that the smallest network does without.

    Raises:
        SelectionError: Branches are to go, and nothing sets them against thinning.
    """
    rank = partial(rank_units, parent, task, scored, cost, stepped=stepped, without=without)
    if scored.balance != "cost" or stepped:
        if empty_branches is True:
            why = "an NPU's steps" if stepped else f"balance={scored.balance!r}"
            raise SelectionError(
                "empty_branches=True sets branches against units by what both cost, which "
                f"{why} has no scale for. Leave it out; or pass balance='cost' with a score that "
                "can be compared between layers."
            )
        return rank()
    if empty_branches is False or not task.branches:
        return rank()
    emptied = rank(branches=[branch.groups for branch in task.branches])
    if without or empty_branches is True:
        return emptied
    return ThinnedOrEmptied(rank(), emptied, task.possible)


def check_branches(empty_branches: object) -> None:
    """Make sure that it is said whether branches may go.

    Raises:
        SelectionError: It is neither of the words.
    """
    if not isinstance(empty_branches, bool) and empty_branches != "auto":
        raise SelectionError(
            "`empty_branches` is 'auto', True or False. Received: "
            f"empty_branches={empty_branches!r}."
        )
