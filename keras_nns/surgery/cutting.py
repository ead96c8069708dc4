"""Cut a model down to a plan, mask it to the same plan, and prove that the two are equal."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from keras_nns.errors import ProofError
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import Fingerprint
from keras_nns.surgery.building import How, built
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.heads import answer_of
from keras_nns.surgery.lineage import Head, Lineage, set_lineage, tokens_of
from keras_nns.surgery.masking import masked
from keras_nns.surgery.matching import traced_for
from keras_nns.surgery.on_file import parent_of
from keras_nns.surgery.proving import Proof, compared


def fingerprint(model: Any) -> Fingerprint:
    """Return what identifies a model: its structure, and its weights as they are now.

    Args:
        model: A model, or the path of its file, as in `cut`.

    Raises:
        FileError: The file cannot be read.
        ModelError: The model has no graph to read.

    Example:
        >>> nns.fingerprint(model) == activity.fingerprint
        True
    """
    with parent_of(model) as parent:
        return trace(parent).fingerprint


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

    Of a parent that is given as a path no more than one weight is in memory at a time: the peak is
    what the cut model takes and the largest layer, and what is made is the same to the last bit.

    Args:
        model: The parent, a built Sequential or functional `keras.Model`; or the path of its
            `.keras` file, or of the folder of a preset of KerasHub, whose weights then stay there
            and are read one by one. Files that cannot be read so are read whole, with a warning.
        plan: Which units stay, from `select`.
        head: What the cut model answers. `"parent"`: all the parent's labels; `"labels"`: only the
            plan's, renormalised where the parent ends in a softmax; `"other"`: the plan's and one
            more for all the rest; `"binary"`: one probability that the input is of the plan's
            labels.
        output: Name of the output that answers the labels, where the parent has several.
        prove: Compare with the masked parent on generated inputs, as `prove` does; raise where they
            differ, and warn where the answer is the same for all inputs: nothing was tested.
        retrained: Accept a parent that was trained further since the plan was made.
        simplify: Also leave out what became constant, as `nns.simplify` does.
        allow_empty: Accept a plan that keeps nothing of a layer. What becomes constant by that is
            removed, a residual block of which nothing is kept with all of its layers; what reads
            it gets its constant. Refused where nothing of the signal would get through.

    Returns:
        A `keras.Model`. `lineage(model)` tells which parent units it holds.

    Raises:
        FileError: The file is missing, damaged, no model, or its weights are not those of its
            layers.
        PlanError: The plan is of another model, or keeps nothing of a layer and `allow_empty` is
            false or the model cannot do without that layer.
        SurgeryError: The head does not fit the model, or a layer cannot be rebuilt.
        ProofError: `prove` is true and the cut model is not equal to its masked parent.

    Example:
        >>> plan = nns.select(activity, labels=3)
        >>> three = nns.cut(model, plan, head="binary", prove=True)
        >>> model.count_params(), three.count_params()
        (2778, 1277)
    """
    with parent_of(model) as parent:
        graph = traced_for(parent, plan, retrained=retrained, allow_empty=allow_empty)
        answer = answer_of(graph, plan, head, output)
        how = _how(simplify, allow_empty)
        new, held = built(graph, plan, answer, how)
        carry_compile_settings(parent, new, answer)
        record = Lineage(held, head, answer.labels, answer.label_names, answer.output)
        set_lineage(new, replace(record, tokens=tokens_of(parent)))
        if prove:
            proof = compared(graph, plan, answer, None, how, samples=8, seed=0)
            if not proof.exact:
                raise ProofError(
                    f"The cut of {parent.name!r} is {proof}. Please report this model's layers: "
                    f"{sorted({type(t.call.operation).__name__ for t in graph.calls.values()})}."
                )
            if not proof.varied:
                warnings.warn(f"The cut of {parent.name!r} was {proof} to prove.", stacklevel=2)
            elif proof.constant:
                warnings.warn(f"Of the cut of {parent.name!r} {proof.untested}.", stacklevel=2)
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
        model: The parent, or the path of its file, as in `cut`.
        plan: Which units stay.
        head: As in `cut`.
        output: As in `cut`.
        retrained: As in `cut`.

    Returns:
        A functional `keras.Model`.

    Raises:
        FileError: The file cannot be read.
        PlanError: The plan is of another model.
        SurgeryError: The head does not fit the model.

    Example:
        >>> masked, small = nns.mask(model, plan), nns.cut(model, plan)
        >>> np.allclose(masked.predict(x, verbose=0), small.predict(x, verbose=0), atol=1e-5)
        True
    """
    with parent_of(model) as parent:
        graph = traced_for(parent, plan, retrained=retrained, allow_empty=True)
        return masked(graph, plan, answer_of(graph, plan, head, output))


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

    Models of lower precision are compared in float32, so that rounding does not hide a mistake. In
    a deep network float32 itself may round by more than a mistake does: then both are computed in
    float64, where a cut is equal to 1e-9 of the output's scale. A network that cannot be computed
    so, since a layer of it knows float32 alone, is held to what float32's rounding does to the
    masked parent, and the proof says so.

    Args:
        model: The parent, or the path of its file, as in `cut`.
        plan: Which units stay.
        head: As in `cut`.
        output: As in `cut`.
        samples: Inputs as the model takes them, or how many to generate.
        seed: Seed of the generated inputs.
        retrained: As in `cut`.
        simplify: As in `cut`.
        allow_empty: As in `cut`.

    Returns:
        The proof; `proof.exact` says whether the two are equal, `proof.varied` whether their
        answer differs between samples, without which nothing is tested, and `proof.dtype` in which
        arithmetic they were compared.

    Raises:
        FileError: The file cannot be read.
        PlanError: The plan is of another model, or keeps nothing of a layer.

    Example:
        >>> print(nns.prove(model, plan))
        equal to the masked parent on 16 samples: largest difference ..., ... of the output's scale
    """
    given = None if isinstance(samples, int) else samples
    count = samples if isinstance(samples, int) else 0
    how = _how(simplify, allow_empty)
    with parent_of(model) as parent:
        graph = traced_for(parent, plan, retrained=retrained, allow_empty=allow_empty)
        answer = answer_of(graph, plan, head, output)
        return compared(graph, plan, answer, given, how, samples=count, seed=seed)


def _how(simplify: bool, allow_empty: bool) -> How:
    if simplify:
        return "simplified"
    return "emptied" if allow_empty else "sliced"
