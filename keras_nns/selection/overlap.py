"""What subnetworks of one parent have in common: which units they hold, and how many they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.errors import PlanError, SelectionError
from keras_nns.files.atomic import Json
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import mask_of
from keras_nns.surgery.lineage import lineage


@dataclass(frozen=True, repr=False, eq=False)
class Overlap(tables.Tabular):
    """How many of their parent's units subnetworks share. Printing it gives a table.

    Attributes:
        names: A name for each subnetwork.
        shared: Units that two subnetworks both hold, `(subnets, subnets)`; on the diagonal, how
            many each holds.
        jaccard: Units both hold, of all that either holds, `(subnets, subnets)`; NaN where neither
            holds any.
        groups: For each unit group, `shared` within it.
        kept: For each unit group, which of its units each subnetwork holds, `(subnets, units)`.

    Example:
        >>> found = nns.overlap({"three": three, "eight": eight})
        >>> found.shared.diagonal()  # units that each holds
        array([24, 24])
    """

    names: tuple[str, ...]
    shared: NDArray[np.int64]
    jaccard: NDArray[np.float64]
    groups: Mapping[str, NDArray[np.int64]]
    kept: Mapping[str, NDArray[np.bool_]]

    @property
    def coupling(self) -> float:
        """Mean Jaccard index of every two subnetworks; NaN for a single one.

        What MwT reports of modules (Qi et al. 2024) is the same mean over samples: `modularity`.
        """
        pairs = self.jaccard[np.triu_indices(len(self.names), k=1)]
        known = pairs[np.isfinite(pairs)]
        return float(known.mean()) if len(known) else float("nan")

    def holders(self, group: str) -> tuple[tuple[str, ...], ...]:
        """Return the names of the subnetworks that hold each unit of a group.

        Raises:
            SelectionError: There is no such group.
        """
        if group not in self.kept:
            raise SelectionError(f"No unit group {group!r}. Expected one of {list(self.kept)}.")
        return tuple(
            tuple(name for name, holds in zip(self.names, unit, strict=True) if holds)
            for unit in self.kept[group].T
        )

    def to_sharing_table(self) -> tables.Table:
        """Return how many units of each group so many subnetworks hold, as a table."""
        most = len(self.names)
        rows = []
        for group, kept in self.kept.items():
            counts = np.bincount(kept.sum(axis=0), minlength=most + 1)
            rows.append((group, *(tables.count(int(number)) for number in counts)))
        held = ["none", "one only", *map(str, range(2, most)), "all"][: most + 1]
        return tables.Table(("units held by", *held), tuple(rows))

    def to_json(self) -> Json:
        """Return everything as plain data: units held by number, None where undefined."""
        return {
            "names": list(self.names),
            "shared": self.shared.tolist(),
            "jaccard": [[None if np.isnan(v) else float(v) for v in row] for row in self.jaccard],
            "coupling": None if np.isnan(self.coupling) else self.coupling,
            "units": {
                group: {
                    name: np.flatnonzero(row).tolist()
                    for name, row in zip(self.names, kept, strict=True)
                }
                for group, kept in self.kept.items()
            },
        }

    def to_table(self) -> tables.Table:
        """Return units shared, and in brackets of all that either holds, as a table."""
        rows = tuple(
            (
                name,
                *(
                    f"{tables.count(int(units))} ({tables.share(float(value))})"
                    for units, value in zip(self.shared[i], self.jaccard[i], strict=True)
                ),
            )
            for i, name in enumerate(self.names)
        )
        caption = (
            "Units that both hold; in brackets the share of all that either holds, on average "
            f"{tables.share(self.coupling)}."
        )
        return tables.Table(("subnetwork", *self.names), rows, caption)


def overlap(subnets: Iterable[Any] | Mapping[str, Any]) -> Overlap:
    """Compare which of their parent's units subnetworks hold.

    Args:
        subnets: Models that `cut` gave (from files too), or plans: several of one parent, or by
            name. Without names they are named after their labels.

    Returns:
        Shared units and Jaccard indices of every two.

    Raises:
        SelectionError: None was given.
        PlanError: One is neither a plan nor a model that was cut, or they are of different parents.

    Example:
        >>> print(nns.overlap([three, eight]))
         subnetwork            3            8
         ────────────────────────────────────
         3            24 (1.000)   ... (0...)
         8            ... (0...)   24 (1.000)
        Units that both hold; in brackets the share of all that either holds, on average 0....
    """
    given = subnets if isinstance(subnets, Mapping) else dict(enumerate(subnets))
    plans = [plan_of(one) for one in given.values()]
    _check(plans)
    for plan in plans:
        if plan.fingerprint != plans[0].fingerprint:
            raise PlanError(
                "The subnetworks are of different parents, or of one before and after more "
                f"training: {plan.fingerprint} and {plans[0].fingerprint}. Compare those of one."
            )
    if isinstance(subnets, Mapping):
        names = tuple(map(str, given))
    else:
        names = tuple("+".join(plan.names) or str(i) for i, plan in enumerate(plans))
    held = {group: kept_matrix(plans, group) for group in plans[0].kept}
    groups = {}
    for group, kept in held.items():
        numbers = kept.astype(np.int64)
        groups[group] = numbers @ numbers.T
    none = np.zeros((len(plans), len(plans)), dtype=np.int64)
    return Overlap(names, sum(groups.values(), none), jaccard(plans), groups, held)


def plan_of(subnet: Any) -> Plan:
    """Return which of its parent's units a subnetwork holds, of a plan or of a model that was cut.

    Raises:
        PlanError: It is neither.
    """
    if isinstance(subnet, Plan):
        return subnet
    record = lineage(subnet)
    if record is None:
        raise PlanError(
            f"Expected a plan or a model that `cut` gave. Received: {type(subnet).__name__} "
            f"{getattr(subnet, 'name', '')!r}, which does not say where it was cut from. Keep "
            "subnetworks in files with nns.save_model and nns.load_model."
        )
    return record.plan


def kept_matrix(plans: Sequence[Plan], group: str) -> NDArray[np.bool_]:
    """Say which units of a group each plan keeps.

    Args:
        plans: Plans of one parent.
        group: Name of the unit group.

    Returns:
        `(plans, units)`.

    Raises:
        SelectionError: No plan was given, they are of different models, or none has such a group.
    """
    _check(plans)
    if group not in plans[0].kept:
        raise SelectionError(
            f"No unit group {group!r} in the plans. Expected one of {list(plans[0].kept)}."
        )
    return np.stack([mask_of(plan.kept[group], plan.sizes[group]) for plan in plans])


def jaccard(plans: Sequence[Plan]) -> NDArray[np.float64]:
    """Compute how much each two plans share: units both keep, of all that either keeps.

    Args:
        plans: Plans of one parent.

    Returns:
        Jaccard indices over the units of all groups, `(plans, plans)`; NaN where neither plan
        keeps any.

    Raises:
        SelectionError: No plan was given, or they are of different models.
    """
    _check(plans)
    kept = np.concatenate([kept_matrix(plans, group) for group in plans[0].kept], axis=1)
    numbers = kept.astype(np.int64)
    shared = numbers @ numbers.T
    counts = np.diag(shared)
    either = counts[:, None] + counts[None, :] - shared
    values = np.full(shared.shape, np.nan)
    np.divide(shared, either, out=values, where=either > 0)
    return values


def _check(plans: Sequence[Plan]) -> None:
    if not plans:
        raise SelectionError("There is no plan to look at. Pass at least one.")
    sizes = [dict(plan.sizes) for plan in plans]
    if any(size != sizes[0] for size in sizes):
        raise SelectionError(
            "The plans are of different models: their unit groups differ. Pass plans of one parent."
        )
