"""What a repair works on: the parent, the subnetwork as it is by now, and the data for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.errors import ModelError, PlanError
from keras_nns.graph import linear
from keras_nns.graph.junctions import Junction
from keras_nns.graph.programs import Program
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import trace
from keras_nns.observation.branches import Branch, inputs_of
from keras_nns.observation.forward import Forward, Ran
from keras_nns.observation.moments import HALVES
from keras_nns.observation.projections import Projection, inputs_at
from keras_nns.observation.stages import Look, Stages, Values
from keras_nns.progress import stage
from keras_nns.repairing.nearness import Nearness, nearness, nearness_of_labels
from keras_nns.repairing.prepared import Part, Prepared
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.copying import copied
from keras_nns.surgery.heads import answer_of, answers_labels_alone
from keras_nns.surgery.lineage import (
    Lineage,
    answering_output,
    lineage,
    set_lineage,
    tokens_of,
)
from keras_nns.surgery.operating_points import BalancedDecisions

Update = Callable[[list[Any], list[Any], Any, Any], Any]
"""`(parent's inputs, subnetwork's inputs, part, weight)`: one input for each call of the layer."""


@dataclass(frozen=True)
class Gain:
    """What one step changed, in one figure.

    Attributes:
        step: The step, as the user would write it.
        layer: Path of the layer, or None for the whole model.
        measure: What the figure is. `"unexplained"`: the squared error of a layer's outputs before
            the activation, in shares of how much the parent's vary; `"distance"`: the mean
            absolute difference of the answers from the parent's; `"balanced acc."`, or for targets
            that are no labels of samples `"IoU"` or `"R²"`.
        before: The figure before the step; None where there is none.
        after: The figure after it.
        note: What else there is to know: a choice made; or why a layer was left as it was, where
            there is no figure.
    """

    step: str
    layer: str | None
    measure: str
    before: float | None
    after: float | None
    note: str = ""


class Step(Protocol):
    """One step of a repair: changes `treatment.model` and notes what it did."""

    @property
    def name(self) -> str:
        """The step as the user would write it."""

    @property
    def needs_labels(self) -> bool:
        """Whether it can do nothing without labels."""

    @property
    def for_head(self) -> bool:
        """Whether it fits the head to the features, so that nothing may change them later."""

    def __call__(self, treatment: Treatment) -> None:
        """Do it."""


class Treatment:
    """A copy of a subnetwork under repair.

    Args:
        small: The subnetwork. It is copied and not changed.
        prepared: The model it was cut from, and the data.
        answered_only: Leave out samples of labels that a `"labels"` head behind a softmax has no
            answer for, where the data has labels.

    Attributes:
        model: The copy, which steps change or replace.
        parent: The parent.
        graph: The parent's graph.
        keep: Which of its units the subnetwork has.
        record: Where the subnetwork comes from.
        division: The data that is worked on.
        survey: How many samples there are.
        gains: What has been noted so far.

    Raises:
        PlanError: The subnetwork does not say where it comes from, or not from this parent.
        DataError: There are too few samples.
    """

    def __init__(self, small: Any, prepared: Prepared, *, answered_only: bool = False) -> None:
        self.parent, self.graph = prepared.parent, prepared.graph
        self.record = record_of(small, self.parent)
        answer = answer_of(self.graph, self.record.plan, self.record.head, self.record.output)
        self.keep: Keep = self.graph.keep(self.record.plan, outputs=answer.narrowed)
        self.kind = answer.kind
        for model in (self.parent, small):
            refuse_state(model)
        alone = answers_labels_alone(self.record.head, self.kind)
        if answered_only and alone and prepared.division.asked == "labels":
            prepared = prepared.of_labels(self.record.plan.labels)
        self._prepared = prepared
        self.division = prepared.division
        self.survey = prepared.survey
        self._stages = Stages(self.division, memory=prepared.memory)
        self.gains: list[Gain] = []
        self.model = self._copied(small)
        self._forward: Forward | None = None
        self._affected = linear.affected(self.graph, self.keep)
        self._own_paths = linear.own_paths(self.graph, self.keep, self.model)

    def affected(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield path, parent's layer and own layer, for every layer behind something removed.

        In the order of the graph, and each layer of the model as it is by then.
        """
        theirs = linear.layers_of(self.parent)
        affected = [path for path in theirs if path in self._affected]
        for number, path in enumerate(affected):
            stage(number, len(affected), path)
            own = linear.layers_of(self.model).get(self.own_path(path))
            # A layer that is narrower than its class can say is of one made from it.
            if isinstance(own, type(theirs[path])):
                yield path, theirs[path], own

    def own_path(self, path: str) -> str:
        """Return where the subnetwork has what is left of one of the parent's layers.

        A model of the parent's class numbers its blocks anew where some are gone.
        """
        return self._own_paths.get(path, path)

    # Data ---------------------------------------------------------------------------------------

    def stream(
        self,
        path: str,
        update: Update,
        *,
        then: Callable[[Any, NDArray[np.int32]], None] | None = None,
        within: tuple[Projection, Projection] | tuple[Branch, Branch] | None = None,
        beside: tuple[Junction, Junction | None] | None = None,
        balance: bool = False,
    ) -> None:
        """Go over the data once, giving what one layer is called on in parent and subnetwork.

        Args:
            path: The parent's layer.
            update: Called inside a compiled step.
            then: Called behind each step with what `update` returned, and with which part each
                sample of the batch is of, rising.
            within: The parent's and the own linear map within the layer whose inputs are wanted.
            beside: The parent's and the own sum that the layer's output goes into, where what it is
                added to is wanted too: inputs are then pairs; of a sum that is None they are not.
            balance: Give the plan's labels and all the rest the same total weight.
        """
        maps, sums = within or (None, None), beside or (None, None)
        paths = path, self.own_path(path)

        def look(there: Sequence[tuple[Program, Values]], part: Any, weight: Any) -> Any:
            theirs, ours = (
                [call[0] for call in inputs_of(program, place, values, [inner])]
                if isinstance(inner, Branch)
                else inputs_at(program, place, values, inner, junction)
                for (program, values), place, inner, junction in zip(
                    there, paths, maps, sums, strict=True
                )
            )
            return update(theirs, ours, part, weight)

        self.reach(path, look, then, balance=balance)

    def reach(
        self,
        path: str,
        look: Look,
        then: Callable[[Any, NDArray[np.int32]], None] | None = None,
        *,
        balance: bool = False,
    ) -> None:
        """Go over the data once, up to a layer of the parent and what is left of it.

        Args:
            path: The parent's layer.
            look: As in `Stages.run`, of the parent and of the subnetwork.
            then: As in `stream`.
            balance: As in `stream`.
        """

        def weigh(batch: Batch, part: NDArray[np.int32]) -> NDArray[np.float64]:
            return self._weights(batch, part, balance)

        models, paths = (self.parent, self.model), (path, self.own_path(path))
        for found, part in self._stages.run(models, paths, look, weigh):
            if then is not None:
                then(found, part)

    def changed(self) -> None:
        """Take it that any layer of the subnetwork may be another by now."""
        self._stages.forget(1)

    def _weights(self, batch: Batch, part: NDArray[np.int32], balance: bool) -> NDArray[np.float64]:
        each = np.ones(batch.size) if batch.weights is None else batch.weights
        if not balance:
            return each
        labels = list(self.record.plan.labels)
        own = batch.labels[:, labels].any(axis=1) if batch.labels.ndim == 2 else None
        own = np.isin(batch.labels, labels) if own is None else own
        inside = self.survey.label_weights[:, labels].sum(axis=1)
        total = self.survey.weights.copy()
        halves = list(HALVES)
        # One weight for both halves: they are fitted together in the end.
        inside[halves], total[halves] = inside[halves].sum(), total[halves].sum()
        share = (inside / np.where(total > 0, total, 1)).clip(1e-12, 1 - 1e-12)[part]
        return np.asarray(0.5 * each / np.where(own, share, 1 - share))

    # Change -------------------------------------------------------------------------------------

    def bias_of(self, path: str) -> NDArray[np.float64]:
        """Return what stands for a layer's bias, `(outputs,)`.

        Its own, if it has one; and where a batch norm takes its mean off right behind it, by how
        much less that takes off than in the parent.
        """
        found, own = linear.layers_of(self.model), self.own_path(path)
        layer = found[own]
        bias = np.zeros(layer.kernel.shape[-1])
        if layer.bias is not None:
            bias += np.asarray(layer.bias)
        name = linear.batch_norm_behind(self.model, own)
        if name is not None:
            theirs = linear.layers_of(self.parent)[name].moving_mean
            kept = linear.outputs_kept(self.graph, self.keep, path)
            bias += np.asarray(theirs, dtype=np.float64)[kept] - np.asarray(found[name].moving_mean)
        return bias

    def add_to_bias(self, path: str, shift: NDArray[np.float64]) -> str:
        """Add a constant to what a layer gives before its activation.

        Where it has no bias, the moving mean of the batch norm behind it takes the constant; where
        there is no batch norm either, the layer gets a bias.

        Returns:
            A note where the constant did not go into the layer's own bias.
        """
        found, own = linear.layers_of(self.model), self.own_path(path)
        layer = found[own]
        if layer.bias is not None:
            layer.bias.assign(np.asarray(layer.bias) + shift)
            return ""
        if not np.abs(shift).max(initial=0.0) > 0:
            return ""
        name = linear.batch_norm_behind(self.model, own)
        if name is not None:
            mean = found[name].moving_mean
            mean.assign(np.asarray(mean) - shift)
            return f"bias into {name!r}"
        self.model = self._copied(self.model, bias=own)
        linear.layers_of(self.model)[own].bias.assign(shift)
        return "got a bias"

    def replace(self, model: Any) -> None:
        """Put another model in the subnetwork's place, with its lineage and compile settings."""
        carry_compile_settings(self.model, model)
        set_lineage(model, self.record)
        self.model = model

    def note_balanced(self, balanced: BalancedDecisions | None) -> None:
        """Note that the subnetwork's decisions were set for balanced accuracy, or were not."""
        self.record = replace(self.record, balanced=balanced)
        set_lineage(self.model, self.record)

    def note(self, gain: Gain) -> None:
        """Note what a step changed."""
        self.gains.append(gain)

    def _copied(self, model: Any, bias: str | None = None) -> Any:
        new = copied(model, bias=bias)
        set_lineage(new, self.record)
        return new

    # Judgement ----------------------------------------------------------------------------------

    @property
    def forward(self) -> Forward:
        """The subnetwork's forward pass, compiled once for each model that takes its place."""
        if self._forward is None or self._forward.model is not self.model:
            self._forward = Forward(self.model, answering_output(self.model, self.record))
        return self._forward

    def run(self, part: Part, other: Forward, *, every_step: bool = False) -> Ran:
        """Return what the parent answers for a part of the data, and what another model gives."""
        output = answering_output(self.parent, self.record)
        return self._prepared.run(part, output, [other], every_step=every_step)

    def measure(self) -> dict[str, float]:
        """Return the figures of `judged` alone."""
        return self.judged().figures

    def judged(self) -> Nearness:
        """Judge the subnetwork on what is held out, or on everything where nothing is."""
        record = self.record
        if self.division.asked != "labels":
            theirs = self._prepared.forward(answering_output(self.parent, record))
            both = [theirs, self.forward]
            return Nearness(nearness(both, self.division, record, self.kind))
        ran = self.run("held_out", self.forward)
        names, model = self.division.label_names, self.model
        return nearness_of_labels(ran, record, self.kind, names, model.name)


