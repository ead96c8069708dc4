"""Which samples were looked at: a small sketch by which the same ones are known again. numpy only.

A sample's hash is a number below 2⁶⁴. Of all samples that are hashed the sketch keeps the smallest
`SIZE` different numbers (Bar-Yossef et al. 2002, "Counting distinct elements in a data stream"): a
sample of the data that is the same whatever the order, that two sketches can be united in, and
that holds nothing from which an input could be read.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from keras_nns.files.atomic import Json

SIZE = 512
"""How many hashes a sketch keeps."""

_FIRST, _ROWS = 128, 32
_BEGINNING, _EVERY = 16, 4
_VALUES = 65_536
_ALL = 2**64 - 1

_ROUNDED, _ROUNDED_HALF, _FEW = 1e-3, 0.07, 16
"""How far from a whole number, in float32 and in 16 bits, a scaled one may be; few values."""
_PEEK = 16
"""About how many values of a sample are looked at first."""

Hashes = NDArray[np.uint64]


class _Batch(Protocol):
    @property
    def inputs(self) -> Any: ...

    @property
    def size(self) -> int: ...


_B = TypeVar("_B", bound=_Batch)


@dataclass(frozen=True, eq=False)
class Seen:
    """A sketch of the samples that something was made from.

    Attributes:
        hashes: The smallest hashes, sorted, at most `SIZE`.
        counts: How many samples had each.
        limit: Every sample that was hashed, to this number or a smaller one, is in the sketch.
        hashed: How many samples were hashed.
        samples: How many samples there were.
    """

    hashes: Hashes
    counts: NDArray[np.int64]
    limit: int
    hashed: int
    samples: int

    @property
    def coverage(self) -> float:
        """Share of the samples that were hashed."""
        return self.hashed / self.samples if self.samples else 0.0

    def __or__(self, other: Seen) -> Seen:
        """Unite two sketches; a sketch united with itself is itself."""
        limit = min(self.limit, other.limit)
        hashes = np.concatenate([self.hashes, other.hashes])
        counts = np.concatenate([self.counts, other.counts])
        return _smallest(
            hashes,
            counts,
            limit,
            hashed=max(self.hashed, other.hashed),
            samples=max(self.samples, other.samples),
        )

    def to_json(self) -> Json:
        """Return the sketch as plain data."""
        often = np.flatnonzero(self.counts > 1)
        return {
            "hashes": base64.b64encode(self.hashes.astype("<u8").tobytes()).decode(),
            "counts": [[int(i), int(self.counts[i])] for i in often],
            "limit": str(self.limit),
            "hashed": self.hashed,
            "samples": self.samples,
        }

    @classmethod
    def from_json(cls, data: Json) -> Seen:
        """Build a sketch from what `to_json` gave.

        Raises:
            ValueError, KeyError, TypeError, IndexError: It is no such data.
        """
        raw = base64.b64decode(data["hashes"], validate=True)
        hashes = np.frombuffer(raw, dtype="<u8").astype(np.uint64)
        counts = np.ones(len(hashes), dtype=np.int64)
        for place, count in data["counts"]:
            counts[place] = count
        return cls(hashes, counts, int(data["limit"]), int(data["hashed"]), int(data["samples"]))


def unite(one: Seen | None, other: Seen | None) -> Seen | None:
    """Unite two sketches where there are two."""
    if one is None or other is None:
        return other if one is None else one
    return one if one is other else one | other


class Sketcher:
    """Makes a sketch of batches as they pass.

    128 samples of the first batch are hashed, 32 of each of the next fifteen, and then 32 of every
    fourth: so a pass costs a few hundredths more at most, however small the samples and the model.

    Args:
        everything: Hash every sample.

    Attributes:
        batches: How many have passed.
    """

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything
        self.batches = self._hashed = self._samples = 0
        self._newest = (0, 0)
        self._limit = _ALL
        self._parts: list[Hashes] = []
        self._held = 0
        self._found = Seen(np.empty(0, np.uint64), np.empty(0, np.int64), _ALL, 0, 0)

    def watch(self, batches: Iterable[_B]) -> Iterator[_B]:
        """Pass batches on, and hash some of their samples."""
        for batch in batches:
            self.add(batch.inputs, batch.size)
            yield batch

    def add(self, inputs: Any, size: int) -> None:
        """Hash some samples of one batch."""
        if self._held > 4 * SIZE:
            self._limit = self.seen().limit
        rows = size
        if not self._everything:
            spared = self.batches >= _BEGINNING and self.batches % _EVERY
            rows = 0 if spared else min(size, _ROWS if self.batches else _FIRST)
        self.batches += 1
        self._samples += size
        self._hashed += rows
        self._newest = (rows, size)
        if not rows:
            return
        hashes = sample_hashes(inputs, rows)
        self._parts.append(hashes[hashes <= np.uint64(self._limit)])
        self._held += len(self._parts[-1])

    def take_back(self) -> None:
        """Forget the batch that was added last, directly after it was."""
        rows, size = self._newest
        self.batches -= 1
        self._hashed -= rows
        self._samples -= size
        if rows:
            self._held -= len(self._parts.pop())

    def state(self) -> Json:
        """Return all that is needed to go on later, as plain data."""
        return {"batches": self.batches, "seen": self.seen().to_json()}

    def restore(self, state: Json) -> None:
        """Go on from what `state` gave.

        Raises:
            ValueError, KeyError, TypeError, IndexError: It is no such data.
        """
        self.batches, self._found = int(state["batches"]), Seen.from_json(state["seen"])
        self._hashed, self._samples = self._found.hashed, self._found.samples
        self._limit = self._found.limit

    def seen(self) -> Seen:
        """Return the sketch of what has passed by now."""
        new = np.concatenate([np.empty(0, np.uint64), *self._parts])
        hashes = np.concatenate([self._found.hashes, new])
        counts = np.concatenate([self._found.counts, np.ones(len(new), np.int64)])
        self._parts, self._held = [], 0
        # The same sample twice in one pass counts as two.
        different, place = np.unique(hashes, return_inverse=True)
        summed = np.bincount(place, weights=counts, minlength=len(different)).astype(np.int64)
        self._found = _smallest(
            different, summed, self._limit, hashed=self._hashed, samples=self._samples
        )
        return self._found


def sample_hashes(inputs: Any, rows: int | None = None) -> Hashes:
    """Hash each sample of a batch.

    Multilinear hashing of 32-bit words modulo 2⁶⁴ (Lemire and Kaser 2014, "Strongly universal
    string hashing is fast"), with fixed multipliers. Numbers are hashed as float32, as a model
    reads them, and pictures as the whole numbers that they were before they were scaled (see
    `_unscaled`); text as `str`, however it is stored. Other numbers that were rounded to 16 bits
    since have other hashes. Of a sample with more than 65,536 values, that many evenly spaced ones
    are hashed at most.

    Args:
        inputs: Array or tensor `(samples, …)`, or a list, tuple or dict of them.
        rows: How many samples, from the first; None for all.

    Returns:
        `(samples,)`.
    """
    found: Hashes | None = None
    for part in _parts(inputs):
        array = np.asarray(part if rows is None else part[:rows])
        if array.dtype.kind in "OUST":
            hashes = np.array([_of_text(row) for row in array], dtype=np.uint64)
        else:
            flat = array.reshape(len(array), math.prod(array.shape[1:]))
            flat = flat[:, :: -(-flat.shape[1] // _VALUES) or 1]
            half = array.dtype.itemsize == 2 and array.dtype.kind not in "iu"
            values = np.ascontiguousarray(flat, dtype=np.float32)
            values = _unscaled(values, half=array.dtype if half else None)
            # Zero added, so that -0 is 0.
            words = (values + np.float32(0)).view(np.uint32)
            hashes = words.astype(np.uint64) @ multipliers(words.shape[1])
        found = mixed(hashes if found is None else hashes + found * np.uint64(0x9E3779B97F4A7C15))
    return np.empty(0, np.uint64) if found is None else found


def _parts(inputs: Any) -> list[Any]:
    if isinstance(inputs, Mapping):
        inputs = [inputs[key] for key in sorted(inputs)]
    if isinstance(inputs, list | tuple):
        return [part for one in inputs for part in _parts(one)]
    return [inputs]


def _of_text(row: Any) -> int:
    texts = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in np.ravel(row)]
    digest = hashlib.blake2b(repr([str(text) for text in texts]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _unscaled(values: NDArray[np.float32], *, half: np.dtype[Any] | None) -> NDArray[np.float32]:
    """Give samples that were scaled from a picture's whole numbers these numbers back.

    A sample whose values are all of k / 255 with whole k, of k / 127.5 - 1, or of k / 16 (the
    digits of scikit-learn) holds the picture of the values k: whoever is shown it has been shown
    the other. What was scaled otherwise, by the mean and deviation of a data set, say, does not
    tell, and stays as it is.

    Args:
        values: `(samples, values)`.
        half: The type of 16 bits that they were rounded to; None for none.
    """
    small = np.flatnonzero((np.abs(values) <= 1 + _ROUNDED).all(axis=1))
    if half is not None and values.shape[1] < _FEW:
        return values  # A few numbers lie near whole ones by chance.
    few = np.arange(0, values.shape[1], max(1, values.shape[1] // _PEEK))
    given = values
    for span, below in ((255.0, 0.0), (127.5, 1.0), (16.0, 0.0)):
        # A few values tell of most samples that they have no such form.
        like = small[_whole(given[small[:, None], few], span, below, half)[1]]
        if not len(like):
            continue
        whole, found = _whole(given[like], span, below, half)
        if span == 255.0:
            # k / 127.5 - 1 of a bright picture has the form of an odd number / 255.
            bright = found & (whole % 2 == 1).all(axis=1)
            whole[bright] = (whole[bright] + 255) / 2
        values = values.copy() if values is given else values
        values[like[found]] = whole[found]
        small = np.setdiff1d(small, like[found], assume_unique=True)
    return values


def _whole(
    values: NDArray[np.float32], span: float, below: float, half: np.dtype[Any] | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the nearest whole numbers k to values k / span - below, and whether all are that.

    Args:
        values: `(samples, values)`.
        span: What whole numbers were divided by.
        below: What was subtracted then.
        half: As in `_unscaled`.
    """
    scaled = (values + np.float32(below)) * np.float32(span)
    whole = np.rint(scaled)
    if half is not None and half != np.float16:
        # bfloat16: whole numbers lie half a step off.
        again = (whole / np.float32(span) - np.float32(below)).astype(half)
        close = again.astype(np.float32) == values
    else:
        close = np.abs(scaled - whole) <= (_ROUNDED if half is None else _ROUNDED_HALF)
    return whole, close.all(axis=1) & (whole >= 0).all(axis=1)


@lru_cache(maxsize=8)
def multipliers(count: int) -> Hashes:
    """Return the odd numbers that words are multiplied by, `(count,)`, always the same."""
    drawn = np.random.Generator(np.random.PCG64(20_240_229)).integers(
        0, _ALL, size=count, dtype=np.uint64, endpoint=True
    )
    return drawn | np.uint64(1)


def mixed(hashes: Hashes) -> Hashes:
    """Spread what differs over all bits (the last steps of Steele et al.'s SplitMix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(hashes ^ (hashes >> np.uint64(31)), dtype=np.uint64)


def _smallest(
    hashes: Hashes, counts: NDArray[np.int64], limit: int, *, hashed: int, samples: int
) -> Seen:
    """Keep the smallest hashes up to a limit; of one that is there twice the larger count."""
    below = hashes <= np.uint64(limit)
    hashes, counts = hashes[below], counts[below]
    order = np.lexsort((-counts, hashes))
    hashes, first = np.unique(hashes[order], return_index=True)
    counts = counts[order][first]
    if len(hashes) > SIZE:
        hashes, counts = hashes[:SIZE], counts[:SIZE]
        limit = int(hashes[-1])
    return Seen(hashes, counts, limit, hashed, samples)
