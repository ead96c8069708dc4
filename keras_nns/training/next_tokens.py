"""Distillation of a language model from its parent, limited by steps, tokens or time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from keras.distillation import Distiller, LogitsDistillation

from keras_nns.data.texts import Texts
from keras_nns.errors import SurgeryError
from keras_nns.files.atomic import Json
from keras_nns.observation.next_token import NextToken
from keras_nns.progress import reached
from keras_nns.surgery.copying import copied
from keras_nns.training.loop import random_untouched, seed_dropout
from keras_nns.training.optimizers import own_optimizer

_RATE = 2e-4
"""Where Adam's learning rate starts, before it falls to zero along a cosine."""

ALPHA = 0.5
"""Share of the parent in the loss unless another is given, as in `distill`."""


@dataclass(frozen=True)
class Limits:
    """When a distillation ends: at the first of these that is reached.

    Attributes:
        steps: How many steps.
        tokens: How many tokens were read, of texts that are gone over again counted again.
        seconds: How long it took. What comes of it then depends on the machine.

    Raises:
        SurgeryError: One is no number above 0.
    """

    steps: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and (isinstance(value, bool) or not value > 0):
                raise SurgeryError(f"`distill_{name}` must be above 0. Received: {value!r}.")

    @property
    def given(self) -> bool:
        """Whether there is any: without, nothing is distilled."""
        return any(value is not None for value in vars(self).values())


@dataclass(frozen=True, eq=False)
class Distilled:
    """What came of a distillation.

    Attributes:
        model: The trained network, a new model.
        steps: How many steps were taken.
        tokens: How many tokens were read in them.
        seconds: How long they took.
        loss: The mean loss, in nats a token, over the first tenth of the steps and over the last.
        alpha: Share of the parent in it.
    """

    model: keras.Model
    steps: int
    tokens: int
    seconds: float
    loss: tuple[float, float]
    alpha: float

    def to_json(self) -> Json:
        """Return the figures as plain data."""
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "loss": list(self.loss),
            "alpha": self.alpha,
        }