def record_of(small: Any, parent: Any, *, retrained: bool = False) -> Lineage:
    """Return where a subnetwork comes from, after making sure that it is from this parent.

    Args:
        small: The subnetwork.
        parent: The parent.
        retrained: Accept a parent that was trained further since.

    Raises:
        PlanError: It does not say, or says another.
    """
    record = lineage(small)
    if record is None:
        raise PlanError(
            f"Model {small.name!r} does not say which model it was cut from. Pass what cut gave, "
            "and keep it in files with nns.save_model and nns.load_model."
        )
    if record.taught:
        raise PlanError(
            f"Model {small.name!r} was taught other labels than its parent's since it was cut, so "
            "it is no subnetwork of it any more. Use what cut gave."
        )
    if record.tokens != tokens_of(parent):
        raise PlanError(
            f"{small.name!r} and {parent.name!r} number their tokens differently, since one lost "
            "some: they cannot be given the same text. Do this first, and cut_vocabulary last."
        )
    graph = trace(parent)
    if graph.structure != record.parent.structure:
        raise PlanError(
            f"Subnetwork {small.name!r} was not cut from {parent.name!r}: the layers, their sizes "
            "or their unit groups differ. Pass the model it was cut from."
        )
    if not retrained and graph.fingerprint.weights != record.parent.weights:
        raise PlanError(
            f"The weights of {parent.name!r} are not those that {small.name!r} was selected on. "
            "Pass the parent as it was then, or select and cut again."
        )
    return record


def refuse_state(model: Any) -> None:
    """Refuse layers that carry a state from one batch to the next.

    Raises:
        ModelError: There is one.
    """
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            raise ModelError(
                f"Layer {layer.name!r} of {model.name!r} is stateful: it carries its state from "
                "batch to batch, and batches are dealt out here. Rebuild it with stateful=False."
            )
