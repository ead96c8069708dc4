"""Keep rules: from the scores of units to the units that stay. No Keras here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import SelectionError

Scope = Literal["layer", "global"]
Normalise = Literal["max", "mean", "l2"]
Choose = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


_RULE = re.compile(
    r"(above|at_least|top|fraction)\(([^,()]+)(?:, *scope=['\"]?(layer|global)['\"]?)?"
    r"(?:, *normalise=['\"]?(max|mean|l2)['\"]?)?\)"
)


@dataclass(frozen=True)
class KeepRule:
    """A function from scores `(units,)` to kept units, a boolean array `(units,)`.

    Attributes:
        name: The rule as the user would write it, such as `"above(0.4)"`.
        choose: The function.
        scope: `"layer"` applies it to each unit group by itself; `"global"` to all groups of the
            network together, and to all the labels of a list together.
        normalise: What `select` divides each group's scores by before a global rule compares them:
            the size of the group's `"max"`, their absolute `"mean"`, or the root of their sum of
            squares, `"l2"` (Molchanov et al. 2017). None compares them as they are, which suits
            scores in one unit of measure, such as `taylor`, `d_prime` and `lamp`.
        uniform: Whether groups that are alike keep the same number, the best of each; see
            `uniform`.
    """

    name: str
    choose: Choose
    scope: Scope = "layer"
    normalise: Normalise | None = None
    uniform: bool = False

    @property
    def together(self) -> bool:
        """Whether it looks at all the labels of a list together."""
        return self.scope == "global" or self.uniform

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise SelectionError(
                f"Expected `scope` of {self.name} to be one of {get_args(Scope)}. Received: "
                f"scope={self.scope!r}."
            )
        if self.normalise is not None and self.normalise not in get_args(Normalise):
            raise SelectionError(
                f"Expected `normalise` of {self.name} to be None or one of {get_args(Normalise)}. "
                f"Received: normalise={self.normalise!r}."
            )
        if self.normalise is not None and self.scope != "global":
            raise SelectionError(
                f"`normalise` makes layers comparable, and {self.name} looks at each by itself. "
                "Pass scope='global' with it."
            )

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Choose among units by their scores, both of shape `(units,)`."""
        scores = np.asarray(scores, dtype=np.float64)
        kept = np.asarray(self.choose(scores))
        if kept.shape != scores.shape or kept.dtype != np.bool_:
            raise SelectionError(
                f"Keep rule {self.name} must return a boolean array of shape {scores.shape}. "
                f"Received: shape {kept.shape}, dtype {kept.dtype}."
            )
        return kept


