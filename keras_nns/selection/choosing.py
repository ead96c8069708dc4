"""Select: scores and a keep rule make a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.encodings import some_of
from keras_nns.data.labels import label_number
from keras_nns.errors import SelectionError
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import Float
from keras_nns.plans.keep_rules import KeepRule, normalised
from keras_nns.plans.kept_units import Choice, Plan, union
from keras_nns.plans.units import Group, mask_of
from keras_nns.selection.activations import Score, name_of
from keras_nns.selection.naming import usual
from keras_nns.selection.unknown import (
    REMEDY,
    free,
    listed,
    unknown_groups,
    warn_of_shards,
    warn_of_unknown,
)

Label = int | str

Kept = dict[str, NDArray[np.bool_]]

RECORDED_SCORES = 1_000_000
"""A plan records its scores where units times labels are at most so many; else files grow large."""


@overload
def select(  # type: ignore[overload-overlap]
    activity: Activity,
    labels: Literal["each"],
    *,
    score: Score | str | None = ...,
    keep: KeepRule | str | float | None = ...,
    groups: str | Iterable[str] | None = ...,
    min_units: int = ...,
    multiple_of: int = ...,
) -> list[Plan]: ...
@overload
def select(
    activity: Activity,
    labels: Label | Iterable[Label] = ...,
    *,
    score: Score | str | None = ...,
    keep: KeepRule | str | float | None = ...,
    groups: str | Iterable[str] | None = ...,
    min_units: int = ...,
    multiple_of: int = ...,
) -> Plan: ...
def select(
    activity: Activity,
    labels: Label | Iterable[Label] = "all",
    *,
    score: Score | str | None = None,
    keep: KeepRule | str | float | None = None,
    groups: str | Iterable[str] | None = None,
    min_units: int = 1,
    multiple_of: int = 1,
) -> Plan | list[Plan]:
    """Choose which units stay for one label, for several, or for each.

    Units of layers that were not observed stay, and so do protected ones; where they could not be
    observed, a warning names them with the reason, unless others of the same layer could (the heads
    of an attention whose dimensions stay). For several labels the
    plan is the union of the labels' own plans, unless the keep rule is global: then each unit's
    highest score over the labels is compared across the network.

    The plan records how it was chosen: score, rule, thresholds, and the scores themselves where
    labels times units are at most a million.

    Args:
        activity: What was observed.
        labels: A label's number or name, a list of them, `"all"`, or `"each"` for one plan each.
        score: How much a label needs a unit, or the name of a score that needs activity alone.
            None: `contrast`, which keeps what tells a label from the rest; the paper's
            `mean_activation` for its rule `above`, and where there is nothing to tell from.
            `reconstruction` and `forward_selection` choose what does when all that reads it is
            refitted: `repair` behind the cut, or other scores are better.
        keep: Which scores stay, a rule in words such as `"top(8)"`, or the number of `above`.
            None: `fraction(0.5)`; the paper's `above(0.4)` for `score="mean_activation"`.
        groups: Names of the unit groups to choose in, with `*` and `?` as in a shell, such as
            `"*:hidden"`; all others stay whole. None chooses in all.
        min_units: Keep at least this many units of every layer, the best ones.
        multiple_of: Round what is kept of every layer up to a multiple of this, by the best of the
            rest, for hardware that computes 4, 8 or 16 units at once. A layer whose own number of
            units is none keeps all where there is no such multiple.

    Returns:
        A plan; for `"each"` a list with one plan per label, in label order.

    Raises:
        SelectionError: An unknown label, a label without samples, `groups` that are none, scores
            that are not numbers or of no unit that could go, a `min_units` below 0, or a
            `multiple_of` below 1.

    Warns:
        UserWarning: Units that could go stay because they cannot be observed.
        DataWarning: The activity is of some shards of the data alone.

    Example:
        >>> nns.select(activity, labels=3)
        <Plan for 3: 24 of 48 units>
        >>> paper = nns.select(activity, labels=3, score="mean_activation")
        >>> plans = nns.select(activity, labels="each", keep=nns.top(8))
        >>> len(plans)
        10
    """
    score, keep = usual(activity, score, keep)
    if min_units < 0:
        raise SelectionError(f"`min_units` must be 0 or more. Received: min_units={min_units}.")
    if multiple_of < 1:
        raise SelectionError(
            f"`multiple_of` must be 1 or more. Received: multiple_of={multiple_of}."
        )
    each = isinstance(labels, str) and labels == "each"
    numbers = label_numbers(activity.label_names, labels)
    refuse_unobserved(activity, numbers)
    warn_of_shards(activity)
    asked = _asked(activity, groups)
    scores = checked_scores(activity, score, numbers)
    warn_of_unknown(activity, scores, name_of(score), asked)
    scores = {name: values for name, values in scores.items() if name in asked}
    if not scores:
        raise SelectionError(f"{name_of(score)} says nothing of {some_of(sorted(asked))}.")
    why = (name_of(score), keep)
    if each or not keep.together:
        plans = [_plan(activity, scores, (n,), why, min_units=min_units) for n in numbers]
        plans = plans if each else [union(plans)]
    else:
        plans = [_plan(activity, scores, tuple(numbers), why, min_units=min_units)]
    plans = [_rounded(activity, scores, plan, multiple_of) for plan in plans]
    return plans if each else plans[0]


def _asked(activity: Activity, groups: str | Iterable[str] | None) -> set[str]:
    """Return the names of the unit groups that are chosen in."""
    known = [group.name for group in activity.layout.prunable]
    if groups is None:
        return set(known)
    patterns = [groups] if isinstance(groups, str) else list(groups)
    idle = [p for p in patterns if not any(fnmatchcase(name, p) for name in known)]
    if idle or not patterns:
        raise SelectionError(
            "`groups` are names of unit groups, or patterns such as '*:hidden'. Received: "
            f"{', '.join(map(repr, idle)) or 'none'}, and the groups are {some_of(known)}."
        )
    return {name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns)}


def label_numbers(names: Sequence[str], labels: Label | Iterable[Label]) -> list[int]:
    """Return the numbers of labels, sorted.

    Args:
        names: Name of every label.
        labels: A label's number or name, several of them, or `"all"` or `"each"`.

    Raises:
        SelectionError: A label is unknown, or there is none.
    """
    if isinstance(labels, str) and labels in ("each", "all"):
        return list(range(len(names)))
    if isinstance(labels, int | np.integer | str):
        return [label_number(labels, names)]
    if not isinstance(labels, Iterable):
        raise SelectionError(
            "`labels` must be a label's number or name, several of them, 'all' or 'each'. "
            f"Received: labels={labels!r}."
        )
    numbers = sorted({label_number(label, names) for label in labels})
    if not numbers:
        raise SelectionError("`labels` is empty. Name at least one label.")
    return numbers


def refuse_unobserved(activity: Activity, numbers: Sequence[int]) -> None:
    """Make sure that samples of every label were observed.

    Raises:
        SelectionError: There are none of a label.
    """
    unseen = [activity.label_names[n] for n in numbers if activity.samples[n] == 0]
    if unseen:
        raise SelectionError(
            f"No sample of label {', '.join(map(repr, unseen))} was observed, so nothing is known "
            f"of which units it needs: {int(activity.samples.sum()):,} samples of other labels "
            "were. Observe data that holds it, more of it where some is held out, or leave it out."
        )


def checked_scores(activity: Activity, score: Score, numbers: Sequence[int]) -> dict[str, Float]:
    """Return the scores `(labels, units)` of every group that has units to remove.

    Raises:
        SelectionError: There is no such group, `score` is no function, what it gives for these
            labels does not fit or is no number, or it says nothing of any unit that could go.
    """
    if not callable(score):
        raise SelectionError(
            "`score` must be a function such as mean_activation or magnitude(model). Received: "
            f"{score!r}."
        )
    if not activity.layout.prunable:
        raise SelectionError(
            "The observed model has no hidden units that can be removed: "
            f"{activity.layout.why_whole()}."
        )
    prunable = {group.name for group in activity.layout.prunable}
    scores = {name: values for name, values in score(activity).items() if name in prunable}
    _check_scores(activity, scores, numbers, name_of(score))
    if not any(free(activity, name, values).any() for name, values in scores.items()):
        raise SelectionError(
            f"Nothing is known of any unit that could go, so none can be chosen: "
            f"{listed(unknown_groups(activity, scores, name_of(score)))}. {REMEDY}"
        )
    return scores


def _check_scores(
    activity: Activity, scores: Mapping[str, Float], numbers: Sequence[int], name: str
) -> None:
    for group, values in scores.items():
        expected = (len(activity.label_names), activity.layout[group].size)
        if values.shape != expected:
            raise SelectionError(
                f"Score {name} must give group {group!r} an array of shape {expected}. Received: "
                f"shape {values.shape}."
            )
        found = values[list(numbers)]
        if np.isnan(found).any() or np.isposinf(found).any():
            raise SelectionError(
                f"Score {name} is NaN or infinite for some units of group {group!r}."
            )


def _plan(
    activity: Activity,
    scores: Mapping[str, Float],
    numbers: tuple[int, ...],
    why: tuple[str, KeepRule],
    *,
    min_units: int,
) -> Plan:
    score, keep = why
    merged = {name: values[list(numbers)].max(axis=0) for name, values in scores.items()}
    # -inf: no layer that was observed has this unit, so nothing is known against it.
    known = {name: ~np.isneginf(values) for name, values in merged.items()}
    kept = _chosen(merged, known, keep)
    for group in activity.layout.prunable:
        if group.name not in merged:
            kept[group.name] = np.ones(group.size, dtype=bool)
            continue
        values, mask = merged[group.name], kept[group.name]
        for need in () if group.optional else group.needs:
            # The floor holds for every layer of the group: joined, they need not share all units.
            units = np.array(need)
            floor = min_units if group.least == 1 else max(min_units, group.least)
            best = units[np.argsort(-values[units], kind="stable")[:floor]]
            if mask[units].sum() < len(best):
                mask[best] = True
    if keep.uniform:
        _even(activity, merged, known, kept)
    thresholds = []
    for group in activity.layout.prunable:
        if group.name in merged:
            values, mask = merged[group.name], kept[group.name]
            if (mask & known[group.name]).any():
                lowest = float(values[mask & known[group.name]].min())
                thresholds.append((group.name, lowest))
            mask |= ~known[group.name]
            mask[list(group.protected)] = True
    recorded = sorted((name, tuple(values.tolist())) for name, values in merged.items())
    choice = Choice(
        numbers,
        score,
        keep.name,
        tuple(sorted(thresholds)),
        tuple(recorded) if _is_recorded(activity, merged) else (),
    )
    return Plan(
        fingerprint=activity.fingerprint,
        sizes={group.name: group.size for group in activity.layout.prunable},
        kept={name: tuple(np.flatnonzero(mask).tolist()) for name, mask in kept.items()},
        labels=numbers,
        label_names=activity.label_names,
        choices=(choice,),
        seen=activity.seen,
    )


def _even(activity: Activity, scores: Mapping[str, Float], known: Kept, kept: Kept) -> None:
    """Let groups that are alike keep the same number: their average, rounded up."""
    alike: dict[tuple[str, int], list[Group]] = {}
    for group in activity.layout.prunable:
        if group.name in scores and group.kind and not group.optional:
            alike.setdefault((group.kind, group.size), []).append(group)
    for groups in alike.values():
        held = {group.name: ~known[group.name] for group in groups}
        for group in groups:
            held[group.name][list(group.protected)] = True
        total = sum(int(kept[group.name].sum()) for group in groups)
        count = max(-(-total // len(groups)), *(int(mask.sum()) for mask in held.values()))
        for name, mask in held.items():
            best = np.lexsort((-scores[name], ~mask))[:count]
            kept[name] = mask_of(tuple(best.tolist()), len(mask))


def _is_recorded(activity: Activity, scores: Mapping[str, Float]) -> bool:
    units = sum(len(values) for values in scores.values())
    return units * len(activity.label_names) <= RECORDED_SCORES


def _rounded(activity: Activity, scores: Mapping[str, Float], plan: Plan, multiple_of: int) -> Plan:
    """Keep more units, until every layer has a multiple or all of its own."""
    if multiple_of == 1:
        return plan
    kept = {}
    for group in activity.layout.prunable:
        mask = mask_of(plan.kept[group.name], group.size)
        if group.name in scores:
            values = scores[group.name][list(plan.labels)].max(axis=0)
            # To keep more of one layer may keep more of another: on until none is short.
            while True:
                before = mask.sum()
                for member in group.members:
                    units = np.unique(member.units)
                    short = -int(mask[units].sum()) % multiple_of
                    rest = units[~mask[units]]
                    mask[rest[np.argsort(-values[rest], kind="stable")[:short]]] = True
                if mask.sum() == before:
                    break
        kept[group.name] = tuple(np.flatnonzero(mask).tolist())
    return replace(plan, kept=kept)


def _chosen(scores: Mapping[str, Float], known: Kept, keep: KeepRule) -> Kept:
    """Apply a keep rule to the units that have a score; the others are not chosen."""
    kept = {name: np.zeros(len(values), dtype=bool) for name, values in scores.items()}
    parts = {name: values[known[name]] for name, values in scores.items() if known[name].any()}
    if keep.scope == "layer":
        chosen = {name: keep(values) for name, values in parts.items()}
    elif parts:
        alike = [normalised(values, keep.normalise) for values in parts.values()]
        together = keep(np.concatenate(alike))
        ends = np.cumsum([len(values) for values in parts.values()])[:-1]
        chosen = dict(zip(parts, np.split(together, ends), strict=True))
    else:
        chosen = {}
    for name, units in chosen.items():
        kept[name][known[name]] = units
    return kept
