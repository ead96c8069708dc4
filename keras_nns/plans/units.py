"""Which units a model has and which of them must stay or go together: pure data, no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

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


OF_OUTPUT = "model output "
"""How the reason begins for which units of a model's outputs stay."""

MOST_UNITS = 2**23
"""More units than the largest models have; a file that claims more is damaged."""


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
        least: How many units must stay, of whatever number.
        kind: Of units that one layer alone makes: its type and the kind of unit, as `"Dense:"` or
            `"LlamaTransformerDecoder:heads"`; empty for others.
        optional: Whether the model can do without all of its units: it is a whole residual block.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    protected: frozenset[int] = frozenset()
    reasons: tuple[str, ...] = ()
    parts: tuple[tuple[int, ...], ...] = ()
    least: int = 1
    kind: str = ""
    optional: bool = False

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
            **({"least": self.least} if self.least > 1 else {}),
            **({"kind": self.kind} if self.kind else {}),
            **({"optional": True} if self.optional else {}),
        }

    @classmethod
    def from_json(cls, data: Json) -> Group:
        """Build a group from what `to_json` gave.

        Raises:
            ValueError: It names units that the group has not.
        """
        size = data["size"]
        if type(size) is not int or not 0 <= size <= MOST_UNITS:
            raise ValueError(f"a group has {size!r} units; 0 to {MOST_UNITS:,} are possible")
        every = "all" if data["protected"] == "all" else list(data["protected"])
        least = data.get("least", 1)
        if type(least) is not int or not 1 <= least <= max(size, 1):
            raise ValueError(f"{least!r} of {size} units of a group cannot be the least that stay")
        protected = range(size) if every == "all" else _units(every, size)
        return cls(
            name=str(data["name"]),
            size=size,
            members=tuple(
                Member(str(layer), _unpack(units, size)) for layer, units in data["members"]
            ),
            protected=frozenset(protected),
            reasons=tuple(str(reason) for reason in data["reasons"]),
            parts=tuple(_units(part, size) for part in data.get("parts", ())),
            least=least,
            kind=str(data.get("kind", "")),
            optional=bool(data.get("optional", False)),
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

    def why_whole(self, most: int = 4) -> str:
        """Say why no unit can be removed: the hidden groups with their reasons, as `inspect` has.

        Args:
            most: How many groups are named.
        """
        hidden = [
            group
            for group in self.groups
            if len(group.members) > 1
            or not any(reason.startswith(OF_OUTPUT) for reason in group.reasons)
        ]
        told = [f"{one.name!r}: {', '.join(one.reasons)}" for one in hidden if one.reasons]
        if not told:
            return "it has no hidden units, and those of its outputs stay"
        more = f"; and {len(told) - most} more, which nns.inspect shows" if len(told) > most else ""
        return "; ".join(told[:most]) + more

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
        """Build a layout from what `to_json` gave.

        Raises:
            ValueError: It names units that its groups have not, or more than a model can have.
        """
        # Said in a few digits, written out they would fill the memory.
        claimed = sum(group["size"] for group in data)
        if not claimed <= MOST_UNITS:
            raise ValueError(f"the groups have {claimed} units; {MOST_UNITS:,} are possible")
        groups = tuple(Group.from_json(group) for group in data)
        if len({group.name for group in groups}) != len(groups):
            raise ValueError("two groups have one name")
        return cls(groups)


def _pack(units: tuple[int, ...]) -> int | list[int]:
    """Write `0, 1, …, n-1` as `n`: it is what nearly every layer has."""
    return len(units) if units == tuple(range(len(units))) else list(units)


def _unpack(units: int | list[int], size: int) -> tuple[int, ...]:
    if type(units) is not int:
        return _units(units, size)
    if not 0 <= units <= size:
        raise ValueError(f"a layer has {units} of {size} units")
    return tuple(range(units))


def _units(numbers: Any, size: int) -> tuple[int, ...]:
    """Check that numbers are those of units."""
    found = tuple(numbers)
    if not all(type(unit) is int and 0 <= unit < size for unit in found):
        raise ValueError(f"a group of {size} units has the units {found!r}"[:200])
    return found


def mask_of(kept: tuple[int, ...], size: int) -> NDArray[np.bool_]:
    """Turn kept unit numbers into a boolean array of shape `(size,)`."""
    mask = np.zeros(size, dtype=bool)
    mask[list(kept)] = True
    return mask
