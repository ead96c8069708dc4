"""Extract: observe, select to a budget, cut, repair, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras

from keras_nns.data.texts import are_kinds
from keras_nns.errors import SurgeryError
from keras_nns.extraction.clocks import Clock
from keras_nns.extraction.emptied import EmptyBranches, check_branches, order_units
from keras_nns.extraction.language import LanguageOptions, extract_language, refuse_of_labels
from keras_nns.extraction.meters import Meter, warn_of_cpu
from keras_nns.extraction.networks import (
    Judged,
    Network,
    fitted_worth,
    judge_network,
    make_network,
)
from keras_nns.extraction.observed import (
    form_of,
    observe_parent,
    open_division,
    score_units,
    warn_of_guesses,
    warn_of_refusals,
)
from keras_nns.extraction.outcome import Extraction
from keras_nns.extraction.sizes import (
    Build,
    either_within,
    expected,
    largest_within,
    smallest_needed,
    smallest_within,
)
from keras_nns.extraction.tasks import Recipe, set_task, write_recipe
from keras_nns.extraction.unfinished import Keeper, left_behind
from keras_nns.graph.budgets import Budget, as_budget
from keras_nns.graph.costs import usual_batch_size
from keras_nns.observation.next_token import foretells
from keras_nns.plans.kept_units import Plan
from keras_nns.progress import Verbose, job
from keras_nns.repairing.patient import Step
from keras_nns.repairing.prepared import MEMORY
from keras_nns.selection.activations import Score
from keras_nns.selection.choosing import Label
from keras_nns.selection.ranking import Balance, check_balance
from keras_nns.shipping.forms import Quantization
from keras_nns.surgery.lineage import Head
from keras_nns.training.augmentation import Augment
from keras_nns.training.next_tokens import Limits

_WINDOW = 128


def extract(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label] = "all",
    budget: Budget | str | float,
    quantize: str | Quantization | None = None,
    head: Head | None = None,
    score: Score | str | None = None,
    balance: Balance | None = None,
    empty_branches: EmptyBranches = "auto",
    repair: bool | Step | Sequence[Step] = True,
    distill_epochs: int = 0,
    augment: Augment | None = None,
    distill_steps: int | None = None,
    distill_tokens: int | None = None,
    distill_seconds: float | None = None,
    distill_alpha: float | None = None,
    calibration_tokens: int | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    batch_size: int | None = None,
    window: int = _WINDOW,
    label_names: Sequence[Any] | None = None,
    output: str | None = None,
    memory: int = MEMORY,
    verbose: Verbose = "auto",
) -> Extraction | Any:
    """Make the subnetwork for some labels that a budget allows: observe, select, cut, repair.

    The model is observed once. Which units stay is searched over the scores of that one pass, by
    what networks cost; files are exported only to measure bytes and memory. For a budget of size or
    time the answer is the largest network that fits, within what one unit costs and never over; for
    a `drop`, the smallest that was found to lose no more.

    Of a language model the labels are kinds of text: `data` is `(texts, kinds)`, strings, which go
    through its own tokenizer, or tokens; a dictionary of lists of strings by kind; or a folder with
    one sub-folder of text files for each kind. Whole texts are held out. Units that stay are chosen
    by `branch_reconstruction`, ends of branches are refitted by least squares, and the figures are
    perplexities of all kinds, also of those that it is not for. The budget is in parameters or
    bytes of float32 weights, or a share of the parameters without embeddings: `0.8` or `"80%"`.

    Args:
        model: The parent. It is not changed.
        data: Training or validation data with labels or other targets, as `keras_nns.observe`
            takes it, which can be gone over several times. Never the data to judge by in the end.
        y: Labels, where `data` is inputs alone.
        labels: A label's number or name, several, or `"all"`. Targets that are numbers have none to
            choose from.
        budget: What the network may cost, such as `Budget(bytes=60_000)`, or in words `"60kB"`,
            `"parameters=20k"`, `"drop=0.01"`.
        quantize: The variant of `.tflite` that ships, a key of `tflite_export.VARIANTS`, or a
            recipe. Budgets of bytes, memory and time count that file; ranges are measured on
            samples that nothing judges; and the figures are those of the file. None: bytes count
            a float32 file, and the figures are those of the network in Keras.
        head: What it answers, as in `cut`. None: `"binary"` for one label; `"other"` for several;
            `"parent"` for all, and where the model answers no labels; `"labels"` where each label
            has its own probability.
        score: How much a label needs a unit. None: `reconstruction`; where that cannot be
            had or would take too much memory, `forward_selection` or `contrast`. Or the name of a
            score of activity or weights.
        balance: How layers are compared: `"share"` keeps the same share of every layer; `"zeta"`
            compares scores in shares of the layer's highest, the paper's rule at some ζ; `"cost"`
            keeps the units of highest score for what they cost in the budget's unit, for scores
            that can be compared between layers. None: `"cost"` for `reconstruction`, `"share"`
            for others.
        empty_branches: Whether residual branches may leave as a whole, their blocks left as the
            shortcut, where `balance` is `"cost"`. `"auto"`: where by the scores that loses no more
            than thinning every layer, networks of both are repaired, and the one is taken that is
            better on what they were fitted to (behind distillation the scores alone decide).
            True: wherever it loses less for what it saves. False: only where nothing else is small
            enough.
        repair: Whether to repair it: least squares, then the head. Or the steps, as in `repair`.
        distill_epochs: For how many epochs to distil it from the parent behind that; the head is
            set once more afterwards.
        augment: What changes inputs at random as distillation goes over them, as in `distill`: few
            samples go further so.
        distill_steps: Of a language model, how many steps of four texts to distil it for.
        distill_tokens: Likewise, how many tokens to read; the first limit that is reached ends it.
        distill_seconds: Likewise, how long. What comes of it depends on the machine.
        distill_alpha: Likewise, the share of the parent in the loss, 0 to 1; the rest is the texts'
            own next tokens. None: 0.5.
        calibration_tokens: Of a language model, on about how many tokens of each kind units are
            observed, scored and refitted, and networks judged; drawn at random where there are
            more, which is said. Distillation reads all texts. None: 16,384.
        held_out: Share of the samples that nothing looks at but the figures, and the choice itself
            for a `drop`.
        seed: Which samples those are, and their order in training.
        batch_size: Samples in a batch, for arrays. None: 8 texts; else 256, and fewer, down to 8,
            where one layer would read and write more than 2²⁴ numbers for them.
        window: Tokens of the windows that texts, where they are strings, are dealt into.
        label_names: Name of every label of the parent, in the order of its outputs; or of every
            kind of text.
        output: Name of the output that answers the labels, where the parent has several.
        memory: How many bytes of activations may be kept at a time, beside the model's own forward
            pass. With less, layers are reached from the input again: the same answer, later.
        verbose: Whether to show what is done and about how long it will take: `"auto"` a bar on a
            terminal; True plain lines elsewhere too, for a log; False nothing.

    Returns:
        The subnetwork as `.model`, with what it costs, what is the least there can be, and its
        figures on the samples held out beside the parent's. Printing it gives a table. Of a
        language model a `LanguageExtraction`.

    Raises:
        SelectionError: The budget has no unit or is below one unit in every layer; the message says
            what is the least. Or a label, a score or the head makes no sense.
        DataError: The data does not fit, has no labels, or has too few samples for the repair; the
            message says how many it takes.
        SurgeryError: The model cannot be cut or repaired in this way.
        tflite_export.ExportError: There is no such variant, or no such file of the network.
        KeyboardInterrupt: It was cut off. Where a network had been cut by then, that is its
            `.found`: it can be saved, and says what it lacks.

    Warns:
        UserWarning: The file that was asked for does not answer as its network.

    Example:
        >>> small = nns.extract(model, (x, y), labels=[3, 8], budget="parameters=1500")
        >>> small.model.count_params() <= 1500
        True
        >>> path = small.save("small.keras")

        From a folder of photos to a file for a device:

        >>> pets = nns.extract(
        ...     resnet, "photos", labels=["cat", "dog"], budget="parameters=500", quantize="int8"
        ... )
        >>> path = pets.save("pets.tflite")
    """
    limits = Limits(distill_steps, distill_tokens, distill_seconds)
    if foretells(model) and are_kinds(data, y):
        refuse_of_labels(
            quantize=quantize,
            head=head,
            distill_epochs=distill_epochs,
            augment=augment,
            output=output,
            memory=None if memory == MEMORY else memory,
            empty_branches=None if empty_branches == "auto" else empty_branches,
        )
        if distill_alpha is not None and not limits.given:
            raise SurgeryError(
                "distill_alpha is for distillation, and there is none without a limit. Pass "
                "distill_steps, distill_tokens or distill_seconds beside it."
            )
        told: dict[str, Any] = {
            "alpha": distill_alpha,
            "calibration": calibration_tokens,
            "batch_size": batch_size,
        }
        options = LanguageOptions(
            labels=labels,
            score=score,
            balance=balance,
            repair=repair,
            limits=limits,
            held_out=held_out,
            seed=seed,
            label_names=label_names,
            window=window,
            **{name: value for name, value in told.items() if value is not None},
        )
        return extract_language(model, data, y, budget, options, verbose=verbose)
    if limits.given or window != _WINDOW or (distill_alpha, calibration_tokens) != (None, None):
        raise SurgeryError(
            "distill_steps, distill_tokens, distill_seconds, distill_alpha, calibration_tokens and "
            "window are for language models and kinds of text. For labels that the model answers, "
            "pass distill_epochs."
        )
    batch_size = usual_batch_size(model) if batch_size is None else batch_size
    check_branches(empty_branches)
    budget = as_budget(budget)  # type: ignore[arg-type]
    if balance is not None:
        check_balance(balance)
    keeper = Keeper(budget.drop)
    with job(verbose) as shown, left_behind(keeper.found):
        division = open_division(
            model,
            data,
            y,
            held_out=held_out,
            seed=seed,
            batch_size=batch_size,
            label_names=label_names,
            output=output,
        )
        task = set_task(
            model,
            labels,
            label_names=division.label_names,
            head=head,
            output=output,
            asked=division.asked,
        )
        recipe = write_recipe(task, repair, distill_epochs, augment)
        clock = Clock(shown, **expected(budget, quantize))
        meter = Meter(task, recipe, clock, form_of(task, division, quantize))
        smallest, least = task.one_of_each(), dict[str, float]()
        if budget.drop is None:
            # Before the data are gone over, which may take long.
            smallest, least = smallest_needed(meter, budget, task, emptied=empty_branches is True)
            meter.gauge(budget, smallest, least)
        with clock("observe"):
            parent = observe_parent(task, division, batch_size=batch_size, memory=memory)
        with clock("score"):
            scored = score_units(parent, task, score, balance)
        ranking = order_units(
            parent,
            task,
            scored,
            meter.weighed(budget),
            empty_branches=empty_branches,
            stepped=meter.stepped(budget),
            without=smallest.empty,
        )

        def build(plan: Plan, recipe: Recipe = recipe) -> Network:
            with clock("repair"):
                return make_network(parent, task, recipe, plan, made=keeper.made)

        best = either_within(meter, ranking, budget, build, fitted_worth(parent, task, recipe))

        def make(plan: Plan, build: Build = best) -> Judged:
            network = build(plan)
            with clock("judge"):
                judged = judge_network(parent, task, network, meter.shipped(network.model))
            keeper.judged(judged)
            return judged

        with clock("search"):
            if budget.drop is not None:
                bare = partial(make, build=partial(build, recipe=Recipe()))
                found, lost, most = smallest_within(
                    meter, ranking, budget, make, None if recipe.nothing else bare
                )
                costs, least = {"drop": lost}, {"drop": most}
            else:
                found, costs = largest_within(meter, ranking, budget, make, least=least)
        warn_of_guesses(parent, scored, ranking.guessed, [found.network.plan])
        with clock("judge"):
            warn_of_refusals([found.shipped])
            warn_of_cpu(budget, found.shipped)
    return Extraction(
        model=found.network.model,
        plan=found.network.plan,
        budget=budget,
        costs=costs,
        least_costs=least,
        comparison=found.comparison,
        in_keras=found.in_keras,
        shipped=found.shipped,
        repaired=found.network.repaired,
        trained=found.network.trained,
        activity=parent.activity,
        exports=clock.times["export"],
        seconds=clock.seconds,
    )
