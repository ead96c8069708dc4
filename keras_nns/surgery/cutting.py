"""Cut a model down to a plan, mask it to the same plan, and prove that the two are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from keras_nns.errors import ModelError, ProofError
from keras_nns.graph.generated_inputs import sample_inputs
from keras_nns.graph.keras_internals import at_rest, room_for
from keras_nns.graph.rules import FIXED, Keep
from keras_nns.graph.tracing import Graph, TracedCall, trace
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Fingerprint
from keras_nns.surgery.cleaning.constants import decide
from keras_nns.surgery.cleaning.decisions import Change, Decision
from keras_nns.surgery.cleaning.folding import fold
from keras_nns.surgery.cleaning.rewriting import rewrite
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.heads import Answer, answer_of, append_answer, mask_answer
from keras_nns.surgery.lineage import Head, Lineage, set_lineage
from keras_nns.surgery.matching import traced_for
from keras_nns.surgery.rebuilding import Rebuilder

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
    """

    absolute: float
    relative: float
    samples: int
    tolerance: float = TOLERANCE

    @property
    def exact(self) -> bool:
        """Whether the difference is float32 rounding."""
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        word = "equal to" if self.exact else "NOT equal to"
        return (
            f"{word} the masked parent on {self.samples} samples: largest difference "
            f"{self.absolute:.2g}, {self.relative:.2g} of the output's scale"
        )


