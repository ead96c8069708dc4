"""Measure whether a cut model is equal to its masked parent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import tree

from keras_nns.data.outputs import output_keys
from keras_nns.engine.double import DOUBLE, in_double
from keras_nns.errors import ModelError, ProofError
from keras_nns.graph.generated_inputs import telling_inputs, variations
from keras_nns.graph.keras_internals import functional
from keras_nns.graph.tracing import Graph
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.building import How, built
from keras_nns.surgery.heads import Answer
from keras_nns.surgery.masking import masked
from keras_nns.surgery.precision import Answers, Side

TOLERANCE = 1e-5
"""Largest difference between a cut model and its masked parent, relative to the output's scale."""

DOUBLE_TOLERANCE = 1e-9
"""The same in float64: what rounds to as much as 0.5 apart in float32 is below."""

_SIDES = 2
"""Both models round."""

_MOST_ROUNDING = 1e-3
"""Largest difference that is put down to float32's rounding, however much it does to a model."""


@dataclass(frozen=True)
class Proof:
    """How far a cut model is from its masked parent.

    Where float32 rounds by more than the tolerance, as over many blocks, both are computed in
    float64 instead. Where a layer computes in float32 whatever it is told, they are held to what
    float32's rounding alone does to the masked parent.

    Attributes:
        absolute: Largest absolute difference over all samples and outputs.
        relative: The same, divided by the largest absolute value of that output.
        samples: How many inputs were compared.
        tolerance: The largest `relative` that counts as exact.
        varied: Whether an output differs between the samples. Where none does, a mistake in what
            computes it need not show: nothing was tested.
        constant: Names of the outputs that do not differ between the samples.
        dtype: What was compared: answers in `"float32"` or in `"float64"`.
        in_float32: `relative` in float32, where `dtype` is `"float64"`.
        rounding: How far float32's rounding of weights and inputs alone moves the answers, relative
            to their scale; None where it was not needed.

    Example:
        >>> proof = nns.prove(model, plan)
        >>> proof.exact, proof.samples, proof.dtype
        (True, 16, 'float32')
    """

    absolute: float
    relative: float
    samples: int
    tolerance: float = TOLERANCE
    varied: bool = True
    constant: tuple[str, ...] = ()
    dtype: str = "float32"
    in_float32: float | None = None
    rounding: float | None = None

    @property
    def exact(self) -> bool:
        """Whether the difference is rounding."""
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        if self.exact and not self.varied:
            return (
                f"not tested: it gives one and the same answer for all {self.samples} samples, as "
                "the masked parent does. Pass samples whose answers differ"
            )
        word = "equal to" if self.exact else "NOT equal to"
        if self.rounding is not None and self.exact:
            word = "equal up to float32's rounding to"
        return (
            f"{word} the masked parent on {self.samples} samples{self.how}: largest difference "
            f"{self.absolute:.2g}, {self.relative:.2g} of the output's scale{self.beside}"
        ) + (f"; {self.untested}" if self.constant and self.exact else "")

    @property
    def how(self) -> str:
        """In which arithmetic the two were compared, in words; empty where in float32."""
        return f" in {self.dtype}" if self.in_float32 is not None else ""

    @property
    def beside(self) -> str:
        """What float32's rounding does to them, in words; empty where it was not looked at."""
        if self.rounding is not None:
            return (
                " (it cannot be told in float64; float32's rounding of weights and inputs alone "
                f"moves these answers by {self.rounding:.2g}, up to {self.tolerance:.2g} passes)"
            )
        if self.in_float32 is not None:
            return f" (in float32, which rounds, {self.in_float32:.2g})"
        return ""

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

    def small(dtype: str | None) -> Any:
        return built(graph, plan, answer, how, dtype=dtype)[0]

    def large(dtype: str | None) -> Any:
        return masked(graph, plan, answer, dtype=dtype, held=False)

    dtype = "float32" if has_lower_precision(graph) else None
    one, other = small(dtype), large(dtype)
    inputs = telling_inputs(graph, other, samples, seed=seed) if given is None else given
    sides = Side(one, inputs, small), Side(other, inputs, large)
    proof = proof_of(*sides, rounded=how != "sliced")
    if not proof.exact and not _apart(sides[1], sides[1]).exact:
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
    """Measure how far the answers of two models are apart, as `proof_of` does.

    Raises:
        ModelError: An answer is NaN or infinite.
    """
    return proof_of(Side(one, inputs), Side(other, inputs))


def proof_of(one: Side, other: Side, *, rounded: bool = False) -> Proof:
    """Measure how far the answers of two models are apart, relative to those of the second.

    In float32. Where they are further apart than `TOLERANCE` there, in float64, where only what is
    no rounding is left; and where a layer cannot do that, beside what float32's rounding alone does
    to the second.

    Args:
        one: The model that is looked at.
        other: What it shall be equal to; it has a graph.
        rounded: Whether the first has weights that were computed and rounded to float32, which
            float64 does not undo: less than `TOLERANCE` is left then.

    Raises:
        ModelError: An answer is NaN or infinite.
    """
    proof = _apart(one, other)
    if proof.exact:
        return proof
    found = _in_double(one, other, TOLERANCE if rounded else DOUBLE_TOLERANCE)
    if found is not None and (found.exact or not rounded):
        return replace(found, in_float32=proof.relative)
    moved = other.moved_by_rounding()
    most = min(max(_SIDES * moved, TOLERANCE), _MOST_ROUNDING) if np.isfinite(moved) else TOLERANCE
    return replace(proof, rounding=moved, tolerance=most)


def _in_double(one: Side, other: Side, tolerance: float) -> Proof | None:
    """Return the proof in float64; None where not all layers compute in it."""
    with in_double():
        try:
            answers = one.in_double().answers()  # That model is let go before the next is made.
            whole = other.in_double()
            proof = _measured(answers, whole.answers(), other)
            proof = replace(proof, dtype=DOUBLE, tolerance=tolerance)
            return proof if proof.exact or whole.is_smooth() else None
        except Exception:  # Layers say in their own ways that they know no float64.
            return None


def _apart(one: Side, other: Side) -> Proof:
    return _measured(one.answers(), other.answers(), other)


def _measured(ones: Answers, others: Answers, other: Side) -> Proof:
    """Measure how far answers are apart, relative to the second ones.

    Raises:
        ModelError: An answer is NaN or infinite.
    """
    absolute = relative = 0.0
    for a, b in zip(ones, others, strict=True):
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ModelError(
                f"Model {other.model.name!r} answers NaN or infinite values, so nothing can be "
                "proven. Check its weights and the samples."
            )
        apart = float(np.abs(a - b).max(initial=0.0))
        scale = float(np.abs(b).max(initial=0.0))
        absolute = max(absolute, apart)
        relative = max(relative, apart / scale if scale > 0 else float(apart > 0))
    samples = len(tree.flatten(other.inputs)[0])
    # Of one sample alone it cannot be told.
    named = zip(output_keys(functional(other.model)), variations(others), strict=True)
    # Pairs, since outputs of one layer have one name.
    constant = tuple(name for name, far in named if samples > 1 and not far > 0)
    varied = len(constant) < len(others)
    return Proof(absolute, relative, samples, varied=varied, constant=constant)
