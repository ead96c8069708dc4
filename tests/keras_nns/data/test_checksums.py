"""Checksums of batches: what differs, differs in them; held against hashlib over the same bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from keras_nns.data.batches import Batch
from keras_nns.data.checksums import checksum

RANDOM = np.random.default_rng(0)


def batch(x, **more):
    x = np.asarray(x)
    return Batch(x, **{"labels": np.arange(len(x)), **more})


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (5, 13, 11, 3), (3, 8200), (2, 0)])
def test_equal_batches_have_equal_checksums_and_changed_ones_have_not(shape, dtype):
    x = RANDOM.integers(0, 255, shape).astype(dtype)
    known = checksum(batch(x))
    assert known == checksum(batch(x.copy())) == checksum(batch(np.asfortranarray(x)))
    raw = x.copy().reshape(-1).view(np.uint8)
    for place in RANDOM.integers(0, raw.size, 20) if raw.size else ():
        changed = raw.copy()
        changed[place] ^= np.uint8(1 << RANDOM.integers(8))
        assert checksum(batch(changed.view(dtype).reshape(shape))) != known


def test_places_count_as_they_do_for_a_digest_of_the_bytes():
    """Of many rearranged arrays those are equal that hashlib says are."""
    x = RANDOM.integers(0, 3, (64, 200)).astype("float32")
    found, wanted = {}, {}
    for number in range(60):
        one, other = RANDOM.integers(0, len(x), 2)
        moved = x.copy()
        moved[[one, other]] = moved[[other, one]]
        if number % 2:
            moved[:, [one, other]] = moved[:, [other, one]]
        found.setdefault(checksum(batch(moved)), []).append(number)
        wanted.setdefault(hashlib.sha256(moved.tobytes()).digest(), []).append(number)
    assert sorted(found.values()) == sorted(wanted.values()) and len(wanted) > 40


def test_every_part_of_a_batch_counts():
    x = RANDOM.normal(size=(6, 4)).astype("float32")
    zeros = np.zeros(6)
    all_different = [
        batch(x),
        batch(x.reshape(6, 2, 2)),
        batch(x.astype("float64")),
        batch(x, labels=zeros),
        batch(x, weights=zeros),
        batch(x, targets=zeros),
        batch(x, weights=zeros, targets=zeros + 1),
        Batch([x, x[:, :1]], np.arange(6)),
        Batch([x[:, :1], x], np.arange(6)),
        Batch({"a": x[:, :2], "b": x[:, 2:]}, np.arange(6)),
        batch(np.array(["ab", "c", "", "d", "e", "f"])),
        batch(np.array(["a", "bc", "", "d", "e", "f"])),
    ]
    assert len({checksum(one) for one in all_different}) == len(all_different)
