"""The backend that models run on, found once, and a clear word where a verb does not know it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_nns.engine.configured import SPOKEN, WAY_ON
from keras_nns.errors import BackendError

NAME: str = keras.config.backend()
"""The backend that Keras runs on: "tensorflow", "jax" or "torch"."""

if NAME not in SPOKEN:
    raise BackendError(
        f"keras_nns works with Keras on TensorFlow, JAX and PyTorch. Here Keras runs on {NAME!r}: "
        f"{WAY_ON}"
    )

_PROPER = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
ON_TENSORFLOW = NAME == "tensorflow"


class _WhenAsked:
    """Imports TensorFlow when something of it is asked for: it takes seconds."""

    def __getattr__(self, name: str) -> Any:
        import tensorflow  # noqa: PLC0415

        return getattr(tensorflow, name)


tf: Any = _WhenAsked()
"""TensorFlow, which reads `tf.data`, images and summaries whatever models run on."""


def refuse(what: str, instead: str, *, here: Sequence[str] = ("jax", "torch")) -> None:
    """Refuse a verb on backends that it does not know.

    Args:
        what: The verb, as the user wrote it.
        instead: What to do.
        here: The backends.

    Raises:
        BackendError: Keras runs on one of them.
    """
    if NAME in here:
        known = " and ".join(_PROPER[name] for name in SPOKEN if name not in here)
        raise BackendError(
            f"{what} works where Keras runs on {known}. Here it runs on {_PROPER[NAME]}: {instead}"
        )
