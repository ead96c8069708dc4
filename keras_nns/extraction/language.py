"""Extract a smaller language model for some kinds of text: observe, score, cut, repair, judge."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import tree

from keras_nns.data.texts import Texts, read_texts
from keras_nns.errors import DataError, ModelError, SelectionError, SurgeryError
from keras_nns.extraction.language_outcome import LanguageExtraction
from keras_nns.extraction.language_sizes import Chosen, parameters_of, sizes_of
from keras_nns.extraction.networks import Network
from keras_nns.extraction.unfinished import Keeper, left_behind
from keras_nns.graph.budgets import Budget
from keras_nns.graph.tracing import Graph, hidden_layout, trace
from keras_nns.judgement.perplexity import perplexity
from keras_nns.observation.activity import Activity
from keras_nns.observation.branch_moments import ends_of
from keras_nns.observation.next_token import NextToken
from keras_nns.observation.streaming import observe
from keras_nns.progress import Job, Part, Verbose, job
from keras_nns.repairing.least_squares import least_squares
from keras_nns.repairing.patient import Step
from keras_nns.repairing.steps import repair as mend_on
from keras_nns.selection.activations import Score, name_of
from keras_nns.selection.branches import branch_reconstruction
from keras_nns.selection.choosing import Label, checked_scores, label_numbers
from keras_nns.selection.naming import as_score
from keras_nns.selection.ranking import Balance, check_balance
from keras_nns.selection.weights import wanda
from keras_nns.training.next_tokens import (
    ALPHA,
    Limits,
    check_alpha,
    distill_next_tokens,
)

_BATCH = 8

CALIBRATION = 16_384
"""Tokens of each kind that units are scored and refitted on, unless another number is given."""


@dataclass(frozen=True)
class LanguageOptions:
    """How a language model is made smaller, as `extract` takes it.

    Attributes:
        labels: The kinds of text that it is for.
        score: How much they need a unit; None for `branch_reconstruction`, or `wanda` where blocks
            are not watched inside.
        balance: `"cost"` keeps the units that lose most for their parameters; `"share"` the same
            number in every block. None: `"cost"` for `branch_reconstruction` where the parent's
            class can say what is left then; else `"share"`.
        repair: As in `extract`.
        limits: When distillation ends; without any there is none.
        alpha: Share of the parent in its loss.
        calibration: About how many tokens of each kind units are observed, scored and refitted on,
            and networks judged on. Distillation reads all texts.
        held_out: Share of the texts that nothing looks at but the figures.
        seed: Which texts those are, and their order in training.
        batch_size: Texts in a batch.
        label_names: Name of every kind.
        window: Tokens of a window that strings are dealt into.
    """

    labels: Label | Sequence[Label] = "all"
    score: Score | str | None = None
    balance: Balance | None = None
    repair: bool | Step | Sequence[Step] = True
    limits: Limits = field(default_factory=Limits)
    alpha: float = ALPHA
    calibration: int = CALIBRATION
    held_out: float = 0.2
    seed: int = 0
    batch_size: int = _BATCH
    label_names: Sequence[Any] | None = None
    window: int = 128


def extract_language(
    model: keras.Model,
    data: Any,
    y: Any,
    budget: Budget | str | float,
    options: LanguageOptions,
    *,
    verbose: Verbose = "auto",
) -> LanguageExtraction:
    """Make a language model smaller for some kinds of text; see `extract`."""
    graph = trace_writer(model, options)
    # Before the texts are read, which may take long.
    told, allowed = parameters_of(budget, graph)
    opened = open_texts(graph, data, y, options)
    seconds: dict[str, float] = {}
    keeper = Keeper(None)
    with job(verbose) as shown, left_behind(keeper.found):
        expect(shown, opened.fitted, options)
        timed = Timed(shown, seconds)
        writer = observe_writer(graph, opened, options, timed)
        return make_writer(writer, told, allowed, timed, keeper)


@dataclass(frozen=True, eq=False)
class OpenedTexts:
    """Texts as they are dealt to the parts of the work.

    Attributes:
        numbers: Numbers of the kinds that the network is for.
        fitted: What is observed and scored on, of all kinds.
        taught: All texts of the kinds that it is for, but those held out: distillation reads them.
        held: What is judged on.
        windows: How many windows of how many are calibrated and judged on.
    """

    numbers: tuple[int, ...]
    fitted: Texts
    taught: Texts
    held: Texts
    windows: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class ObservedWriter:
    """A language model that was observed, its units scored for some kinds of text.

    Attributes:
        graph: The traced model.
        opened: The texts.
        options: How networks are made of it.
        activity: What was observed.
        scores: How much the kinds need each unit.
        score: Name of that score.
    """

    graph: Graph
    opened: OpenedTexts
    options: LanguageOptions
    activity: Activity
    scores: Mapping[str, Any]
    score: str


def trace_writer(model: Any, options: LanguageOptions) -> Graph:
    """Check the options, and trace the model.

    Raises:
        ModelError: The model scores no vocabulary, or nothing of it can be cut.
        SelectionError: An option makes no sense.
    """
    _check(options)
    NextToken(model)
    graph = trace(model)
    hidden_layout(graph)
    return graph


def open_texts(graph: Graph, data: Any, y: Any, options: LanguageOptions) -> OpenedTexts:
    """Read the texts, and deal them.

    Raises:
        DataError: The texts do not fit, are of one kind, or of another than asked for.
        SelectionError: A label makes no sense.
    """
    texts, numbers = _opened(graph.model, data, y, options)
    whole_fitted, whole_held = texts.divided(options.held_out, options.seed)
    fitted, held = (
        part.sample(options.calibration, options.seed) for part in (whole_fitted, whole_held)
    )
    taught = whole_fitted.of(numbers)
    windows = {
        "calibrated": (fitted.of(numbers).size, taught.size),
        "judged": (held.size, whole_held.size),
    }
    return OpenedTexts(tuple(numbers), fitted, taught, held, windows)


def observe_writer(
    graph: Graph, opened: OpenedTexts, options: LanguageOptions, timed: Timed
) -> ObservedWriter:
    """Observe a language model, and score its units for the kinds of text that it is for."""
    fitted, numbers = opened.fitted, list(opened.numbers)
    with timed("observe"):
        activity = observe(
            graph.model,
            (fitted.inputs, fitted.kinds),
            label_names=fitted.names,
            statistics=["mean", "mean_square"],
            batch_size=options.batch_size,
            verbose=False,
        )
    with timed("score"):
        score = _score(graph.model, graph, fitted.of(numbers), options)
        found = checked_scores(activity, score, numbers)
        scores = {name: values[numbers].max(axis=0) for name, values in found.items()}
    return ObservedWriter(graph, opened, options, activity, scores, name_of(score))


def make_writer(
    writer: ObservedWriter, told: Budget, allowed: int, timed: Timed, keeper: Keeper
) -> LanguageExtraction:
    """Cut what may stay, repair it, teach it, and judge it beside its parent.

    Args:
        writer: The observed parent.
        told: The budget.
        allowed: How many parameters that is.
        timed: Times the parts.
        keeper: Is told of the network each time that it has come further.
    """
    model, opened, options = writer.graph.model, writer.opened, writer.options
    own = opened.fitted.of(opened.numbers)
    chosen = Chosen(writer.graph, writer.activity, opened.numbers, writer.score, told, allowed)
    with timed("cut"):
        plan, small = chosen.cut(writer.scores, options.balance)
    steps = _steps(options.repair)
    lacks = [
        *(["repair"] if steps else []),
        *(["distillation"] if options.limits.given else []),
    ]
    keeper.made(Network(small, plan), *lacks, "figures")
    repaired = None
    if steps:
        with timed("repair"):
            repaired = mend_on(
                small,
                model,
                own.inputs,
                steps=steps,
                held_out=_judged_share(own.size),
                seed=options.seed,
                batch_size=options.batch_size,
            )
        small = repaired.model
        keeper.made(Network(small, plan), *lacks[1:], "figures")
    trained = None
    if options.limits.given:
        with timed("distill"):
            trained = distill_next_tokens(
                small,
                model,
                opened.taught,
                options.limits,
                asked=NextToken(model),
                alpha=options.alpha,
                seed=options.seed,
            )
        small = trained.model
        keeper.made(Network(small, plan), "figures")
    with timed("judge"):
        figures = perplexity(
            {"parent": model, "subnetwork": small},
            opened.held.inputs,
            opened.held.kinds,
            label_names=opened.held.names,
            batch_size=options.batch_size,
            seed=options.seed,
        )
    whole, looked_up = sizes_of(small)
    costs = {
        "parameters": float(whole),
        "without_embeddings": float(whole - looked_up),
        "bytes": 4.0 * whole,
    }
    return LanguageExtraction(
        model=small,
        plan=plan,
        budget=told,
        costs=costs,
        figures=figures,
        repaired=repaired,
        trained=trained,
        activity=writer.activity,
        windows=opened.windows,
        seconds=timed.seconds,
    )


def refuse_of_labels(*, head: object, distill_epochs: int, **given: object) -> None:
    """Refuse what is for models that answer labels, where one foretells tokens."""
    given |= {"head": None if head == "parent" else head, "distill_epochs": distill_epochs or None}
    asked = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    if asked:
        raise SurgeryError(
            f"{', '.join(asked)} is for models that answer labels. A language model keeps its whole"
            " vocabulary and is judged as Keras runs it; extract distils it with distill_steps=, "
            "distill_tokens= or distill_seconds=."
        )


def _check(options: LanguageOptions) -> None:
    """Refuse options that make no sense, before anything is read."""
    check_alpha(options.alpha)
    if isinstance(options.calibration, bool) or not options.calibration > 0:
        raise DataError(
            "`calibration_tokens` is a number of tokens above 0. Received: "
            f"{options.calibration!r}."
        )
    if options.balance is not None:
        check_balance(options.balance)
        if options.balance == "zeta":
            raise SelectionError(
                "balance='zeta' is for networks that answer labels; take 'cost' or 'share'."
            )


def _opened(model: Any, data: Any, y: Any, options: LanguageOptions) -> tuple[Texts, list[int]]:
    """Read the texts, and make sure that there are some to cut for and some to compare with."""
    if not 0 < options.held_out < 1:
        raise DataError(
            "extract judges on texts held out. Pass held_out above 0 and below 1. Received: "
            f"{options.held_out!r}."
        )
    texts = read_texts(model, data, y, label_names=options.label_names, window=options.window)
    seen = sorted(set(texts.kinds.tolist()))
    if len(seen) < 2:
        raise DataError(
            f"The texts are all of one kind, {texts.names[seen[0]]!r}. Pass texts of another kind "
            "beside them: what the smaller model forgets is shown by texts that it is not for."
        )
    numbers = label_numbers(texts.names, options.labels)
    missing = [texts.names[number] for number in numbers if number not in seen]
    if missing:
        raise DataError(
            f"There is no text of kind {', '.join(map(repr, missing))}, so nothing is known of "
            "what it needs. Pass some, or leave the label out."
        )
    return texts, numbers


def _score(model: Any, graph: Graph, own: Texts, options: LanguageOptions) -> Score:
    given = options.score
    if given is not None and given != branch_reconstruction.__name__:
        return as_score(given, model)
    if not ends_of(graph):
        if given is not None:
            raise ModelError(f"{given} is for blocks that are watched inside; there are none.")
        return wanda(model)
    return branch_reconstruction(
        model,
        own.inputs,
        own.kinds,
        batch_size=options.batch_size,
        label_names=own.names,
    )


class Timed:
    """Times the parts of the work.

    Attributes:
        seconds: How long each took so far.
    """

    def __init__(self, shown: Job, seconds: dict[str, float]) -> None:
        self._shown, self.seconds = shown, seconds

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        with self._shown.part(part):
            yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def expect(shown: Job, texts: Texts, options: LanguageOptions, networks: int = 1) -> None:
    """Say about how long parts take beside each other: by the passes that each is worth."""
    limits, distilling = options.limits, 0.0
    if limits.given:
        steps = limits.steps or (limits.tokens or 0) / (4 * tree.flatten(texts.inputs)[0].shape[1])
        distilling = 16 * (steps or 100) / texts.size
    shown.expect(
        observe=Part("observing", 1.0),
        score=Part("scoring units", 6.0),
        cut=Part("cutting", 0.5, networks),
        repair=Part("repairing", 10.0 if _steps(options.repair) else 0.0, networks),
        distill=Part("distilling", distilling),
        judge=Part("judging", 1.0, networks),
    )


def _steps(repair: bool | Step | Sequence[Step]) -> list[Step]:
    if repair is True:
        # Blocks ship in float32 or with dynamic ranges: what rounding would cost is no part of it.
        return [least_squares()]
    if repair is False:
        return []
    return list(repair) if isinstance(repair, Sequence) else [repair]


def _judged_share(windows: int) -> float:
    """Return the share that a repair holds out to judge its steps: a few windows of many."""
    return min(0.3, max(10 / max(windows, 1), 0.05))
