"""Plans for the models of the contract table."""

from __future__ import annotations

import numpy as np

from keras_nns.plans.kept_units import Plan


def plan_of(graph, keep) -> Plan:
    """Make a plan that keeps the units `keep(group)` says, and at least one."""
    prunable = graph.layout.prunable
    return Plan(
        fingerprint=graph.fingerprint,
        sizes={group.name: group.size for group in prunable},
        kept={group.name: tuple(keep(group)) for group in prunable},
    )


def random_plan(graph, share: float, seed: int) -> Plan:
    """Keep about a share of every group's units, one of each layer at least; groups differ."""
    random = np.random.default_rng(seed)

    def keep(group):
        count = max(1, random.binomial(group.size, share))
        kept = set(random.permutation(group.size)[:count].tolist())
        for need in group.needs:
            if kept.isdisjoint(need):
                kept.add(int(random.choice(need)))
        return sorted(kept)

    return plan_of(graph, keep)
