"""Build a cut model as one of its parent's class, where the class can say what is left."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import keras

from keras_nns.graph.keras_internals import Key, calls, is_graph
from keras_nns.graph.rules.model_classes import Part, UnlikeError, class_of
from keras_nns.graph.rules.records import Shape


class Rebuilding(Protocol):
    """What it asks of the one who rebuilds a model."""

    def operation(self, operation: Any, key: Key, path: str) -> Any:
        """Return the new layer, operation or model that stands for one of the user's."""

    def plan_of(self, operation: Any, path: str) -> tuple[Any, dict[str, Any]]:
        """Return what a new layer is made of: its type and its configuration."""

    def shapes_left(self, operation: Any) -> list[Shape]:
        """Return the shapes of a layer's variables without the units that leave."""

    def skips(self, operation: Any) -> bool:
        """Return whether a layer is a residual block that leaves as a whole."""

    def note(self, old: Any, new: Any) -> None:
        """Say which new layer stands for one of the user's."""

    def renewed(self, layer: Any) -> Any:
        """Return the new layer that stands for one of the user's; None where it leaves."""


def of_same_class(rebuilder: Rebuilding, model: Any, key: Key, path: str) -> Any:
    """Build a model of the parent's class and tell the rebuilder which layer stands for which.

    Args:
        rebuilder: Knows what stays, and takes note of the new layers.
        model: The user's model, or one inside theirs.
        key: Key of its call.
        path: Its path.

    Returns:
        The new model, or None where its class has no row or cannot say what is left; then a warning
        says why, but for Keras's own classes, which have nothing more than their graph, and for
        those that have a subclass which can (`wrapped`).
    """
    row = class_of(model)
    if row is None:
        if not type(model).__module__.startswith("keras.src."):
            _warn(model, "nothing is known of how a smaller one is made; its own methods are gone")
        return None
    try:
        parts = list(_parts(rebuilder, model, key, path))
        kind, config = row.make(model, parts)
        new = kind(**config)
        pairs = list(zip([p.layer for p in parts], _layers(new), strict=True))
        for old, other in pairs:
            _check(rebuilder, old, other)
    except UnlikeError as reason:
        if row.wrap is None:
            _warn(model, str(reason))
        return None
    for old, other in pairs:
        if not is_graph(old):
            rebuilder.note(old, other)
    return new


def wrapped(rebuilder: Rebuilding, model: Any, new: Any) -> Any:
    """Give the functional model that is left of one what its class has beside its graph.

    Args:
        rebuilder: Knows the new layers.
        model: The user's model, or one inside theirs.
        new: What is left of it, functional.

    Returns:
        A model of a subclass of the user's class over the same layers; `new`, with a warning, where
        there can be none.
    """
    row = class_of(model)
    if row is None or row.wrap is None:
        return new
    try:
        return row.wrap(model, new, rebuilder.renewed)
    except UnlikeError as reason:
        _warn(model, str(reason))
        return new


def _warn(model: Any, reason: str) -> None:
    warnings.warn(
        f"What is left of {model.name!r} is a functional keras.Model and no "
        f"{type(model).__name__}: {reason}.",
        stacklevel=3,
    )


def _parts(rebuilder: Rebuilding, model: Any, key: Key, path: str) -> Iterator[Part]:
    done = set()
    for call, _ in calls(model, key=key, path=path):
        operation = call.operation
        if not isinstance(operation, keras.Layer) or id(operation) in done:
            continue
        done.add(id(operation))
        if is_graph(operation):
            new = rebuilder.operation(operation, call.key, call.path)
            if not isinstance(new, type(operation)):
                raise UnlikeError(f"its {operation.name!r} is no {type(operation).__name__} now")
            yield Part(operation, _unknown, partial(_unknown, operation), new)
        elif not rebuilder.skips(operation):
            made = partial(rebuilder.plan_of, operation, call.path)
            yield Part(operation, partial(_left, rebuilder, operation), made)


def _unknown(*given: Any) -> Any:
    raise UnlikeError("what is left of a model inside it is known when that is made")


def _left(rebuilder: Rebuilding, layer: Any, variable: Any) -> Shape:
    """Return the shape of a layer's variable without the units that leave."""
    shapes = zip(layer.variables, rebuilder.shapes_left(layer), strict=True)
    return next(shape for one, shape in shapes if one is variable)


def _layers(model: Any) -> list[Any]:
    """Return the layers of a model's own graph in the order of their first calls."""
    found = {id(call.operation): call.operation for call, _ in calls(model)}
    return [layer for layer in found.values() if isinstance(layer, keras.Layer)]


def _check(rebuilder: Rebuilding, old: Any, new: Any) -> None:
    """Make sure that a layer of the new model holds what is left of the user's.

    Raises:
        UnlikeError: Its weights have other shapes.
    """
    if is_graph(old):
        return
    wanted, found = rebuilder.shapes_left(old), [tuple(v.shape) for v in new.variables]
    if wanted != found:
        raise UnlikeError(f"weights of {old.name!r} are {wanted} and its class makes them {found}")
