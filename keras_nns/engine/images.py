"""Images from files, and in another size.

Another backend may do both with Pillow. It must then resize as `resize` says, since networks are
sensitive to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_nns.engine.failures import reason

_AT_ONCE = 1024
"""Images that are resized together; more would only need more memory."""


def decode(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a BMP, GIF, JPEG or PNG image, 0..255 of `(height, width, channels)`.

    Of an animation it is the first picture.

    Raises:
        ValueError: It is damaged, or no such image. The message says why.
    """
    try:
        return np.asarray(tf.io.decode_image(data, expand_animations=False))
    except tf.errors.OpError as error:
        raise ValueError(reason(error)) from error


def resize(x: NDArray[Any], size: Sequence[int]) -> NDArray[np.float32]:
    """Return images in another size, bilinear, without antialiasing.

    Args:
        x: Images, `(images, height, width, channels)`.
        size: Height and width to give.

    Returns:
        `(images, *size, channels)`, in the range of values that `x` has, unrounded.
    """
    starts = range(0, len(x), _AT_ONCE)
    return np.concatenate([tf.image.resize(x[i : i + _AT_ONCE], size).numpy() for i in starts])
