"""What a runtime does with a file, beside LiteRT's interpreter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_export.keras_model.decisions import decide
from tflite_export.running.comparison import answers_of
from tflite_export.runtimes.choice import opened
from tflite_export.runtimes.micro import smallest_arena
from tflite_export.runtimes.refusals import NotRunError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RuntimeFigures:
    """What one runtime does with one file.

    Attributes:
        runtime: Its name: "compiled", "micro" or "web".
        refusal: Why it does not run the file; empty where it does.
        difference: Largest difference from the answers of LiteRT's interpreter, as a share of the
            largest absolute value that an output answers there; `None` without samples.
        agreement: Share of the samples with the same decision as there, of the output where it is
            lowest; `None` without samples, or where no output decides.
        arena_bytes: The smallest arena that TFLite Micro runs the file with, in bytes; `None` in
            other runtimes.

    Example:
        >>> made = tflite_export.card(flat, x_test, runtimes=["compiled"], seconds=0.05)
        >>> figures = made.rows[0].runtimes[0]
        >>> figures.runtime, figures.runs, figures.agreement
        ('compiled', True, 1.0)
    """

    runtime: str
    refusal: str
    difference: float | None = None
    agreement: float | None = None
    arena_bytes: int | None = None

    @property
    def runs(self) -> bool:
        """Whether it runs the file; how well is told by the differences."""
        return not self.refusal


def behaviour(
    flat: bytes, runtime: str, values: Sequence[Array], reference: Sequence[Array] | None
) -> RuntimeFigures:
    """Run a file in a runtime and compare.

    Args:
        flat: The flatbuffer.
        runtime: Name of the runtime.
        values: Real inputs in the file's order.
        reference: What LiteRT answers, in the file's order; `None` to compare nothing.

    Raises:
        OptionError: There is no such runtime, or its package is missing.
    """
    difference = agreement = arena = None
    try:
        runner = opened(flat, runtime)
        if runtime == "micro":
            arena = smallest_arena(flat)
        if reference is not None:
            answers = answers_of(runner, runner.inputs, runner.outputs, values)
            pairs = list(zip(reference, answers, strict=True))
            difference = max(_apart(*pair) for pair in pairs)
            agreement = min(
                (s for s in (_same(*pair) for pair in pairs) if s is not None), default=None
            )
    except NotRunError as error:
        return RuntimeFigures(runtime, error.reason)
    return RuntimeFigures(runtime, "", difference, agreement, arena)


def _apart(reference: Array, answer: Array) -> float:
    left, right = reference.astype(np.float64), answer.astype(np.float64)
    scale = np.abs(left).max(initial=0.0) or 1.0
    return float(np.abs(left - right).max(initial=0.0) / scale)


def _same(reference: Array, answer: Array) -> float | None:
    left, right = decide(reference), decide(answer, like=reference)
    return None if left is None or right is None else float((left == right).mean())
