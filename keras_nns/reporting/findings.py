"""Sentences that say what figures mean. Each is made from the figures, or not said at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.rows import LabelFigures
from keras_nns.surgery.proving import Proof

HIGH, LOW = 0.8, 0.5
"""From where on a share counts as high, and up to where as low, in words."""

NOTABLE = 0.005
"""The least change of a share that is called one: half of what two digits show."""

Row = tuple[str, LabelFigures, LabelFigures]
"""Name of a network ("" for the only one), and a label's figures in the parent and in it."""


def listed(names: Sequence[str], most: int = 12) -> str:
    """Write names as a list in words, cut short after many.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    names = [*names[:most], f"{len(names) - most:,} more"] if len(names) > most else list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def plural(count: int, noun: str) -> str:
    """Write a count with its noun.

    Example:
        >>> plural(1, "network"), plural(1200, "network")
        ('1 network', '1,200 networks')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def called(name: str) -> str:
    """Name a label or network within a sentence: a bare number says nothing there.

    Example:
        >>> called("3"), called("cat")
        ('label 3', 'cat')
    """
    return f"label {name}" if name.isdecimal() else name


def all_called(names: Sequence[str]) -> str:
    """Name several labels or networks within a sentence.

    Example:
        >>> all_called(["3", "8"]), all_called(["cat", "8"])
        ('labels 3 and 8', 'cat and label 8')
    """
    if len(names) > 1 and all(name.isdecimal() for name in names):
        return f"labels {listed(names)}"
    return listed([called(name) for name in names])


def sentence(text: str) -> str:
    """Start a sentence with a capital letter, whatever name it starts with."""
    return text[:1].upper() + text[1:]


def pairs(comparison: Comparison) -> list[tuple[LabelFigures, LabelFigures]]:
    """Return the figures of each label before and after the cut."""
    return list(zip(comparison.before.rows, comparison.after.rows, strict=True))


def exactness(names: Sequence[str], proofs: Sequence[Proof | None]) -> list[str]:
    """Say whether the cut networks equal their masked parents."""
    found = [(name, proof) for name, proof in zip(names, proofs, strict=True) if proof is not None]
    missing = [name for name, proof in zip(names, proofs, strict=True) if proof is None]
    exact = [proof for _, proof in found if proof.exact and proof.varied]
    said = []
    if exact:
        worst = max(exact, key=lambda proof: proof.relative)
        who = (
            "The cut network computes"
            if len(names) == 1
            else f"{len(exact)} of the {len(names)} cut networks compute"
        )
        if len(exact) == len(names) > 1:
            who = f"All {len(names)} cut networks compute"
        how = (
            f"the largest difference is {worst.relative:.1g} of the output's scale{worst.how}"
            f"{worst.beside}, and up to {worst.tolerance:.2g} is rounding"
            if worst.relative
            else "there is no difference at all"
        )
        said.append(
            f"{who} what the parent computes when the removed units are forced to zero: {how}."
        )
    for name, proof in found:
        if proof.exact and not proof.varied:
            said.append(f"{sentence(called(name))} was {proof}.")
        elif proof.exact and proof.constant:
            said.append(f"Of {called(name)} {proof.untested}.")
        if not proof.exact:
            said.append(
                f"{sentence(called(name))} is NOT equal to its masked parent: it differs by "
                f"{proof.relative:.1g} of the output's scale{proof.how}{proof.beside}, more than "
                f"the {proof.tolerance:.2g} that rounding explains."
            )
    if missing:
        said.append(f"No comparison with the masked parent was made for {all_called(missing)}.")
    return said


def sizes(names: Sequence[str], comparisons: Sequence[Comparison]) -> list[str]:
    """Say how small the cut networks are."""
    shares = [c.costs.parameters / c.parent_costs.parameters for c in comparisons]
    least, most = int(np.argmin(shares)), int(np.argmax(shares))
    if math.isclose(shares[least], shares[most]):
        who = "The cut network" if len(names) == 1 else f"Each of the {len(names)} networks"
        return [f"{who} has {shares[0]:.1%} of the parent's parameters."]
    return [
        f"The networks have between {shares[least]:.1%} ({called(names[least])}) and "
        f"{shares[most]:.1%} ({called(names[most])}) of the parent's parameters."
    ]


