"""Networks made from a parent by their plans, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import keras

from keras_nns.extraction.observed import ObservedParent
from keras_nns.extraction.tasks import Recipe, Task
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.comparison import compare, compare_outputs
from keras_nns.observation.forward import Forward, answering_output
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.patient import Step
from keras_nns.repairing.steps import Repair, mend
from keras_nns.surgery.lineage import origin_of
from keras_nns.training.distillation import distill
from keras_nns.training.trained import Trained


@dataclass(frozen=True, eq=False)
class Network:
    """A subnetwork that was made.

    Attributes:
        model: The subnetwork.
        plan: Which units it holds.
        repaired: What repair gained.
        trained: What distillation gained.
        forward: Its forward pass, where it was compiled before.
    """

    model: keras.Model
    plan: Plan
    repaired: Repair | None = None
    trained: Trained | None = None
    forward: Forward | None = None


@dataclass(frozen=True, eq=False)
class Judged:
    """A subnetwork and what it is worth.

    Attributes:
        network: The subnetwork.
        comparison: It beside its parent, on the samples held out.
    """

    network: Network
    comparison: Comparison

    @property
    def worth(self) -> float:
        """The figure that counts most: for labels the mean balanced accuracy over them."""
        return self.comparison.after.worth

    @property
    def drop(self) -> float:
        """How far it is below the parent: the larger of the drops in it and in others."""
        return self.comparison.drop


def make_network(parent: ObservedParent, task: Task, recipe: Recipe, plan: Plan) -> Network:
    """Cut what a plan keeps, repair it, and train it.

    Args:
        parent: The parent.
        task: What the network answers.
        recipe: What is done behind the cut.
        plan: Which units stay.

    Raises:
        DataError: There are too few samples.
        SurgeryError: A step cannot be done on this model.
    """
    network = Network(task.cut(plan), plan)
    if recipe.steps:
        network = _repaired(parent, network, recipe.steps)
    if recipe.epochs:
        network = _trained(parent, network, recipe)
    return network


def judge_network(parent: ObservedParent, task: Task, network: Network) -> Judged:
    """Judge a network beside its parent, on the samples held out."""
    division = parent.division
    if division.asked != "labels":
        comparison = compare(
            parent.model,
            network.model,
            division.judged,
            label_names=division.label_names,
            output=task.output,
            allow_overlap=True,
        )
        return Judged(network, comparison)
    record = origin_of(network.model)
    output = task.output or answering_output(parent.model, record)
    forward = network.forward
    if forward is None or task.output is not None:
        own = task.output or answering_output(network.model, record)
        forward = Forward(network.model, own)
    ran = parent.prepared.run("held_out", output, [forward])
    comparison = compare_outputs(
        parent.model,
        network.model,
        ran,
        label_names=parent.division.label_names,
        output=output,
    )
    return Judged(network, comparison)


def _repaired(parent: ObservedParent, network: Network, steps: Sequence[Step]) -> Network:
    repaired, forward = mend(network.model, parent.prepared, steps)
    return replace(network, model=repaired.model, repaired=repaired, forward=forward)


def _trained(parent: ObservedParent, network: Network, recipe: Recipe) -> Network:
    division = parent.division
    trained = distill(
        network.model,
        parent.model,
        division.whole,
        epochs=recipe.epochs,
        held_out=division.share,
        seed=division.seed,
    )
    network = replace(network, model=trained.model, trained=trained, forward=None)
    if not recipe.for_head:
        return network
    # Its features are others now. What was gained before stays on record.
    return replace(_repaired(parent, network, recipe.for_head), repaired=network.repaired)
