"""A bundle: many subnetworks of one parent in one file, shared rows stored once.

Reading plans and weights needs neither Keras nor TensorFlow; `storing` makes models of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.bundles import kept_rows
from keras_nns.bundles.kept_rows import Values, VectorFile
from keras_nns.bundles.parent_weights import Mask
from keras_nns.data.sketch import Seen
from keras_nns.errors import FileError, PlanError, SelectionError, what_is_wrong
from keras_nns.files.atomic import Json, blame, json_text, parse_json
from keras_nns.plans.kept_units import Plan, union
from keras_nns.plans.units import Fingerprint, Layout
from tflite_export.text import one_line

Which = str | Plan | Iterable[str | Plan]
"""One subnetwork by name, several to be united, or any plan made of their units."""


class _Plans(Mapping[str, Plan]):
    """Plans by name, each made when it is asked for: a bundle may hold thousands."""

    def __init__(self, shared: Json, own: Mapping[str, Json], layout: Layout) -> None:
        # Read once for all plans: uniting a sketch with itself then takes no time.
        sketch = {"seen": Seen.from_json(shared["seen"])} if "seen" in shared else {}
        self._shared = {**shared, **sketch}
        self._own = own
        self._sizes = {group.name: group.size for group in layout.groups}

    def __getitem__(self, name: str) -> Plan:
        plan = Plan.from_json({**self._shared, **self._own[name]})
        if plan.sizes != self._sizes:
            raise FileError(
                f"The bundle is damaged: its subnetwork {name!r} has other unit groups than its "
                "layout."
            )
        return plan

    def __contains__(self, name: object) -> bool:
        return name in self._own

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._own)})"


@dataclass(frozen=True, eq=False)
class Bundle:
    """Subnetworks of one parent in a file, each of which can be read without the others.

    Attributes:
        path: The file.
        plans: What each subnetwork keeps, by its name.
        parent: Fingerprint of the parent.
        values: How numbers are stored: `"exact"`, `"float16"` or `"int8"`.

    Example:
        >>> plans = nns.select(activity, labels="each")
        >>> bundle = nns.store(model, plans, "digits.safetensors")
        >>> bundle.weights("3")["dense/kernel"].shape  # reads its own rows alone
        (64, 16)
        >>> nns.restore(bundle, ["3", "8"], head="labels").output_shape  # the paper's integration
        (None, 2)
    """

    path: str
    plans: Mapping[str, Plan]
    parent: Fingerprint
    values: Values
    _file: VectorFile
    _layout: Layout

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Bundle:
        """Open a bundle that `store` wrote: its plans are read, and no weights.

        Raises:
            FileError: The file is missing, damaged, cut short, or no bundle.
        """
        file = kept_rows.open_vectors(path)
        content = file.content
        with blame(path):
            try:
                layout = Layout.from_json(content["layout"])
                _check(content, layout, len(file.union))
                shared = content["shared"]
                plans = _Plans(shared, content["plans"], layout)
                parent = Fingerprint.from_json(shared["parent"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise FileError(f"The bundle is damaged: {what_is_wrong(error)}.") from error
        return cls(str(path), plans, parent, file.values, file, layout)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the subnetworks."""
        return tuple(self.plans)

    @property
    def architecture(self) -> Json:
        """The parent's layers, as Keras writes them."""
        with blame(self.path):
            architecture: Json = parse_json(self._file.content["architecture"].encode())
        return architecture

    @property
    def layers(self) -> tuple[tuple[str, str, int], ...]:
        """For each weight: its name here, the path of its layer, its place among its variables."""
        return tuple((w.name, w.layer, w.index) for w in self._file.weights)

    def plan(self, which: Which) -> Plan:
        """Return the plan of one subnetwork, or of several united.

        The order in which subnetworks are united does not matter.

        Args:
            which: A name, a plan of units that the bundle holds, or several of these.

        Raises:
            SelectionError: No subnetwork has such a name, or none was named.
            PlanError: The plan is of another parent, or keeps units that the bundle does not hold.
        """
        return self._resolved(which)[0]

    def _resolved(self, which: Which) -> tuple[Plan, Mask]:
        if isinstance(which, str | Plan):
            which = [which]
        chosen = [one if isinstance(one, Plan) else self._named(one) for one in which]
        if not chosen:
            raise SelectionError(f"No subnetwork was named. Expected some of {list(self.plans)}.")
        plan = union(chosen)
        if plan.fingerprint != self.parent:
            raise PlanError(
                f"The plan is of another parent than the bundle {self.path!r}. Select from "
                "activity of the model that was stored."
            )
        starts: Mapping[str, int] = self._file.content["starts"]
        mask = unit_mask(plan, self._layout, starts, len(self._file.union))
        missing = mask & ~self._file.union
        if missing.any():
            raise PlanError(
                f"The plan keeps {int(missing.sum())} units that no subnetwork in {self.path!r} "
                "keeps, so their weights are not in it. Store them too."
            )
        return plan, mask

    def weights(self, which: Which, *, full: bool = False) -> dict[str, NDArray[Any]]:
        """Read the parent's weights that a subnetwork keeps. Needs no Keras.

        Args:
            which: A name, a plan of units that the bundle holds, or several of these.
            full: Whether to give them in the parent's shapes, zeros where a weight is not kept
                (the paper's Fig. 8).

        Returns:
            Arrays by name of weight, such as `"hidden/kernel"`, in the parent's types.

        Raises:
            FileError: The file is damaged.
            SelectionError: No subnetwork has such a name.
            PlanError: The bundle does not hold the plan.
        """
        _, mask = self._resolved(which)
        found = self._file.read(mask)
        if not full:
            return found
        return {w.name: w.place(found[w.name], mask) for w in self._file.weights}

    def verify(self) -> None:
        """Read everything and compare every checksum.

        Raises:
            FileError: The file is damaged.
        """
        self._file.read(self._file.union)

    def __str__(self) -> str:
        return f"Bundle of {len(self.plans)} subnetworks ({', '.join(map(one_line, self.plans))})"

    def _named(self, name: str) -> Plan:
        if name not in self.plans:
            raise SelectionError(
                f"The bundle has no subnetwork {name!r}. Expected one of {list(self.plans)}."
            )
        with blame(self.path):
            return self.plans[name]


