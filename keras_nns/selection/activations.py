"""Scores: how much a label needs a unit, `(labels, units)` for every unit group.

A score is a function of an `Activity`. Scores that need more are made by a function that takes it:
those of weights in `weight_scores`, those of gradients in `gradient_scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import SelectionError
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import Float
from keras_nns.plans.units import Group

Scores = Mapping[str, Float]
Score = Callable[[Activity], Scores]
Join = Literal["max", "mean", "sum"]

_TINY = 1e-30
_MOST_D_PRIME = 1e6


def mean_activation(activity: Activity, *, join: Join = "max") -> Scores:
    """Score a unit by its mean activation over the label's samples.

    This is the score of *NNS: neural network surgery*: with `above(zeta)` it is the paper's eq. 1.
    For units that can be negative it is the mean absolute activation; on ReLU the two are the same.

    Args:
        activity: What was observed, with the statistic `"mean"`.
        join: How the layers of a group that share units are brought together; each layer's scores
            are first divided by its label's highest.

    Returns:
        Scores `(labels, units)` by group; NaN for labels without samples, -inf for units of layers
        that were not watched.

    Raises:
        SelectionError: The mean was not watched.

    Example:
        >>> score = nns.scores.mean_activation
        >>> nns.select(activity, labels=3, score=score, keep=nns.above(0.4)).labels
        (3,)
    """
    return by_group(activity, activity.magnitude, join)


def firing_frequency(activity: Activity, *, join: Join = "max") -> Scores:
    """Score a unit by the share of the label's samples on which it fires, in [0, 1].

    The "frequency of activation" of *NNS: neural network surgery*. With `at_least(tau)` it is the
    decomposition of MODA (Ngo et al., *DNN Modularization via Activation-Driven Training*).

    Args:
        activity: What was observed, with the statistic `"fired"`.
        join: As in `mean_activation`.

    Returns:
        Scores `(labels, units)` by group; NaN for labels without samples.

    Raises:
        SelectionError: Firing was not watched.

    Example:
        >>> score = nns.scores.firing_frequency
        >>> nns.select(activity, labels=3, score=score, keep=nns.at_least(0.9)).labels
        (3,)
    """
    return by_group(activity, activity.firing_rate, join)


def active_share(activity: Activity, *, join: Join = "max") -> Scores:
    """Score a unit by the share of samples and positions at which it is not zero, in [0, 1].

    1 - APoZ, the average percentage of zeros of Hu et al. 2016 (*Network Trimming*, eq. 1): a
    channel counts at every pixel. For layers without positions it equals `firing_frequency`.

    Args:
        activity: What was observed, with the statistic `"active"`.
        join: As in `mean_activation`.

    Returns:
        Scores `(labels, units)` by group; NaN for labels without samples.

    Raises:
        SelectionError: The statistic was not watched.

    Example:
        >>> activity = nns.observe(model, (x, y), statistics=["active"])
        >>> nns.select(activity, labels=3, score=nns.scores.active_share)
        <Plan for 3: 24 of 48 units>
    """
    return by_group(activity, activity.active_share, join)


def contrast(activity: Activity, *, signed: bool = False, join: Join = "max") -> Scores:
    """Score a unit by how far its mean activation on the label lies from that on all the rest.

    A unit that is silent for the label and active for the others tells them apart as well as the
    reverse, so the difference counts in both directions. A label's network that keeps only units
    which speak for it says yes to everything.

    Args:
        activity: What was observed, with the statistic `"mean"`, of two labels at least.
        signed: Keep the sign: negative where the unit answers the rest more.
        join: As in `mean_activation`.

    Returns:
        Scores `(labels, units)` by group; NaN for labels without samples.

    Raises:
        SelectionError: The mean was not watched, or only one label has samples.

    Example:
        >>> nns.scores.contrast(activity)["dense"].shape  # labels, units
        (10, 32)
        >>> nns.select(activity, labels=3, score=nns.scores.contrast)
        <Plan for 3: 24 of 48 units>
    """

    def difference(layer: str) -> Float:
        gap = label_gap(activity, layer)
        return gap if signed else np.asarray(np.abs(gap))

    return by_group(activity, difference, join)


def d_prime(activity: Activity, *, signed: bool = False, join: Join = "max") -> Scores:
    """Score a unit by how well its value alone tells the label from all the rest.

    The difference of the means over the root of the mean of the two variances: the sensitivity
    index d' of signal detection theory (Green and Swets 1966), for unequal variances. As in
    `contrast` the difference counts in both directions; as it is counted in spreads, layers can be
    compared.

    Args:
        activity: What was observed, with the statistics `"mean"` and `"variance"`, of two labels
            at least.
        signed: Keep the sign: negative where the unit answers the rest more.
        join: How the layers of a group that share units are brought together.

    Returns:
        Scores `(labels, units)` by group, at most 10⁶, for units that do not vary within the label
        nor within the rest; NaN for labels without samples.

    Raises:
        SelectionError: Mean or variance was not watched, or only one label has samples.

    Example:
        >>> activity = nns.observe(model, (x, y), statistics=["mean", "variance"])
        >>> nns.select(activity, labels=3, score=nns.scores.d_prime)
        <Plan for 3: 24 of 48 units>
    """

    def of_layer(layer: str) -> Float:
        gap = label_gap(activity, layer)
        variance = activity.variance(layer)
        spread = np.sqrt((variance + _rest_variance(activity, layer)) / 2)
        found = gap / np.maximum(spread, np.maximum(np.abs(gap), _TINY) / _MOST_D_PRIME)
        return np.asarray(found if signed else np.abs(found))

    return by_group(activity, of_layer, join, comparable=True)


def block_influence(activity: Activity) -> Scores:
    """How much a whole residual block turns what goes through it: one minus the cosine.

    Men et al. 2024 (*ShortGPT: Layers in Large Language Models are More Redundant Than You Expect*,
    eq. 1): the mean over positions and samples of `1 - cos(x, y)` of what goes into a block and
    what comes out of it. Units inside blocks have no score, and stay.

    Args:
        activity: What was observed.

    Returns:
        Scores `(labels, 1)` of every block that was watched.

    Example:
        >>> activity = nns.observe(lm, (texts, kinds), label_names=("code", "prose"))
        >>> keep = nns.top(2, scope="global")
        >>> nns.select(activity, "code", score=nns.scores.block_influence, keep=keep)
        <Plan for code: 2 of 3 units>
    """
    means = mean_activation(activity)
    blocks = {group.name for group in activity.layout.prunable if group.optional}
    return {name: values for name, values in means.items() if name in blocks}


def random_units(seed: int = 0) -> Score:
    """Make the score that is drawn at random: what any other score has to beat.

    Args:
        seed: Which draw. The same seed gives the same model the same scores.

    Returns:
        A score to pass to `select`, in (0, 1] for every label and unit.

    Example:
        >>> nns.select(activity, labels=3, score=nns.scores.random_units(seed=1))
        <Plan for 3: 24 of 48 units>
    """

    def score(activity: Activity) -> Scores:
        found = {}
        for index, group in enumerate(activity.layout.prunable):
            if any(member.layer in activity.layers for member in group.members):
                drawn = np.random.default_rng([seed, index])
                found[group.name] = 1 - drawn.random((len(activity.samples), group.size))
        return found

    score.__name__ = f"random_units({seed})"
    return score


def name_of(score: Score) -> str:
    """Return a score's name for a plan's record of why."""
    if isinstance(score, partial):
        settings = ", ".join(f"{key}={value!r}" for key, value in score.keywords.items())
        return f"{name_of(score.func)}({settings})"
    return getattr(score, "__name__", type(score).__name__)


def label_gap(activity: Activity, layer: str) -> Float:
    """Return how far each unit's mean on a label lies above that on all the rest.

    Returns:
        `(labels, units)`; NaN for labels without samples.

    Raises:
        SelectionError: The mean was not watched, or only one label has samples.
    """
    own = activity.mean(layer)
    _refuse_one_label(activity)
    total = activity.layers[layer].total
    assert total is not None
    rest_samples = activity.samples.sum() - activity.samples
    rest = (total.sum(axis=0) - total) / rest_samples[:, None]
    return np.asarray(own - rest)


def _rest_variance(activity: Activity, layer: str) -> Float:
    """Return each unit's variance over all samples but the label's, `(labels, units)`."""
    sums = activity.layers[layer]
    assert sums.total is not None and sums.deviation is not None
    n = activity.samples[:, None].astype(np.float64)
    # About the mean of all, so that squares of a large mean do not drown the spread.
    shift = sums.total.sum(axis=0) / n.sum()
    first = sums.total - n * shift
    second = sums.deviation + first**2 / np.maximum(n, 1)
    rest = n.sum() - n
    mean = (first.sum(axis=0) - first) / rest
    return np.asarray(np.maximum((second.sum(axis=0) - second) / rest - mean**2, 0.0))


def _refuse_one_label(activity: Activity) -> None:
    seen = np.count_nonzero(activity.samples)
    if seen < 2:
        raise SelectionError(
            f"The score compares a label with the rest, and {seen} label has samples. Observe data "
            "of at least two; or use a score that compares none, such as "
            "nns.scores.mean_activation, or reconstruction where the model gives numbers."
        )


def by_group(
    activity: Activity,
    of_layer: Callable[[str], Float],
    join: Join,
    *,
    layers: Container[str] | None = None,
    comparable: bool = False,
) -> dict[str, Float]:
    """Bring the scores of layers to those of unit groups.

    Args:
        activity: What was observed.
        of_layer: Scores of a layer, `(labels, units)`.
        join: How layers of one group are brought together.
        layers: Layers that have scores; those that were observed if None.
        comparable: Whether scores of different layers are in one unit of measure. Others are
            divided by the label's highest in their layer before they are joined.

    Returns:
        Scores by group, -inf for units of layers that have none. Groups without any are left out.

    Raises:
        SelectionError: There is no such `join`.
    """
    if join not in ("max", "mean", "sum"):
        raise SelectionError(
            f"Expected `join` to be 'max', 'mean' or 'sum'. Received: join={join!r}."
        )
    layers = activity.layers if layers is None else layers
    scores = {}
    for group in activity.layout.prunable:
        members = [m for m in group.members if m.layer in layers]
        if members:
            add = comparable and join == "sum"
            parts = [_place(group, m.units, of_layer(m.layer), add=add) for m in members]
            alone = len(parts) == 1
            scores[group.name] = parts[0] if alone else joined(parts, join, comparable=comparable)
    return scores


def _place(group: Group, units: tuple[int, ...], scores: Float, *, add: bool) -> Float:
    """Move a layer's scores to the numbers of the group; -inf where the layer has no such unit.

    Where several units of the layer are one of the group, it has the highest or the sum.
    """
    placed = np.full((scores.shape[0], group.size), -np.inf)
    if add:
        placed[:, sorted(set(units))] = 0.0
        np.add.at(placed.T, np.asarray(units), scores.T)
    else:
        np.maximum.at(placed.T, np.asarray(units), scores.T)
    return placed


def joined(parts: list[Float], join: Join, *, comparable: bool) -> Float:
    """Bring scores `(labels, units)` of several layers together; see `by_group`."""
    relative = list(parts) if comparable else []
    for part in [] if comparable else parts:
        finite = np.where(np.isneginf(part), 0.0, np.abs(part))
        highest = finite.max(axis=1, keepdims=True)
        relative.append(part / np.where(highest > 0, highest, 1.0))
    stack = np.stack(relative)
    if join == "max":
        return np.asarray(stack.max(axis=0))
    there = ~np.isneginf(stack)
    count = there.sum(axis=0)
    total: NDArray[np.float64] = np.where(there, stack, 0.0).sum(axis=0)
    joined = total / np.maximum(count, 1) if join == "mean" else total
    return np.where(count > 0, joined, -np.inf)
