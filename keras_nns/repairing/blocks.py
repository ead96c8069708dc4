"""Moments of what the ends of a block's branches read and are to give, one branch after another.

The parent runs through a block once for all of its branches; what it has behind each is kept until
that branch's turn comes, and only what is left of the block runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.engine.tensors import as_array
from keras_nns.graph.programs import Program
from keras_nns.observation.branches import inputs_of
from keras_nns.observation.moments import MomentSums
from keras_nns.observation.stages import Values
from keras_nns.repairing.patient import Treatment
from keras_nns.repairing.targets import Branched

Add = Callable[[MomentSums, Branched, Any, NDArray[np.int32]], None]
"""`(sums, target, (what it reads, what is wanted, weights), part of each sample)`."""


def moments_of_branches(
    treatment: Treatment, path: str, targets: Sequence[Branched], add: Add, *, balance: bool
) -> Iterator[tuple[Branched, MomentSums]]:
    """Yield the ends of a block's branches with their moments, in the order of computation.

    Each is to be refitted before the next is asked for.

    Args:
        treatment: The repair.
        path: The parent's block.
        targets: The ends.
        add: Adds rows to sums.
        balance: As in `Treatment.stream`.
    """
    once = treatment.division.constant
    known: list[list[list[NDArray[Any]]]] = [[] for _ in targets]
    for number, target in enumerate(targets):
        sums = MomentSums(target.features, target.size)
        if number and once:
            asked: Sequence[Branched] = ()
        else:
            asked = targets[number:] if once else (target,)

        def look(
            there: Sequence[tuple[Program, Values]],
            part: Any,
            weight: Any,
            target: Branched = target,
            asked: Sequence[Branched] = asked,
        ) -> Any:
            (theirs, before), (ours, values) = there
            calls = inputs_of(ours, treatment.own_path(path), values, [target.branches[1]])
            found = []
            for ((own,),) in zip(calls, strict=True):
                read, lacking = target.read(own), target.beside_own(own)
                _, each = target.by_row(part, weight, read, own)
                found.append([read, each, *([] if lacking is None else [lacking])])
            if not asked:
                return found, [[] for _ in found]
            branches = [one.branches[0] for one in asked]
            parents = [
                [one.parents(x) for one, x in zip(asked, call, strict=True)]
                for call in inputs_of(theirs, path, before, branches)
            ]
            return found, parents

        batches = iter(known[number])
        adding = partial(add, sums, target)

        def then(
            results: Any,
            part: NDArray[np.int32],
            adding: Callable[..., None] = adding,
            number: int = number,
            batches: Iterator[list[NDArray[Any]]] = batches,
        ) -> None:
            found, parents = results
            if parents[0]:
                told = [[as_array(rows) for rows in call] for call in parents]
                wanted = [call[0] for call in told]
                for place in range(1, len(told[0])):
                    known[number + place].append([call[place] for call in told])
            else:
                wanted = next(batches)
            for tensors, rows in zip(found, wanted, strict=True):
                read, each, *lacking = map(as_array, tensors)
                adding((read, rows - lacking[0] if lacking else rows, each), part)

        treatment.reach(path, look, then, balance=balance)
        known[number].clear()
        yield target, sums
