"""Model classes with a constructor of their own, and what makes a smaller model of the same class.

A functional model of a class such as KerasHub's `LlamaCausalLM` has more than its graph: a
constructor, `generate`, `from_preset`. One row for each such class says what its constructor is
given for the layers that are left. Without a row a cut gives a plain functional `keras.Model`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class UnlikeError(Exception):
    """What is left of a model is nothing that its class can be; the message says why."""


@dataclass(frozen=True)
class Part:
    """A layer of a model that stays.

    Attributes:
        layer: The user's layer, or a model inside theirs.
        left: From one of its variables to the shape without the units that leave.
        made: Gives type and configuration of the new layer by itself.
        new: The new model, where it is a model inside.
    """

    layer: Any
    left: Callable[[Any], tuple[int | None, ...]]
    made: Callable[[], tuple[type, dict[str, Any]]]
    new: Any = None


Made = tuple[Callable[..., Any], dict[str, Any]]
"""A model class (or what gives a model of it), and keyword arguments."""

Make = Callable[[Any, Sequence[Part]], Made]

Renewed = Callable[[Any], Any]
"""From a layer of the user's to the new one; None for a block that leaves."""

Wrap = Callable[[Any, Any, Renewed], Any]


@dataclass(frozen=True)
class ModelClass:
    """How a smaller model of a class comes about.

    Attributes:
        make: From the user's model and its parts that stay to the class and its arguments. It
            raises `UnlikeError` where the class cannot say what is left.
        compile: From the user's compiled model to the arguments of `compile` that are the class's
            own, such as a sampler.
        wrap: Where the class cannot say what is left, from the user's model, the functional model
            that is left of it and its new layers to a model of a subclass, or `UnlikeError`. None
            where there is no such subclass.
    """

    make: Make
    compile: Callable[[Any], dict[str, Any]]
    wrap: Wrap | None = None


_CLASSES: dict[type, ModelClass] = {}
_BASES: dict[type, ModelClass] = {}
_SETTINGS: dict[type, Callable[[Any], dict[str, Any]]] = {}


def register_class(
    *kinds: type,
    make: Make,
    compile: Callable[[Any], dict[str, Any]] = lambda model: {},
) -> None:
    """Say how smaller models of some classes come about, by exact type as rules of layers are."""
    for kind in kinds:
        _CLASSES[kind] = ModelClass(make, compile)


def register_base(kind: type, *, make: Make, wrap: Wrap | None = None) -> None:
    """Say how smaller models of a class, and of all that build on it, come about.

    A row of `register_class` for the exact type comes first.
    """
    _BASES[kind] = ModelClass(make, lambda model: {}, wrap)


def class_of(model: Any) -> ModelClass | None:
    """Return how smaller models of a model's type come about, or None."""
    exact = _CLASSES.get(type(model))
    if exact is not None:
        return exact
    return next((_BASES[kind] for kind in type(model).__mro__ if kind in _BASES), None)


def register_settings(kind: type, compile: Callable[[Any], dict[str, Any]]) -> None:
    """Say what `compile` of a class and all that build on it takes beside what Keras's own does.

    Args:
        kind: The class; of several that a model builds on, the nearest counts.
        compile: From a compiled model to those arguments.
    """
    _SETTINGS[kind] = compile


def settings_of(model: Any) -> Callable[[Any], dict[str, Any]] | None:
    """Return what gives a model's own arguments of `compile`; None where Keras's own are all."""
    row = _CLASSES.get(type(model))
    if row is not None:
        return row.compile
    return next((_SETTINGS[kind] for kind in type(model).__mro__ if kind in _SETTINGS), None)
