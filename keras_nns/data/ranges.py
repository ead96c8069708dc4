"""A range of a stream that starts anywhere at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras

from keras_nns.data.shards import Shard
from keras_nns.data.streams import Stream


def within(stream: Stream, shard: Shard) -> Stream:
    """Return a shard of a stream that starts anywhere at once: samples that follow one another.

    Where the stream does not know how many samples a batch has, it is whole batches.

    Raises:
        DataError: There is nothing in it.
    """
    per_batch, size = stream.per_batch, stream.size
    if size is None or per_batch is None:
        assert stream.batches is not None
        first, last = shard.bounds(stream.batches, "batches")
        start, end, per_batch = first, last, 1
    else:
        start, end = shard.bounds(size, "samples")
        first, last = start // per_batch, -(-end // per_batch)

    def open_(left_out: int) -> Iterator[tuple[Any, ...]]:
        begin = first + left_out
        some = itertools.islice(stream.open(begin), max(last - begin, 0))
        for number, batch in enumerate(some, begin):
            here = slice(max(start - number * per_batch, 0), end - number * per_batch)
            if size is None or (here.start == 0 and here.stop >= per_batch):
                yield batch
            else:
                yield keras.tree.map_structure(lambda part, here=here: part[here], batch)

    # The first batch may be a part of one, so that batches no longer have one size.
    return replace(
        stream,
        open=open_,
        size=None if size is None else end - start,
        batches=last - first,
        per_batch=None,
    )
