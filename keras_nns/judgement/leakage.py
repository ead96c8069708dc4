"""Tell whether a model is judged on samples that it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from scipy.stats import betabinom

from keras_nns.data.batches import Batch
from keras_nns.data.sketch import Seen, sample_hashes
from keras_nns.errors import DataError
from keras_nns.surgery.lineage import seen_by

_CHANCE = 0.01
_FEWEST = 2


class Guard:
    """Looks at the samples of an evaluation as they pass, for those that models were made from.

    Args:
        models: What is judged.
        allow_overlap: Look at nothing.
    """

    def __init__(self, models: Iterable[keras.Model], *, allow_overlap: bool = False) -> None:
        self._known = [
            (model.name, seen)
            for model in models
            if not allow_overlap and (seen := seen_by(model)) is not None
        ]
        self._looked = np.zeros(len(self._known), dtype=np.int64)
        self._matches = np.zeros(len(self._known), dtype=np.int64)

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches on.

        Raises:
            DataError: All have passed, and more of them than by chance are known.
        """
        for batch in batches:
            if self._known:
                hashes = sample_hashes(batch.inputs)
                for i, (_, seen) in enumerate(self._known):
                    within = hashes[hashes <= np.uint64(seen.limit)]
                    self._looked[i] += len(within)
                    self._matches[i] += int(np.isin(within, seen.hashes).sum())
            yield batch
        self._check()

    def _check(self) -> None:
        for (name, seen), looked, matches in zip(
            self._known, self._looked.tolist(), self._matches.tolist(), strict=True
        ):
            if matches < _FEWEST or _by_chance(seen, looked, matches) > _CHANCE:
                continue
            share = min(matches / looked / seen.coverage, 1.0)
            raise DataError(
                f"About {max(share, 0.01):.0%} of the evaluation data are samples that {name!r} "
                f"was observed, repaired or trained with ({matches:,} were recognised), so its "
                "figures would flatter it. Judge it on samples held out from the start: "
                "nns.split(x, y) deals out parts for observing, calibrating and testing. Pass "
                "allow_overlap=True if you mean it."
            )


def _by_chance(seen: Seen, looked: int, matches: int) -> float:
    """Return how likely an honest evaluation would know so many samples again, or more.

    Where data repeats itself, fresh samples are known too. How often follows from the repetitions
    within what was seen: the chance that the next sample is new is the share of samples seen once
    (Good 1953, "The population frequencies of species"). It is itself estimated from few samples,
    hence a beta-binomial.
    """
    singles = int((seen.counts == 1).sum())
    repeated = int(seen.counts.sum()) - singles
    tail: Any = betabinom.sf(matches - 1, looked, repeated + 0.5, singles + 0.5)
    return float(tail)
