"""Make a model that Keras 3 has read from an older file compute what it did when written."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import activations, layers

from keras_nns.engine.layers import mask_of
from keras_nns.graph.keras_internals import calls, functional, is_graph
from keras_nns.graph.rules.elementwise import hard_sigmoid_of_keras_2
from keras_nns.surgery.old_files.mended import Mended
from keras_nns.surgery.old_files.versions import Path, attribute, is_h5

_FLIPPED = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv2DTranspose)


def restore(model: Any, path: Path, mended: Mended) -> None:
    """Restore what Keras 3 computes otherwise.

    Keras 2's `hard_sigmoid` is clip(0.2 x + 0.5, 0, 1), Keras 3's relu6(x + 3) / 6. Theano turned
    the kernels of convolutions by half a turn.

    Args:
        model: The model, just read: nothing of it is compiled yet.
        path: The file.
        mended: Where to write what was changed.
    """
    for layer in model._flatten_layers():
        for name, value in list(vars(layer).items()):
            if value is activations.hard_sigmoid:
                setattr(layer, name, hard_sigmoid_of_keras_2)
                mended.add(
                    "hard_sigmoid, which is another function in Keras 3, became keras_nns's "
                    "hard_sigmoid_of_keras_2, clip(0.2 x + 0.5, 0, 1)",
                    layer.name,
                )
    if is_h5(path) and attribute(path, "backend") == "theano":
        for layer in model._flatten_layers():
            if _turn(layer):
                mended.add(
                    "kernels of convolutions, which Theano turned by half a turn, were turned back",
                    layer.name,
                )


def unmasked(model: Any) -> list[str]:
    """Name the recurrent layers that skip masked steps in Keras 2 and not in Keras 3.

    Keras 3.15 gives a layer no mask where it is called with several tensors and has one argument
    for a mask: so a recurrent layer that is given an initial state.
    """
    found = []
    for one in model._flatten_layers():
        if not is_graph(one) or one.inputs is None:
            continue
        held = [*functional(one).inputs]
        for call, fill in calls(one):
            args, kwargs = fill({id(tensor): tensor for tensor in held})
            held.extend(call.outputs)
            state = kwargs.get("initial_state")
            if state is None or not args or "mask" in kwargs:
                continue
            if mask_of(args[0]) is not None:
                found.append(call.path)
    return found


def _turn(layer: Any) -> bool:
    """Turn the kernels of a convolution along its spatial axes."""
    if type(layer) in _FLIPPED:
        kernels = [layer._kernel]
    elif type(layer).__name__ == "ConvLSTMCell":
        kernels = [layer.kernel, layer.recurrent_kernel]
    else:
        return False
    for kernel in kernels:
        value = np.asarray(kernel)
        kernel.assign(np.flip(value, tuple(range(value.ndim - 2))))
    return True
