"""Steps that are run as they come: torch compiles nothing here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from keras import tree

from keras_nns.engine.torch.tensors import as_tensor


class Stepper:
    """Runs a function of batches, and records nothing for gradients.

    Args:
        function: Takes batches, arrays in any structure, whose first axis counts samples.
        uncompiled: How many batches of a kind are run before it is compiled: all are, whatever it
            says.
    """

    def __init__(self, function: Callable[..., Any], *, uncompiled: int = 0) -> None:
        self._function = function

    def __call__(self, *batches: Any) -> Any:
        """Run it; what is no tensor yet becomes one."""
        with torch.no_grad():
            return self._function(*tree.map_structure(as_tensor, batches))
