"""What the backend raises where it fails while it runs, to be caught by name."""

from __future__ import annotations

from keras_nns.engine.backend import ON_TENSORFLOW, tf

InvalidValues: type[Exception] = tf.errors.InvalidArgumentError if ON_TENSORFLOW else RuntimeError
"""Values or shapes that do not go together, where it is no `ValueError` or `TypeError`."""

EndOfData: type[Exception] = tf.errors.OutOfRangeError if ON_TENSORFLOW else StopIteration
"""The end of a data set inside a compiled step, where an iterator raises `StopIteration`."""


def reason(error: Exception) -> str:
    """Return what went wrong, without where in the backend it did."""
    return str(getattr(error, "message", error))
