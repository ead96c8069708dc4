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
        self._allow = allow_overlap
        self._known: list[tuple[str, Seen]] = []
        for model in models:
            self.know(f"{model.name!r} was observed, repaired or trained with", seen_by(model))

    def know(self, what: str, seen: Seen | None) -> None:
        """Look for further samples too.

        Args:
            what: What they are, as "about half of the evaluation data are samples that …".
            seen: The samples; None for none.
        """
        if seen is not None and not self._allow:
            self._known.append((what, seen))

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches on.

        Raises:
            DataError: All have passed, and more of them than by chance are known.
        """
        known = list(self._known)
        found, met = (np.zeros(len(known), dtype=np.int64) for _ in range(2))
        for batch in batches:
            if known:
                hashes = sample_hashes(batch.inputs)
                for i, (_, seen) in enumerate(known):
                    within = hashes[hashes <= np.uint64(seen.limit)]
                    found[i] += len(within)
                    met[i] += int(np.isin(within, seen.hashes).sum())
            yield batch
        for (what, seen), looked, matches in zip(known, found.tolist(), met.tolist(), strict=True):
            if matches < _FEWEST or _by_chance(seen, looked, matches) > _CHANCE:
                continue
            share = min(matches / looked / seen.coverage, 1.0)
            raise DataError(
                f"About {max(share, 0.01):.0%} of the evaluation data are samples that {what} "
                f"({matches:,} were recognised), so its figures would flatter. Judge it on samples "
                "held out from the start: nns.split(x, y) deals out parts for observing, "
                "calibrating and testing. Pass allow_overlap=True if you mean it."
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
