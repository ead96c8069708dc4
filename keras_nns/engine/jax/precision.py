"""Numbers of 64 bits, which jax takes for ones of 32 unless it is told otherwise."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax


def wide() -> AbstractContextManager[None]:
    """While in the context, float64 and int64 are what they are, and no other dtype changes."""
    found: AbstractContextManager[None] = jax.enable_x64(True)
    return found
