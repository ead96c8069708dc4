"""Summaries for TensorBoard, which TensorFlow writes whatever models run on."""

from __future__ import annotations

from os import PathLike
from typing import Any

from numpy.typing import NDArray

from keras_nns.engine.backend import tf


class SummaryWriter:
    """Writes summaries into a folder that TensorBoard reads.

    Args:
        folder: The folder; made where there is none.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self._writer = tf.summary.create_file_writer(str(folder))

    def histogram(self, name: str, values: NDArray[Any], *, step: int) -> None:
        """Add the distribution of values at a step."""
        with self._writer.as_default(step=step):
            tf.summary.histogram(name, values)

    def image(self, name: str, pixels: NDArray[Any], *, step: int) -> None:
        """Add a picture at a step: 0..255 of `(height, width, channels)`."""
        with self._writer.as_default(step=step):
            tf.summary.image(name, pixels[None])

    def flush(self) -> None:
        """Let TensorBoard see what has been added."""
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
