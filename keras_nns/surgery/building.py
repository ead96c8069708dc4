"""Build the smaller model: sliced alone, without emptied branches, or without all constants."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.graph.keras_internals import room_for
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.cleaning.constants import decide
from keras_nns.surgery.cleaning.decisions import Change, Decision
from keras_nns.surgery.cleaning.folding import fold
from keras_nns.surgery.cleaning.rewriting import rewrite
from keras_nns.surgery.heads import Answer, append_answer
from keras_nns.surgery.rebuilding import Rebuilder

How = Literal["sliced", "emptied", "simplified"]
"""How a cut is built: sliced alone, without emptied branches, or without all that is constant."""


def built(
    graph: Graph, plan: Plan, answer: Answer, how: How, *, dtype: str | None = None
) -> tuple[Any, Plan]:
    """Build the cut model.

    Args:
        graph: The traced model.
        plan: Which units stay.
        answer: What the cut model answers.
        how: How it is built.
        dtype: Compute in this type instead of the model's own.

    Returns:
        The model, and the plan less what was constant.
    """
    keep = graph.keep(plan, outputs=answer.narrowed)
    if how == "sliced" or (how == "emptied" and not _empties(graph, keep)):
        with room_for(len(graph.calls)):
            new = append_answer(Rebuilder(graph, keep, dtype=dtype).run(), answer)
        return new, graph.held(plan, keep) if graph.skipped(keep) else plan
    kept = keep.mask(np.arange(graph.unit_count))
    new, decision, _ = simplified(graph, kept, units=how == "simplified", dtype=dtype)
    return append_answer(new, answer), graph.held(plan, decision.keep)


def _empties(graph: Graph, keep: Keep) -> bool:
    without = graph.skipped(keep)
    families = [f for f in graph.families.values() if f.layer not in without]
    made = all(keep.count(family.units) for family in families)
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
