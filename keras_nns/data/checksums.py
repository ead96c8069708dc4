"""Checksums of batches: whether data that are read again are the same. numpy only.

Multilinear hashing of 64-bit words modulo 2⁶⁴ (Lemire and Kaser 2014, "Strongly universal string
hashing is fast"). The multipliers are odd, so that a change of one word always shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.data.sketch import Hashes, mixed, multipliers

_BLOCK = 4096


def checksum(batch: Batch) -> int:
    """Return a number below 2⁶⁴ that tells a batch from others.

    Inputs, labels, weights and targets count as they are, with their places, shapes and dtypes.

    Args:
        batch: Some samples.
    """
    return of_arrays([*tree.flatten(batch.inputs), batch.labels, batch.weights, batch.targets])


def of_arrays(parts: Iterable[Any]) -> int:
    """Return a number below 2⁶⁴ that tells arrays, or None in their place, from others."""
    found = [0 if part is None else _of_array(np.asarray(part)) for part in parts]
    return _of_words(np.array(found, dtype=np.uint64))


def _of_array(array: NDArray[Any]) -> int:
    about = f"{array.shape} {array.dtype}".encode()
    if array.dtype.kind in "OUST":
        about, array = about + repr(array.tolist()).encode(), np.empty(0, np.uint8)
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    both = [_of_bytes(np.frombuffer(about, np.uint8)), _of_bytes(raw)]
    return _of_words(np.array(both, dtype=np.uint64))


def _of_bytes(raw: NDArray[np.uint8]) -> int:
    whole = len(raw) - len(raw) % 8
    last = np.zeros(8, np.uint8)
    last[: len(raw) - whole] = raw[whole:]
    both = [_of_words(raw[:whole].view(np.uint64)), int(last.view(np.uint64)[0])]
    return _of_words(np.array(both, dtype=np.uint64))


def _of_words(words: Hashes) -> int:
    """Hash words in their order: block by block, and then what that gave."""
    times = multipliers(_BLOCK)
    whole = len(words) - len(words) % _BLOCK
    blocks = words[:whole].reshape(-1, _BLOCK) @ times
    rest = words[whole:]
    found = mixed(np.append(blocks, rest @ times[: len(rest)]))
    return int(found[0]) if len(found) == 1 else _of_words(found)
