"""Layers whose weights are narrower than the arguments of their class can say.

Most classes of KerasHub divide the width of the stream by the number of heads, which fits no layer
that lost some of its heads. So the class builds what it was made for first, and then what holds
fewer units is made again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Dense, EinsumDense, InputSpec

Config = Callable[[Any], dict[str, Any]]

_SIZED: dict[type, type] = {}
_NEW: set[type] = set()
_CONFIGS: dict[type, Config] = {}


class Sized:
    """What makes a layer narrower once its class has built it: a mixin in front of the class.

    Args:
        sizes: `"shapes"`, one for each of its variables; `"attributes"`, new values by name for
            each layer inside it, by dotted path (`""` for the layer itself); and `"answers"`, what
            methods of layers inside it give from now on, likewise; and `"closed"`, places of what a
            projection inside it makes that nothing is sent to any more, by path. With `"told"` its
            class makes the same of its own arguments, and only saves too few of them.
        **kwargs: What the class takes.
    """

    def __init__(self, *, sizes: dict[str, Any], **kwargs: Any) -> None:
        self.sizes = sizes
        super().__init__(**kwargs)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**config_of(self), "sizes": self.sizes}


def sized(kind: type, config: Config | None = None) -> type:
    """Return the class of layers of a kind that can be made narrower; one that is stays.

    Args:
        kind: The class.
        config: Returns a layer's configuration, where its own `get_config` is broken.
    """
    if issubclass(kind, Sized):
        return kind
    if config is not None:
        _CONFIGS[kind] = config
    if kind not in _SIZED:

        @functools.wraps(kind.build)  # type: ignore[attr-defined]
        def build(self: Any, *args: Any, **kwargs: Any) -> None:
            kind.build(self, *args, **kwargs)  # type: ignore[attr-defined]
            vars(self)["_made_with"] = config_of(self)
            narrow(self, self.sizes)

        # KerasHub has classes of one name in several families.
        family = kind.__module__.split(".")[-2].title().replace("_", "")
        name = "Sized" + (kind.__name__ if family in ("Modeling",) else family + kind.__name__)
        new = type(name, (Sized, kind), {"build": build, "__doc__": kind.__doc__})
        _SIZED[kind] = keras.saving.register_keras_serializable("keras_nns")(new)
        _NEW.add(new)
    return _SIZED[kind]


def stock_of(layer: Any) -> type:
    """Return the class of KerasHub that a layer is of."""
    return next(kind for kind in type(layer).__mro__ if kind is not Sized and kind not in _NEW)


def config_of(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with, its sizes aside."""
    # A layer that was made narrower has other attributes than its class was given.
    if "_made_with" in vars(layer):
        return {**vars(layer)["_made_with"], **keras.layers.Layer.get_config(layer)}
    kind: Any = stock_of(layer)
    config = _CONFIGS.get(kind)
    return dict(kind.get_config(layer) if config is None else config(layer))


def is_savable(layer: Any) -> bool:
    """Return whether a layer's own `get_config` says what its class takes."""
    return stock_of(layer) not in _CONFIGS


def at(layer: Any, path: str) -> Any:
    """Return what lies at a dotted path of attributes and places in lists; `""` is the layer."""
    found = layer
    for step in path.split(".") if path else ():
        found = found[int(step)] if step.isdigit() else getattr(found, step)
    return found


def narrow(layer: Any, sizes: Mapping[str, Any]) -> None:
    """Make variables of a built layer again in other shapes, and set attributes."""
    for path, values in sizes["attributes"].items():
        for name, value in values.items():
            setattr(at(layer, path), name, value)
    for path, values in sizes["answers"].items():
        for name, value in values.items():
            setattr(at(layer, path), name, functools.partial(_given, value))
    for variable, shape in zip(list(layer.variables), sizes["shapes"], strict=True):
        if tuple(variable.shape) != tuple(shape):
            holder = _holder(layer, variable)
            _replace(holder, variable, tuple(shape))
            _tell(holder)
    for path, places in sizes["closed"].items():
        router = at(layer, path)
        vars(router)["call"] = functools.partial(_without, router.call, list(places))


def _without(call: Callable[..., Any], places: list[int], *args: Any, **kwargs: Any) -> Any:
    """Give what a router gives, and minus infinity at places that are closed."""
    logits = call(*args, **kwargs)
    closed = np.zeros(logits.shape[-1], dtype=bool)
    closed[places] = True
    return ops.where(closed, ops.cast(-np.inf, logits.dtype), logits)


def _given(value: Any, *_: Any) -> Any:
    return list(value)


def _holder(layer: Any, variable: Any) -> Any:
    for one in layer._flatten_layers():
        own = [*one._trainable_variables, *one._non_trainable_variables]
        if any(held is variable for held in own):
            return one
    raise ValueError(f"no layer inside {layer.name!r} holds {variable.path!r}")


def _replace(holder: Any, old: Any, shape: tuple[int, ...]) -> None:
    """Put a variable of another shape in the place of one: it keeps its place in the order."""
    own = [name for name, value in vars(holder).items() if value is old]
    kept = holder._trainable_variables if old.trainable else holder._non_trainable_variables
    place = next(i for i, variable in enumerate(kept) if variable is old)
    locked = holder._tracker.locked
    holder._tracker.unlock()
    holder._tracker.untrack(old)
    new = holder.add_weight(
        shape=shape,
        initializer="zeros",
        dtype=old.dtype,
        trainable=old.trainable,
        autocast=old._autocast,
        regularizer=old.regularizer,
        constraint=old.constraint,
        name=old.name,
    )
    new._path = old._path
    kept.insert(place, kept.pop())
    for name in own:
        setattr(holder, name, new)
    if locked:
        holder._tracker.lock()


def _tell(holder: Any) -> None:
    """Let a projection know how wide it has become."""
    if isinstance(holder, Dense):
        holder.units = holder._kernel.shape[-1]
        holder.input_spec = InputSpec(min_ndim=2, axes={-1: holder._kernel.shape[0]})
    elif isinstance(holder, EinsumDense):
        terms, output = holder.equation.split("->")
        dims = dict(zip(terms.split(",")[1], holder._kernel.shape, strict=True))
        full = [dims.get(letter) for letter in output]
        holder.partial_output_shape = tuple(full[1:])
        holder.full_output_shape = [None, *full[1:]]


def inner(dense: Any, side: int) -> int:
    """Return the axis of a projection's kernel on which the units inside a block lie.

    Args:
        dense: A Dense, or an EinsumDense over `(batch, steps, units, …)`.
        side: 1 where it makes the units, 0 where it reads them.
    """
    if isinstance(dense, Dense):
        return side
    terms, output = dense.equation.split("->")
    given, kernel = terms.split(",")
    return int(kernel.index((given, output)[side][2]))
