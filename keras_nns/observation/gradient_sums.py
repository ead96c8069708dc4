"""Gradients by label, as sums that can be added and kept in a file. numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.shards import Shards, united
from keras_nns.errors import DataError
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.observation.activity_files import blaming, check_version
from keras_nns.plans.units import Fingerprint, Layout

Float = NDArray[np.float64]

FORMAT = "keras_nns.gradients"
VERSION = 1


@dataclass(frozen=True, eq=False)
class LayerGradients:
    """Sums over samples for the units of one layer, each float64 of shape `(labels, units)`.

    For one sample and unit, with activations a and the loss's gradient g at all its positions
    (pixels, steps) and calls, the effect is -Σ g · a: the first-order estimate of how much the
    sample's loss rises when the unit is set to zero.

    Attributes:
        effect: Sum of the effects.
        magnitude: Sum of their absolute values.
        square: Sum of their squares.
        slope: Sum of Σ g.
    """

    effect: Float
    magnitude: Float
    square: Float
    slope: Float


@dataclass(frozen=True, eq=False)
class Gradients:
    """How the loss of each label's samples depends on every unit, from one streaming pass.

    Gradients are sums, as activity is: `a + b` over two parts of the data equals one pass over
    the whole. Their size is labels × units, whatever the number of samples.

    Attributes:
        fingerprint: The model.
        layout: Its unit groups.
        label_names: Name of every label.
        samples: Samples seen of every label, int64 of shape `(labels,)`.
        layers: Sums by layer path, in the order of the graph.
        shards: Which shards of the data they are of (`observe_gradients(…, shard=(2, 8))`); None
            for the whole.

    Example:
        >>> gradients = nns.observe_gradients(model, (x, y))
        >>> nns.select(activity, labels=3, score=nns.scores.taylor(gradients))
        <Plan for 3: 24 of 48 units>
    """

    fingerprint: Fingerprint
    layout: Layout
    label_names: tuple[str, ...]
    samples: NDArray[np.int64]
    layers: Mapping[str, LayerGradients]
    shards: Shards | None = None

    def __add__(self, other: Gradients) -> Gradients:
        """Add what was seen of the same model on other data.

        Shards add up to the whole in any order; `keras_nns.add` adds many, also from files.

        Raises:
            DataError: The two are of different models, labels or layers, hold the same shard, or
                are shards of different data.
        """
        if not isinstance(other, Gradients):
            return NotImplemented
        for name in ("fingerprint", "label_names"):
            if getattr(self, name) != getattr(other, name):
                raise DataError(
                    f"Only gradients of the same model add up. They differ in {name}: "
                    f"{getattr(self, name)!r} and {getattr(other, name)!r}."
                )
        if set(self.layers) != set(other.layers):
            raise DataError(
                f"Only gradients of the same layers add up. Received: {list(self.layers)} and "
                f"{list(other.layers)}."
            )
        return replace(
            self,
            shards=united(self.shards, other.shards),
            samples=self.samples + other.samples,
            layers={
                name: LayerGradients(
                    *(
                        getattr(mine, f.name) + getattr(other.layers[name], f.name)
                        for f in fields(mine)
                    )
                )
                for name, mine in self.layers.items()
            },
        )

    def per_sample(self, layer: str, field: str) -> Float:
        """Return the mean over each label's samples, `(labels, units)`; NaN without samples."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = getattr(self.layers[layer], field) / self.samples[:, None]
        return np.asarray(found, dtype=np.float64)

    def __str__(self) -> str:
        units = sum(layer.effect.shape[1] for layer in self.layers.values())
        shards = "" if self.shards is None else f", {self.shards} of the data"
        return (
            f"Gradients of {units} units in {len(self.layers)} layers for "
            f"{len(self.label_names)} labels over {int(self.samples.sum())} samples{shards}"
        )

    # Files -------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the gradients as one `.npz` file without pickle, atomically.

        Raises:
            FileError: The file exists and `overwrite` is false, or cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {"samples": self.samples}
        for index, layer in enumerate(self.layers.values()):
            arrays |= {f"{index}.{f.name}": getattr(layer, f.name) for f in fields(layer)}
        atomic.write_arrays(path, FORMAT, self.header(), arrays, overwrite=overwrite)

    def header(self) -> Json:
        """Return all but the arrays, as plain data."""
        return {
            "version": VERSION,
            "model": self.fingerprint.to_json(),
            "layout": self.layout.to_json(),
            "label_names": list(self.label_names),
            "layers": list(self.layers),
            "shards": None if self.shards is None else self.shards.to_json(),
        }

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Gradients:
        """Read gradients written by `save`.

        Raises:
            FileError: The file is missing, damaged or has no gradients.
        """
        header, arrays = atomic.read_arrays(path, FORMAT)
        with atomic.blame(path):
            check_version(header, VERSION, "gradients")
            with blaming("gradients"):
                return cls._from(header, arrays)

    @classmethod
    def _from(cls, header: Json, arrays: Mapping[str, NDArray[Any]]) -> Gradients:
        layout = Layout.from_json(header["layout"])
        names = tuple(map(str, header["label_names"]))
        layers = {
            str(name): LayerGradients(
                **{f.name: arrays[f"{index}.{f.name}"] for f in fields(LayerGradients)}
            )
            for index, name in enumerate(header["layers"])
        }
        shapes: dict[str, Any] = {"samples": (arrays["samples"], (len(names),), "iu")}
        for name, layer in layers.items():
            expected = (len(names), len(layout.of_layer(name)[1].units))
            shapes |= {f"{f.name} of {name!r}": (getattr(layer, f.name), expected, "f")
                       for f in fields(layer)}  # fmt: skip
        for what, (array, shape, kinds) in shapes.items():
            if array.shape != shape or array.dtype.kind not in kinds:
                raise ValueError(f"{what} is {array.dtype} of shape {array.shape}, not {shape}")
        return cls(
            fingerprint=Fingerprint.from_json(header["model"]),
            layout=layout,
            label_names=names,
            samples=arrays["samples"],
            layers=layers,
            shards=Shards.from_json(header["shards"]) if header.get("shards") else None,
        )
