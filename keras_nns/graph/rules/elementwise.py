"""Layers that treat every element alike: activations, dropout, noise, masking."""

from __future__ import annotations

from typing import Any

import keras
from keras import activations, layers, ops

from keras_nns.engine.functions import functions_named
from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.registry import rule


def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """Return clip(0.2 x + 0.5, 0, 1), which Keras 1 and 2 call `hard_sigmoid`.

    Keras 3 has another function by that name, relu6(x + 3) / 6.
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


keras.saving.register_keras_serializable("keras_nns")(hard_sigmoid_of_keras_2)

_NONNEGATIVE = {
    activations.relu,
    activations.relu6,
    activations.sigmoid,
    activations.hard_sigmoid,
    hard_sigmoid_of_keras_2,
    activations.softplus,
    activations.exponential,
    activations.squareplus,
    activations.sparse_plus,
    activations.sparse_sigmoid,
    *(ops.square, *functions_named("square")),
}
_SIGNED = {
    activations.celu,
    activations.elu,
    activations.gelu,
    activations.hard_shrink,
    activations.hard_silu,
    activations.hard_tanh,
    activations.leaky_relu,
    activations.log_sigmoid,
    activations.mish,
    activations.selu,
    activations.silu,
    activations.soft_shrink,
    activations.softsign,
    activations.tanh,
    activations.tanh_shrink,
    activations.threshold,
    *(ops.gelu, ops.sin, ops.cos, *functions_named("sin"), *functions_named("cos")),
}
_NORMALISING = {activations.softmax, activations.log_softmax, activations.sparsemax}
_OWN: set[Any] = set()
_SAME = {
    function: getattr(activations, name)
    for name in dir(activations)
    if callable(getattr(activations, name))
    for function in (getattr(ops, name, None), *functions_named(name))
    if function is not None
}
_SAME |= dict.fromkeys((ops.exp, *functions_named("exp")), activations.exponential)
# It approximates where the activation of that name does not.
del _SAME[ops.gelu]


def standard(function: Any) -> Any:
    """Return what Keras calls an activation that was given as `keras.ops.relu` or `tf.nn.relu`.

    A layer as an activation stands for its function, where it is one of those without settings.
    """
    if type(function) is layers.Activation:
        return standard(function.activation)
    if type(function) is layers.Softmax and function.axis == -1:
        return activations.softmax
    return _SAME.get(function, function)


def register_elementwise(function: Any) -> Any:
    """Declare that an activation function treats every element by itself.

    A function that Keras does not ship may mix units, so the units behind it are protected until it
    is declared. Use it as a decorator or call it once.

    Args:
        function: What is given as `activation=` to layers.

    Returns:
        The function, unchanged.

    Example:
        >>> @nns.rules.register_elementwise
        ... def square(x):
        ...     return x * x
        >>> layer = keras.layers.Dense(8, activation=square)  # its units can leave
    """
    _OWN.add(function)
    return function


def is_elementwise(function: Any) -> bool:
    """Return whether an activation is known to treat every element by itself."""
    function = standard(function)
    return (
        function is None
        or function is activations.linear
        or type(function) in (layers.ReLU, layers.LeakyReLU, layers.ELU)
        or function in _NONNEGATIVE
        or function in _SIGNED
        or function in _OWN
    )


def apply_activation(site: Site, function: Any, *, axis: int = -1) -> None:
    """Describe an activation on what the site has just emitted.

    Args:
        site: The call, after `emit`.
        function: The activation, as the layer holds it; None is linear.
        axis: The axis a softmax runs over.
    """
    assert site.outputs is not None
    passing = site.passing
    function = standard(function)
    if function is None or function is activations.linear:
        return
    if function in _NONNEGATIVE or (type(function) is layers.ReLU and not function.negative_slope):
        passing.nonlinear = passing.nonnegative = True
    elif is_elementwise(function):
        passing.nonlinear = True
    elif function in _NORMALISING:
        passing.nonlinear = True
        for stream in site.outputs:
            site.normalises(stream.on(axis))
    else:
        name = getattr(function, "__name__", type(function).__name__)
        site.protect_all(
            f"{site.title} applies {name!r}, which may mix units; declare it with "
            "keras_nns.rules.register_elementwise if it does not",
            site.outputs,
        )


IDENTITIES = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
)
"""Give what they are given, in inference."""


@rule(*IDENTITIES)
def same(site: Site) -> None:
    """Pass units through; a noise layer given as a fixed shape may not span units."""
    shape = getattr(site.operation, "noise_shape", None)
    if isinstance(shape, list | tuple):
        for axis, units in site.input.units.items():
            if shape[axis] not in (None, 1):
                site.protect(units, f"{site.title} has a noise_shape of fixed size on their axis")
    site.emit(site.input.units)
    site.passes()


@rule(
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Activation,
    layers.Softmax,
)
def activation(site: Site) -> None:
    """Pass units through a nonlinearity."""
    layer = site.operation
    site.emit(site.input.units)
    site.passes()
    if isinstance(layer, layers.Activation):
        apply_activation(site, layer.activation)
    elif isinstance(layer, layers.Softmax):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        for axis in axes:
            apply_activation(site, activations.softmax, axis=axis)
    else:
        site.passes(
            nonlinear=True,
            nonnegative=isinstance(layer, layers.ReLU) and not layer.negative_slope,
        )


@rule(layers.PReLU)
def prelu(site: Site) -> None:
    """Pass units through; `alpha` has one slope per element except on shared axes."""
    layer = site.operation
    shared = {axis % site.input.rank for axis in layer.shared_axes or ()}
    site.bind(
        layer.alpha,
        {axis - 1: site.input.on(axis) for axis in range(1, site.input.rank) if axis not in shared},
    )
    site.emit(site.input.units)
    site.passes(nonlinear=True)


@rule(layers.Masking)
def masking(site: Site) -> None:
    """Protect features: a step is masked when all of them equal the mask value."""
    site.protect_all(f"{site.title} looks at all of them to decide which steps to skip")
    site.emit(site.input.units)
