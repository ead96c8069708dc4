"""How long the parts of an extraction take, told while they are done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from keras_nns.progress import Job, Part

_WORK = {"observe": 1.0, "score": 4.0, "export": 1.0, "repair": 10.0, "judge": 1.0}
"""About how long parts take beside each other."""


class Clock:
    """How long each part of the work took, and how often it was done.

    What is timed within another part counts for itself alone.

    Args:
        job: Is told of the parts as they come.
        networks: About how many networks will be made and judged.
        files: About how many files will be made.

    Attributes:
        seconds: By part.
        times: By part.
    """

    def __init__(self, job: Job, *, networks: int = 1, files: int = 0) -> None:
        parts = {
            "observe": Part("observing", _WORK["observe"]),
            "score": Part("scoring units", _WORK["score"]),
            "search": Part("searching"),
            "export": Part("making files", _WORK["export"], files),
            "repair": Part("repairing", _WORK["repair"], networks),
            "judge": Part("judging", _WORK["judge"], networks),
        }
        job.expect(**parts)
        self._job = job
        self.seconds = dict.fromkeys(parts, 0.0)
        self.times = dict.fromkeys(parts, 0)
        self._within = [0.0]

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        self._within.append(0.0)
        try:
            with self._job.part(part):
                yield
        finally:
            whole = time.perf_counter() - start
            self.seconds[part] += whole - self._within.pop()
            self.times[part] += 1
            self._within[-1] += whole
