"""Which units a model has and which of them must stay or go together: pure data, no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import PlanError
from keras_nns.files.atomic import Json


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a model: the shape of its graph and the bytes of its weights.

    Attributes:
        structure: Digest of layer paths, layer types, weight shapes and unit groups. Two models
            with the same structure accept the same plans.
        weights: Digest of every weight's bytes. Changes when the model is trained further.
    """

    structure: str
    weights: str

    def to_json(self) -> Json:
        """Return the fingerprint as plain data."""
        return {"structure": self.structure, "weights": self.weights}

    @classmethod
    def from_json(cls, data: Json) -> Fingerprint:
        """Build a fingerprint from what `to_json` gave."""
        return cls(structure=str(data["structure"]), weights=str(data["weights"]))


@dataclass(frozen=True)
class Member:
    """One layer's place in a unit group.

    Attributes:
        layer: Path of the layer in the model, `"outer/inner"` for a layer of a nested model.
        units: For each unit of the layer, in order, its number in the group.
    """

    layer: str
    units: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Units that live in one or more layers and can only be removed from all of them together.

    Attributes:
        name: Path of the first layer that makes these units.
        size: Number of units.
        members: The layers that make these units.
        protected: Numbers of the units that cannot be removed.
        reasons: Why they cannot, one sentence each.
        parts: Units that a layer reads by itself, behind a split that shares the group out.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    protected: frozenset[int] = frozenset()
    reasons: tuple[str, ...] = ()
    parts: tuple[tuple[int, ...], ...] = ()

    @property
    def needs(self) -> list[list[int]]:
        """Sets of units of which each must keep one: what each member makes, and each part."""
        return [sorted({*units}) for units in (*(m.units for m in self.members), *self.parts)]

    @property
    def prunable(self) -> bool:
        """Whether at least one unit can be removed."""
        return len(self.protected) < self.size

    def to_json(self) -> Json:
        """Return the group as plain data."""
        return {
            "name": self.name,
            "size": self.size,
            "members": [[m.layer, _pack(m.units)] for m in self.members],
            "protected": sorted(self.protected) if self.prunable else "all",
            "reasons": list(self.reasons),
            **({"parts": [list(part) for part in self.parts]} if self.parts else {}),
        }

    @classmethod
    def from_json(cls, data: Json) -> Group:
        """Build a group from what `to_json` gave."""
        size = int(data["size"])
        protected = range(size) if data["protected"] == "all" else data["protected"]
        return cls(
            name=str(data["name"]),
            size=size,
            members=tuple(Member(str(layer), _unpack(units)) for layer, units in data["members"]),
            protected=frozenset(int(unit) for unit in protected),
            reasons=tuple(str(reason) for reason in data["reasons"]),
            parts=tuple(tuple(int(unit) for unit in part) for part in data.get("parts", ())),
        )


@dataclass(frozen=True)
class Layout:
    """Every unit group of a model, in the order of the graph.

    Example:
        >>> layout = Layout((Group("dense", 4, (Member("dense", (0, 1, 2, 3)),)),))
        >>> layout["dense"].size
        4
    """

    groups: tuple[Group, ...] = field(default=())

    @cached_property
    def _by_name(self) -> Mapping[str, Group]:
        return {group.name: group for group in self.groups}

    @cached_property
    def _by_layer(self) -> Mapping[str, tuple[Group, Member]]:
        return {m.layer: (group, m) for group in self.groups for m in group.members}

    @property
    def prunable(self) -> tuple[Group, ...]:
        """The groups of which at least one unit can be removed."""
        return tuple(group for group in self.groups if group.prunable)

    def __getitem__(self, name: str) -> Group:
        try:
            return self._by_name[name]
        except KeyError:
            raise PlanError(
                f"No unit group is named {name!r}. Expected one of {list(self._by_name)}."
            ) from None

    def of_layer(self, layer: str) -> tuple[Group, Member]:
        """Return the group that holds a layer's units, and the layer's place in it.

        Raises:
            PlanError: No group holds units of that layer.
        """
        try:
            return self._by_layer[layer]
        except KeyError:
            raise PlanError(
                f"Layer {layer!r} makes no units. Expected one of {list(self._by_layer)}."
            ) from None

    def to_json(self) -> list[Json]:
        """Return the layout as plain data."""
        return [group.to_json() for group in self.groups]

    @classmethod
    def from_json(cls, data: list[Json]) -> Layout:
        """Build a layout from what `to_json` gave."""
        return cls(tuple(Group.from_json(group) for group in data))


def _pack(units: tuple[int, ...]) -> int | list[int]:
    """Write `0, 1, …, n-1` as `n`: it is what nearly every layer has."""
    return len(units) if units == tuple(range(len(units))) else list(units)


def _unpack(units: int | list[int]) -> tuple[int, ...]:
    return tuple(range(units)) if isinstance(units, int) else tuple(int(u) for u in units)


def mask_of(kept: tuple[int, ...], size: int) -> NDArray[np.bool_]:
    """Turn kept unit numbers into a boolean array of shape `(size,)`."""
    mask = np.zeros(size, dtype=bool)
    mask[list(kept)] = True
    return mask
