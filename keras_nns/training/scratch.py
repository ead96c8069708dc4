"""Train a network of the same shape from scratch: what a cut has to be better than."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_nns.errors import ModelError
from keras_nns.graph.tracing import trace
from keras_nns.surgery.copying import copied
from keras_nns.training.distillation import Trained, fine_tune
from keras_nns.training.loop import random_untouched


def from_scratch(
    small: keras.Model, data: Any, y: Any = None, *, seed: int = 0, **options: Any
) -> Trained:
    """Train a copy of a network that has forgotten everything, to stand beside it in `compare`.

    The copy has the same layers, sizes and answers; its weights are drawn anew by each layer's own
    initializers. Layers that are not trained are kept as they are: those that are frozen, such as
    the one by which a head sums probabilities, and preprocessing that was adapted to data. Then it
    is trained as `fine_tune` trains, so with the same `epochs` and `batch_size` as a subnetwork's
    own training it has had as many gradient steps.

    Args:
        small: A subnetwork from `cut`, or any Sequential or functional model. It is not changed.
        data: As in `fine_tune`.
        y: As in `fine_tune`.
        seed: The weights it starts from, which samples are held out, their order, and dropout.
        **options: The other options of `fine_tune`.

    Returns:
        The new model, with the lineage of `small`, since it answers the same, and what training
        gained.

    Raises:
        DataError: The data does not fit, or there are too few samples.
        ModelError: A layer is stateful, cannot be built anew, or nothing can be trained.

    Example:
        >>> fresh = nns.from_scratch(small, *parts.observe, epochs=3).model  # doctest: +SKIP
        >>> beside = {"from scratch": fresh}  # doctest: +SKIP
        >>> print(nns.compare(model, small, parts.test, beside=beside))  # doctest: +SKIP
    """
    return fine_tune(forgotten(small, seed=seed), data, y, seed=seed, **options)


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
