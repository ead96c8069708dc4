"""What a repair fits: the inputs of one linear map, its weights, and what the parent's gives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from keras_nns.engine.layers import mask_of
from keras_nns.graph import linear
from keras_nns.graph.junctions import Junction, Remainder, junction_of, remainder_of
from keras_nns.graph.tracing import Graph
from keras_nns.observation import projections
from keras_nns.observation.branches import Branch, branches_of
from keras_nns.observation.projections import Projection
from keras_nns.repairing.patient import Treatment

Float = NDArray[np.float64]
Within = tuple[Projection, Projection] | tuple[Branch, Branch] | None


class Target(Protocol):
    """One linear map of the subnetwork, and its counterpart in the parent."""

    label: str
    """What it is called in reports."""
    features: int
    """How many inputs one output is computed from."""
    size: int
    """How many outputs the subnetwork has."""
    positions: int
    """How many rows there are for one sample."""
    biased: bool
    """Whether a constant can be added to what it gives."""
    within: Within
    """The maps of parent and subnetwork, where they lie within a layer."""
    beside: tuple[Junction, Junction | None] | None
    """The sums that parent's and subnetwork's outputs go into, where those are fitted."""

    def read(self, x: Any) -> Any:
        """Return of the subnetwork's input what rows are made of, float32, as many for each."""

    def rows(self, read: NDArray[Any]) -> NDArray[Any]:
        """Return `(rows, features)` of what was read."""

    def given(self, x: Any) -> Any:
        """Return what the subnetwork's gives, before the activation, `(rows, outputs)`."""

    def wanted(self, theirs: Any, ours: Any) -> Any:
        """Return what it should give, from the parent's input and its own, `(rows, outputs)`.

        What the parent's gives for its own input, at the outputs that were kept.
        """

    def by_row(self, part: Any, weight: Any, rows: Any, x: Any) -> tuple[Any, Any]:
        """Repeat what is known of each sample for all of its positions."""

    def kernel(self) -> Float:
        """Return the subnetwork's weights, `(features, outputs)`."""

    def bias(self) -> Float:
        """Return what is added to the product, `(outputs,)`."""

    def shift(self, change: Float) -> str:
        """Add a constant to what it gives; returns a note where there is something to say."""

    def assign(self, kernel: Float) -> None:
        """Set the weights."""


def targets_of(
    treatment: Treatment, path: str, theirs: Any, own: Any, *, sums: bool = False
) -> Iterator[Target]:
    """Yield the linear maps of a layer, in order of computation; none where it has none.

    Args:
        treatment: The repair.
        path: The layer.
        theirs: The parent's layer.
        own: The subnetwork's.
        sums: Fit the sum that a layer's output goes into, where what it is added to is settled.
    """
    if linear.is_linear(own):
        added = _sums(treatment, path) if sums else None
        if added is not None:
            yield _Summed(treatment, path, theirs, own, added)
        else:
            yield _Whole(treatment, path, theirs, own)
        return
    traced = next(t for t in treatment.graph.calls.values() if t.call.path == path)
    if linear.is_kind(own) or not traced.inputs or projections.why_none(own) is not None:
        return
    ranks = traced.inputs[0].rank
    pairs = (projections.projections_of(layer, ranks) for layer in (theirs, own))
    # Inputs of an attention layer may differ in length.
    positions = max(math.prod(size or 1 for size in s.shape[1:-1]) for s in traced.inputs)
    for both in zip(*pairs, strict=True):
        yield _Within(treatment, path, theirs, both, positions)
    ends = (branches_of(treatment.graph, theirs, layer) for layer in (theirs, own))
    for branches in zip(*ends, strict=True):
        yield Branched(treatment, path, theirs, branches, positions, sums=sums)


def _sums(treatment: Treatment, path: str) -> tuple[Junction, Junction | Remainder] | None:
    """Return the sums that the parent's and the subnetwork's output of a layer go into."""
    own = treatment.own_path(path)
    first = junction_of(treatment.parent, path, settled=False)
    if first is None:
        return None
    # Where branches are gone, what they gave in the parent does not change any more.
    left = remainder_of(treatment.model, own, first.path)
    second = junction_of(treatment.model, own) if left is None and first.settled else left
    return None if second is None else (first, second)


def why_not(graph: Graph, theirs: Any, own: Any) -> str | None:
    """Say why a layer cannot be refitted; None where it can, or where it has nothing to refit.

    Args:
        graph: The parent's graph.
        theirs: The parent's layer.
        own: The subnetwork's.
    """
    reason = linear.why_not(own)
    if reason is None or linear.is_kind(own):
        return reason
    if projections.projections_of(own, 3) or branches_of(graph, theirs, own):
        return projections.why_none(own)
    return reason


