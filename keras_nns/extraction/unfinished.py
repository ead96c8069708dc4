"""What there is of a network, or of a sweep, when the work on it is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_nns.extraction.networks import Judged, Network
from keras_nns.judgement.compared import Comparison
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.lineage import save_model


class Interrupted(KeyboardInterrupt):
    """Work was cut off, by Ctrl-C or by a signal that says so, when something had been found.

    Args:
        found: What.

    Attributes:
        found: What had been found: an `Unfinished` network, or a `Sweep` of fewer sizes.
    """

    def __init__(self, found: Any) -> None:
        super().__init__(f"Cut off. What had been found by then is its .found: {found}")
        self.found = found


@dataclass(frozen=True, eq=False)
class Unfinished:
    """A network whose making was cut off.

    Attributes:
        model: The network as it was by then, cut exactly as its plan says.
        plan: Which of the parent's units it holds.
        missing: What had still to be done.
        comparison: It beside its parent, where it had been judged.
    """

    model: keras.Model
    plan: Plan
    missing: tuple[str, ...]
    comparison: Comparison | None = None

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the network as `.keras`.

        Args:
            path: Where to.
            overwrite: Whether an existing file may be replaced.

        Raises:
            FileError: It exists already, or cannot be written.
        """
        save_model(self.model, path, overwrite=overwrite)
        return Path(path)

    def __str__(self) -> str:
        units = f"{sum(map(len, self.plan.kept.values()))} of {sum(self.plan.sizes.values())} units"
        return f"a network of {units}, without {', '.join(self.missing)}."


class Keeper:
    """Keeps the best of the networks that are being made, in case that the work is cut off.

    Args:
        limit: What a network may lose, where networks are judged by that; None where the last that
            is made is the one.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._best: Judged | None = None
        self._last: Unfinished | None = None

    def made(self, network: Network, *missing: str) -> None:
        """Note a network that has come so far.

        Args:
            network: The network.
            missing: What is still to be done with it.
        """
        self._last = Unfinished(network.model, network.plan, missing)

    def judged(self, judged: Judged) -> None:
        """Note a network that was judged."""
        before, limit = self._best, self._limit
        if before is None or limit is None or judged.drop <= max(limit, before.drop):
            self._best = judged

    def found(self) -> Unfinished | None:
        """Return the best; None where there is none yet."""
        if self._best is None or (self._limit is None and self._last is not None):
            return self._last
        network, rest = self._best.network, "the rest of the search for a smaller one"
        return Unfinished(network.model, network.plan, (rest,), self._best.comparison)


@contextmanager
def left_behind(found: Callable[[], Any]) -> Iterator[None]:
    """Hand on what had been found where the work inside is cut off.

    Args:
        found: Returns it; None where there is nothing yet.

    Raises:
        Interrupted: The work was cut off, and there is something.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        left = found()
        if left is None:
            raise
        raise Interrupted(left) from stop
