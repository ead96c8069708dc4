"""Gather units into the groups that a plan speaks of, from what rules bound together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from keras_nns.graph.rules import FIXED
from keras_nns.graph.rules.records import Family, Ledger
from keras_nns.plans.units import Group, Layout, Member


def classes(ledger: Ledger) -> NDArray[np.int64]:
    """Number the sets of units that stay or go together, one entry per unit."""
    if not ledger.count:
        return np.zeros(0, dtype=np.int64)
    pairs = [np.stack([one, other]) for one, other, _ in ledger.couplings]
    edges = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), dtype=np.int64)
    edges = edges[:, (edges != FIXED).all(axis=0)]
    matrix = coo_matrix(
        (np.ones(edges.shape[1], dtype=np.int8), (edges[0], edges[1])),
        shape=(ledger.count, ledger.count),
    )
    return np.asarray(connected_components(matrix, directed=False)[1], dtype=np.int64)


def layout(ledger: Ledger, class_of: NDArray[np.int64]) -> Layout:
    """Gather the families whose units are bound to each other into groups, in their order."""
    families = list(ledger.families.values())
    if not families:
        return Layout(())
    owner = np.concatenate([np.full(len(f.units), i) for i, f in enumerate(families)])
    size = len(families) + int(class_of.max()) + 1
    matrix = coo_matrix(
        (np.ones(len(owner), dtype=np.int8), (owner, len(families) + class_of)), shape=(size, size)
    )
    component = connected_components(matrix, directed=False)[1][: len(families)]
    reasons = _reasons(ledger, class_of)
    component_of = np.zeros(int(class_of.max()) + 1, dtype=np.int64)
    component_of[class_of] = component[owner]
    alone = _read_alone(ledger, class_of, component_of)
    skips = [b.skip.unit for b in ledger.blueprints.values() if b.skip is not None]
    skipping = set(class_of[np.concatenate(skips)].tolist()) if skips else set()
    together: dict[int, list[Family]] = {}
    for family, index in zip(families, component.tolist(), strict=True):
        together.setdefault(index, []).append(family)
    groups: list[Group] = []
    for index, members in together.items():
        own = [class_of[f.units] for f in members]
        ordered = np.concatenate(own)
        unique, first, place = np.unique(ordered, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        numbers = np.split(rank[place], np.cumsum([len(each) for each in own])[:-1])
        number_of = dict(zip(unique.tolist(), rank.tolist(), strict=True))
        blocked = {c: reasons[c] for c in number_of.keys() & reasons.keys()}
        read = alone.get(index)
        groups.append(
            Group(
                name=members[0].name,
                size=len(unique),
                members=tuple(
                    Member(f.name, tuple(units.tolist()))
                    for f, units in zip(members, numbers, strict=True)
                ),
                protected=frozenset(number_of[c] for c in blocked),
                reasons=tuple(dict.fromkeys(r for c in sorted(blocked) for r in blocked[c])),
                parts=_parts(read, [set(each.tolist()) for each in own], number_of) if read else (),
                least=max(
                    (n for units, n in ledger.floors if set(class_of[units]) <= number_of.keys()),
                    default=1,
                ),
                kind=members[0].kind if len(members) == 1 else "",
                optional=number_of.keys() <= skipping,
            )
        )
    return Layout(tuple(groups))


def _read_alone(
    ledger: Ledger, class_of: NDArray[np.int64], component_of: NDArray[np.int64]
) -> dict[int, list[frozenset[int]]]:
    """For every group, the classes that one layer reads of it and of no other."""
    found: dict[int, list[frozenset[int]]] = {}
    for units, title in ledger.read:
        if title and len(units) and not (units == FIXED).any():
            classes = class_of[units]
            groups = component_of[classes]
            if (groups == groups[0]).all():
                found.setdefault(int(groups[0]), []).append(frozenset(classes.tolist()))
    return found


def _parts(
    read: list[frozenset[int]], made: list[set[int]], number_of: dict[int, int]
) -> tuple[tuple[int, ...], ...]:
    """Keep what is less than any member makes: a split shares the group out."""
    least = min(len(one) for one in made)
    parts = [one for one in dict.fromkeys(read) if len(one) < least or not _holds(one, made)]
    return tuple(dict.fromkeys(tuple(sorted(number_of[c] for c in one)) for one in parts))


def _holds(read: frozenset[int], made: list[set[int]]) -> bool:
    return any(read >= one for one in made)


def _reasons(ledger: Ledger, class_of: NDArray[np.int64]) -> dict[int, list[str]]:
    """For every protected class, why."""
    found: dict[int, list[str]] = {}
    normalised = [(units[units != FIXED], reason) for units, reason in ledger.normalised]
    for units, reason in [*ledger.outputs, *ledger.protections, *normalised]:
        for c in dict.fromkeys(class_of[units].tolist()):
            reasons = found.setdefault(c, [])
            if reason not in reasons:
                reasons.append(reason)
    return found
