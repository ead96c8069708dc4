"""The rate that a training begins with, found on a part of what it is fitted to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import keras

from keras_nns.errors import DataError
from keras_nns.observation.holdout import Division
from keras_nns.observation.moments import HALVES, HELD_OUT
from keras_nns.training import checkpoints
from keras_nns.training.loop import Schooling, random_untouched, seed_dropout
from keras_nns.training.optimizers import RATE, FallingAdam
from keras_nns.training.targets import Pupil, check_answers, feeds

RATES = (1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2)
"""Rates that may be tried; the usual one first, and then its neighbours while they do better."""

_SHARE = 0.2
"""Share of what is fitted to that the rates are judged on."""

_MOST = 2_000
"""Samples that are enough to judge rates on."""

_LEAST = 20
"""Samples below which nothing is chosen on them."""

_STEPS = 128
"""Steps that are enough to try a rate."""

_SHORTER = 8
"""How many times shorter a trial is than the training, of several epochs; an epoch at least."""

_LESS = 0.98
"""What the loss of a lower rate has to be of the best so far: it learns less, and less of a
difference may be chance."""


def choose_rate(
    trainer: keras.Model,
    model: keras.Model,
    how: Schooling,
    division: Division,
    pupil: Pupil,
    *,
    size: int,
    class_weight: Mapping[int | str, float] | None,
) -> tuple[float, str]:
    """Find the rate by which a short training makes the loss least, on samples set aside for that.

    Each trial goes from the same weights over the rest of what is fitted to, its rate falling to
    zero. What is held out from the training has no part in it.

    Args:
        trainer: What is fitted; its optimizer is a `FallingAdam`.
        model: Whose weights are trained. They are as they were in the end.
        how: How the training will go.
        division: Its samples.
        pupil: What is taught.
        size: How many samples the training goes over in an epoch.
        class_weight: As in `distill`.

    Returns:
        The rate, and how it was found.
    """
    optimizer = trainer.optimizer
    assert isinstance(optimizer, FallingAdam)
    inner = division.again(min(_SHARE, _MOST / size))
    try:
        survey = inner.survey()
        if division.asked in ("labels", "positions"):
            for parts in (HALVES, (HELD_OUT,)):
                check_answers("distill", survey, pupil.question, parts)
        feed, judge = feeds(inner, pupil.target, how, class_weight=class_weight)
        few = judge is None or judge.size < _LEAST
    except DataError:
        few = True
    if few:
        return RATE, f"rate {RATE:g}, the usual one: too few samples to choose another on"
    assert judge is not None
    steps = -(-feed.size // how.batch_size)
    limit = _STEPS if steps > _STEPS else None
    epochs = max(1, min(how.epochs // _SHORTER, _STEPS // steps))
    begun, found = checkpoints.values(model.variables), dict[float, float]()

    def loss(rate: float) -> float:
        if rate not in found:
            checkpoints.assign(model.variables, begun)
            seed_dropout(trainer, how.seed)
            optimizer.begin(rate, limit or steps * epochs)
            trainer.fit(
                feed.dataset(first=0),
                epochs=epochs,
                steps_per_epoch=limit,
                verbose=0,
                shuffle=False,
            )
            value = trainer.evaluate(judge.dataset(), verbose=0, return_dict=True)["loss"]
            found[rate] = float(value) if math.isfinite(value) else math.inf
        return found[rate]

    with random_untouched():
        optimizer.build(trainer.trainable_variables)
        best = _least(loss)
    checkpoints.assign(model.variables, begun)
    tried = ", ".join(f"{rate:g}" for rate in sorted(found))
    return best, f"rate {best:g}, the best of {tried} on {judge.size:,} samples set aside for that"


def _least(loss: Callable[[float], float]) -> float:
    """Go from the usual rate up while the loss falls, else down while it clearly falls."""
    begun = best = RATES.index(RATE)
    for step, less in ((1, 1.0), (-1, _LESS)):
        while 0 <= best + step < len(RATES):
            if not loss(RATES[best + step]) < less * loss(RATES[best]):
                break
            best += step
        if best != begun:
            break
    return RATES[best]
