"""Simplify: leave out of a model what is constant, and fold what can be folded, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_nns import tables
from keras_nns.errors import ProofError, SurgeryError
from keras_nns.graph.generated_inputs import telling_inputs
from keras_nns.graph.tracing import Graph, trace
from keras_nns.surgery.building import simplified
from keras_nns.surgery.cleaning.decisions import Change
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.lineage import lineage, set_lineage
from keras_nns.surgery.precision import Side, copied_in
from keras_nns.surgery.proving import Proof, has_lower_precision, proof_of


@dataclass(frozen=True, repr=False, eq=False)
class Simplification(tables.Tabular):
    """A simplified model, and what was done to it. Printing it gives a table.

    Attributes:
        model: The new model.
        changes: What was done, layer by layer, and what was asked for and could not be.
        proof: How far its answers are from those of the model it was made of.

    Example:
        >>> lean = nns.simplify(resnet, fold_batch_norm=True)
        >>> resnet.count_params(), lean.model.count_params(), lean.proof.exact
        (883, 835, True)
    """

    model: keras.Model
    changes: tuple[Change, ...]
    proof: Proof

    def to_table(self) -> tables.Table:
        """Return the changes as a table."""
        rows = tuple(
            (change.layer, change.change, tables.count(change.units) if change.units else "")
            for change in self.changes
        )
        caption = (
            f"{tables.count(self.model.count_params())} parameters are left; largest difference "
            f"{self.proof.absolute:.2g}, {self.proof.relative:.2g} of the output's scale"
            f"{self.proof.how}{self.proof.beside}."
        )
        if not rows:
            caption = f"There was nothing to simplify. {caption}"
        return tables.Table(("layer", "change", "units"), rows, caption, prose=(0, 1))


def simplify(model: keras.Model, *, fold_batch_norm: bool = False) -> Simplification:
    """Leave out what does not change what a model computes.

    - A unit that is constant whatever the input is removed: a ReLU whose weights and bias never let
      it fire, a channel whose batch norm has a scale of zero. Where it is another constant than
      zero, the biases of the layers that read it (Dense, convolution, SimpleRNN, LSTM, GRU) take it
      up. It stays where that would not be exact: before a convolution that pads with zeros, or
      something that is not linear in it.
    - A branch that became constant is removed; the Add, Subtract, Multiply, Average or Concatenate
      it led to does without, with the constant in a Rescaling layer or in the bias before it.
    - With `fold_batch_norm`, batch norms go into the convolution or Dense before them, or into the
      one behind them where that is exact. The model then trains differently; fold to ship.

    The bounds are those of inference mode. The model may be any, cut or not; it is not changed.
    `cut(model, plan, simplify=True)` does the same within a cut.

    Args:
        model: A built Sequential or functional model.
        fold_batch_norm: Whether to fold batch norms too.

    Returns:
        The new model, with names, trainable flags, compile settings and lineage, and the record.

    Raises:
        ModelError: The model has no graph to read.
        ProofError: The new model does not answer what the old one answers.

    Example:
        >>> print(nns.simplify(resnet, fold_batch_norm=True))
         layer    change                           units
         ───────────────────────────────────────────────
         norm     folded into 'conv' before it
         norm_1   folded into 'conv_1' before it
        835 parameters are left; largest difference ..., ... of the output's scale.
    """
    if not isinstance(fold_batch_norm, bool):
        raise SurgeryError(
            f"Expected `fold_batch_norm` to be True or False. Received: {fold_batch_norm!r}."
        )
    graph = trace(model)
    kept = np.ones(graph.unit_count, dtype=bool)
    fixed, places = _in_lineage(graph)
    new, decision, changes = simplified(graph, kept, fixed=fixed, fold_batch_norm=fold_batch_norm)
    record = lineage(model)
    carry_compile_settings(model, new)
    if record is not None:
        stays = decision.keep
        held = dict(record.plan.kept)
        for name, (units, numbers) in places.items():
            held[name] = tuple(
                n for n, u in zip(numbers, units, strict=True) if stays.mask(u).all()
            )
        set_lineage(new, record.holding(held))
    proof = _proof(graph, new)
    if not proof.exact:
        raise ProofError(
            f"The simplified {model.name!r} is not equal to the model it was made of: largest "
            f"difference {proof.relative:.2g} of the output's scale{proof.how}"
            f"{proof.beside}. Please report its layers: "
            f"{sorted({type(t.call.operation).__name__ for t in graph.calls.values()})}."
        )
    return Simplification(new, tuple(changes), proof)


def _in_lineage(graph: Graph) -> tuple[Any, dict[str, Any]]:
    """Find which units of a subnetwork may leave, so that its record stays true.

    Returns:
        Units of which the record does not tell which of the parent's they are; and for each group
        of the record, the units of each of its numbers.
    """
    fixed = np.zeros(graph.unit_count, dtype=bool)
    places: dict[str, Any] = {}
    record = lineage(graph.model)
    if record is None:
        return fixed, places
    for group in graph.layout.groups:
        numbers = record.plan.kept.get(group.name, ())
        if len(numbers) != group.size:
            for member in group.members:
                fixed[graph.families[member.layer].units] = True
            continue
        units: list[list[int]] = [[] for _ in range(group.size)]
        for member in group.members:
            for number, unit in zip(
                member.units, graph.families[member.layer].units.tolist(), strict=True
            ):
                units[number].append(unit)
        places[group.name] = ([np.array(one) for one in units], numbers)
    return fixed, places


def _proof(graph: Graph, new: Any) -> Proof:
    """Compare two models, in float32 where they compute in less."""
    old = graph.model
    if has_lower_precision(graph):
        old, new = (copied_in(one, "float32") for one in (old, new))
    inputs = telling_inputs(graph, old, 8, seed=0)
    return proof_of(Side(new, inputs), Side(old, inputs), rounded=True)
