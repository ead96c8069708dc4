"""Images from files, and in another size: by TensorFlow, whatever models run on.

Networks are sensitive to how images are resized, so it is done by the same code everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.engine.backend import tf
from keras_nns.engine.datasets import elements
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


def from_files(
    files: Sequence[str],
    labels: Sequence[int],
    *,
    size: tuple[int, int],
    channels: int,
    batch_size: int,
) -> Iterator[tuple[Any, Any]]:
    """Iterate over images in files, decoded and resized as they are asked for.

    What `keras.utils.image_dataset_from_directory` does with the files that it finds: here they are
    named, also those whose names are not UTF-8.

    Args:
        files: Paths of the images, in the order to give them.
        labels: The label of each.
        size: Height and width to give, bilinear.
        channels: 1, 3 or 4.
        batch_size: Images in a batch.

    Yields:
        Batches of float32 images 0..255 `(batch, *size, channels)` and int32 labels.

    Raises:
        ValueError: One is damaged, or no such image.
    """

    def read(file: Any, label: Any) -> Any:
        image = tf.io.decode_image(
            tf.io.read_file(file), channels=channels, expand_animations=False
        )
        image = tf.image.resize(image, size)
        image.set_shape((*size, channels))
        return image, label

    paths = tf.constant([os.fsencode(file) for file in files], tf.string)
    data = tf.data.Dataset.from_tensor_slices((paths, tf.constant(labels, tf.int32)))
    data = data.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(2)
    try:
        yield from elements(data)
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
