"""Let a network take the inputs of another: reshape, resize, project."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from keras import layers, tree

from keras_nns.errors import ModelError
from keras_nns.graph.keras_internals import Call, functional, room_for, structure, walk
from keras_nns.surgery.copying import copied

Adapt: TypeAlias = Literal["resize"] | keras.layers.Layer | Sequence[keras.layers.Layer] | None
"""What stands between the inputs of one network and another that takes other inputs."""

_CHANNELS = (1, 3, 4)


def adapted(model: keras.Model, to: keras.Model, adapt: Adapt) -> keras.Model:
    """Return a model that takes the inputs of another, or the same model where it does already.

    Args:
        model: The model, of one input where something has to be done. It is not changed.
        to: The model whose inputs it shall take.
        adapt: `"resize"`: a reshape, a bilinear resize, and a fixed 1 × 1 projection from one
            channel to several or back, whatever it takes; or layers of your own, of which copies
            are used; None where nothing has to be done.

    Returns:
        A functional model of the same layers, named by their paths.

    Raises:
        ModelError: The inputs differ and `adapt` does not bring the one to the other.
    """
    if isinstance(adapt, str) and adapt != "resize":
        raise _no_layers(adapt)
    theirs, ours = (_inputs(one) for one in (to, model))
    if theirs == ours and (adapt is None or isinstance(adapt, str)):
        return model
    if adapt is None:
        raise ModelError(
            f"{to.name!r} takes inputs {_said(theirs)} and {model.name!r} takes {_said(ours)}. "
            "Pass adapt='resize', or layers that make the one of the other."
        )
    if len(theirs) != 1 or len(ours) != 1:
        raise ModelError(
            f"`adapt` fits one input to another. Received: {to.name!r} with {len(theirs)} inputs "
            f"and {model.name!r} with {len(ours)}."
        )
    have, want = theirs[0][0], ours[0][0]
    start = keras.Input(shape=have, dtype=theirs[0][1], name="adapted")
    value = _chain(start, _resizing(have, want) if isinstance(adapt, str) else _copies(adapt))
    if tuple(value.shape[1:]) != want:
        raise ModelError(
            f"`adapt` makes {tuple(value.shape[1:])} of inputs of shape {have}, and {model.name!r} "
            f"takes {want}. Pass layers that end in that shape, or adapt='resize'."
        )
    new = copied(model)

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A layer inside a nested model may have the name of one outside.
        call.operation.name = call.path.replace("/", "_")
        return call.operation(*args, **kwargs)

    with room_for(len(model.layers)):
        outputs = walk(new, [value], visit)
        _, packed = structure(new)
        return keras.Model(start, tree.pack_sequence_as(packed, outputs), name=model.name)


def _inputs(model: keras.Model) -> list[tuple[tuple[int | None, ...], str]]:
    return [(tuple(t.shape[1:]), str(t.dtype)) for t in functional(model).inputs]


def _said(inputs: list[tuple[tuple[int | None, ...], str]]) -> str:
    return ", ".join(f"{shape} {dtype}" for shape, dtype in inputs)


def _copies(adapt: Any) -> list[Any]:
    given = list(adapt) if isinstance(adapt, Sequence) and not isinstance(adapt, str) else [adapt]
    if not given or not all(isinstance(layer, layers.Layer) for layer in given):
        raise _no_layers(adapt)
    return given


def _no_layers(adapt: Any) -> ModelError:
    return ModelError(
        f"Expected `adapt` to be 'resize', a layer or a list of layers. Received: {adapt!r}."
    )


def _chain(value: Any, chain: Sequence[Any]) -> Any:
    for layer in chain:
        if isinstance(layer, keras.Model):
            new = copied(layer)
            value = new(value)
            continue
        new = type(layer).from_config(layer.get_config())
        value = new(value)
        if layer.built and layer.weights:
            new.set_weights(layer.get_weights())
    return value


def _resizing(have: tuple[int | None, ...], want: tuple[int | None, ...]) -> list[Any]:
    """List the layers that bring one shape to another."""
    if None in have or None in want:
        raise _no_way(have, want)
    if math.prod(map(int, filter(None, have))) == math.prod(map(int, filter(None, want))):
        return [layers.Reshape(want, name="adapted_shape")]
    one, other = _image(have), _image(want)
    if one is None or other is None:
        raise _no_way(have, want)
    chain: list[Any] = [] if one == have else [layers.Reshape(one, name="adapted_image")]
    if one[2] != other[2]:
        chain.append(_projection(one[2], other[2], have, want))
    if one[:2] != other[:2]:
        chain.append(layers.Resizing(other[0], other[1], name="adapted_size"))
    return chain if other == want else [*chain, layers.Reshape(want, name="adapted_shape")]


def _image(shape: tuple[int | None, ...]) -> tuple[int, int, int] | None:
    """Read a shape as height, width and channels; a flat one as those of a square image."""
    sizes = [int(size or 0) for size in shape]
    if len(sizes) == 3:
        return sizes[0], sizes[1], sizes[2]
    if len(sizes) == 2:
        return sizes[0], sizes[1], 1
    if len(sizes) == 1:
        for channels in _CHANNELS:
            side = math.isqrt(sizes[0] // channels)
            if side * side * channels == sizes[0]:
                return side, side, channels
    return None


def _projection(
    before: int, after: int, have: tuple[int | None, ...], want: tuple[int | None, ...]
) -> Any:
    """Return a 1 × 1 convolution from one channel to copies of it, or from several to their mean.

    Raises:
        ModelError: There are several on both sides, and nothing says which is which.
    """
    if min(before, after) != 1:
        raise _no_way(have, want)
    layer = layers.Conv2D(after, 1, use_bias=False, trainable=False, name="adapted_channels")
    layer.build((None, None, None, before))
    layer.set_weights([np.full((1, 1, before, after), 1 / before, dtype=np.float32)])
    return layer


def _no_way(have: tuple[int | None, ...], want: tuple[int | None, ...]) -> ModelError:
    return ModelError(
        f"adapt='resize' knows no way from inputs of shape {have} to {want}: it takes images with "
        "as many channels or one, also flat where they are square. Pass layers of your own."
    )
