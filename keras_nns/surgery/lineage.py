"""What a subnetwork remembers of its parent, in memory and in its `.keras` file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from os import PathLike
from typing import Any, Literal, get_args

import keras

from keras_nns.data.outputs import output_place
from keras_nns.data.sketch import Seen, unite
from keras_nns.errors import FileError, what_is_wrong
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Fingerprint
from keras_nns.surgery.operating_points import BalancedDecisions

Head = Literal["parent", "labels", "other", "binary"]
HEADS: tuple[str, ...] = get_args(Head)
RECORD = "keras_nns.json"
"""Name of the file, inside a model file, that holds the lineage."""

_FORMAT = "keras_nns.lineage"
_COMPOSED = "keras_nns.composition"
_ATTRIBUTE = "_keras_nns_lineage"


@dataclass(frozen=True)
class Lineage:
    """Where a subnetwork comes from and what it answers.

    Attributes:
        plan: Which of the parent's units it holds, for which labels.
        head: `"parent"`, `"labels"`, `"other"` or `"binary"`.
        labels: For each value it answers, the parent's label number; None for "other" and for the
            yes/no answer of several labels.
        label_names: A name for each value it answers.
        output: Name of the output that answers.
        taught: Whether it was taught other labels since: then `label_names` are what it answers,
            and labels in data are theirs.
        balanced: That its decisions were set for balanced accuracy; None where they were not.
        tokens: For each token that it knows, the number that it had before `cut_vocabulary`; None
            where it knows all tokens of its parent.

    Example:
        >>> lineage = nns.lineage(three)
        >>> lineage.head, lineage.label_names, lineage.plan
        ('binary', ('3',), <Plan for 3: 24 of 48 units>)
    """

    plan: Plan
    head: Head
    labels: tuple[int | None, ...]
    label_names: tuple[str, ...]
    output: str
    taught: bool = False
    balanced: BalancedDecisions | None = None
    tokens: tuple[int, ...] | None = field(default=None, repr=False)

    @property
    def parent(self) -> Fingerprint:
        """Fingerprint of the parent model."""
        return self.plan.fingerprint

    def holding(self, kept: Mapping[str, tuple[int, ...]]) -> Lineage:
        """Return the lineage of a subnetwork that holds other units of the same parent."""
        return replace(self, plan=replace(self.plan, kept=kept))

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of all labels that data for it has, where known: its parent's, or its own."""
        return self.label_names if self.taught else self.plan.label_names

    @property
    def seen(self) -> Seen | None:
        """A sketch of the samples that it was made from, where it is known."""
        return self.plan.seen

    def to_json(self) -> Json:
        """Return the lineage as plain data."""
        data: Json = {
            "format": _FORMAT,
            "version": 1,
            "plan": self.plan.to_json(),
            "head": self.head,
            "labels": list(self.labels),
            "label_names": list(self.label_names),
            "output": self.output,
        }
        if self.taught:
            data["taught"] = True
        if self.balanced is not None:
            data["balanced"] = self.balanced.to_json()
        if self.tokens is not None:
            data["tokens"] = list(self.tokens)
        return data

    @classmethod
    def from_json(cls, data: Json) -> Lineage:
        """Build a lineage from what `to_json` gave.

        Raises:
            FileError: The data is not a lineage.
        """
        try:
            if data["format"] != _FORMAT or data["head"] not in HEADS:
                raise FileError("The record of the parent model in this file is damaged.")
            balanced, tokens = data.get("balanced"), data.get("tokens")
            return cls(
                plan=Plan.from_json(data["plan"]),
                head=data["head"],
                labels=tuple(None if i is None else int(i) for i in data["labels"]),
                label_names=tuple(str(name) for name in data["label_names"]),
                output=str(data["output"]),
                taught=bool(data.get("taught", False)),
                balanced=None if balanced is None else BalancedDecisions.from_json(balanced),
                tokens=None if tokens is None else tuple(int(number) for number in tokens),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise FileError(
                f"The record of the parent model in this file is damaged: {what_is_wrong(error)}."
            ) from error


@dataclass(frozen=True)
class Composition:
    """What a composition of subnetworks answers, and what it is made of.

    Attributes:
        label_names: The label of each answer.
        members: Where each subnetwork comes from, in the order of the answers.
        calibrated: A sketch of the samples that the scores were calibrated on.
        output: Name of the output that answers.
    """

    label_names: tuple[str, ...]
    members: tuple[Lineage, ...]
    calibrated: Seen | None = field(default=None, compare=False, repr=False)
    output: str = "composition"

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of all labels of the one parent, or of those that are answered."""
        names = {member.known_names for member in self.members}
        (common, *others) = names
        return common if not others and set(self.label_names) <= set(common) else self.label_names

    @property
    def seen(self) -> Seen | None:
        """A sketch of the samples that it was made from, where it is known."""
        return reduce(unite, (member.seen for member in self.members), self.calibrated)

    def to_json(self) -> Json:
        """Return the record as plain data."""
        return {
            "format": _COMPOSED,
            "version": 1,
            "label_names": list(self.label_names),
            "members": [member.to_json() for member in self.members],
            "calibrated": None if self.calibrated is None else self.calibrated.to_json(),
            "output": self.output,
        }

    @classmethod
    def from_json(cls, data: Json) -> Composition:
        """Build a record from what `to_json` gave.

        Raises:
            FileError: The data is no such record.
        """
        try:
            calibrated = data["calibrated"]
            return cls(
                label_names=tuple(str(name) for name in data["label_names"]),
                members=tuple(Lineage.from_json(member) for member in data["members"]),
                calibrated=None if calibrated is None else Seen.from_json(calibrated),
                output=str(data.get("output", "composition")),
            )
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise FileError(
                f"The record of the subnetworks in this file is damaged: {what_is_wrong(error)}."
            ) from error


Origin = Lineage | Composition


def origin_from(data: Json) -> Origin:
    """Build what a model remembers from what its `to_json` gave.

    Raises:
        FileError: The data is no such record.
    """
    composed = isinstance(data, dict) and data.get("format") == _COMPOSED
    kind = Composition if composed else Lineage
    return kind.from_json(data)


def without_samples(origin: Origin) -> Origin:
    """Return a record without the sketches of samples, which are large and say what was seen."""
    if isinstance(origin, Lineage):
        return replace(origin, plan=replace(origin.plan, seen=None))
    members = tuple(replace(m, plan=replace(m.plan, seen=None)) for m in origin.members)
    return replace(origin, members=members, calibrated=None)


def answering_output(model: keras.Model, origin: Origin | None) -> str | None:
    """Name the output that answers the labels, where a subnetwork remembers it among several.

    The layer of a yes/no answer, or of one with all other labels as one, has a name of its own.
    """
    names = list(getattr(model, "output_names", None) or ())
    if origin is None or len(names) < 2:
        return None
    if output_place(model, origin.output) is not None:
        return origin.output
    head = origin.head if isinstance(origin, Lineage) else "parent"
    added = [n for n in names if head in ("binary", "other") and n.startswith(f"{head}_head")]
    return added[0] if len(added) == 1 else None


def answering_place(model: keras.Model, origin: Origin | None) -> int:
    """Return the place of the output that answers the labels: the first where none shows."""
    return output_place(model, answering_output(model, origin)) or 0


def origin_of(model: Any) -> Origin | None:
    """Return what a model remembers of what it was made of, whatever that is."""
    found = getattr(model, _ATTRIBUTE, None)
    return found if isinstance(found, Lineage | Composition) else None


def lineage(model: Any) -> Lineage | None:
    """Return where a model was cut from, or None for one that was not cut.

    Example:
        >>> nns.lineage(three).plan.labels
        (3,)
        >>> nns.lineage(model) is None
        True
    """
    found = getattr(model, _ATTRIBUTE, None)
    return found if isinstance(found, Lineage) else None


def tokens_of(model: Any) -> tuple[int, ...] | None:
    """Return which tokens of its parent a model knows, or None for all."""
    record = lineage(model)
    return None if record is None else record.tokens


def set_lineage(model: Any, record: Origin) -> None:
    """Write on a new model where it was cut from."""
    setattr(model, _ATTRIBUTE, record)


def balanced_decisions(origin: Origin | None) -> BalancedDecisions | None:
    """Return on what a subnetwork's decisions were set for balanced accuracy, if they were."""
    return origin.balanced if isinstance(origin, Lineage) else None


def set_balanced(model: Any, balanced: BalancedDecisions | None) -> None:
    """Note on a new subnetwork that its decisions were set for balanced accuracy, or were not."""
    record = origin_of(model)
    if isinstance(record, Lineage):
        set_lineage(model, replace(record, balanced=balanced))


def seen_by(model: Any) -> Seen | None:
    """Return a sketch of the samples that a subnetwork was made from, where it is known."""
    record = origin_of(model)
    return None if record is None else record.seen


def add_seen(model: Any, seen: Seen | None) -> None:
    """Note on a new subnetwork further samples that it was made from."""
    record = origin_of(model)
    if isinstance(record, Lineage):
        plan = replace(record.plan, seen=unite(record.plan.seen, seen))
        set_lineage(model, replace(record, plan=plan))
    elif record is not None:
        set_lineage(model, replace(record, calibrated=unite(record.calibrated, seen)))


def save_model(model: Any, path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Write a model as an ordinary `.keras` file that also holds its lineage.

    `keras.saving.load_model` reads the file without this package; `load_model` of this package
    finds the lineage again.

    Args:
        model: Any Keras model.
        path: Where to; must end in `.keras`.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileError: The file exists and `overwrite` is false, its name does not end in `.keras`, or
            it cannot be written.

    Example:
        >>> nns.save_model(three, "three.keras")
        >>> nns.lineage(nns.load_model("three.keras")).plan
        <Plan for 3: 24 of 48 units>
    """
    if not os.fspath(path).endswith(".keras"):
        raise FileError(f"A model file must end in `.keras`. Received: {os.fspath(path)!r}.")
    with atomic.replacing(path, overwrite=overwrite) as part:
        part.unlink()
        keras.saving.save_model(model, part)
        record = origin_of(model)
        if record is not None:
            with zipfile.ZipFile(part, "a", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(RECORD, atomic.json_text(record.to_json()))
