"""A model's inputs: which arrays fit them, and in which structure the model takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batch_sizes import Carried
from keras_nns.engine.datasets import Spec
from keras_nns.engine.tensors import is_floating, is_ragged, is_sparse, is_tensor
from keras_nns.errors import DataError, ModelError

Shape = tuple[int | None, ...]

_NUMBERS = ("bool", "int", "uint", "float", "bfloat")
_TEXT = ("str", "Str", "bytes", "object")
"""How the names of dtypes begin."""


class InputReader:
    """Checks inputs against a model's and gives them in the model's own structure.

    Args:
        model: A built functional or Sequential model.

    Attributes:
        names: Name of every input: its key where the model takes a dict, else its layer's name.
        shapes: Shape of every input, with None for a free axis.
        carried: What the model carries from batch to batch.

    Raises:
        ModelError: The model has no symbolic inputs.
    """

    def __init__(self, model: keras.Model) -> None:
        # An unbuilt Sequential and a subclassed model raise AttributeError here.
        tensors = getattr(model, "inputs", None)
        if not tensors:
            raise ModelError(
                f"Model {model.name!r} ({type(model).__name__}) has no known inputs. Build a "
                "Sequential by calling it once or by giving it a keras.Input; write a subclassed "
                "model as a functional one."
            )
        # `Sequential.input` exists only for one that was called as a layer.
        self._structure = (
            tensors[0] if len(tensors) == 1 and not _is_dict_model(model) else model.input
        )
        self._keys = list(self._structure) if isinstance(self._structure, Mapping) else None
        flat = keras.tree.flatten(self._structure)
        self.names = tuple(sorted(self._keys) if self._keys else (t.name for t in flat))
        self.shapes: tuple[Shape, ...] = tuple(tuple(t.shape) for t in flat)
        self.carried = Carried(model)
        self._texts = tuple(keras.backend.standardize_dtype(t.dtype) == "string" for t in flat)

    @property
    def image_shape(self) -> Shape | None:
        """Height, width and channels of the model's one input; None where it takes no image."""
        images = len(self.shapes) == 1 and len(self.shapes[0]) == 4
        return self.shapes[0][1:] if images else None

    def parts(self, x: Any) -> list[Any]:
        """Take inputs apart: one entry for each of the model's inputs, in the model's order.

        Args:
            x: One array; a list or tuple of them; or a dict by input name.

        Raises:
            DataError: There are too few or too many, or their names are not the model's.
        """
        if isinstance(x, Mapping):
            missing = [name for name in self.names if name not in x]
            if missing:
                raise DataError(
                    f"Inputs {missing} are missing. Expected a dict with the keys "
                    f"{list(self.names)}. Received: {list(x)}."
                )
            return [x[name] for name in self.names]
        if not isinstance(x, (list, tuple)) or not all(hasattr(part, "shape") for part in x):
            x = [x]
        elif len(self.names) > 1 and self._keys:
            raise DataError(
                f"The model takes a dict of inputs. Pass one with the keys {list(self.names)}."
            )
        if len(x) != len(self.names):
            hint = ""
            if len(self.names) == 1:
                hint = " A list is read as one array for each input: use np.stack on samples."
            elif len(x) == 1:
                hint = " Pass them as one list or dict: a tuple is read as (inputs, labels)."
            raise DataError(
                f"The model takes {len(self.names)} input(s) {list(self.names)}. "
                f"Received: {len(x)}.{hint}"
            )
        return list(x)

    def fit(self, x: Any) -> list[Any]:
        """Fit the inputs of one batch to the model.

        An array whose last axis of size 1 is missing or too many gets it or loses it, as Keras
        does; everything else must fit.

        Args:
            x: As in `parts`.

        Returns:
            An array or tensor for each of the model's inputs, uncopied where it fits.

        Raises:
            DataError: An input has the wrong shape or dtype, or is missing.
        """
        fitted = [self._fit(part, i) for i, part in enumerate(self.parts(x))]
        self.carried.check(int(fitted[0].shape[0]))
        return fitted

    def join(self, parts: list[Any]) -> Any:
        """Put inputs that were taken apart into the structure of `model.input`.

        A model of one input gets it alone.
        """
        if len(parts) == 1 and not self._keys:
            return parts[0]
        return keras.tree.pack_sequence_as(self._structure, parts)

    def check(self, shown: Any, *, samples: int | None = None, single: bool = False) -> None:
        """Check what a container shows of its inputs before the first batch.

        Args:
            shown: A `Spec` or a whole array for each input, in any structure that `parts` takes.
            samples: How many labels there are beside whole arrays.
            single: Whether the labels beside them show that samples come one at a time.

        Raises:
            DataError: An input does not fit: its number of samples, shape or dtype; or it is
                missing, ragged, sparse, or without a batch axis.
        """
        parts = self.parts(shown)
        if samples is not None:
            sizes = [part.shape[0] if part.shape else 0 for part in parts]
            if set(sizes) != {samples}:
                raise DataError(
                    "Inputs and labels must have as many samples. Received: inputs "
                    f"{dict(zip(self.names, sizes, strict=True))}, {samples} labels."
                )
        for i, part in enumerate(parts):
            self._check_dtype(part, i)
            if part.shape is not None:
                self._check_shape(tuple(part.shape), i, single=single)

    def _fit(self, part: Any, i: int) -> Any:
        if not isinstance(part, np.ndarray) and not is_tensor(part):
            self._refuse_composite(part, i)
            part = self._as_array(part, i)
        self._check_dtype(part, i)
        change = self._check_shape(tuple(part.shape), i)
        if change == 0:
            return part
        return part[..., None] if change > 0 else part[..., 0]

    def _check_dtype(self, part: Any, i: int) -> None:
        self._refuse_composite(part, i)
        # numpy's, the backend's and a spec's own dtype agree in their names.
        dtype = str(getattr(part.dtype, "name", part.dtype)).removeprefix("torch.")
        if not dtype.startswith(_TEXT if self._texts[i] else _NUMBERS):
            raise DataError(
                f"Input {self.names[i]!r} must hold {'strings' if self._texts[i] else 'numbers'}. "
                f"Received: dtype {dtype}. Convert it, for instance with np.stack or "
                f".astype({'str' if self._texts[i] else 'np.float32'})."
            )

    def _check_shape(self, shape: Shape, i: int, *, single: bool = False) -> int:
        change = None if single else adjustment(shape, self.shapes[i])
        if change is None:
            self._refuse_shape(shape, i, single=single)
        return change

    def _as_array(self, part: Any, i: int) -> NDArray[Any]:
        try:
            return np.asarray(part)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"Input {self.names[i]!r} is no array: {error} Samples must have one shape: pad "
                "them, for instance with keras.utils.pad_sequences."
            ) from error

    def _refuse_composite(self, part: Any, i: int) -> None:
        kind = part.kind if isinstance(part, Spec) else None
        if kind == "ragged" or is_ragged(part):
            raise DataError(
                f"Input {self.names[i]!r} is ragged. Pad it with .to_tensor(), where a data set is "
                "ragged by data.map(lambda x, y: (x.to_tensor(), y))."
            )
        if kind == "sparse" or is_sparse(part) or hasattr(part, "toarray"):
            raise DataError(
                f"Input {self.names[i]!r} is sparse. Make it dense with tf.sparse.to_dense or "
                ".toarray()."
            )

    def _refuse_shape(self, shape: Shape, i: int, *, single: bool) -> NoReturn:
        expected, name = self.shapes[i], self.names[i]
        if single or adjustment((None, *shape), expected) is not None:
            raise DataError(
                f"Input {name!r} has the shape {shape}: a single sample without a batch axis. "
                f"Expected {expected}. Call .batch(32) on a dataset, or pass x[None]."
            )
        hint = ""
        if None not in shape[1:] and None not in expected[1:]:
            if math.prod(shape[1:]) == math.prod(expected[1:]):  # type: ignore[arg-type]
                hint = f" The sizes agree: x.reshape({(-1, *expected[1:])}) would fit."
            elif len(shape) == len(expected) == 4 and shape[3] == expected[3]:
                hint = f" Resize the images with keras.ops.image.resize(x, {expected[1:3]})."
        raise DataError(
            f"Input {name!r} has the wrong shape. Expected {expected}. Received: {shape}.{hint}"
        )