def _check(content: Json, layout: Layout, units: int) -> None:
    """Raise `ValueError` where what a bundle says does not fit together."""
    own = content["plans"]
    if not own or not all(isinstance(one, dict) for one in (content["shared"], own, *own.values())):
        raise ValueError("its subnetworks are not described")
    if not isinstance(content["architecture"], str):
        raise ValueError(f"its architecture is {content['architecture']!r}")
    for member in (member for group in layout.groups for member in group.members):
        start = content["starts"][member.layer]
        if type(start) is not int or not 0 <= start <= units - len(member.units):
            raise ValueError(f"units of {member.layer!r} begin at {start!r} of {units}")


def unit_mask(plan: Plan, layout: Layout, starts: Mapping[str, int], count: int) -> Mask:
    """Say for every unit of the parent whether a plan keeps it.

    Args:
        plan: What stays.
        layout: The parent's unit groups that can lose units; units of others stay.
        starts: Number of the first unit of each of their members.
        count: How many units the parent has.
    """
    mask = np.ones(count, dtype=bool)
    for group in layout.groups:
        stays = np.zeros(group.size, dtype=bool)
        stays[list(plan.kept[group.name])] = True
        stays[list(group.protected)] = True
        for member in group.members:
            start = starts[member.layer]
            mask[start : start + len(member.units)] = stays[list(member.units)]
    return mask


def content_of(
    plans: Mapping[str, Plan], layout: Layout, starts: Mapping[str, int], architecture: Json
) -> Json:
    """Write down all that a bundle says besides weights."""
    every = {name: plan.to_json() for name, plan in plans.items()}
    first, *others = every.values()
    # What all of them say is written once: the parent, and what was seen of the data.
    shared = {
        key: value
        for key, value in first.items()
        if all(key in plan and plan[key] == value for plan in others)
    }
    return {
        "shared": shared,
        "plans": {
            name: {key: value for key, value in plan.items() if key not in shared}
            for name, plan in every.items()
        },
        "layout": layout.to_json(),
        "starts": dict(starts),
        # As text: whoever reads weights alone has no need to take it apart.
        "architecture": json_text(architecture),
    }
