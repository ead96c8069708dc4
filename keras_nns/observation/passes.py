"""One pass over data through a compiled step, models left as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from keras import tree

from keras_nns.engine.steps import Stepper
from keras_nns.graph.keras_internals import undisturbed


def run_compiled(
    function: Callable[..., None],
    batches: Iterable[tuple[Any, ...]],
    *,
    models: Sequence[Any],
    at_once: int | None = None,
) -> None:
    """Call a function on every batch, compiled, in order.

    Args:
        function: Takes what a batch has, as tensors, and adds to what it keeps between batches. It
            runs in Python once for every kind of batch.
        batches: Arrays in any structure, all with samples on their first axis; at least one in each
            batch.
        models: What the function runs. Their states and losses are as before in the end.
        at_once: How many samples the function takes at most; larger batches are split.
    """
    step = Stepper(function)
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(undisturbed(model))
        for batch in batches:
            size = len(tree.flatten(batch)[0])
            if at_once is None or size <= at_once:
                step(*batch)
                continue
            for start in range(0, size, at_once):
                some = slice(start, start + at_once)
                step(*tree.map_structure(lambda t, s=some: t[s], batch))
