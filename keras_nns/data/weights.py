"""How much samples count: weights that data bring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import DataError


def checked_weights(weights: Any, samples: int) -> NDArray[np.float64]:
    """Return the weights of a batch's samples, float64 `(samples,)`.

    Raises:
        DataError: They are no weights.
    """
    given = np.asarray(weights)
    if given.dtype.kind not in "biuf" or given.size != samples or given.ndim > 2:
        raise DataError(
            f"sample_weight must be one number for each of the {samples} samples. Received: "
            f"shape {given.shape}, dtype {given.dtype.name}."
        )
    given = given.reshape(-1).astype(np.float64)
    if not np.isfinite(given).all() or (given < 0).any():
        raise DataError(
            "Sample weights must be finite and 0 or more. Received: some from "
            f"{given.min():g} to {given.max():g}."
        )
    return given