def above(zeta: float, *, scope: Scope = "layer", normalise: Normalise | None = None) -> KeepRule:
    """Keep a unit where its score is at least `zeta` times the highest score.

    This is the rule of *NNS: neural network surgery*, eq. 1, which uses 0.4 and 0.5. Where the
    highest score is negative (a signed score for which no unit helps), only the highest is kept.

    Args:
        zeta: Share of the highest score, in [0, 1]. 0 keeps every unit with a score of 0 or more,
            1 keeps the highest alone.
        scope: `"layer"` compares with the highest score of the unit's group, `"global"` with the
            highest of the network.
        normalise: What makes layers comparable for a global rule; see `KeepRule`.

    Raises:
        SelectionError: `zeta` is outside [0, 1].

    Example:
        >>> nns.above(0.5)(np.array([1.0, 4.0, 2.0]))
        array([False,  True,  True])
    """
    if not (_is_number(zeta) and 0 <= zeta <= 1):
        raise SelectionError(
            "`zeta` is a share of the highest score. Expected a number in [0, 1]. "
            f"Received: zeta={zeta!r}.{_meant(zeta)}"
        )

    def choose(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        highest = scores.max()
        return np.asarray(scores >= (zeta * highest if highest > 0 else highest))

    return KeepRule(_named("above", zeta, scope, normalise), choose, scope, normalise)


def top(k: int, *, scope: Scope = "layer", normalise: Normalise | None = None) -> KeepRule:
    """Keep the `k` units with the highest scores; of equal ones those with the lower number.

    Args:
        k: How many. A group with fewer units keeps them all.
        scope: `k` of each group (`"layer"`) or of the network (`"global"`).
        normalise: As in `above`.

    Raises:
        SelectionError: `k` is not a positive whole number.

    Example:
        >>> nns.top(2)(np.array([1.0, 4.0, 2.0, 4.0]))
        array([False,  True, False,  True])
    """
    if not (_is_number(k) and k >= 1 and k == k // 1):
        raise SelectionError(f"`k` is a number of units, at least 1. Received: k={k!r}.{_meant(k)}")
    name = _named("top", int(k), scope, normalise)
    return KeepRule(name, lambda scores: _highest(scores, int(k)), scope, normalise)


def fraction(p: float, *, scope: Scope = "layer", normalise: Normalise | None = None) -> KeepRule:
    """Keep the share `p` of the units that has the highest scores, rounded up.

    Args:
        p: Share of the units, in (0, 1].
        scope: Share of each group (`"layer"`) or of the network (`"global"`).
        normalise: As in `above`.

    Raises:
        SelectionError: `p` is outside (0, 1].

    Example:
        >>> nns.fraction(0.5)(np.array([1.0, 4.0, 2.0]))
        array([False,  True,  True])
    """
    if not (_is_number(p) and 0 < p <= 1):
        raise SelectionError(
            "`p` is the share of units to keep. Expected a number in (0, 1]. Received: "
            f"p={p!r}.{_meant(p)}"
        )

    def choose(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        # 0.1 * 30 is 3.0000000000000004: do not let rounding noise add a unit.
        return _highest(scores, math.ceil(round(p * scores.size, 9)))

    return KeepRule(_named("fraction", p, scope, normalise), choose, scope, normalise)


def at_least(value: float) -> KeepRule:
    """Keep a unit where its score is `value` or more, whatever the scores of the others.

    With `firing_frequency` this is the decomposition of MODA (Ngo et al., *DNN Modularization via
    Activation-Driven Training*): units that fire on at least the share τ of a label's samples. With
    a signed score `at_least(0)` removes the units that hurt a label.

    Args:
        value: The lowest score that stays.

    Raises:
        SelectionError: `value` is not a number.

    Example:
        >>> nns.at_least(0.9)(np.array([1.0, 0.2, 0.9]))
        array([ True, False,  True])
    """
    if not _is_number(value):
        raise SelectionError(f"`value` is a score. Expected a number. Received: value={value!r}.")
    name = _named("at_least", value)
    return KeepRule(name, lambda scores: np.asarray(scores >= value))


def uniform(rule: KeepRule) -> KeepRule:
    """Keep the same number of units in layers that are alike, as many as a rule does on average.

    Blocks of a transformer then stay alike, which is what a stock configuration of it can say: one
    number of heads and one of hidden units for all. Alike are groups of one layer each, of the same
    type of layer, kind of unit and size; other groups keep what `rule` keeps. Of a list of labels
    each unit's highest score counts.

    Args:
        rule: How many: what it keeps of groups that are alike is shared out evenly, rounded up.

    Raises:
        SelectionError: `rule` is no keep rule.

    Example:
        >>> keep = nns.uniform(nns.fraction(0.5))
        >>> nns.select(activity, labels=[3, 8], keep=keep)
        <Plan for 3, 8: 24 of 48 units>
    """
    if not isinstance(rule, KeepRule):
        raise SelectionError(
            "`uniform` takes the rule that says how many, as uniform(fraction(0.5)). Received: "
            f"{rule!r}."
        )
    return replace(rule, name=f"uniform({rule.name})", uniform=True)


def normalised(scores: NDArray[np.float64], by: Normalise | None) -> NDArray[np.float64]:
    """Divide a group's scores, `(units,)`, by their size; those that are all zero stay."""
    if by is None or not scores.size:
        return scores
    absolute = np.abs(scores)
    if by == "l2":
        size = float(np.sqrt((absolute**2).sum()))
    else:
        size = float(absolute.max() if by == "max" else absolute.mean())
    return scores / size if size > 0 else scores


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _meant(value: Any) -> str:
    """Name the rule of which a number may be meant that another does not take."""
    if not _is_number(value) or value <= 0:
        return ""
    if value < 1:
        return f" To keep this share of the units, pass nns.fraction({value:g})."
    if value == value // 1:
        return f" To keep so many units of each layer, pass nns.top({int(value)})."
    return " To keep a number of units pass nns.top, and for a share of them nns.fraction."


def _highest(scores: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    kept = np.zeros(scores.shape, dtype=bool)
    kept[np.argsort(-scores, kind="stable")[:k]] = True
    return kept


def _named(
    name: str, value: float, scope: Scope = "layer", normalise: Normalise | None = None
) -> str:
    shown = f"{value:.15g}"
    if scope != "layer":
        shown += f", scope={scope!r}"
    if normalise is not None:
        shown += f", normalise={normalise!r}"
    return f"{name}({shown})"


def as_rule(given: KeepRule | str | float) -> KeepRule:
    """Return the keep rule that is meant by one, by its words, or by the number of `above`.

    Args:
        given: Such as `above(0.4)`, `"top(8)"` or `0.4`.

    Raises:
        SelectionError: It is none of these.
    """
    if isinstance(given, KeepRule):
        return given
    if isinstance(given, str):
        return named_rule(given)
    if isinstance(given, Real) and not isinstance(given, bool):
        return _as_above(float(given), f"keep={given!r}")
    raise SelectionError(
        "`keep` must be a keep rule such as above(0.4), top(8) or fraction(0.25), its words, or "
        f"the number of above. Received: {given!r}."
    )


def _as_above(value: float, given: str) -> KeepRule:
    """Return the rule that a bare number stands for.

    Raises:
        SelectionError: It can be no share of the highest score, and is rather a number of units.
    """
    if not 0 <= value <= 1:
        way = _meant(value) or " Pass a rule, such as nns.top(8) or nns.fraction(0.5)."
        raise SelectionError(
            "A number alone is that of above, a share of the highest score, from 0 to 1. "
            f"Received: {given}.{way}"
        )
    return above(value)


def named_rule(text: str, *, scope: str | None = None, normalise: str | None = None) -> KeepRule:
    """Read a keep rule as the user, or a plan, writes it.

    Raises:
        SelectionError: There is no such rule, or its number makes no sense.
    """
    evened = re.fullmatch(r"uniform\((.*)\)", text.strip())
    if evened is not None:
        return uniform(named_rule(evened[1], scope=scope, normalise=normalise))
    found = _RULE.fullmatch(text.strip())
    if found is None and re.fullmatch(r"[\d.]+(e-?\d+)?", text.strip()):
        if text.count(".") <= 1:
            _as_above(float(text), repr(text))
        text = f"above({text.strip()})"
        found = _RULE.fullmatch(text)
    if found is None:
        raise SelectionError(
            "Expected a rule such as above(0.4), top(8), fraction(0.25) or at_least(0.9), or the "
            "number of above. "
            f"Received: {text!r}."
        )
    name, number, own, size = found.groups()
    where: dict[str, Any] = {"scope": scope or own or "layer", "normalise": normalise or size}
    try:
        value = float(number)
    except ValueError:
        raise SelectionError(f"{number!r} in the rule {text!r} is not a number.") from None
    if name == "at_least":
        if where != {"scope": "layer", "normalise": None}:
            raise SelectionError(
                f"The rule {text!r} compares each score with a number: it takes no scope and no "
                "normalise."
            )
        return at_least(value)
    if name == "top":
        # top itself refuses what is not a whole number.
        return top(int(value) if value.is_integer() else value, **where)  # type: ignore[arg-type]
    return (above if name == "above" else fraction)(value, **where)
