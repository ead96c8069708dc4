"""Keep the backend's start-up noise off the user's terminal, and keep it for when it fails."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

from keras_nns.engine.configured import configured


def start_backend(named: str | None = None) -> None:
    """Import Keras and the backend that it runs on without a word, once.

    Whatever they wrote is shown when that fails.

    Args:
        named: The backend; the one that is configured by default.

    Raises:
        ImportError: They are not installed, or broken.
        BackendError: The backend that is configured is not installed.
    """
    if named is not None and "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = named
    backend = configured()
    if backend in sys.modules and "keras" in sys.modules:
        return
    # Read by TensorFlow's native code when it is loaded: errors only reach Python.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _stderr_kept():
        import keras

        # Looking for devices is noisy too, and happens at the first operation.
        keras.ops.zeros(())
    for logger in ("tensorflow", "absl", "jax"):
        logging.getLogger(logger).setLevel(logging.ERROR)


@contextlib.contextmanager
def _stderr_kept() -> Iterator[None]:
    """Move standard error, of native code too, to a file; show the file if the block fails."""
    _flush()
    try:
        saved = os.dup(2)
    except OSError:  # The process runs without standard error: nothing to protect.
        yield
        return
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        except Exception:
            _flush()
            sink.seek(0)
            os.write(saved, sink.read())
            raise
        finally:
            _flush()
            os.dup2(saved, 2)
            os.close(saved)


def _flush() -> None:
    """Flush standard error where there is one: a process without a terminal may have none."""
    if sys.stderr is not None:
        with contextlib.suppress(ValueError, OSError):
            sys.stderr.flush()