def losses(rows: Sequence[Row]) -> list[str]:
    """Say which label loses most by the cut, and which gains."""
    changes = [
        (after.balanced_accuracy - before.balanced_accuracy, name, before, after)
        for name, before, after in rows
        if not math.isnan(after.balanced_accuracy - before.balanced_accuracy)
    ]
    if not changes:
        return []
    worst, best = min(changes, key=lambda c: c[0]), max(changes, key=lambda c: c[0])
    if worst[0] > -NOTABLE:
        return ["No label loses balanced accuracy by the cut."]
    change, name, before, after = worst
    verb = "suffers most: its" if len(changes) > 1 else "loses:"
    said = [
        f"{sentence(_title(name, after))} {verb} balanced accuracy goes from "
        f"{tables.share(before.balanced_accuracy)} in the parent to "
        f"{tables.share(after.balanced_accuracy)} (recall {tables.share(after.recall)}, "
        f"specificity {tables.share(after.specificity)})."
    ]
    change, name, before, after = best
    if change - worst[0] > NOTABLE:
        verb = "loses least" if change <= -NOTABLE else "is as good as before"
        verb = "gains most" if change >= NOTABLE else verb
        said.append(
            f"{sentence(_title(name, after))} {verb}: balanced accuracy "
            f"{tables.share(before.balanced_accuracy)} before and "
            f"{tables.share(after.balanced_accuracy)} after."
        )
    return said


def yes_to_everything(rows: Sequence[Row]) -> list[str]:
    """Name networks whose recall is high because they say yes to much that is not theirs."""
    found = [
        (name, after)
        for name, _, after in rows
        if after.recall >= HIGH and after.specificity <= LOW
    ]
    if not found:
        return []
    worst = min(found, key=lambda pair: pair[1].specificity)
    return [
        f"For {_all_or_listed(found, rows)} recall is high ({HIGH:g} or more) but "
        f"specificity is low ({LOW:g} or less): the network recognises its label because it also "
        f"gives that answer to other things. {sentence(_title(*worst))} is the answer to "
        f"{1 - worst[1].specificity:.1%} of the samples of other labels. Such a network is no "
        "detector by itself; recall alone would hide this."
    ]


def no_to_everything(rows: Sequence[Row]) -> list[str]:
    """Name networks that hardly ever give their own answer."""
    found = [
        (name, after) for name, _, after in rows if after.recall < LOW and after.specificity >= HIGH
    ]
    if not found:
        return []
    return [
        f"For {_all_or_listed(found, rows)} specificity is high ({HIGH:g} or more) but recall is "
        f"below {LOW:g}: the network hardly ever gives its own answer, and misses most samples of "
        "its label."
    ]


def merged(comparison: Comparison) -> list[str]:
    """Say how the merged network stands beside its parent."""
    before, after = comparison.before, comparison.after
    share = comparison.costs.parameters / comparison.parent_costs.parameters
    said = [
        f"The merged network has {share:.1%} of the parent's parameters and answers "
        f"{after.accuracy:.1%} of {plural(after.samples, 'held-out sample')} right; the parent "
        f"{before.accuracy:.1%}."
    ]
    rows: list[Row] = [("", *pair) for pair in pairs(comparison)]
    return said + [f"In the merged network: {text[:1].lower()}{text[1:]}" for text in losses(rows)]


def sharing(names: Sequence[str], overlaps: NDArray[Any]) -> list[str]:
    """Say which two networks share most units, and which least.

    Args:
        names: Names of the networks.
        overlaps: Jaccard indices `(networks, networks)`.
    """
    places = [
        (float(overlaps[i, j]), names[i], names[j])
        for i in range(len(names))
        for j in range(i)
        if not math.isnan(overlaps[i, j])
    ]
    if len(places) < 2:
        return []
    least, most = min(places), max(places)
    return [
        f"{sentence(called(most[2]))} and {called(most[1])} share most: {most[0]:.0%} of the units "
        f"that either keeps. {sentence(called(least[2]))} and {called(least[1])} share least: "
        f"{least[0]:.0%}."
    ]


def exports(names: Sequence[str], differences: Sequence[float | None]) -> list[str]:
    """Say how far the `.tflite` files are from the networks they were made from."""
    found = [(d, name) for name, d in zip(names, differences, strict=True) if d is not None]
    if not found:
        return []
    worst, name = max(found)
    return [
        f"{plural(len(found), '.tflite file')} {'was' if len(found) == 1 else 'were'} run and "
        f"compared with the network: the largest difference of an output is {worst:.1g} "
        f"({called(name)})."
    ]


def _all_or_listed(found: Sequence[tuple[str, LabelFigures]], rows: Sequence[Row]) -> str:
    if len(found) == len(rows) > 2:
        return f"all {len(rows)} labels"
    if all(name in ("", row.name) for name, row in found):
        return all_called([row.name for _, row in found])
    return listed([_title(*pair) for pair in found])


def _title(name: str, row: LabelFigures) -> str:
    """Name a label, and its network where there are several and it is called otherwise."""
    own = not name or name == row.name
    return called(row.name) if own else f"{called(row.name)} (in {name})"
