"""What a step reads and changes beside its batches: jax knows no state, so it is carried along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import keras

_current: ContextVar[Carry | None] = ContextVar("current", default=None)


class Held(Protocol):
    """A variable of Keras or an accumulator: an array in a place that others know."""

    _value: Any


class UnknownError(Exception):
    """A step asks for something that nobody had seen it ask for."""


class Carry(keras.StatelessScope):
    """While in the context, variables and accumulators are values, and changes stay here.

    Args:
        known: What may be asked for, each with its value; None for anything, with the value that it
            has, so that what is asked for can be seen.

    Attributes:
        met: What was asked for or changed, by its `id`.
        changed: What was changed, with its value, by its `id`.

    Raises:
        UnknownError: Something else is asked for.
    """

    def __init__(self, known: Iterable[tuple[Held, Any]] | None = None) -> None:
        super().__init__(initialize_variables=False)
        self._known = None if known is None else {id(held): value for held, value in known}
        self.met: dict[int, Held] = {}
        self.changed: dict[int, Any] = {}

    def read(self, held: Held) -> Any:
        """Return the value of something at this point of the step."""
        self.met[id(held)] = held
        if id(held) in self.changed:
            return self.changed[id(held)]
        if self._known is None:
            return held._value
        if id(held) not in self._known:
            raise UnknownError
        return self._known[id(held)]

    def write(self, held: Held, value: Any) -> None:
        """Give something another value from here on."""
        self.met[id(held)] = held
        self.changed[id(held)] = value

    def get_current_value(self, variable: Any) -> Any:
        """Return the value of a variable, as Keras asks for it; None while it has none."""
        return self.read(variable)

    def add_update(self, update: tuple[Any, Any]) -> None:
        """Take a variable's new value, as Keras hands it over."""
        self.write(*update)


class Within(Carry):
    """A carry within another one, or within none: reads through it, and keeps changes to itself.

    Args:
        outer: The other.
    """

    def __init__(self, outer: Carry | None) -> None:
        super().__init__()
        self._outer = outer

    def read(self, held: Held) -> Any:
        """Return the value of something at this point of the step."""
        if self._outer is None or id(held) in self.changed:
            return super().read(held)
        return self._outer.read(held)


@contextmanager
def carrying(carry: Carry) -> Iterator[Carry]:
    """While in the context, variables and accumulators are what a carry says."""
    token = _current.set(carry)
    try:
        with carry:
            yield carry
    finally:
        _current.reset(token)


def current() -> Carry | None:
    """Return the carry of the step that runs; None outside of one."""
    return _current.get()


def put_back(held: Sequence[Held], values: Sequence[Any]) -> None:
    """Give variables and accumulators the values that a step gave back."""
    for one, value in zip(held, values, strict=True):
        one._value = value
