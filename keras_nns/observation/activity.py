"""Activity: what every unit does for every label, as sums that can be added. Pure data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.labels import label_number
from keras_nns.data.shards import Shards, united
from keras_nns.data.sketch import Seen, unite
from keras_nns.errors import DataError, SelectionError
from keras_nns.files import atomic
from keras_nns.observation.activity_files import (
    FORMAT,
    arrays_of,
    blaming,
    check_shapes,
    check_version,
    fields_of,
    header_of,
)
from keras_nns.observation.layer_sums import Float, LayerActivity, add
from keras_nns.observation.strongest import By, Strongest, strongest
from keras_nns.plans.units import Fingerprint, Layout

Statistic = Literal["fired", "mean", "variance", "maximum", "active", "mean_square"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
DEFAULT_STATISTICS: tuple[Statistic, ...] = ("fired", "mean")


@dataclass(frozen=True, eq=False, repr=False)
class Activity:
    """Streamed statistics for every (label, unit) of every watched layer of a model.

    An activity is a sum: `a + b` over two parts of the data equals one pass over the whole. Its
    size is labels × units, whatever the number of samples.

    Attributes:
        fingerprint: The model that was watched.
        layout: Its unit groups.
        label_names: Name of every label.
        samples: Samples seen of every label, int64 of shape `(labels,)`. A sample with several
            labels counts for each.
        layers: Sums by layer path, in the order of the graph.
        statistics: What was watched.
        threshold: A unit fired where its value is above this.
        seen: A sketch of the samples, by which an evaluation on the same ones is refused; None
            where it is not known. Not compared.
        unwatched: Groups of units that could go and that no layer shows, with the reason. Not
            compared.
        shards: Which shards of the data it is of (`observe(…, shard=(2, 8))`); None for the whole.
            Not compared.

    Example:
        >>> activity = nns.observe(model, (x, y))
        >>> activity
        <Activity of 48 units in 2 layers for 10 labels over 1200 samples>
        >>> activity.mean("dense").shape  # labels, units
        (10, 32)
    """

    fingerprint: Fingerprint
    layout: Layout
    label_names: tuple[str, ...]
    samples: NDArray[np.int64]
    layers: Mapping[str, LayerActivity]
    statistics: tuple[str, ...] = DEFAULT_STATISTICS
    threshold: float = 0.0
    seen: Seen | None = None
    unwatched: Mapping[str, str] = field(default_factory=dict)
    shards: Shards | None = None

    # What can be read --------------------------------------------------------------------------

    def mean(self, layer: str) -> Float:
        """Return the mean value of each unit for each label, `(labels, units)`.

        NaN for labels without samples.

        Raises:
            SelectionError: The layer or the statistic was not watched.
        """
        return self._per_sample(layer, "total", "mean")

    def magnitude(self, layer: str) -> Float:
        """Return the mean absolute value of each unit for each label, `(labels, units)`.

        Equal to `mean` for layers that are never negative (ReLU). NaN for labels without samples.

        Raises:
            SelectionError: The layer or the statistic was not watched.
        """
        return self._per_sample(layer, "magnitude", "mean")

    def firing_rate(self, layer: str) -> Float:
        """Return the share of samples on which each unit fired, `(labels, units)`, in [0, 1].

        Raises:
            SelectionError: The layer or the statistic was not watched.
        """
        return self._per_sample(layer, "fired", "fired")

    def active_share(self, layer: str) -> Float:
        """Return the share of samples and positions at which each unit was above the threshold.

        For a layer without positions this is `firing_rate`; a channel, which fires for a sample
        where any of its pixels does, has few pixels that do.

        Returns:
            `(labels, units)`, in [0, 1]; NaN for labels without samples.

        Raises:
            SelectionError: The layer or the statistic was not watched.
        """
        return self._per_sample(layer, "active", "active")

    def mean_square(self, layer: str) -> Float:
        """Return the mean over samples and positions of the square of each unit's output.

        Returns:
            `(labels, units)`; NaN for labels without samples.

        Raises:
            SelectionError: The layer or the statistic was not watched.
        """
        return self._per_sample(layer, "square", "mean_square")

    def variance(self, layer: str) -> Float:
        """Return the variance of each unit's value within each label, `(labels, units)`.

        The population variance (divided by the number of samples).

        Raises:
            SelectionError: The layer or the statistic was not watched.
        """
        return self._per_sample(layer, "deviation", "variance")

    def maximum(self, layer: str) -> Float:
        """Return each unit's largest absolute value for each label, `(labels, units)`.

        Raises:
            SelectionError: The layer or the statistic was not watched.
        """
        found = self._array(layer, "maximum", "maximum").copy()
        found[self.samples == 0] = np.nan
        return found

    def label(self, label: int | str) -> int:
        """Return the number of a label given by number or name.

        Raises:
            SelectionError: There is no such label.
        """
        return label_number(label, self.label_names)

    def top(
        self,
        label: int | str,
        k: int = 10,
        *,
        layers: str | Sequence[str] | None = None,
        by: By = "firing",
    ) -> Strongest:
        """Return the units that carry a label: that answer to it and not to the others.

        Args:
            label: The label's number or name.
            k: How many units.
            layers: Path of a layer, or several; None looks at all that were watched.
            by: `"firing"`: on how much larger a share of the label's samples they fire than of the
                other labels' (Youden's index, of the unit as a detector). `"mean"`: how much larger
                their mean absolute value is, in shares of the layer's largest.

        Returns:
            The units, the strongest first; printing it gives a table.

        Raises:
            SelectionError: There is no such label, layer or way; the label or all others have no
                samples; or what is compared was not watched.

        Example:
            >>> print(activity.top(3, 2))  # the two units that carry a 3
             layer   unit       3   others
             ─────────────────────────────
             ...
            Units that carry 3. Share of samples they fire on; others on average over labels.
        """
        if by not in get_args(By):
            raise SelectionError(f"Expected `by` to be one of {get_args(By)}. Received: {by!r}.")
        read = self.firing_rate if by == "firing" else self.magnitude
        chosen = [layers] if isinstance(layers, str) else list(layers or self.layers)
        number = self.label(label)
        return strongest(
            {layer: read(layer) for layer in chosen},
            number,
            self.label_names[number],
            self.samples > 0,
            k=k,
            by=by,
        )

    def _array(self, layer: str, field: str, statistic: str) -> NDArray[Any]:
        if layer not in self.layers:
            raise SelectionError(f"Layer {layer!r} was not watched. Watched: {list(self.layers)}.")
        array = getattr(self.layers[layer], field)
        if array is None or statistic not in self.statistics:
            raise SelectionError(
                f"The {statistic} was not watched. Observe with statistics="
                f"{(*self.statistics, statistic)}."
            )
        return np.asarray(array)

    def _per_sample(self, layer: str, field: str, statistic: str) -> Float:
        array = self._array(layer, field, statistic)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(array / self.samples[:, None], dtype=np.float64)

    # Algebra -----------------------------------------------------------------------------------

    def __add__(self, other: Activity) -> Activity:
        """Add what was seen of the same model on other data.

        Shards add up to the whole in any order; `keras_nns.add` adds many, also from files.

        Raises:
            DataError: The two are of different models, labels or settings, hold the same shard, or
                are shards of different data.
        """
        if not isinstance(other, Activity):
            return NotImplemented
        for name in ("fingerprint", "label_names", "statistics", "threshold"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise DataError(
                    f"Only activity of the same model with the same settings adds up. They differ "
                    f"in {name}: {mine!r} and {theirs!r}."
                )
        if set(self.layers) != set(other.layers):
            raise DataError(
                f"Only activity of the same layers adds up. Received: {list(self.layers)} and "
                f"{list(other.layers)}."
            )
        shards = united(self.shards, other.shards)
        return replace(
            self,
            shards=shards,
            samples=self.samples + other.samples,
            layers={
                name: add(mine, other.layers[name], self.samples, other.samples)
                for name, mine in self.layers.items()
            },
            seen=unite(self.seen, other.seen),
        )

    def __eq__(self, other: object) -> bool:
        """Return whether the two hold exactly the same numbers."""
        if not isinstance(other, Activity):
            return NotImplemented
        same = all(
            getattr(self, name) == getattr(other, name)
            for name in ("fingerprint", "layout", "label_names", "statistics", "threshold")
        )
        if not same or list(self.layers) != list(other.layers):
            return False
        if not np.array_equal(self.samples, other.samples):
            return False
        for name, layer in self.layers.items():
            mine, theirs = layer.arrays(), other.layers[name].arrays()
            if set(mine) != set(theirs):
                return False
            if not all(np.array_equal(mine[k], theirs[k]) for k in mine):
                return False
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        units = sum(next(iter(a.arrays().values())).shape[1] for a in self.layers.values())
        shards = "" if self.shards is None else f", {self.shards} of the data"
        return (
            f"Activity of {units} units in {len(self.layers)} layers for {len(self.label_names)} "
            f"labels over {int(self.samples.sum())} samples{shards}"
        )

    # Files -------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the activity as one `.npz` file without pickle, atomically.

        Raises:
            FileError: The file exists and `overwrite` is false, or cannot be written.
        """
        atomic.write_arrays(path, FORMAT, header_of(self), arrays_of(self), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Activity:
        """Read an activity written by `save`.

        Raises:
            FileError: The file is missing, damaged or not an activity.
        """
        header, arrays = atomic.read_arrays(path, FORMAT)
        with atomic.blame(path):
            check_version(header)
            with blaming():
                found = cls(**fields_of(header, arrays))
                check_shapes(found)
        return found
