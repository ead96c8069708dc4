"""Steps that jax compiles, once for every size of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from keras import tree

from keras_nns.engine.jax.carrying import Carry, Held, UnknownError, carrying, put_back
from keras_nns.engine.jax.precision import wide


class Stepper:
    """Runs a function of batches compiled, with float64 and int64 as they are.

    A pure function is made of it: what it reads of variables of Keras and of accumulators goes in
    beside the batches, so that no weight becomes a constant, and what it changes comes out. Which
    these are is seen in a first trace, of shapes alone.

    Args:
        function: Takes batches, arrays in any structure, whose first axis counts samples.
        uncompiled: How many batches of a kind are run as they come before it is compiled: none is,
            whatever it says, since jax compiles each operation then.
    """

    def __init__(self, function: Callable[..., Any], *, uncompiled: int = 0) -> None:
        self._function = function
        self._made: dict[Any, _Pure] = {}

    def __call__(self, *batches: Any) -> Any:
        """Run it; what is no tensor yet becomes one."""
        key = tuple((str(t.dtype), tuple(t.shape[1:])) for t in tree.flatten(batches))
        with wide():
            if key not in self._made:
                self._made[key] = _Pure(self._function, batches)
            try:
                return self._made[key](batches)
            except UnknownError:
                # Another size of batch may take another way through the function.
                self._made[key] = _Pure(self._function, batches)
                return self._made[key](batches)


class _Pure:
    """A function and all that it reads and changes, for batches of one kind."""

    def __init__(self, function: Callable[..., Any], batches: Any) -> None:
        seen = Carry()

        def look(*given: Any) -> None:
            with carrying(seen):
                function(*given)

        jax.eval_shape(look, *batches)
        self._read: list[Held] = list(seen.met.values())
        self._changed: list[Held] = [seen.met[place] for place in seen.changed]

        def pure(values: list[Any], given: Any) -> tuple[Any, list[Any]]:
            with carrying(Carry(zip(self._read, values, strict=True))) as carry:
                found = function(*given)
                return found, [carry.read(held) for held in self._changed]

        self._compiled = jax.jit(pure)

    def __call__(self, batches: Any) -> Any:
        found, changed = self._compiled([held._value for held in self._read], batches)
        put_back(self._changed, changed)
        return found
