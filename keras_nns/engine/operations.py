"""Operations that `keras.ops` lacks, or that it takes more passes over memory for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nns.engine.backend import ON_TENSORFLOW

if TYPE_CHECKING or ON_TENSORFLOW:
    from keras_nns.engine.tensorflow.operations import (
        columns_product,
        gather,
        gram,
        squared_difference,
        total,
    )
else:
    from keras_nns.engine.blas import gram
    from keras_nns.engine.by_keras import (
        columns_product,
        gather,
        squared_difference,
        total,
    )

__all__ = ["columns_product", "gather", "gram", "squared_difference", "total"]