class _Whole:
    """A Dense or a convolution."""

    biased = True
    within: Within = None
    beside: tuple[Junction, Junction | None] | None = None

    def __init__(self, treatment: Treatment, path: str, theirs: Any, own: Any) -> None:
        self.label = path
        self._treatment, self._theirs, self._own = treatment, theirs, own
        self.features = linear.feature_count(own)
        kept = linear.outputs_kept(treatment.graph, treatment.keep, path)
        self._kept, self.size = kept, len(kept)
        bias = theirs.bias
        self._bias = np.zeros(1, np.float32) if bias is None else np.asarray(bias)[kept]
        self._own_bias = treatment.bias_of(path).astype(np.float32)
        traced = next(t for t in treatment.graph.calls.values() if t.call.path == path)
        self.positions = linear.position_count(theirs, traced.call.shapes[0])

    def read(self, x: Any) -> Any:
        return ops.cast(x, "float32")

    def rows(self, read: NDArray[Any]) -> NDArray[Any]:
        return linear.features(self._own, read)

    def given(self, x: Any) -> Any:
        given = linear.apply(self._own, x, self._own.kernel) + self._own_bias
        return ops.reshape(given, (-1, self.size))

    def wanted(self, theirs: Any, ours: Any) -> Any:
        kernel = ops.take(self._theirs.kernel, self._kept, axis=-1)
        given = linear.apply(self._theirs, theirs, kernel)
        return ops.reshape(given, (-1, self.size)) + self._bias

    def by_row(self, part: Any, weight: Any, rows: Any, x: Any) -> tuple[Any, Any]:
        steps = isinstance(self._own, layers.Dense) and len(x.shape) == 3
        return by_row(part, weight, rows, x if steps else None)

    def kernel(self) -> Float:
        values = np.asarray(self._own.kernel, dtype=np.float64)
        return values.reshape(self.features, self.size)

    def bias(self) -> Float:
        return self._treatment.bias_of(self.label)

    def shift(self, change: Float) -> str:
        return self._treatment.add_to_bias(self.label, change)

    def assign(self, kernel: Float) -> None:
        self._own.kernel.assign(kernel.reshape(self._own.kernel.shape))


class _Summed(_Whole):
    """A Dense or a convolution that is added to something: it is to make up for what that lacks.

    The sum is fitted to the parent's (He et al. 2017, *Channel Pruning*, section 3.3, for the last
    layer of a residual branch). Inputs are pairs of the layer's and what its output is added to;
    where nothing is left of that but a constant, the subnetwork's are the layer's alone.
    """

    def __init__(
        self,
        treatment: Treatment,
        path: str,
        theirs: Any,
        own: Any,
        sums: tuple[Junction, Junction | Remainder],
    ) -> None:
        super().__init__(treatment, path, theirs, own)
        first, second = sums
        self._alone = isinstance(second, Remainder)
        self.beside = first, None if isinstance(second, Remainder) else second
        self._scale = np.ones(self.size, np.float32)
        self._constant = np.zeros(1, np.float32)
        if isinstance(second, Remainder):
            self._constant = second.constant
        if second.norm is not None:
            norm = linear.layers_of(treatment.model)[second.norm]
            spread = np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
            gamma = np.asarray(norm.gamma) if norm.scale else np.ones_like(spread)
            self._scale = np.divide(
                spread, gamma, out=np.zeros_like(spread), where=np.abs(gamma) > 1e-6 * spread
            )

    def read(self, x: Any) -> Any:
        return super().read(self._own_of(x))

    def given(self, x: Any) -> Any:
        return super().given(self._own_of(x))

    def wanted(self, theirs: Any, ours: Any) -> Any:
        beside = self._constant if self._alone else self._last(ours[1])
        lacking = ops.take(self._last(theirs[1]), self._kept, axis=-1) - beside
        given = super().wanted(theirs[0], self._own_of(ours))
        return given + ops.reshape(lacking, (-1, self.size)) * self._scale

    def _own_of(self, x: Any) -> Any:
        """Return what the layer is called on in the subnetwork."""
        return x if self._alone else x[0]

    def by_row(self, part: Any, weight: Any, rows: Any, x: Any) -> tuple[Any, Any]:
        return super().by_row(part, weight, rows, self._own_of(x))

    def _last(self, x: Any) -> Any:
        """Return a tensor with its channels last."""
        x = ops.cast(x, "float32")
        return ops.moveaxis(x, 1, -1) if self._channels_first else x

    @property
    def _channels_first(self) -> bool:
        return getattr(self._own, "data_format", "") == "channels_first"


