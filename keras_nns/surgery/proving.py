"""Measure whether a cut model is equal to its masked parent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from keras_nns.data.outputs import output_keys
from keras_nns.errors import ModelError, ProofError
from keras_nns.graph.generated_inputs import answers_of, telling_inputs, variations
from keras_nns.graph.keras_internals import functional
from keras_nns.graph.tracing import Graph
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.building import How, built
from keras_nns.surgery.heads import Answer
from keras_nns.surgery.masking import masked

TOLERANCE = 1e-5
"""Largest difference between a cut model and its masked parent, relative to the output's scale."""


@dataclass(frozen=True)
class Proof:
    """How far a cut model is from its masked parent.

    Attributes:
        absolute: Largest absolute difference over all samples and outputs.
        relative: The same, divided by the largest absolute value of that output.
        samples: How many inputs were compared.
        tolerance: The largest `relative` that counts as exact.
        varied: Whether an output differs between the samples. Where none does, a mistake in what
            computes it need not show: nothing was tested.
        constant: Names of the outputs that do not differ between the samples.

    Example:
        >>> proof = nns.prove(model, plan)
        >>> proof.exact, proof.samples
        (True, 16)
    """

    absolute: float
    relative: float
    samples: int
    tolerance: float = TOLERANCE
    varied: bool = True
    constant: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the difference is float32 rounding."""
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        if self.exact and not self.varied:
            return (
                f"not tested: it gives one and the same answer for all {self.samples} samples, as "
                "the masked parent does. Pass samples whose answers differ"
            )
        word = "equal to" if self.exact else "NOT equal to"
        return (
            f"{word} the masked parent on {self.samples} samples: largest difference "
            f"{self.absolute:.2g}, {self.relative:.2g} of the output's scale"
        ) + (f"; {self.untested}" if self.constant and self.exact else "")

    @property
    def untested(self) -> str:
        """Which outputs were not tested, in words; empty where all were."""
        if not self.constant:
            return ""
        names = ", ".join(map(repr, self.constant))
        were, they = ("output", "it gives") if len(self.constant) == 1 else ("outputs", "they give")
        return (
            f"not tested: {were} {names}, since {they} one and the same answer for all "
            f"{self.samples} samples"
        )


def has_lower_precision(graph: Graph) -> bool:
    """Return whether a layer computes in less than float32."""
    return any(
        getattr(traced.call.operation, "compute_dtype", "float32") in ("float16", "bfloat16")
        for traced in graph.calls.values()
    )


def compared(
    graph: Graph, plan: Plan, answer: Answer, given: Any, how: How, *, samples: int, seed: int
) -> Proof:
    """Cut and mask a traced model, and measure how far the two are apart.

    Args:
        graph: The traced model.
        plan: Which units stay.
        answer: What the two answer.
        given: Inputs as the model takes them, or None to generate some.
        how: How the cut model is built.
        samples: How many inputs to generate.
        seed: Seed of the generated inputs.

    Raises:
        ProofError: The model draws random numbers in inference.
        ModelError: An answer is NaN or infinite.
    """
    dtype = "float32" if has_lower_precision(graph) else None
    small, _ = built(graph, plan, answer, how, dtype=dtype)
    large = masked(graph, plan, answer, dtype=dtype, held=False)
    inputs = telling_inputs(graph, large, samples, seed=seed) if given is None else given
    proof = difference(small, large, inputs)
    if not proof.exact and not difference(large, large, inputs).exact:
        raise ProofError(
            f"Model {graph.model.name!r} answers the same samples differently each time: "
            f"{_random_calls(graph)} draws random numbers in inference too, so nothing can be "
            "proven. Give it a seed (keras.random.SeedGenerator), or leave it out of the model."
        )
    return proof


def _random_calls(graph: Graph) -> str:
    """Name the layers that may draw random numbers."""
    named = [
        repr(traced.call.path)
        for traced in graph.calls.values()
        if hasattr(traced.call.operation, "seed_generator")
    ]
    return ", ".join(dict.fromkeys(named)) or "a layer"


def difference(one: Any, other: Any, inputs: Any) -> Proof:
    """Measure how far the answers of two models are apart, relative to those of the second.

    Raises:
        ModelError: An answer is NaN or infinite.
    """
    absolute = relative = 0.0
    answers = [answers_of(model, inputs) for model in (one, other)]
    for a, b in zip(*answers, strict=True):
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ModelError(
                f"Model {other.name!r} answers NaN or infinite values, so nothing can be "
                "proven. Check its weights and the samples."
            )
        apart = float(np.abs(a - b).max(initial=0.0))
        scale = float(np.abs(b).max(initial=0.0))
        absolute = max(absolute, apart)
        relative = max(relative, apart / scale if scale > 0 else float(apart > 0))
    samples = len(tree.flatten(inputs)[0])
    # Of one sample alone it cannot be told.
    named = zip(output_keys(functional(other)), variations(answers[1]), strict=True)
    # Pairs, since outputs of one layer have one name.
    constant = tuple(name for name, far in named if samples > 1 and not far > 0)
    varied = len(constant) < len(answers[1])
    return Proof(absolute, relative, samples, varied=varied, constant=constant)
