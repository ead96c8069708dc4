"""Train a network of the same shape from scratch: what a cut has to be better than."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_nns.errors import ModelError, SurgeryError
from keras_nns.graph.tracing import trace
from keras_nns.surgery.copying import copied
from keras_nns.training.fine_tuning import tuned
from keras_nns.training.loop import Schooling, random_untouched
from keras_nns.training.optimizers import own_optimizer
from keras_nns.training.outcome import Trained

_RATES = (1e-3, 5e-3, 2.5e-2)
"""Rates that are tried: small networks take high ones."""


def from_scratch(
    small: keras.Model,
    data: Any,
    y: Any = None,
    *,
    epochs: int = 1,
    rates: Sequence[float] | None = None,
    optimizer: Any = None,
    loss: Any = None,
    held_out: float = 0.1,
    patience: int | None = 3,
    seed: int = 0,
    batch_size: int = 64,
    balance: bool | None = None,
    class_weight: Mapping[int | str, float] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: bool = False,
    label_names: Sequence[Any] | None = None,
) -> Trained:
    """Train a copy of a network that has forgotten everything, to stand beside it in `compare`.

    The copy has the same layers, sizes and answers; its weights are drawn anew by each layer's own
    initializers. Layers that are not trained are kept as they are: those that are frozen, such as
    the one by which a head sums probabilities, and preprocessing that was adapted to data. Then it
    is trained as well as a subnetwork is: its answers weigh alike as in `distill`, its rate is the
    best of several on the samples held out, and a yes/no answer decides at the point of best
    balanced accuracy on those it was trained on, as one of `calibrate_head`. With the same `epochs`
    and `batch_size` as a subnetwork's own training it has had as many gradient steps, at each rate.

    Args:
        small: A subnetwork from `cut`, or any Sequential or functional model. It is not changed.
        data: As in `fine_tune`.
        y: As in `fine_tune`.
        epochs: How often to go over the data, at each rate.
        rates: What Adam's rate falls from, to zero along a cosine: each is tried, and the network
            of the least loss on the samples held out is kept. None tries 0.001, 0.005 and 0.025.
        optimizer: A Keras optimizer or its name, which is copied, in place of Adam and its rates.
        loss: As in `fine_tune`.
        held_out: Share of the samples to judge epochs and rates on.
        patience: As in `fine_tune`.
        seed: The weights it starts from, which samples are held out, their order, and dropout.
        batch_size: As in `fine_tune`.
        balance: As in `fine_tune`.
        class_weight: As in `fine_tune`.
        callbacks: As in `fine_tune`, for the training at each rate.
        verbose: As in `fine_tune`.
        label_names: As in `fine_tune`.

    Returns:
        The new model, with the lineage of `small`, since it answers the same, and what training
        gained, with the loss that each rate led to.

    Raises:
        DataError: The data does not fit, or there are too few samples.
        SurgeryError: An option makes no sense, or there is nothing to choose a rate by.
        ModelError: A layer is stateful, cannot be built anew, or nothing can be trained.

    Example:
        >>> fresh = nns.from_scratch(three, x, y, rates=[0.01]).model
        >>> beside = {"from scratch": fresh}
        >>> told = nns.compare(model, three, x_test, y_test, beside=beside)
    """
    if optimizer is not None and rates is not None:
        raise SurgeryError("`optimizer` has a rate of its own. Pass either it or `rates`.")
    tried = list(_RATES if rates is None else rates)
    if not tried or not all(np.isfinite(rate) and rate > 0 for rate in tried):
        raise SurgeryError(f"`rates` are numbers above 0, one or more. Received: {rates!r}.")
    if optimizer is None and len(tried) > 1 and not held_out:
        raise SurgeryError(
            "The best of several rates is chosen on samples held out. Pass held_out above 0, one "
            "rate, or an optimizer."
        )
    fresh = forgotten(small, seed=seed)
    how = Schooling(
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        seed=seed,
        callbacks=callbacks,
        verbose=verbose,
    )

    def trained(made: Callable[[int], Any]) -> Trained:
        return tuned(
            fresh,
            data,
            y,
            how,
            optimizer=made,
            loss=loss,
            held_out=held_out,
            balance=balance,
            class_weight=class_weight,
            label_names=label_names,
            verb="from_scratch",
            at_best_point=True,
        )

    if optimizer is not None:
        return trained(partial(own_optimizer, optimizer))
    every = [trained(partial(own_optimizer, None, rate=rate)) for rate in tried]
    if len(every) == 1:
        return every[0]
    losses = [one.gains[0] for one in every]
    best = every[int(np.argmin([_or_infinity(gain.after) for gain in losses]))]
    each = [
        replace(gain, measure=f"loss at rate {rate:g}")
        for rate, gain in zip(tried, losses, strict=True)
    ]
    return replace(best, gains=(*best.gains, *each))


def _or_infinity(loss: float | None) -> float:
    return math.inf if loss is None or math.isnan(loss) else loss


def forgotten(model: keras.Model, *, seed: int) -> Any:
    """Return a copy of a model with new weights in all layers that can be trained.

    Args:
        model: A Sequential or functional model. It is not changed.
        seed: Which weights; the global random state is neither read nor changed.

    Raises:
        ModelError: A layer cannot be built anew from its configuration.
    """
    with random_untouched():
        return _forgotten(model, seed)


def _forgotten(model: keras.Model, seed: int) -> Any:
    new = copied(model)
    random = np.random.default_rng(seed)
    calls = trace(new).calls.values()
    operations = {id(traced.call.operation): traced.call for traced in calls}
    for call in operations.values():
        layer = call.operation
        adapted = hasattr(layer, "adapt")
        if not getattr(layer, "weights", None) or not layer.trainable or adapted:
            continue
        try:
            config = _seeded(layer.get_config(), random)
            twin = type(layer).from_config(config)
            twin.build_from_config(layer.get_build_config())
            layer.set_weights(twin.get_weights())
        except Exception as error:  # a layer's own code may raise anything
            raise ModelError(
                f"Layer {call.path!r} ({type(layer).__name__}) cannot be built anew from its "
                f"configuration: {error}. Train a new model of this shape yourself."
            ) from error
    return new


def _seeded(config: Any, random: np.random.Generator) -> Any:
    """Copy a configuration with a seed of its own wherever one belongs."""
    if isinstance(config, dict):
        return {
            key: int(random.integers(2**31)) if key == "seed" else _seeded(value, random)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_seeded(value, random) for value in config)
    return config