def distill_next_tokens(
    small: keras.Model,
    parent: keras.Model,
    texts: Texts,
    limits: Limits,
    *,
    asked: NextToken,
    alpha: float = ALPHA,
    batch_size: int = 4,
    optimizer: Any = None,
    seed: int = 0,
) -> Distilled:
    """Train a network to hold of every next token what its parent holds, on a copy.

    By Keras's own `Distiller`: at every position that counts, the Kullback-Leibler divergence of
    the two distributions (Hinton et al. 2015) at temperature 1, beside the negative log likelihood
    of the token that the text has there.

    Args:
        small: The network. It is not changed.
        parent: The model it was cut from. It is not changed.
        texts: What to train on; gone over again in another order as long as no limit is reached.
        limits: When to end. At least one must be given.
        asked: How the parent's answers are read.
        alpha: Share of the parent in the loss, 0 to 1; the rest is the texts'. With 1 the network
            learns what its parent holds, and of the texts nothing that the parent does not know.
        batch_size: Texts in a step.
        optimizer: As in `distill`; None is Adam, whose rate falls from 0.0002 along a cosine.
        seed: Of the order of the texts, and of dropout.

    Raises:
        SurgeryError: No limit is given, or `alpha` is no share.
    """
    check_alpha(alpha)
    if not limits.given:
        raise SurgeryError("Distillation needs a limit: of steps, of tokens or of seconds.")
    positions = int(np.mean(_counts(texts, asked))) * batch_size
    bounds = [limits.steps, limits.tokens and -(-limits.tokens // max(positions, 1))]
    most = min((bound for bound in bounds if bound), default=None)
    student = copied(small)
    with random_untouched():
        trainer = _Trainer(parent, student, asked, alpha)
        # Without a number of steps the rate stays as it is: nobody knows how many there will be.
        rate = own_optimizer(optimizer, most or 1) if optimizer is not None else None
        trainer.compile(rate or _adam(most), loss=trainer.by_texts)
        seed_dropout(trainer, seed)
        ender = _Ender(limits, positions, most)
        trainer.fit(
            _batches(texts, batch_size, seed),
            steps_per_epoch=most or 2**31,
            epochs=1,
            callbacks=[ender],
            verbose=0,
            shuffle=False,
        )
    tenth = max(1, len(ender.losses) // 10)
    ends = float(np.mean(ender.losses[:tenth])), float(np.mean(ender.losses[-tenth:]))
    # A fresh copy: no node of the distiller is left in it.
    return Distilled(
        copied(student),
        ender.steps,
        ender.steps * positions,
        time.perf_counter() - ender.start,
        ends,
        alpha,
    )


def check_alpha(alpha: float) -> None:
    """Refuse what is no share of the parent in a loss."""
    if isinstance(alpha, bool) or not 0 <= alpha <= 1:
        raise SurgeryError(f"`distill_alpha` is a share, from 0 to 1. Received: {alpha!r}.")


class _Trainer(Distiller):
    """Compares what two models hold of the next token, and what texts have, where tokens count."""

    def __init__(
        self, teacher: keras.Model, student: keras.Model, asked: NextToken, alpha: float
    ) -> None:
        super().__init__(
            teacher=teacher,
            student=student,
            distillation_losses=LogitsDistillation(temperature=1.0, loss=self._divergence),
            student_loss_weight=1.0 - alpha,
        )
        self._asked = asked
        self._read: Any = None

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Compute the loss, for which the texts are needed again."""
        self._read = x
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def by_texts(self, _: Any, given: Any) -> Any:
        """Return the mean negative log likelihood of the tokens that texts have."""
        each, counted, _ = self._asked.losses(self._read, given)
        return ops.sum(each) / ops.maximum(ops.sum(counted), 1.0)

    def _divergence(self, theirs: Any, ours: Any) -> Any:
        """Return the mean divergence of the distributions, over positions that count."""
        theirs, ours = (self._asked.log_probabilities(given) for given in (theirs, ours))
        each = ops.sum(ops.exp(theirs) * (theirs - ours), axis=-1)
        _, mask = self._asked.texts(self._read)
        counted = ops.ones_like(each) if mask is None else ops.cast(mask, each.dtype)
        return ops.sum(each * counted) / ops.maximum(ops.sum(counted), 1.0)


class _Ender(keras.callbacks.Callback):
    """Ends a training at its limits, and tells how far it is."""

    def __init__(self, limits: Limits, positions: int, most: int | None) -> None:
        super().__init__()
        self._limits, self._positions, self._most = limits, positions, most
        self.steps = 0
        self.losses: list[float] = []
        self.start = time.perf_counter()
        self._sum = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count a step, and stop where a limit is reached."""
        self.steps += 1
        # Keras reports the mean so far.
        whole = float((logs or {}).get("loss", np.nan)) * self.steps
        self.losses.append(whole - self._sum)
        self._sum = whole
        seconds = time.perf_counter() - self.start
        limits = self._limits
        shares = [
            self.steps / limits.steps if limits.steps else 0.0,
            self.steps * self._positions / limits.tokens if limits.tokens else 0.0,
            seconds / limits.seconds if limits.seconds else 0.0,
        ]
        reached(min(1000, int(1000 * max(shares))), 1000)
        if max(shares) >= 1:
            self.model.stop_training = True


def _adam(steps: int | None) -> Any:
    rate = keras.optimizers.schedules.CosineDecay(_RATE, steps) if steps else _RATE
    return keras.optimizers.Adam(rate, clipnorm=1.0)


def _counts(texts: Texts, asked: NextToken) -> Any:
    ids, mask = asked.texts(texts.inputs)
    return np.asarray(ops.sum(ops.ones_like(ids) if mask is None else mask, axis=1))


def _batches(texts: Texts, size: int, seed: int) -> Iterator[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    size = min(size, texts.size)
    while True:
        order = rng.permutation(texts.size)
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            inputs = tree.map_structure(lambda a, c=chosen: a[c], texts.inputs)
            yield inputs, np.zeros((size, 1), np.float32)
