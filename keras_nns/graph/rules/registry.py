"""Which rule stands for which type of layer or operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras_nns.graph.rules.base import Site

Rule = Callable[[Site], None]

_RULES: dict[type, Rule] = {}
_UNFOLDING: set[type] = set()


def rule(*types: type, unfolds: bool = False) -> Callable[[Rule], Rule]:
    """Register a function as the rule of layer or operation types, by exact type.

    Args:
        *types: The types.
        unfolds: Whether `unfold` writes them out all the same, into parts that say more.

    Example:
        >>> class Scale(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.factor = self.add_weight(shape=shape[-1:])
        ...     def call(self, inputs):
        ...         return self.factor * inputs
        >>> @nns.rules.register(Scale)
        ... def scale(site):
        ...     site.bind(site.operation.factor, {0: site.input.on(-1)})
        ...     site.emit(site.input.units)
    """

    def register(function: Rule) -> Rule:
        for kind in types:
            _RULES[kind] = function
            (_UNFOLDING.add if unfolds else _UNFOLDING.discard)(kind)
        return function

    return register


def known(module: Any, *names: str) -> tuple[type, ...]:
    """Return types of a module of Keras by name; those that an older Keras lacks are left out."""
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


def rule_of(operation: Any) -> Rule | None:
    """Return the rule of an operation's exact type, or None: a subclass may compute otherwise."""
    return _RULES.get(type(operation))


def unfolds(operation: Any) -> bool:
    """Return whether a layer that has a rule is written out all the same."""
    return type(operation) in _UNFOLDING


def rules() -> Mapping[type, Rule]:
    """Return every rule by type."""
    return dict(_RULES)
