"""What the backend raises where it fails while it runs, to be caught by name.

Another backend names its own errors here; a backend that raises Python's own needs none.
"""

from __future__ import annotations

from keras_nns.engine.backend import tf

OperationFailed: type[Exception] = tf.errors.OpError
"""Root of what an operation raises on values that it cannot take. See `reason`."""

InvalidValues: type[Exception] = tf.errors.InvalidArgumentError
"""Values or shapes that do not go together; one of `OperationFailed`."""

EndOfData: type[Exception] = tf.errors.OutOfRangeError
"""The end of a data set inside a compiled step, where an iterator raises `StopIteration`."""


def reason(error: Exception) -> str:
    """Return what went wrong, without where in the backend it did."""
    return str(getattr(error, "message", error))
