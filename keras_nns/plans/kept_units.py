"""Plans: which units stay, for which labels, and why. Pure data with the algebra of sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isinf
from operator import index
from os import PathLike

from keras_nns.data.sketch import Seen, unite
from keras_nns.errors import FileError, PlanError, what_is_wrong
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.plans.units import Fingerprint
from tflite_export.text import one_line

_FORMAT = "keras_nns.plan"
_VERSION = 1


@dataclass(frozen=True, order=True)
class Choice:
    """Why units were kept: one call of `select`, for one label or one set of labels.

    Attributes:
        labels: Label numbers the choice was made for.
        score: Name of the score.
        keep: The keep rule as the user would write it, such as `"above(0.4)"`.
        thresholds: For each group, the lowest score that was kept, as pairs sorted by group.
        scores: For each group, the score of every unit, as pairs sorted by group; -inf for a unit
            that has none. Empty where they were not recorded.
    """

    labels: tuple[int, ...]
    score: str
    keep: str
    thresholds: tuple[tuple[str, float], ...] = ()
    scores: tuple[tuple[str, tuple[float, ...]], ...] = field(default=(), compare=False)

    def to_json(self, *, scores: bool = False) -> Json:
        """Return the choice as plain data, with the score of every unit (None without) or not."""
        data: Json = {
            "labels": list(self.labels),
            "score": self.score,
            "keep": self.keep,
            "thresholds": dict(self.thresholds),
        }
        if scores and self.scores:
            data["scores"] = {
                name: [None if isinf(value) else value for value in values]
                for name, values in self.scores
            }
        return data

    @classmethod
    def from_json(cls, data: Json) -> Choice:
        """Build a choice from what `to_json` gave."""
        return cls(
            labels=tuple(index(label) for label in data["labels"]),
            score=str(data["score"]),
            keep=str(data["keep"]),
            thresholds=tuple((str(k), float(v)) for k, v in sorted(data["thresholds"].items())),
            scores=tuple(
                (str(name), tuple(-inf if value is None else float(value) for value in values))
                for name, values in sorted(data.get("scores", {}).items())
            ),
        )


@dataclass(frozen=True, repr=False)
class Plan:
    """Which units of which group stay, for which labels, and why.

    Plans of one parent are sets: `a | b` keeps what either keeps (the paper's integration of label
    subnetworks), `a & b` what both keep, `a - b` what only `a` keeps. `|` and `&` are associative,
    commutative and idempotent. Two plans are equal when they keep the same units of the same parent
    for the same labels, however they were chosen.

    Attributes:
        fingerprint: The parent model.
        sizes: Units of every prunable group.
        kept: Sorted numbers of the units that stay, for every prunable group.
        labels: Sorted label numbers the plan is for.
        label_names: Names of all the parent's labels.
        choices: Why: every selection that went into the plan.
        seen: A sketch of the samples that it was made from, where it is known.

    Example:
        >>> three = nns.select(activity, labels=3, keep=nns.above(0.4))
        >>> eight = nns.select(activity, labels=8, keep=nns.above(0.4))
        >>> (three | eight).labels
        (3, 8)
    """

    fingerprint: Fingerprint
    sizes: Mapping[str, int]
    kept: Mapping[str, tuple[int, ...]]
    labels: tuple[int, ...] = ()
    label_names: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = field(default=(), compare=False)
    seen: Seen | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if set(self.sizes) != set(self.kept):
            odd = sorted(set(self.sizes) ^ set(self.kept))
            raise PlanError(f"`sizes` and `kept` must name the same groups. They differ in {odd}.")
        kept = {}
        for name, size in self.sizes.items():
            if size < 1:
                raise PlanError(f"Group {name!r} must have at least one unit. Received: {size}.")
            units = tuple(sorted({index(unit) for unit in self.kept[name]}))
            if units and not 0 <= units[0] <= units[-1] < size:
                raise PlanError(
                    f"Group {name!r} has units 0 to {size - 1}. "
                    f"Received: kept units {units[0]} to {units[-1]}."
                )
            kept[name] = units
        object.__setattr__(self, "sizes", {k: index(v) for k, v in self.sizes.items()})
        object.__setattr__(self, "kept", kept)
        labels = tuple(sorted({index(i) for i in self.labels}))
        names = tuple(str(n) for n in self.label_names)
        if labels and (labels[0] < 0 or (names and labels[-1] >= len(names))):
            known = f"{len(names)} labels" if names else "numbers from 0"
            raise PlanError(f"The plan's labels must be of {known}. Received: {list(labels)}.")
        object.__setattr__(self, "labels", labels)
        object.__setattr__(self, "label_names", names)
        object.__setattr__(self, "choices", tuple(sorted(set(self.choices))))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels the plan is for."""
        if not self.label_names:
            return tuple(str(i) for i in self.labels)
        return tuple(self.label_names[i] for i in self.labels)

    @property
    def empty(self) -> tuple[str, ...]:
        """Groups of which nothing is kept."""
        return tuple(name for name, units in self.kept.items() if not units)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Groups that are kept whole because no choice knew anything of their units."""
        decided = {name for choice in self.choices for name, _ in choice.thresholds}
        whole = [name for name, units in self.kept.items() if len(units) == self.sizes[name]]
        return tuple(name for name in whole if self.choices and name not in decided)

    def why(self, group: str, unit: int) -> str:
        """Say whether a unit stays, and by which scores that was chosen.

        Args:
            group: Name of the unit group.
            unit: The unit's number.

        Raises:
            PlanError: The plan has no such group or unit.

        Example:
            >>> print(plan.why("dense", plan.kept["dense"][0]))
            Unit ... of 'dense' stays.
            For 3, fraction(0.5): its contrast is ..., and ... was enough.
        """
        if group not in self.kept:
            raise PlanError(f"No unit group {group!r}. Expected one of {list(self.kept)}.")
        if not 0 <= unit < self.sizes[group]:
            raise PlanError(
                f"Group {group!r} has units 0 to {self.sizes[group] - 1}. Received: {unit}."
            )
        stays = unit in self.kept[group]
        lines = [f"Unit {unit} of {group!r} {'stays' if stays else 'goes'}."]
        for choice in self.choices:
            names = self.label_names
            who = ", ".join(names[i] if names else str(i) for i in choice.labels)
            scores, least = dict(choice.scores).get(group), dict(choice.thresholds).get(group)
            asked = f"For {who or 'no label'}, {choice.keep}:"
            if scores is not None and not isinf(scores[unit]):
                enough = "nothing was kept" if least is None else f"{least:.4g} was enough"
                lines.append(f"{asked} its {choice.score} is {scores[unit]:.4g}, and {enough}.")
            elif group in self.unknown:
                lines.append(f"{asked} nothing is known of these units, so all stay.")
            else:
                lines.append(f"{asked} chosen by {choice.score}; its score was not recorded.")
        if not self.choices:
            lines.append("The plan was written by hand.")
        return "\n".join(lines)

    @property
    def keeps_all(self) -> bool:
        """Whether no unit is removed."""
        return all(len(units) == self.sizes[name] for name, units in self.kept.items())

    def __or__(self, other: Plan) -> Plan:
        if not isinstance(other, Plan):
            return NotImplemented
        return self._combine([other], "|", set.union)

    def __and__(self, other: Plan) -> Plan:
        if not isinstance(other, Plan):
            return NotImplemented
        return self._combine([other], "&", set.intersection)

    def __sub__(self, other: Plan) -> Plan:
        if not isinstance(other, Plan):
            return NotImplemented
        return self._combine([other], "-", set.difference, labels=self.labels)

    def _combine(
        self,
        others: Sequence[Plan],
        sign: str,
        operation: Callable[..., set[int]],
        labels: tuple[int, ...] | None = None,
    ) -> Plan:
        every = (self, *others)
        names, seen = self.label_names, self.seen
        for other in others:
            if self.fingerprint != other.fingerprint:
                raise PlanError(
                    f"`{sign}` combines plans of one parent model. Received plans of two: "
                    f"{self.fingerprint} and {other.fingerprint}. Select both from activity of one "
                    "model."
                )
            if self.sizes != other.sizes:
                raise PlanError(
                    f"`{sign}` combines plans for the same unit groups. Received: {self.sizes} and "
                    f"{other.sizes}."
                )
            names, seen = _common_names(names, other.label_names), unite(seen, other.seen)
        return Plan(
            fingerprint=self.fingerprint,
            sizes=self.sizes,
            kept={
                name: tuple(operation(*(set(plan.kept[name]) for plan in every)))
                for name in self.kept
            },
            labels=tuple(i for plan in every for i in plan.labels) if labels is None else labels,
            label_names=names,
            choices=tuple(choice for plan in every for choice in plan.choices),
            seen=seen,
        )

    def relative_to(self, first: Plan, fingerprint: Fingerprint) -> Plan:
        """Re-index the plan for the model that `cut(parent, first)` gave.

        `cut(cut(m, p), q.relative_to(p, fingerprint(cut(m, p))))` equals `cut(m, p & q)`. A group
        that `first` empties is not in that model.

        Args:
            first: The plan that has already been cut.
            fingerprint: Fingerprint of the model it gave.

        Raises:
            PlanError: The two plans are of different parents.
        """
        both = self & first
        position = {
            name: {unit: i for i, unit in enumerate(units)} for name, units in first.kept.items()
        }
        return Plan(
            fingerprint=fingerprint,
            sizes={name: len(units) for name, units in first.kept.items() if units},
            kept={
                name: tuple(position[name][unit] for unit in units)
                for name, units in both.kept.items()
                if first.kept[name]
            },
            labels=self.labels,
            label_names=self.label_names,
            choices=self.choices,
            seen=self.seen,
        )

    def to_json(self, *, scores: bool = False) -> Json:
        """Return the plan as plain data.

        Args:
            scores: With the scores it was chosen by: what `save` writes, and what bundles and the
                record in a subnetwork's file leave out to stay small.
        """
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "parent": self.fingerprint.to_json(),
            "labels": list(self.labels),
            "label_names": list(self.label_names),
            "groups": {
                name: {"size": self.sizes[name], "kept": list(units)}
                for name, units in self.kept.items()
            },
            "choices": [choice.to_json(scores=scores) for choice in self.choices],
            **({} if self.seen is None else {"seen": self.seen.to_json()}),
        }

    @classmethod
    def from_json(cls, data: Json) -> Plan:
        """Build a plan from what `to_json` gave.

        Args:
            data: The data. `seen` in it may be read already, where several plans share it.

        Raises:
            FileError: The data is not a plan.
        """
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise FileError("This is not a keras_nns plan: its `format` entry is missing or other.")
        if data.get("version") != _VERSION:
            raise FileError(
                f"Expected a plan of version {_VERSION}. Received: version "
                f"{data.get('version')!r}. Read it with the release that wrote it, or select again."
            )
        seen = data.get("seen")
        try:
            return cls(
                fingerprint=Fingerprint.from_json(data["parent"]),
                sizes={str(k): v["size"] for k, v in data["groups"].items()},
                kept={str(k): tuple(v["kept"]) for k, v in data["groups"].items()},
                labels=tuple(data["labels"]),
                label_names=tuple(data["label_names"]),
                choices=tuple(Choice.from_json(choice) for choice in data["choices"]),
                seen=seen if seen is None or isinstance(seen, Seen) else Seen.from_json(seen),
            )
        except (
            KeyError,
            IndexError,
            TypeError,
            AttributeError,
            ValueError,
            OverflowError,
        ) as error:
            raise FileError(f"The plan is damaged: {what_is_wrong(error)}.") from error

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the plan as JSON, atomically, with the scores it was chosen by.

        Raises:
            FileError: The file exists and `overwrite` is false, or cannot be written.
        """
        text = atomic.json_text(self.to_json(scores=True), indent=1) + "\n"
        atomic.write_bytes(path, text.encode(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Plan:
        """Read a plan written by `save`.

        Raises:
            FileError: The file is missing, damaged or not a plan.
        """
        with atomic.blame(path):
            return cls.from_json(atomic.parse_json(atomic.read_bytes(path)))

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        labels = ", ".join(map(one_line, self.names)) or "no label"
        kept, units = sum(map(len, self.kept.values())), sum(self.sizes.values())
        whole = sum(self.sizes[name] for name in self.unknown)
        apart = f", and all {whole} of which nothing is known" if whole else ""
        return f"Plan for {labels}: {kept - whole} of {units - whole} units{apart}"


def union(plans: Iterable[Plan]) -> Plan:
    """Unite the plans of several labels into one: the paper's integration of label subnetworks.

    Args:
        plans: Plans of one parent model, at least one.

    Raises:
        PlanError: No plan was given, or they are of different parents.

    Example:
        >>> union(nns.select(activity, labels="each")).labels
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """
    plans = list(plans)
    if not plans:
        raise PlanError("`merge` needs at least one plan. Received none.")
    first, *others = plans
    return first._combine(others, "|", set.union)


def _common_names(mine: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of two plans' labels; real names stand over none and over plain numbers."""
    if mine == theirs or not theirs:
        return mine
    if not mine:
        return theirs
    if len(mine) == len(theirs):
        numbers = tuple(str(i) for i in range(len(mine)))
        if numbers in (mine, theirs):
            return theirs if mine == numbers else mine
    raise PlanError(
        f"The two plans name the labels of one parent differently: {list(mine)} and {list(theirs)}."
    )
