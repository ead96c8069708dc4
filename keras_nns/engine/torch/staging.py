"""Batches that torch reads where they lie."""

from __future__ import annotations

from typing import Any

from keras import tree

from keras_nns.engine.torch.tensors import as_tensor


class Staging:
    """The memory of arrays themselves."""

    def tensors(self, arrays: Any) -> Any:
        """Return a structure of arrays as tensors in their memory."""
        return tree.map_structure(as_tensor, arrays)
