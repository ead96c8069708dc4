"""Variables that take no memory: their values are read from elsewhere when something asks for them.

Keras has such variables while it infers shapes (`keras.StatelessScope`), in fields which are not
public; `tests/keras_nns/engine/test_deferred.py` holds that they are what is written here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.engine.backend import NAME
from keras_nns.engine.tensors import as_array, taken_over

Read = Callable[[], Any]
"""Gives the value of a variable, as an array or a tensor."""

Assigned = Callable[[Any, Any], None]
"""Called with a variable that has no value, and the tensor that it was to be given."""

READ_IN_LOOPS = NAME != "jax"
"""Whether a value may be read while the backend runs over the steps of a sequence: JAX records."""

_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def without_values(assigned: Assigned | None = None) -> Iterator[None]:
    """Let the variables that the block makes from initializers take no memory.

    Each still gives what its initializer does when it is asked, anew each time, until
    `read_from` or `fill` says otherwise. Variables made of a value (a counter of steps, the states
    of a stateful layer) have it. Other threads are not concerned.

    Args:
        assigned: Called in place of every assignment to a variable that has no value, those that
            were made in such a block before too. By default it has the value from then on.
    """
    own = threading.get_ident()
    kind = keras.Variable

    def initialize(variable: Any, initializer: Any) -> None:
        if threading.get_ident() != own:
            before["_initialize_with_initializer"](variable, initializer)
            return
        variable._value, variable._initializer = None, initializer

    def deferred(variable: Any) -> None:
        # Made while Keras inferred shapes, which is over.
        initialize(variable, variable._initializer)

    def direct(variable: Any, value: Any) -> None:
        if threading.get_ident() != own or has_value(variable):
            before["_direct_assign"](variable, value)
        elif assigned is None:
            fill(variable, value)
        else:
            assigned(variable, value)

    changes = {
        "_initialize_with_initializer": initialize,
        "_deferred_initialize": deferred,
        "_direct_assign": direct,
    }
    before = {name: getattr(kind, name) for name in changes}
    with _ONE_AT_A_TIME, ExitStack() as stack:
        for name, new in changes.items():
            stack.enter_context(replaced(kind, name, new))
        if NAME == "torch":  # It lists the tensors of a layer once more, and would hold them.
            stack.enter_context(replaced(keras.Layer, "_track_variables", lambda _: None))
        yield


@contextmanager
def replaced(kind: Any, name: str, new: Any) -> Iterator[None]:
    """Give a class another method for a while."""
    own = vars(kind).get(name)
    setattr(kind, name, new)
    try:
        yield
    finally:
        if own is None:
            delattr(kind, name)
        else:
            setattr(kind, name, own)


def has_value(variable: Any) -> bool:
    """Return whether a variable has a value of its own in memory, or is about to."""
    return getattr(variable, "_value", None) is not None or variable._initializer is None


def converted(variable: Any, value: Any) -> Any:
    """Return an array that nobody else has as the tensor that a variable has of it."""
    if isinstance(value, np.ndarray) and value.dtype.name == variable._dtype:
        return taken_over(value)
    return variable._convert_to_tensor(value, dtype=variable._dtype)


def read_from(variable: Any, read: Read) -> None:
    """Let a variable without a value give what `read` returns, each time that it is asked."""
    variable._initializer = lambda shape, dtype=None: converted(variable, read())


def reader_of(variable: Any) -> Callable[[], NDArray[Any]]:
    """Return what gives, as an array, the value of a variable that has none in memory."""
    initializer = variable._initializer
    return lambda: np.asarray(as_array(initializer(variable.shape, dtype=variable._dtype)))


def fill(variable: Any, value: Any = None) -> None:
    """Give a variable that has no value one in memory.

    Args:
        variable: The variable.
        value: A tensor; what its initializer gives where there is none.
    """
    initializer = variable._initializer
    if value is None:
        value = converted(variable, initializer(variable.shape, dtype=variable._dtype))
    variable._initializer = None
    variable._initialize(value)
