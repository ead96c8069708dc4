"""What the ends of residual branches read, and how much a loss minds what they give.

Of language models whose blocks are watched inside: the projection behind the attention of a block,
and the one behind its hidden units. Both are streamed; what is held is of one block at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.derivatives import Watch, differentiated
from keras_nns.engine.layers import mask_of
from keras_nns.engine.steps import Stepper
from keras_nns.errors import DataError
from keras_nns.graph.keras_internals import undisturbed
from keras_nns.graph.programs import Program
from keras_nns.graph.tracing import Graph
from keras_nns.observation.branches import Branch, branches_of, inputs_of
from keras_nns.observation.holdout import Division
from keras_nns.observation.next_token import NextToken
from keras_nns.observation.probing import altering
from keras_nns.observation.projections import Projection
from keras_nns.observation.stages import Stages, Values
from keras_nns.progress import reached, stage

Float = NDArray[np.float64]

_MEMORY = 2**30
"""Bytes of streams that are kept from one block to the next."""


@dataclass(frozen=True, eq=False)
class End:
    """The end of one branch of a residual block.

    Attributes:
        path: The block.
        layer: It.
        branch: The branch.
    """

    path: str
    layer: Any
    branch: Branch

    @property
    def projection(self) -> Projection:
        """The linear map at the end."""
        return self.branch.projection


@dataclass(frozen=True, eq=False)
class Read:
    """What the end of a branch reads, over all positions that count.

    Attributes:
        end: The end.
        mean: Of its inputs, `(features,)`.
        covariance: Of them, `(features, features)`.
        positions: How many there were.
    """

    end: End
    mean: Float
    covariance: Float
    positions: float


def ends_of(graph: Graph) -> list[End]:
    """List the ends of all residual blocks of a model, in the order in which they are computed."""
    found, done = [], set()
    for traced in graph.calls.values():
        layer = traced.call.operation
        if id(layer) in done:
            continue
        done.add(id(layer))
        found += [End(traced.call.path, layer, one) for one in branches_of(graph, layer, layer)]
    return found


def reads_of(graph: Graph, division: Division, ends: Sequence[End]) -> Iterator[Read]:
    """Yield the moments of what ends read, block after block, each reached from the one before.

    Args:
        graph: The traced model.
        division: The texts.
        ends: Which ends; those of one block stand together.
    """
    stages = Stages(division, memory=_MEMORY)
    paths = list(dict.fromkeys(end.path for end in ends))
    for number, path in enumerate(paths):
        stage(number, len(paths), path)
        here = [end for end in ends if end.path == path]
        sums = [_Sums(end.projection.features) for end in here]
        for _ in stages.run([graph.model], [path], partial(_add, path, here, sums), _weigh):
            pass
        for end, held in zip(here, sums, strict=True):
            yield held.read(end)


def _add(
    path: str,
    here: Sequence[End],
    sums: Sequence[_Sums],
    there: Sequence[tuple[Program, Values]],
    *of_samples: Any,
) -> Any:
    """Add what the ends of a block read of a batch. Runs inside a compiled step."""
    ((program, values),) = there
    _, weight = of_samples
    for call in inputs_of(program, path, values, [end.branch for end in here]):
        for end, held, (x, _) in zip(here, sums, call, strict=True):
            held.add(end.projection.rows(x), _each(x, weight))
    return weight


def minded(graph: Graph, division: Division, ends: Sequence[End], asked: NextToken) -> list[Float]:
    """Return how much the loss of next tokens minds what each feature at each end is off by.

    The mean square over positions of the gradient of a text's summed loss: the diagonal of the
    Fisher information (Theis et al. 2018, *Faster gaze prediction with dense networks and Fisher
    pruning*).

    Args:
        graph: The traced model.
        division: The texts.
        ends: The ends.
        asked: What the model is asked.

    Returns:
        Of each end `(outputs,)`.

    Raises:
        DataError: A gradient is NaN or infinite, or no token could be foretold.
    """
    sums = [Accumulator((end.projection.size,)) for end in ends]
    count = Accumulator(())

    def step(inputs: Any, weight: Any) -> None:
        def total_loss(watch: Watch) -> tuple[Any, list[Any]]:
            numbers = itertools.count()

            def hear(_: Any, answer: Any) -> Any:
                return watch(next(numbers), answer)

            with ExitStack() as stack:
                for end in ends:
                    stack.enter_context(altering(end.branch.ends[end.branch.number], hear))
                outputs = graph.model(inputs, training=False)
                loss, counted, _ = asked.losses(inputs, outputs)
                return ops.sum(loss), [counted]

        found, (counted,) = differentiated(total_loss)
        each = ops.cast(weight, "float32")
        for number, (held, end) in enumerate(zip(sums, ends, strict=True)):
            square = ops.square(ops.cast(found[number], "float32"))
            rows = ops.sum(ops.reshape(square, (ops.shape(square)[0], -1, end.projection.size)), 1)
            held.add(ops.cast(ops.sum(rows * each[:, None], axis=0), "float64"))
        count.add(ops.cast(ops.sum(ops.sum(counted, axis=1) * each), "float64"))

    compiled = Stepper(step)
    with undisturbed(graph.model):
        for number, batch in enumerate(division.to_fit()):
            reached(number, division.batches)
            compiled(batch.inputs, batch.each.astype(np.float32))
    positions = float(count.numpy())
    if not positions:
        raise DataError(
            "No text has a token that could be foretold: each has to have two that count. Look at "
            "the padding, and at how texts were put into tokens."
        )
    weights = [np.asarray(held.numpy() / positions) for held in sums]
    if not all(np.isfinite(one).all() for one in weights):
        raise DataError(
            f"The loss of model {graph.model.name!r} has NaN or infinite gradients. Look for "
            "tokens that are not in its vocabulary, or weights that diverged."
        )
    return weights


class _Sums:
    """First and second moments of rows: within a step in float32, over steps in float64."""

    def __init__(self, features: int) -> None:
        self._count = Accumulator(())
        self._first = Accumulator((features,))
        self._second = Accumulator((features, features))
        self._pivot = Accumulator((features,), "float32")
        self._started = Accumulator((), "bool")

    def add(self, rows: Any, weight: Any) -> None:
        """Add `(rows, features)` float32, each with its weight. Runs inside a compiled step."""
        mean = ops.mean(rows, axis=0)
        self._pivot.assign(ops.where(self._started.value, self._pivot.value, mean))
        self._started.assign(True)
        rows = (rows - self._pivot.value) * ops.sqrt(weight)[:, None]
        self._count.add(ops.cast(ops.sum(weight), "float64"))
        self._first.add(ops.cast(ops.sum(rows * ops.sqrt(weight)[:, None], axis=0), "float64"))
        self._second.add(ops.cast(ops.matmul(ops.transpose(rows), rows), "float64"))

    def read(self, end: End) -> Read:
        """Return the moments.

        Raises:
            DataError: No position counts.
        """
        count = float(self._count.numpy())
        if not count:
            raise DataError("No position of any text counts. Look at the padding.")
        first = self._first.numpy() / count
        covariance = self._second.numpy() / count - np.outer(first, first)
        return Read(end, self._pivot.numpy() + first, covariance, count)


def _each(x: Any, weight: Any) -> Any:
    """Return how much each row counts: its text's weight where no mask leaves it out."""
    texts, steps = ops.shape(x)[0], ops.shape(x)[1]
    each = ops.broadcast_to(ops.cast(weight, "float32")[:, None], (texts, steps))
    mask = mask_of(x)
    if mask is not None:
        each = each * ops.cast(mask, "float32")
    return ops.reshape(each, (-1,))


def _weigh(batch: Batch, part: NDArray[np.int32]) -> NDArray[np.float64]:
    return np.asarray(batch.each, np.float64)
