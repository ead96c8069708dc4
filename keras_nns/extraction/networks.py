"""Networks made from a parent by their plans, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras

from keras_nns.extraction.observed import ObservedParent
from keras_nns.extraction.tasks import Recipe, Task
from keras_nns.judgement.alongside import compare_alongside
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.comparison import compare_outputs
from keras_nns.judgement.evaluation import wanted_labels
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.tallies import Reported
from keras_nns.observation.forward import Answering, Forward
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.nearness import BALANCED
from keras_nns.repairing.patient import Gain, Step
from keras_nns.repairing.prepared import Part
from keras_nns.repairing.steps import Repair, mend
from keras_nns.shipping.forms import FileForward, Shipped
from keras_nns.surgery.lineage import answering_output, origin_of
from keras_nns.training.distillation import distill
from keras_nns.training.outcome import Trained


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
        comparison: It beside its parent, on the samples held out: its file's answers where one
            ships, else its own.
        in_keras: The same of its own answers.
        shipped: Its file, made or still to be made.
    """

    network: Network
    comparison: Comparison
    in_keras: Comparison
    shipped: Shipped

    @property
    def worth(self) -> float:
        """The figure that counts most: for labels the mean balanced accuracy over them."""
        return self.comparison.after.worth

    @property
    def drop(self) -> float:
        """How far it is below the parent: the larger of the drops in it and in others."""
        return self.comparison.drop


def make_network(
    parent: ObservedParent,
    task: Task,
    recipe: Recipe,
    plan: Plan,
    *,
    made: Callable[..., None] = lambda network, *missing: None,
) -> Network:
    """Cut what a plan keeps, repair it, and train it.

    Args:
        parent: The parent.
        task: What the network answers.
        recipe: What is done behind the cut.
        plan: Which units stay.
        made: Is told of the network each time that it has come further, and what it lacks.

    Raises:
        DataError: There are too few samples.
        SurgeryError: A step cannot be done on this model.
    """
    network = Network(task.cut(plan), plan)
    lacks = [*(["repair"] if recipe.steps else []), *(["distillation"] if recipe.epochs else [])]
    made(network, *lacks, "figures")
    if recipe.steps:
        network = _repaired(parent, network, recipe.steps)
        made(network, *lacks[1:], "figures")
    if recipe.epochs:
        network = _trained(parent, network, recipe)
        made(network, "figures")
    return network


def judge_network(parent: ObservedParent, task: Task, network: Network, shipped: Shipped) -> Judged:
    """Judge a network beside its parent, on the samples held out; and its file, if one ships.

    Args:
        parent: The parent.
        task: What the network answers.
        network: The network.
        shipped: Its file, which is judged where its form was asked for.
    """
    outputs = _answering(parent, task, network)
    own = outputs[1]
    ours: list[Answering] = [_forward(task, network, own)]
    form = shipped.form
    if form.quantize is not None:
        ours.append(FileForward(network.model, shipped.flat, own))
    compared = _at_once if parent.division.asked == "labels" else _step_by_step
    in_keras, *of_file = compared(parent, network.model, outputs, ours)
    if not of_file:
        return Judged(network, in_keras, in_keras, shipped)
    after = replace(of_file[0].after, model=f"{network.model.name} ({form.variant} file)")
    costs = replace(of_file[0].costs, tflite_bytes=len(shipped.flat))
    comparison = replace(of_file[0], after=after, costs=costs)
    return Judged(network, comparison, in_keras, shipped)


def fitted_worth(
    parent: ObservedParent, task: Task, recipe: Recipe
) -> Callable[[Network], Evaluation] | None:
    """Return the function that says what a network is worth on what it was fitted to, in Keras.

    Of two networks of one size it tells which is better, and leaves what is held out alone. None
    where samples have no labels, and where making a second network would take training.

    Args:
        parent: The parent.
        task: What networks answer.
        recipe: What is done to them behind the cut.
    """
    if parent.division.asked != "labels" or recipe.epochs:
        return None

    def worth(network: Network) -> Evaluation:
        outputs = _answering(parent, task, network)
        ours = [_forward(task, network, outputs[1])]
        (compared,) = _at_once(parent, network.model, outputs, ours, part="to_fit")
        return compared.after

    return worth


def _answering(
    parent: ObservedParent, task: Task, network: Network
) -> tuple[str | None, str | None]:
    """Return which outputs of the parent and of a network answer."""
    record = origin_of(network.model)
    theirs = task.output or answering_output(parent.model, record)
    return theirs, answering_output(network.model, record) or task.output


def _forward(task: Task, network: Network, output: str | None) -> Forward:
    if network.forward is not None and task.output is None:
        return network.forward
    return Forward(network.model, output)


def _at_once(
    parent: ObservedParent,
    model: keras.Model,
    outputs: tuple[str | None, str | None],
    ours: Sequence[Answering],
    part: Part = "held_out",
) -> list[Comparison]:
    """Put what answers in a network's place beside its parent, by labels of samples."""
    ran = parent.prepared.run(part, outputs[0], ours)
    return [
        compare_outputs(
            parent.model,
            model,
            replace(ran, outputs=[ran.outputs[0], answers]),
            label_names=parent.division.label_names,
            output=outputs[0],
        )
        for answers in ran.outputs[1:]
    ]


def _step_by_step(
    parent: ObservedParent,
    model: keras.Model,
    outputs: tuple[str | None, str | None],
    ours: Sequence[Answering],
) -> list[Comparison]:
    """Put it beside its parent by targets of positions, by numbers, or by the parent's answers."""
    division = parent.division
    wanted = wanted_labels(None, origin_of(model))
    return [
        compare_alongside(
            (parent.model, outputs[0]),
            {"subnetwork": (model, outputs[1])},
            division.judged,
            division.asked,
            Reported(model.name, division.label_names, wanted),
            files={"subnetwork": one},
        )
        for one in ours
    ]


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
        augment=recipe.augment,
    )
    if not trained.best_epoch:
        return replace(network, trained=trained)
    taught = replace(network, model=trained.model, trained=trained, forward=None)
    if not recipe.for_head:
        return taught
    # Its features are others now. What was gained before stays on record.
    headed = _repaired(parent, taught, recipe.for_head)
    assert headed.repaired is not None
    fallen = [gain for gain in headed.repaired.gains if gain.measure == BALANCED and _fell(gain)]
    if not fallen:
        return replace(headed, repaired=network.repaired)
    worse = f"{BALANCED} {fallen[0].after:.4g}, not {fallen[0].before:.4g}"
    note = f"{trained.note}; the head is kept as it was taught: fitted anew it gave a {worse}"
    return replace(taught, trained=replace(trained, note=note))


def _fell(gain: Gain) -> bool:
    return gain.before is not None and gain.after is not None and gain.after < gain.before
