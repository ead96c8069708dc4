"""Deal batches into shards that several processes read, each its own, without a word between them.

What starts anywhere at once (arrays, files, folders) is dealt into samples that follow one another,
a `PyDataset` into whole batches; each process reads its own alone. What can only be gone through
(a `tf.data.Dataset`, an iterator) is read whole by each, which keeps every n-th sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from keras import tree

from keras_nns.data.batches import Batch, Batches
from keras_nns.data.checksums import of_arrays
from keras_nns.data.shards import Shard


class Dealer:
    """One shard of data.

    Args:
        whole: The data.
        shard: Which.

    Attributes:
        batches: The samples of the shard.

    Raises:
        DataError: The shard has no sample; behind the pass, where the size is not known before.
    """

    def __init__(self, whole: Batches, shard: Shard) -> None:
        self._whole = whole
        self._shard = shard
        self._passed = 0
        self.batches = whole.of(self._every_nth) if whole.marks is None else whole.shard(shard)

    @property
    def known(self) -> bool:
        """Whether `data` can be asked for before the pass."""
        return self._whole.marks is not None

    def data(self) -> str:
        """Return what tells the data, and their order, from others.

        Of what can only be gone through it is to be asked behind the pass.
        """
        marks = self._whole.marks
        if marks is not None and not self._passed:
            self._passed = of_arrays(marks())
        return f"{self._passed:016x}"

    def _every_nth(self) -> Iterator[Batch]:
        """Give the shard's samples in batches as large as the first of the data."""
        number, count = self._shard.number - 1, self._shard.count
        self._passed = samples = 0
        held: list[Batch] = []
        size = given = 0
        for batch in self._whole:
            size = size or batch.size
            # All labels and some inputs: a set that is shuffled anew shows.
            ends = [np.asarray(part[:1]) for part in tree.flatten(batch.inputs)]
            self._passed = of_arrays([np.array(self._passed, np.uint64), batch.labels, *ends])
            chosen = np.arange((number - samples) % count, batch.size, count)
            samples += batch.size
            if len(chosen):
                given += len(chosen)
                held.append(batch.only(chosen))
            if sum(one.size for one in held) >= size:
                yield _joined(held)
                held = []
        if held:
            yield _joined(held)
        if not given:
            raise self._shard.empty(samples, "samples")


def _joined(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    weighted = any(b.weights is not None for b in batches)
    targets = [b.targets for b in batches if b.targets is not None]
    return Batch(
        tree.map_structure(lambda *parts: np.concatenate(parts), *(b.inputs for b in batches)),
        np.concatenate([b.labels for b in batches]),
        np.concatenate([b.each for b in batches]) if weighted else None,
        np.concatenate(targets) if targets else None,
    )
