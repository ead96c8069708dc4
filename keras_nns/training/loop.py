"""The loop of every training here: seeded, judged on what is held out, the best weights kept."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_nns.errors import ModelError, SurgeryError
from keras_nns.files.atomic import Json
from keras_nns.training import checkpoints
from keras_nns.training.augmentation import Augmentation
from keras_nns.training.batch_norms import following, settle
from keras_nns.training.checkpoints import Checkpoint, Moment
from keras_nns.training.sampling import Feed


@dataclass(frozen=True)
class Schooling:
    """How a training runs, whatever is trained.

    Attributes:
        epochs: At most how often the data is gone over.
        patience: After how many epochs without a better loss on the samples held out to stop;
            None goes on to the end. The best weights are kept either way.
        batch_size: Samples in a step.
        seed: Of the order of samples, and of dropout.
        balance: Whether every answer is drawn equally often.
        freeze_batch_norm: Whether batch norms keep their statistics, scales and offsets.
        augment: What changes the inputs that are trained on; None leaves them as they are.
        callbacks: Keras callbacks.
        verbose: Whether Keras writes a line for each epoch.
    """

    epochs: int = 1
    patience: int | None = 3
    batch_size: int = 64
    seed: int = 0
    balance: bool = False
    freeze_batch_norm: bool = False
    augment: Augmentation | None = None
    callbacks: Sequence[keras.callbacks.Callback] = field(default=())
    verbose: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SurgeryError(
                    f"`{name}` must be a whole number, 1 or more. Received: {name}={value!r}."
                )
        if self.patience is not None and self.patience < 1:
            raise SurgeryError(
                f"`patience` is a number of epochs, 1 or more, or None. Received: {self.patience}."
            )

    def teach(
        self,
        trainer: keras.Model,
        model: keras.Model,
        feed: Feed,
        held_out: Feed | None,
        *,
        checkpoint: Checkpoint | None = None,
        moved: bool = False,
    ) -> Course:
        """Train, keep the weights that do best on what is held out, and change nothing else.

        Args:
            trainer: What is compiled and fitted: the model itself, or what holds it.
            model: Whose weights are kept. Both are changed.
            feed: What to train on.
            held_out: What to judge each epoch by; None keeps the last weights.
            checkpoint: Where to write every epoch's end, and to go on from what is there.
            moved: Keep the best weights behind an epoch even where those before had less loss, and
                take it that batch norms are settled: who calls did so, and judges between the two.
        """
        with self.frozen(model):
            return self._teach(trainer, model, (feed, held_out), checkpoint, moved=moved)

    def _teach(
        self,
        trainer: keras.Model,
        model: keras.Model,
        feeds: tuple[Feed, Feed | None],
        checkpoint: Checkpoint | None,
        *,
        moved: bool,
    ) -> Course:
        feed, held_out = feeds
        if not model.trainable_variables:
            raise ModelError(
                f"Model {model.name!r} has no weights to train: all its layers are frozen. Set "
                "`trainable` on those that shall learn."
            )
        moment = None if checkpoint is None else checkpoint.state.moment
        with random_untouched():
            best = _Best(model, self.patience, moved=moved)
            other = None if held_out is None else held_out.dataset()
            # Built within the first step, they would have it traced a second time.
            trainer.optimizer.build(trainer.trainable_variables)
            if moment is not None:
                checkpoints.assign(trainer.variables, moment.variables)
                checkpoints.assign(trainer.optimizer.variables, moment.optimizer)
                best.resume(moment)
            else:
                seed_dropout(trainer, self.seed)
                if other is not None:
                    best.start(trainer.evaluate(other, verbose=0, return_dict=True))
            first = 0 if moment is None else moment.epoch
            history: dict[str, tuple[float, ...]] = {}
            if moment is not None:
                history = {name: tuple(values) for name, values in moment.history.items()}
            added: list[keras.callbacks.Callback] = [best]
            if checkpoint is not None:
                added.append(_Saver(checkpoint, best, history))
            if first < self.epochs and not best.exhausted(first):
                if moment is None and not moved:
                    settle(model, feed.dataset())
                with following(model, -(-feed.size // self.batch_size)):
                    done = trainer.fit(
                        feed.dataset(first=first),
                        epochs=self.epochs,
                        initial_epoch=first,
                        validation_data=other,
                        callbacks=[*self.callbacks, *added],
                        verbose=2 if self.verbose else 0,
                        shuffle=False,
                    )
                history = _longer(history, done.history)
        if other is None:
            epochs = max((len(values) for values in history.values()), default=0)
            return Course(history, epochs, math.nan, math.nan)
        epoch, loss = best.restore()
        return Course(history, epoch, best.before, loss)

    @contextmanager
    def frozen(self, model: keras.Model) -> Iterator[None]:
        """Freeze the batch norms of a model for as long as it is trained, if that was asked for."""
        found = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, layers.BatchNormalization) and layer.trainable
        ]
        found = found if self.freeze_batch_norm else []
        try:
            for layer in found:
                layer.trainable = False
            yield
        finally:
            for layer in found:
                layer.trainable = True


@dataclass(frozen=True)
class Course:
    """What came of a training.

    Attributes:
        history: As Keras keeps it.
        best_epoch: Whose weights were kept, 0 for those before.
        before: Loss on what is held out, before.
        after: The same with the weights kept.
    """

    history: Mapping[str, tuple[float, ...]]
    best_epoch: int
    before: float
    after: float

    def to_json(self) -> Json:
        """Return it as plain data."""
        history = {name: list(values) for name, values in self.history.items()}
        return {**vars(self), "history": history}

    @classmethod
    def from_json(cls, data: Json) -> Course:
        """Build it from what `to_json` gave."""
        history = {name: tuple(values) for name, values in data["history"].items()}
        return cls(**{**data, "history": history})


@contextmanager
def random_untouched() -> Iterator[None]:
    """Give Python's and numpy's global random state back: new layers draw their seeds from it."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed_dropout(model: keras.Model, seed: int) -> None:
    """Let dropout and its like draw the same in every training of the same seed."""
    states = [v for v in model.variables if v.name == "seed_generator_state"]
    for number, state in enumerate(states):
        state.assign([seed % 2**32, number])


