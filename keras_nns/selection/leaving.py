"""In which order units, and whole branches, leave where they are set against what they cost."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_nns.observation.layer_sums import Float
from keras_nns.plans.kept_units import Plan

Cost = Callable[[Plan], float]
Kept = dict[str, NDArray[np.bool_]]

_PIECES = 64
"""In how many steps a layer leaves at most."""


@dataclass(frozen=True)
class Block:
    """Units that leave one after another.

    Attributes:
        units: Group and number of each, the first to leave first.
        whole: Whether they leave all or none: they are what is left of a branch.
    """

    units: list[tuple[str, int]]
    whole: bool = False


def telling(
    values: Mapping[str, Float], branches: Iterable[tuple[str, ...]]
) -> dict[tuple[str, ...], str]:
    """Say of which group's scores branches are judged; those that nothing tells of are left out.

    Of the last that has a score for every unit: all of them together are what it loses.

    Args:
        values: What each unit is worth, `(units,)` by group; -inf where nothing is known.
        branches: Groups by branch, in the order of the graph.
    """
    known = {name for name, worth in values.items() if not np.isneginf(worth).any()}
    return {
        branch: [name for name in branch if name in known][-1]
        for branch in branches
        if not known.isdisjoint(branch)
    }


class Leaving:
    """Lets go, again and again, of the units that are worth least for what they cost.

    What a unit costs depends on how many are left of the layers around it. It only falls as they
    leave, so what was found earlier for others is still a bound (lazy greedy: Minoux 1978).

    A branch leaves as a whole where that loses less for what it saves than the next units
    anywhere. It loses what is left of the loss without all of its units, as the last of its layers
    that has scores tells.

    Args:
        values: What each unit is worth, `(units,)` by group; -inf where nothing is known.
        floor: Which units of each group do not leave by themselves.
        plan: Makes a plan of the units that are kept.
        cost: What a plan costs.
        stepped: As in `Ranking`.
        branches: Groups of units that can leave all together, with the one that tells their loss.
    """

    def __init__(
        self,
        values: Mapping[str, Float],
        floor: Mapping[str, NDArray[np.bool_]],
        plan: Callable[[Kept], Plan],
        cost: Cost,
        *,
        stepped: bool = False,
        branches: Mapping[tuple[str, ...], str] | None = None,
    ) -> None:
        self._values, self._floor = values, floor
        self._plan, self._cost, self._stepped = plan, cost, stepped
        self._branches = branches or {}
        self._kept: Kept = {}

    def blocks(self) -> list[Block]:
        """Return the units that leave, the first to leave first."""
        self._kept = {name: np.ones_like(mask) for name, mask in self._floor.items()}
        whole = self._cost(self._plan(self._kept))
        leaving = {name: self._pieces(name, whole) for name in self._values}
        waiting: list[tuple[float, float, str, str | tuple[str, ...]]]
        waiting = [(0.0, 0.0, name, name) for name, pieces in leaving.items() if pieces]
        waiting += [(0.0, 0.0, f"{'+'.join(one)}+", one) for one in self._branches]
        heapq.heapify(waiting)
        blocks: list[Block] = []
        while waiting:
            _, _, title, one = heapq.heappop(waiting)
            block = self._next(one, leaving)
            if not block.units:
                continue
            ratio, lost, left = self._price(one, block, whole)
            if waiting and (ratio, lost) > waiting[0][:2]:
                heapq.heappush(waiting, (ratio, lost, title, one))
                continue
            whole = left
            self._set(block, stays=False)
            blocks.append(block)
            if isinstance(one, str):
                leaving[one].pop(0)
                if leaving[one]:
                    heapq.heappush(waiting, (ratio, lost, title, one))
        return blocks

    def _next(self, one: str | tuple[str, ...], leaving: Mapping[str, list[list[int]]]) -> Block:
        """Return what leaves next of a group, or what is left of a branch."""
        if isinstance(one, str):
            # With its branch everything of it left.
            there = self._kept[one].any() and bool(leaving[one])
            return Block([(one, unit) for unit in leaving[one][0]] if there else [])
        return Block(
            [(name, u) for name in one for u in np.flatnonzero(self._kept[name]).tolist()], True
        )

    def _price(
        self, one: str | tuple[str, ...], block: Block, whole: float
    ) -> tuple[float, float, float]:
        """Return what is lost for what is saved, what is lost, and what it costs without."""
        self._set(block, stays=False)
        left = self._cost(self._plan(self._kept))
        self._set(block, stays=True)
        telling = one if isinstance(one, str) else self._branches[one]
        units = [unit for name, unit in block.units if name == telling]
        lost = float(self._values[telling][units].sum())
        saved = whole - left
        return (lost / saved if saved > 0 else np.inf), lost, left

    def _set(self, block: Block, *, stays: bool) -> None:
        for name, unit in block.units:
            self._kept[name][unit] = stays

    def _pieces(self, name: str, whole: float) -> list[list[int]]:
        """Return in which pieces a group leaves, down to its floor."""
        values = self._values[name]
        units = [
            unit
            for unit in np.argsort(values, kind="stable").tolist()
            if not self._floor[name][unit] and not np.isneginf(values[unit])
        ]
        piece = max(1, values.size // _PIECES)
        ends = [*range(piece, len(units), piece), len(units)]
        if self._stepped:
            ends = self._hull(name, units, ends, whole)
        starts = [0, *ends]
        return [units[start:end] for start, end in zip(starts, ends, strict=False) if end > start]

    def _hull(self, name: str, units: list[int], ends: list[int], whole: float) -> list[int]:
        """Choose after which units of a layer to stop: where most was saved for what was lost.

        These are the corners of the convex hull of what is lost over what is saved. The widths
        between them cost more, or as good as more, than one of them for what they are worth.
        """
        kept = {group: np.ones_like(mask) for group, mask in self._floor.items()}
        lost, saved = np.zeros(len(ends) + 1), np.zeros(len(ends) + 1)
        for place, end in enumerate(ends, start=1):
            kept[name][units[:end]] = False
            lost[place] = self._values[name][units[:end]].sum()
            saved[place] = whole - self._cost(self._plan(kept))
        corners, at = [], 0
        while at < len(ends):
            more = saved[at + 1 :] - saved[at]
            slopes = np.full(len(more), np.inf)
            np.divide(lost[at + 1 :] - lost[at], more, out=slopes, where=more > 0)
            # Of equals the last; where nothing is saved any more, all that is left.
            at += len(slopes) - int(np.argmin(slopes[::-1]))
            corners.append(ends[at - 1])
        return corners
