"""What the file of an activity holds. numpy only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from keras_nns.data.shards import Shards
from keras_nns.data.sketch import Seen
from keras_nns.errors import FileError, what_is_wrong
from keras_nns.files.atomic import Json
from keras_nns.observation.layer_sums import LayerActivity
from keras_nns.plans.units import Fingerprint, Layout

FORMAT = "keras_nns.activity"
_VERSION = 1
_FIELDS = {
    "fired": ("fired",),
    "active": ("active",),
    "mean_square": ("square",),
    "mean": ("total", "magnitude"),
    "variance": ("total", "deviation"),
    "maximum": ("maximum",),
}


def header_of(activity: Any) -> Json:
    """Return all but the arrays, as plain data."""
    seen, shards = activity.seen, activity.shards
    return {
        "version": _VERSION,
        "model": activity.fingerprint.to_json(),
        "layout": activity.layout.to_json(),
        "label_names": list(activity.label_names),
        "layers": {
            name: {"nonnegative": a.magnitude is a.total} for name, a in activity.layers.items()
        },
        "statistics": list(activity.statistics),
        "threshold": activity.threshold,
        "seen": None if seen is None else seen.to_json(),
        "unwatched": dict(activity.unwatched),
        "shards": None if shards is None else shards.to_json(),
    }


def arrays_of(activity: Any) -> dict[str, NDArray[Any]]:
    """Return the arrays by their names in the file."""
    arrays: dict[str, NDArray[Any]] = {"samples": activity.samples}
    for index, layer in enumerate(activity.layers.values()):
        for name, array in layer.arrays().items():
            if not (name == "magnitude" and layer.magnitude is layer.total):
                arrays[f"{index}.{name}"] = array
    return arrays


def check_version(header: Json, version: int = _VERSION, what: str = "an activity") -> None:
    """Raise `FileError` where another version wrote the file of an activity, or what else it is."""
    if header.get("version") != version:
        raise FileError(
            f"Expected {what} of version {version}. Received: version "
            f"{header.get('version')!r}. Read it with the release that wrote it."
        )


@contextmanager
def blaming(what: str = "activity") -> Iterator[None]:
    """Raise `FileError` where what is read turns out damaged."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileError(f"The {what} is damaged: {what_is_wrong(error)}.") from error


def fields_of(header: Json, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the fields of an activity from what its file holds.

    Raises:
        KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError: It is damaged.
    """
    layers = {}
    for index, (name, about) in enumerate(header["layers"].items()):
        found = {
            key.split(".", 1)[1]: array
            for key, array in arrays.items()
            if key.startswith(f"{index}.")
        }
        if about["nonnegative"] and "total" in found:
            found["magnitude"] = found["total"]
        layers[name] = LayerActivity(**found)
    return {
        "fingerprint": Fingerprint.from_json(header["model"]),
        "layout": Layout.from_json(header["layout"]),
        "label_names": tuple(header["label_names"]),
        "samples": arrays["samples"],
        "layers": layers,
        "statistics": tuple(header["statistics"]),
        "threshold": float(header["threshold"]),
        "seen": Seen.from_json(header["seen"]) if header.get("seen") else None,
        "unwatched": {str(k): str(v) for k, v in header.get("unwatched", {}).items()},
        "shards": Shards.from_json(header["shards"]) if header.get("shards") else None,
    }


def check_shapes(activity: Any) -> None:
    """Raise `ValueError` where arrays do not fit the labels, layers and statistics."""
    labels, samples = len(activity.label_names), activity.samples
    if samples.shape != (labels,) or samples.dtype.kind not in "iu":
        raise ValueError(
            f"samples are {samples.dtype} of shape {samples.shape}, for {labels} labels"
        )
    for name, layer in activity.layers.items():
        expected = (labels, len(activity.layout.of_layer(name)[1].units))
        needed = {field for s in activity.statistics for field in _FIELDS[s]}
        arrays = layer.arrays()
        missing = needed - set(arrays)
        if missing:
            raise ValueError(f"layer {name!r} lacks {sorted(missing)}")
        for what, array in arrays.items():
            if array.shape != expected or array.dtype.kind not in "iuf":
                raise ValueError(
                    f"{what} of layer {name!r} is {array.dtype} of shape {array.shape}, not "
                    f"{expected}"
                )