class _Within:
    """One linear map of a layer that has several, or that does something else besides."""

    def __init__(
        self,
        treatment: Treatment,
        path: str,
        layer: Any,
        both: tuple[Projection, Projection],
        positions: int,
    ) -> None:
        self.within: Within = both
        self.beside: tuple[Junction, Junction | None] | None = None
        self._theirs, self._own = both
        self.label = f"{path}: {self._own.name}" if self._own.name else path
        self.features, self.size = self._own.features, self._own.size
        self.positions, self.biased = positions, self._own.bias is not None
        kept, scale = projections.outputs_kept(treatment.graph, treatment.keep, layer, self._theirs)
        # Read here: inside a compiled step weights have no values.
        self._own_matrix = self._own.matrix().astype(np.float32)
        self._own_offset = self._own.offset().astype(np.float32)
        self._matrix = (scale * self._theirs.matrix()[:, kept]).astype(np.float32)
        self._offset = (scale * self._theirs.offset()[kept]).astype(np.float32)

    def read(self, x: Any) -> Any:
        return self._own.rows(x)

    def rows(self, read: NDArray[Any]) -> NDArray[Any]:
        return read

    def given(self, x: Any) -> Any:
        return ops.matmul(self.read(x), self._own_matrix) + self._own_offset

    def wanted(self, theirs: Any, ours: Any) -> Any:
        return ops.matmul(self._theirs.rows(theirs), self._matrix) + self._offset

    def by_row(self, part: Any, weight: Any, rows: Any, x: Any) -> tuple[Any, Any]:
        steps = len(x.shape) - len(self._own.axes) == 2
        return by_row(part, weight, rows, x if steps else None)

    def kernel(self) -> Float:
        return self._own.matrix()

    def bias(self) -> Float:
        return self._own.offset()

    def shift(self, change: Float) -> str:
        self._own.assign(self._own.matrix(), self._own.offset() + change)
        return "" if self.biased else "no bias"

    def assign(self, kernel: Float) -> None:
        self._own.assign(kernel, self._own.offset())


class Branched(_Within):
    """The end of a residual block's branch: where asked, it makes up for what the stream lacks.

    Inputs are pairs of what it is called on and what its answer is added to.
    """

    def __init__(
        self,
        treatment: Treatment,
        path: str,
        layer: Any,
        branches: tuple[Branch, Branch],
        positions: int,
        *,
        sums: bool,
    ) -> None:
        both = branches[0].projection, branches[1].projection
        super().__init__(treatment, path, layer, both, positions)
        self.within = branches
        self.branches = branches
        self._sums = sums and branches[0].added

    def read(self, x: Any) -> Any:
        """Return the rows of the pair's first."""
        return super().read(x[0])

    def wanted(self, theirs: Any, ours: Any) -> Any:
        """Return what it should give, from the pairs of parent and subnetwork."""
        wanted, lacking = self.parents(theirs), self.beside_own(ours)
        return wanted if lacking is None else wanted - lacking

    def parents(self, theirs: Any) -> Any:
        """Return the part of what is wanted that the parent alone says, `(rows, outputs)`."""
        given = super().wanted(theirs[0], None)
        # All features of the stream stay, so nothing is taken out of what the parent has.
        return given + ops.reshape(theirs[1], (-1, self.size)) if self._sums else given

    def beside_own(self, ours: Any) -> Any:
        """Return what is taken off that: what the own answer is added to; None for nothing."""
        return ops.reshape(ours[1], (-1, self.size)) if self._sums else None

    def by_row(self, part: Any, weight: Any, rows: Any, x: Any) -> tuple[Any, Any]:
        """Repeat what is known of each sample for all of its positions."""
        return super().by_row(part, weight, rows, x[0])


def by_row(part: Any, weight: Any, rows: Any, steps: Any = None) -> tuple[Any, Any]:
    """Repeat what is known of each sample for all its positions.

    Args:
        part: Which part each sample is of.
        weight: How much it counts.
        rows: `(rows, …)`, as many for each sample.
        steps: What rows are the steps of: those that its Keras mask leaves out count nothing.
    """
    positions = ops.shape(rows)[0] // ops.shape(part)[0]
    part, weight = ops.repeat(part, positions), ops.repeat(weight, positions)
    mask = None if steps is None else mask_of(steps)
    if mask is not None:
        weight = weight * ops.cast(ops.reshape(mask, (-1,)), weight.dtype)
    return part, weight