class _Best(keras.callbacks.Callback):
    """Keeps the weights of the least loss, those before the training included unless told."""

    def __init__(self, kept: keras.Model, patience: int | None, *, moved: bool = False) -> None:
        super().__init__()
        self._kept = kept
        self._patience = patience
        self._moved = moved
        self.epoch = 0
        self.before = self.loss = math.inf
        self._weights: list[Any] = []
        self._behind: tuple[int, float, list[Any]] | None = None

    def start(self, logs: Mapping[str, float]) -> None:
        """Note how it was before."""
        self.before = self.loss = float(logs["loss"])
        self._weights = self._now()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Note what was better, and stop when nothing was for long."""
        loss = (logs or {}).get("val_loss")
        if loss is None:
            return
        behind = math.nan if self._behind is None else self._behind[1]
        if self._moved and (loss < behind or not math.isfinite(behind)):
            self._behind = epoch + 1, float(loss), self._now()
        if loss < self.loss or not math.isfinite(self.loss):
            self.loss, self.epoch = float(loss), epoch + 1
            self._weights = self._now()
        elif self.exhausted(epoch + 1):
            self.model.stop_training = True

    def _now(self) -> list[Any]:
        return [variable.numpy() for variable in self._kept.variables]

    def exhausted(self, epochs: int) -> bool:
        """Return whether nothing was better for too long."""
        judged = bool(self._weights)
        return judged and self._patience is not None and epochs - self.epoch >= self._patience

    def resume(self, moment: Moment) -> None:
        """Go on from where another was."""
        self.before, self.loss, self.epoch = moment.before, moment.loss, moment.best_epoch
        self._weights = moment.best

    def moment(
        self, epochs: int, history: Mapping[str, Sequence[float]], trainer: keras.Model
    ) -> Moment:
        """Return all that it takes to go on."""
        return Moment(
            epochs,
            self.epoch,
            self.before,
            self.loss,
            history,
            checkpoints.values(trainer.variables),
            checkpoints.values(trainer.optimizer.variables),
            self._weights,
        )

    def restore(self) -> tuple[int, float]:
        """Put the best weights back, and return their epoch and loss."""
        epoch, loss, weights = self._behind or (self.epoch, self.loss, self._weights)
        for variable, value in zip(self._kept.variables, weights, strict=True):
            variable.assign(value)
        return epoch, loss


class _Saver(keras.callbacks.Callback):
    """Writes a checkpoint at the end of every epoch."""

    def __init__(
        self, checkpoint: Checkpoint, best: _Best, history: Mapping[str, tuple[float, ...]]
    ) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._best = best
        self._history = history

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Write it."""
        self._history = _longer(self._history, {k: [v] for k, v in (logs or {}).items()})
        self._checkpoint.save(self._best.moment(epoch + 1, self._history, self.model))


def _longer(
    history: Mapping[str, tuple[float, ...]], more: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[float, ...]]:
    """Return a history with further epochs; values that are no numbers are left out."""
    return {
        name: (*history.get(name, ()), *(float(value) for value in values))
        for name, values in more.items()
        if np.ndim(values) == 1
    }
