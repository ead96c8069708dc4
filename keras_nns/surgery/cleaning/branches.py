"""Which branches of a model can leave as a whole, since the signal goes round them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_nns.errors import PlanError
from keras_nns.graph.keras_internals import Key
from keras_nns.graph.programs import Instruction, Program, Slot
from keras_nns.graph.rules import Units
from keras_nns.graph.tracing import Graph
from keras_nns.surgery.cleaning.constants import SUMS, decide
from keras_nns.surgery.cleaning.decisions import Mask


@dataclass(frozen=True, eq=False)
class Branch:
    """Layers that leave a model when nothing is kept of the units inside.

    Attributes:
        groups: Names of the groups that lie in it and nowhere else, in the order of the graph.
        layers: Paths of its layers.
        units: Numbers of the units of its groups.
    """

    groups: tuple[str, ...]
    layers: frozenset[str]
    units: Units


def branches_of(graph: Graph, whole: Mask) -> tuple[Branch, ...]:
    """Find the branches that can leave all together, those within others too.

    A branch is what leads to one summand of a sum and nowhere else, and of
    which nothing depends on the input any more once its own units are gone. That the model can do
    without it, its constant in its place, is asked of what decides for `cut`; of two branches that
    lead round each other the later stays.

    Args:
        graph: The traced model.
        whole: For every unit, whether it stays where no branch leaves.
    """
    found = list(_candidates(graph))
    if not found or _possible(graph, whole, found):
        return tuple(found)
    chosen: list[Branch] = []
    for branch in found:
        if _possible(graph, whole, [*chosen, branch]):
            chosen.append(branch)
    return tuple(chosen)


def _possible(graph: Graph, whole: Mask, branches: Iterable[Branch]) -> bool:
    kept = whole.copy()
    for branch in branches:
        kept[branch.units] = False
    try:
        decide(graph, kept, units=False)
    except PlanError:
        return False
    return True


def _candidates(graph: Graph) -> Iterable[Branch]:
    """Yield what may be branches, told by which calls read what."""
    program = Program(graph.model)
    calls = program.instructions
    readers: dict[Key, list[Key]] = {}
    for one in calls:
        for slot in one.reads:
            readers.setdefault(slot.key, []).append(one.call.key)
    shown = {slot.key for slot in program.outputs if isinstance(slot, Slot)}
    layers = {
        group.name: {graph.families[member.layer].layer for member in group.members}
        for group in graph.layout.prunable
        if not (group.protected or group.optional)
    }
    known: set[frozenset[str]] = set()
    for one in calls:
        if type(one.call.operation) not in SUMS or len(one.reads) < 2:
            continue
        for slot in one.reads:
            inside = _leading_to(slot.key, one.call.key, calls, readers, shown)
            paths = {call.call.path for call in calls if call.call.key in inside}
            # A layer that is called elsewhere too stays.
            paths -= {call.call.path for call in calls if call.call.key not in inside}
            groups = tuple(name for name, own in layers.items() if own <= paths)
            makers = {path for name in groups for path in layers[name]}
            if not groups or frozenset(paths) in known or _depends(slot.key, calls, makers):
                continue
            known.add(frozenset(paths))
            units = [graph.families[m.layer].units for g in groups for m in graph.layout[g].members]
            yield Branch(groups, frozenset(paths), np.concatenate(units))


def _leading_to(
    last: Key,
    join: Key,
    calls: Sequence[Instruction],
    readers: dict[Key, list[Key]],
    shown: set[Key],
) -> set[Key]:
    """Return the calls that lead to one summand of a join, and nowhere else."""
    inside: set[Key] = set()
    for one in reversed(calls):
        key = one.call.key
        read_by = readers.get(key, [])
        if key in shown or not read_by:
            continue
        alone = read_by == [join] if key == last else inside.issuperset(read_by)
        if alone:
            inside.add(key)
    return inside


def _depends(last: Key, calls: Sequence[Instruction], makers: set[str]) -> bool:
    """Return whether a tensor still depends on the input where some layers give constants."""
    varies = {slot.key for one in calls for slot in one.reads if not slot.key}
    for one in calls:
        if one.call.path not in makers and any(slot.key in varies for slot in one.reads):
            varies.add(one.call.key)
    return last in varies
