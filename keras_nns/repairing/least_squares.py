"""Repairs of what lies between input and head, from inputs alone: no labels, no gradient steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from keras_nns.engine.tensors import as_array
from keras_nns.errors import DataError, SurgeryError
from keras_nns.graph.linear import channels
from keras_nns.observation.moments import HALVES, HELD_OUT, ColumnSums, MomentSums
from keras_nns.observation.ridge import fit_ridge
from keras_nns.repairing.blocks import moments_of_branches
from keras_nns.repairing.patient import Gain, Step, Treatment
from keras_nns.repairing.regression import Rounding, checked_rounding
from keras_nns.repairing.targets import Branched, Target, by_row, targets_of, why_not

_UNEXPLAINED = "unexplained"
_MOST_FEATURES = 8192
_VALUES = 2**22
"""About how many numbers of one layer are held at once while moments are summed."""
_LEAST_OF_LABELS = 2


def fold_means() -> Step:
    """Replace what removed units gave to the next layers by its mean, in those layers' biases.

    For every Dense and convolution behind a removed unit, in the order of the graph, the bias takes
    up the mean over the data of what the parent's layer gives less what the subnetwork's gives,
    before the activation. In the first such layer that is the removed units' mean activation
    times their weights; deeper it also takes back what is left of earlier differences (the bias
    correction of Nagel et al. 2019, *Data-Free Quantization*). Doing it twice changes nothing.

    Where a removed unit was constant, nothing is left of its removal: exactly for Dense and for
    convolutions with `padding="valid"`. With `"same"`, a removed channel gives less at the border
    than inside, and the constant is the mean over all positions, the one of least squared error.

    A layer without a bias leaves the constant to the batch norm behind it, or gets a bias.

    Returns:
        A step for `repair`. Needs no labels.

    Example:
        >>> fixed = nns.repair(three, model, x, steps=nns.steps.fold_means())
        >>> [gain.layer for gain in fixed.gains if gain.layer]
        ['dense_1', 'digit']
    """
    return _FoldMeans()


def least_squares(
    *, ridge: float | None = None, balance: bool = False, rounding: Rounding | None = "int8"
) -> Step:
    """Refit layers so that they give what the parent's gave, as nearly as their inputs allow.

    For every Dense and convolution (1D, 2D, 3D, any stride, dilation and padding) behind a removed
    unit, for the input kernels of recurrent layers and the projections of attention layers, in the
    order of the graph: kernel and bias are fitted by least squares to the parent's outputs before
    the activation, on the inputs that the layer has in the subnetwork as repaired so
    far (He et al. 2017, *Channel Pruning*, eq. 4, with the bias free). Where a layer's output is
    added to something that is settled by then, as in a residual block, it is the sum that is
    fitted, so the branch makes up for what its shortcut lacks (section 3.3 there); and a shortcut
    with weights makes up for a branch that is gone. What is needed
    of the data are second moments, summed in float64: their memory does not grow with the number
    of samples. It does grow with the square of the inputs of one output; layers with more than 8192
    are left as they are, and the report says so. `fold_means` before it has no effect: the bias is
    fitted anyway.

    Args:
        ridge: How much of a standardised input's variance is added against overfitting. The penalty
            draws weights to what they were, so that what needs no repair stays as it is. None
            chooses it for each layer by fitting one half of the data and trying on the other, from
            1e-9 to 100 and "the bias alone"; 0 is plain least squares.
        balance: Give the samples of the plan's labels, together, as much weight as all others
            together. Needs labels. A network for one label of ten is otherwise fitted to the nine.
        rounding: What inputs and weights are to survive, where the penalty is chosen. With `"int8"`
            what rounding costs whatever is added to the weights is a part of the error that is made
            small, so that none grows out of the range in which the others can be told apart. None
            fits for float32 alone.

    Returns:
        A step for `repair`.

    Raises:
        SurgeryError: `ridge` is negative or not a number.

    Example:
        >>> fixed = nns.repair(three, model, x, steps=nns.steps.least_squares())
        >>> first = fixed.gains[0]
        >>> first.layer, first.measure, first.after < first.before
        ('dense_1', 'unexplained', True)
    """
    if ridge is not None and not (np.isfinite(ridge) and ridge >= 0):
        raise SurgeryError(f"`ridge` must be 0 or more, or None. Received: ridge={ridge!r}.")
    return _LeastSquares(ridge, balance, checked_rounding(rounding))


def recalibrate_batch_norm() -> Step:
    """Estimate the moving statistics of batch norms again, in the order of the graph.

    A batch norm behind removed units sees other means and variances than it did in the parent. Each
    is measured in parent and subnetwork on the same data, in one pass, and the moving mean is
    shifted by the difference, the moving variance scaled by the ratio (the statistics reset of
    Jordan et al. 2023, *REPAIR*, taken relative to the parent). Where the parent's moving
    statistics are those of the data, that sets them to what the subnetwork's are; where the data
    has another mix of labels than the training data had, the mix does not leak in.

    Behind `least_squares` there is little left to do for it, and it may take the answers further
    from the parent's: what is best predicted varies less than what it predicts, and should.

    Returns:
        A step for `repair`. Needs no labels.

    Example:
        >>> small = nns.cut(resnet, nns.select(nns.observe(resnet, "photos"), "cat"))
        >>> fixed = nns.repair(small, resnet, "photos", steps=nns.steps.recalibrate_batch_norm())
        >>> fixed.gains[0].layer
        'norm_1'
    """
    return _RecalibrateBatchNorm()


@dataclass(frozen=True)
class _FoldMeans:
    name: str = "fold_means()"
    needs_labels: bool = False
    for_head: bool = False

    def __call__(self, treatment: Treatment) -> None:
        for path, theirs, own in treatment.affected():
            if not _left_out(treatment, self.name, path, theirs, own):
                for target in targets_of(treatment, path, theirs, own):
                    self._fold(treatment, path, target)

    def _fold(self, treatment: Treatment, path: str, target: Target) -> None:
        if not target.biased:
            note = "it has no bias"
            treatment.note(Gain(self.name, target.label, _UNEXPLAINED, None, None, note))
            return
        n = target.size
        sums = ColumnSums(2 * n)

        def update(parent: list[Any], small: list[Any], part: Any, weight: Any) -> None:
            for x, z in zip(parent, small, strict=True):
                wanted = target.wanted(x, z)
                both = ops.concatenate([wanted - target.given(z), wanted], axis=1)
                sums.update(both, *target.by_row(part, weight, both, z))

        treatment.stream(path, update, within=target.within)
        shift = sums.mean(*HALVES)[:n]
        judged = _judged(treatment)
        mean, variance = sums.mean(*judged), sums.variance(*judged)
        before = float((variance[:n] + mean[:n] ** 2).sum())
        after = float((variance[:n] + (mean[:n] - shift) ** 2).sum())
        note = target.shift(shift)
        errors = before, after, float(variance[n:].sum())
        treatment.note(_explained(self.name, target.label, errors, note))


@dataclass(frozen=True)
class _LeastSquares:
    ridge: float | None
    balance: bool
    rounding: Rounding | None
    for_head: bool = False

    @property
    def name(self) -> str:
        given = [f"ridge={self.ridge!r}"] if self.ridge is not None else []
        given += ["balance=True"] if self.balance else []
        given += ["rounding=None"] if self.rounding is None else []
        return f"least_squares({', '.join(given)})"

    @property
    def needs_labels(self) -> bool:
        return self.balance

    def __call__(self, treatment: Treatment) -> None:
        if self.balance and not treatment.record.plan.labels:
            raise DataError(
                "least_squares(balance=True) weighs the plan's labels against the rest, and the "
                "plan is for no label. Leave balance out."
            )
        if self.balance:
            self._check_labels(treatment)
        for path, theirs, own in treatment.affected():
            if _left_out(treatment, self.name, path, theirs, own):
                continue
            branches: list[Branched] = []
            for target in targets_of(treatment, path, theirs, own, sums=True):
                if target.features > _MOST_FEATURES:
                    note = f"{target.features} inputs to one output, more than {_MOST_FEATURES}"
                    treatment.note(Gain(self.name, target.label, _UNEXPLAINED, None, None, note))
                    continue
                self._check_samples(treatment, target.label, target.features, target.positions)
                if isinstance(target, Branched):
                    branches.append(target)
                else:
                    self._fit(treatment, target, self._moments(treatment, path, target))
            if branches:
                told = moments_of_branches(treatment, path, branches, _add, balance=self.balance)
                for target, sums in told:
                    self._fit(treatment, target, sums)

    def _moments(self, treatment: Treatment, path: str, target: Target) -> MomentSums:
        sums = MomentSums(target.features, target.size)

        def update(parent: list[Any], small: list[Any], part: Any, weight: Any) -> list[list[Any]]:
            found = []
            for x, z in zip(parent, small, strict=True):
                wanted = target.wanted(x, z)
                _, each = target.by_row(part, weight, wanted, z)
                found.append([target.read(z), wanted, each])
            return found

        def then(found: list[list[Any]], part: NDArray[np.int32]) -> None:
            for tensors in found:
                _add(sums, target, tensors, part)

        treatment.stream(
            path,
            update,
            then=then,
            within=target.within,
            beside=target.beside,
            balance=self.balance,
        )
        return sums

    def _fit(self, treatment: Treatment, target: Target, sums: MomentSums) -> None:
        kernel, bias = target.kernel(), target.bias()
        rounded = self.rounding is not None and self.ridge is None
        fit = fit_ridge(sums, kernel, self.ridge, biased=target.biased, rounded=rounded)
        held = sums.of(*_judged(treatment))
        before = float(held.error(kernel, bias).sum())
        after = float(held.error(fit.kernel, fit.bias).sum())
        target.assign(fit.kernel)
        alone = "bias alone" if target.biased else "nothing better"
        notes = [alone if np.isinf(fit.ridge) else f"ridge {fit.ridge:.0e}"]
        if fit.singular:
            notes.append(f"singular: rank {fit.rank} of {fit.features}")
        notes.append(target.shift(fit.bias - bias))
        note = "; ".join(filter(None, notes))
        errors = before, after, float(held.spread.sum())
        treatment.note(_explained(self.name, target.label, errors, note))

    def _check_labels(self, treatment: Treatment) -> None:
        """Refuse to weigh up what is not there."""
        labels, survey = list(treatment.record.plan.labels), treatment.survey
        for half in HALVES:
            own = int(survey.labels[half, labels].sum())
            least = min(own, int(survey.samples[half]) - own)
            if least < _LEAST_OF_LABELS:
                raise DataError(
                    f"{self.name} needs at least {_LEAST_OF_LABELS} samples of the plan's labels "
                    f"and as many others in each half of what it is fitted on. Received: {least} "
                    "in one. Pass more, or leave balance out."
                )

    def _check_samples(
        self, treatment: Treatment, path: str, features: int, positions: int
    ) -> None:
        """Refuse a system with fewer rows than unknowns where nothing regularises it."""
        if self.ridge != 0:
            return
        rows = int(treatment.survey.samples[list(HALVES)].sum()) * positions
        if rows <= features:
            share = 1 - treatment.division.share
            needed = int(np.ceil((features + 1) / positions / share))
            raise DataError(
                f"least_squares(ridge=0) of layer {path!r} has {features + 1} unknowns for each "
                f"output and {rows} rows of data. Pass at least {needed} samples, or leave ridge "
                "out."
            )


@dataclass(frozen=True)
class _RecalibrateBatchNorm:
    name: str = "recalibrate_batch_norm()"
    needs_labels: bool = False
    for_head: bool = False

    def __call__(self, treatment: Treatment) -> None:
        for path, theirs, own in treatment.affected():
            if type(own) is layers.BatchNormalization:
                self._recalibrate(treatment, path, theirs, own)

    def _recalibrate(self, treatment: Treatment, path: str, theirs: Any, own: Any) -> None:
        kept = _kept_channels(treatment, path)
        size = len(kept)
        sums = ColumnSums(2 * size)

        def update(parent: list[Any], small: list[Any], part: Any, weight: Any) -> None:
            for x, z in zip(parent, small, strict=True):
                given = ops.take(channels(theirs, x), kept, axis=1)
                both = ops.concatenate([given, channels(own, z)], axis=1)
                sums.update(both, *by_row(part, weight, both))

        treatment.stream(path, update)
        mean = sums.mean(*HALVES)
        variance = sums.variance(*HALVES)
        was, now = variance[:size], variance[size:]
        # What does not vary in the parent gives no ratio: its variance stays.
        solid = was > 1e-12 * np.maximum(mean[:size] ** 2, 1e-12)
        ratio = np.where(solid, now / np.where(solid, was, 1.0), 1.0)
        moving_mean = np.asarray(theirs.moving_mean, dtype=np.float64)[kept]
        moving_variance = np.asarray(theirs.moving_variance, dtype=np.float64)[kept]
        std = np.sqrt(moving_variance + own.epsilon)
        new_mean = moving_mean + mean[size:] - mean[:size]
        moved = float(np.abs((new_mean - np.asarray(own.moving_mean)) / std).mean())
        own.moving_mean.assign(new_mean)
        own.moving_variance.assign(moving_variance * ratio)
        note = "" if solid.all() else f"{int((~solid).sum())} channels never vary"
        measure = "mean moved, in std"
        treatment.note(Gain(self.name, path, measure, 0.0, moved, note))


def _add(sums: MomentSums, target: Target, tensors: Sequence[Any], part: NDArray[np.int32]) -> None:
    """Add rows of a batch to sums, a few samples at a time."""
    read, wanted, each = map(as_array, tensors)
    parts = part.repeat(len(wanted) // len(part))
    rows = len(wanted) // len(read)
    most = max(1, _VALUES // (target.features * rows))
    for start in range(0, len(read), most):
        some = slice(start * rows, (start + most) * rows)
        given = target.rows(read[start : start + most])
        sums.update(given, wanted[some], parts[some], each[some])


def _judged(treatment: Treatment) -> tuple[int, ...]:
    return (HELD_OUT,) if treatment.division.share else HALVES


def _explained(step: str, path: str, errors: tuple[float, float, float], note: str) -> Gain:
    """Put squared errors, before and after, in relation to how much the outputs vary."""
    before, after, spread = errors
    if spread <= 0:
        return Gain(step, path, "mean squared error", before, after, note)
    return Gain(step, path, _UNEXPLAINED, before / spread, after / spread, note)


def _left_out(treatment: Treatment, step: str, path: str, theirs: Any, own: Any) -> bool:
    """Note and return that a layer with weights on its input cannot be refitted."""
    reason = why_not(treatment.graph, theirs, own)
    if reason is not None:
        treatment.note(Gain(step, path, _UNEXPLAINED, None, None, reason))
    return reason is not None


def _kept_channels(treatment: Treatment, path: str) -> NDArray[np.int64]:
    traced = next(t for t in treatment.graph.calls.values() if t.call.path == path)
    norm, stream = traced.call.operation, traced.inputs[0]
    units = stream.on(norm.axis)
    return np.arange(stream.shape[norm.axis] or 0) if units is None else treatment.keep.where(units)