def _is_dict_model(model: keras.Model) -> bool:
    return not isinstance(model, keras.Sequential) and isinstance(model.input, Mapping)


def adjustment(shape: Shape, expected: Shape) -> int | None:
    """Say how many axes of size 1 must be added at the end for a shape to fit.

    Keras accepts `(batch, 28, 28)` where a model takes `(batch, 28, 28, 1)`, and the reverse.

    Args:
        shape: Shape of a batch.
        expected: Shape the model takes, None for a free axis.

    Returns:
        0, 1 or -1; None when the shape does not fit.
    """
    if _agree(shape, expected):
        return 0
    if expected and expected[-1] == 1 and _agree((*shape, 1), expected):
        return 1
    if len(shape) > 1 and shape[-1] == 1 and _agree(shape[:-1], expected):
        return -1
    return None


def _agree(shape: Shape, expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        want is None or have is None or have == want
        for have, want in zip(shape[1:], expected[1:], strict=True)
    )


def first_not_finite(part: Any) -> int | None:
    """Return the number of the first sample that holds NaN or infinity, or None.

    Args:
        part: Array or tensor of shape `(samples, …)`.
    """
    if is_tensor(part) and is_floating(part):
        part = np.asarray(part)  # A view: `.numpy()` would copy.
    if not isinstance(part, np.ndarray) or part.dtype.kind not in "fV":
        return None
    # One product with itself is not finite when any value is not, and costs a third of np.isfinite.
    if part.dtype in (np.float32, np.float64) and part.flags.c_contiguous:
        flat = part.reshape(-1)
        with np.errstate(all="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return None
    samples = np.isfinite(part).reshape(len(part), -1).all(axis=1)
    return None if samples.all() else int(np.argmin(samples))