@keras.saving.register_keras_serializable("keras_nns")
class UnitMask(keras.layers.Layer):
    """Force units to zero, whatever their value (also NaN).

    Args:
        keep: For each position of the axis, whether it stays.
        axis: The axis of the units.
    """

    def __init__(self, keep: list[bool], axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep = [bool(k) for k in keep]
        self.axis = axis
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Do nothing: there are no weights."""
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Zero the positions that do not stay."""
        shape = [1] * len(inputs.shape)
        shape[self.axis] = len(self.keep)
        keep = ops.convert_to_tensor(np.reshape(self.keep, shape))
        return ops.where(keep, inputs, ops.zeros((), dtype=inputs.dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**super().get_config(), "keep": self.keep, "axis": self.axis}


def fingerprint(model: Any) -> Fingerprint:
    """Return what identifies a model: its structure, and its weights as they are now.

    Raises:
        ModelError: The model has no graph to read.
    """
    return trace(model).fingerprint


def cut(
    model: Any,
    plan: Plan,
    *,
    head: Head = "parent",
    output: str | None = None,
    prove: bool = False,
    retrained: bool = False,
    simplify: bool = False,
    allow_empty: bool = False,
) -> Any:
    """Build the smaller model that a plan describes.

    The result is an ordinary Keras model: Sequential where the parent is Sequential, functional
    where it is functional, with the parent's layer names, dtype policies, trainable flags and
    compile settings. The parent is not changed and shares nothing with it.

    Args:
        model: The parent, a built Sequential or functional `keras.Model`.
        plan: Which units stay, from `select`.
        head: What the cut model answers. `"parent"`: all the parent's labels; `"labels"`: only the
            plan's, renormalised where the parent ends in a softmax; `"other"`: the plan's and one
            more for all the rest; `"binary"`: one probability that the input is of the plan's
            labels.
        output: Name of the output that answers the labels, where the parent has several.
        prove: Compare with the masked parent on generated inputs, and raise where they differ.
        retrained: Accept a parent that was trained further since the plan was made.
        simplify: Also leave out what became constant, as `nns.simplify` does.
        allow_empty: Accept a plan that keeps nothing of a layer. What becomes constant by that is
            removed, a residual block of which nothing is kept with all of its layers; what reads
            it gets its constant. Refused where nothing of the signal would get through.

    Returns:
        A `keras.Model`. `lineage(model)` tells which parent units it holds.

    Raises:
        PlanError: The plan is of another model, or keeps nothing of a layer and `allow_empty` is
            false or the model cannot do without that layer.
        SurgeryError: The head does not fit the model, or a layer cannot be rebuilt.
        ProofError: `prove` is true and the cut model is not equal to its masked parent.

    Example:
        >>> plan = nns.select(activity, labels=3)  # doctest: +SKIP
        >>> three = nns.cut(model, plan, head="binary", prove=True)  # doctest: +SKIP
    """
    graph = traced_for(model, plan, retrained=retrained, allow_empty=allow_empty)
    answer = answer_of(graph, plan, head, output)
    how = _how(simplify, allow_empty)
    new, held = _cut(graph, plan, answer, how)
    carry_compile_settings(model, new, answer)
    set_lineage(new, Lineage(held, head, answer.labels, answer.label_names, answer.output))
    if prove:
        proof = _compare(graph, plan, answer, None, how, samples=8, seed=0)
        if not proof.exact:
            raise ProofError(
                f"The cut of {model.name!r} is {proof}. Please report this model's layers: "
                f"{sorted({type(t.call.operation).__name__ for t in graph.calls.values()})}."
            )
    return new


def mask(
    model: Any,
    plan: Plan,
    *,
    head: Head = "parent",
    output: str | None = None,
    retrained: bool = False,
) -> Any:
    """Build a full-size copy in which the removed units are forced to zero.

    This is the paper's own operation and the oracle for `cut`: as slow and big as the parent, and
    equal in its answers to the cut model. Units are zeroed after every layer on their axis.

    Args:
        model: The parent.
        plan: Which units stay.
        head: As in `cut`.
        output: As in `cut`.
        retrained: As in `cut`.

    Returns:
        A functional `keras.Model`.

    Raises:
        PlanError: The plan is of another model.
        SurgeryError: The head does not fit the model.
    """
    graph = traced_for(model, plan, retrained=retrained, allow_empty=True)
    return _mask(graph, plan, answer_of(graph, plan, head, output))


def prove(
    model: Any,
    plan: Plan,
    *,
    head: Head = "parent",
    output: str | None = None,
    samples: Any = 16,
    seed: int = 0,
    retrained: bool = False,
    simplify: bool = False,
    allow_empty: bool = False,
) -> Proof:
    """Measure how far the cut model is from its masked parent.

    Models of lower precision are compared in float32, so that rounding does not hide a mistake.

    Args:
        model: The parent.
        plan: Which units stay.
        head: As in `cut`.
        output: As in `cut`.
        samples: Inputs as the model takes them, or how many to generate.
        seed: Seed of the generated inputs.
        retrained: As in `cut`.
        simplify: As in `cut`.
        allow_empty: As in `cut`.

    Returns:
        The proof; `proof.exact` says whether the two are equal.

    Raises:
        PlanError: The plan is of another model, or keeps nothing of a layer.
    """
    graph = traced_for(model, plan, retrained=retrained, allow_empty=allow_empty)
    answer = answer_of(graph, plan, head, output)
    given = None if isinstance(samples, int) else samples
    count = samples if isinstance(samples, int) else 0
    how = _how(simplify, allow_empty)
    return _compare(graph, plan, answer, given, how, samples=count, seed=seed)


How = Literal["sliced", "emptied", "simplified"]
"""How a cut is built: sliced alone, without emptied branches, or without all that is constant."""


def _how(simplify: bool, allow_empty: bool) -> How:
    if simplify:
        return "simplified"
    return "emptied" if allow_empty else "sliced"


def _cut(
    graph: Graph, plan: Plan, answer: Answer, how: How, *, dtype: str | None = None
) -> tuple[Any, Plan]:
    """Build the cut model; return it with the plan less what was constant."""
    keep = graph.keep(plan, outputs=answer.narrowed)
    if how == "sliced" or (how == "emptied" and not _empties(graph, keep)):
        with room_for(len(graph.calls)):
            return append_answer(Rebuilder(graph, keep, dtype=dtype).run(), answer), plan
    kept = keep.mask(np.arange(graph.unit_count))
    new, decision, _ = simplified(graph, kept, units=how == "simplified", dtype=dtype)
    return append_answer(new, answer), graph.held(plan, decision.keep)


def _empties(graph: Graph, keep: Keep) -> bool:
    made = all(keep.count(family.units) for family in graph.families.values())
    return not made or bool(graph.unread(keep))


def simplified(
    graph: Graph,
    kept: NDArray[np.bool_],
    *,
    units: bool = True,
    fixed: NDArray[np.bool_] | None = None,
    fold_batch_norm: bool = False,
    dtype: str | None = None,
) -> tuple[Any, Decision, list[Change]]:
    """Build a model without the units that leave and without what is constant then.

    Args:
        graph: The traced model.
        kept: For every unit, whether it stays.
        units: Whether constant units leave too, beside calls that became constant.
        fixed: Constant units that stay all the same.
        fold_batch_norm: Whether batch norms are folded.
        dtype: Compute in this type instead of the model's own.

    Returns:
        The new model, what was decided, and what was done in words.

    Raises:
        PlanError: The model cannot do without what the plan leaves nothing of.
    """
    decision = decide(graph, kept, units=units, fixed=fixed)
    with room_for(len(graph.calls)):
        new, added = rewrite(graph, decision, dtype=dtype)

        def chosen(layer: Any) -> bool:
            norm = fold_batch_norm and type(layer) is keras.layers.BatchNormalization
            return norm or (type(layer) is keras.layers.Rescaling and layer.name in added)

        new, folded = fold(new, chosen)
    # That a constant stays in a layer of its own is no news.
    told = [c for c in folded if c.layer not in added or not c.change.startswith("not")]
    return new, decision, [*decision.changes, *told]


def _mask(graph: Graph, plan: Plan, answer: Answer, *, dtype: str | None = None) -> Any:
    keep = graph.keep(plan)

    def after(traced: TracedCall, results: list[Any]) -> list[Any]:
        masked = []
        for index, (stream, result) in enumerate(zip(traced.outputs, results, strict=True)):
            value = result
            for axis, units in stream.units.items():
                if not keep.all(units):
                    name = "_".join(["mask", *map(str, traced.call.key), str(index), str(axis)])
                    layer = UnitMask(keep.mask(units).tolist(), axis, name=name, dtype=value.dtype)
                    value = layer(value)
            masked.append(value)
        return masked

    everything = Keep(np.ones(graph.unit_count, dtype=bool))
    rebuilder = Rebuilder(graph, everything, after=after, dtype=dtype)
    with room_for(len(graph.calls)):
        model = rebuilder.run()
        _silence(graph, keep, rebuilder)
        return mask_answer(model, answer)


def _silence(graph: Graph, keep: Keep, rebuilder: Rebuilder) -> None:
    """Zero removed units inside layers where they act before the output can be masked."""
    for old, new in rebuilder.layers:
        blueprint = graph.blueprints.get(id(old))
        for index, binding in (blueprint.bindings if blueprint else {}).items():
            for axis in binding.silence:
                units = binding.axes[axis]
                if keep.all(units) or (units == FIXED).all():
                    continue
                variable = new.variables[index]
                value = variable.numpy().copy()
                value[(slice(None),) * axis + (~keep.mask(units),)] = 0
                variable.assign(value)


def has_lower_precision(graph: Graph) -> bool:
    """Return whether a layer computes in less than float32."""
    return any(
        getattr(traced.call.operation, "compute_dtype", "float32") in ("float16", "bfloat16")
        for traced in graph.calls.values()
    )


def _compare(
    graph: Graph, plan: Plan, answer: Answer, given: Any, how: How, *, samples: int, seed: int
) -> Proof:
    dtype = "float32" if has_lower_precision(graph) else None
    small, _ = _cut(graph, plan, answer, how, dtype=dtype)
    large = _mask(graph, plan, answer, dtype=dtype)
    inputs = sample_inputs(graph, samples, seed=seed) if given is None else given
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
    with at_rest(one), at_rest(other):
        answers = [tree.flatten(model(inputs, training=False)) for model in (one, other)]
    for left, right in zip(*answers, strict=True):
        a, b = np.asarray(left, np.float64), np.asarray(right, np.float64)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ModelError(
                f"Model {other.name!r} answers NaN or infinite values, so nothing can be "
                "proven. Check its weights and the samples."
            )
        apart = float(np.abs(a - b).max(initial=0.0))
        scale = float(np.abs(b).max(initial=0.0))
        absolute = max(absolute, apart)
        relative = max(relative, apart / scale if scale > 0 else float(apart > 0))
    return Proof(absolute, relative, len(tree.flatten(inputs)[0]))
