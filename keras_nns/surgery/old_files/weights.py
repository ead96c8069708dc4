"""Arrays of Keras 1, and of layers for cuDNN, in the shapes that Keras 3 holds them in.

Sources: `preprocess_weights_for_loading` of Keras 2.3.1 and tf_keras 2.21.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np

Array = np.ndarray[Any, Any]

_GATES = {"LSTM": 4, "GRU": 3}
_ORDER_OF_KERAS_1 = {"LSTM": (0, 2, 1, 3), "GRU": (0, 1, 2)}
"""Keras 1 wrote the gates of an LSTM one by one, as i, c, f, o."""


def convert(file: Any, model: Any, *, first: bool) -> bool:
    """Convert the arrays in a file in place.

    Args:
        file: A copy of the weights in an HDF5 file, open for writing.
        model: The model, built, that the arrays are for.
        first: Whether Keras 1 wrote the file.

    Returns:
        Whether anything was converted.
    """
    held = [layer for layer in model.layers if layer.weights]
    names = [name for name in _texts(file, "layer_names") if _texts(file[name], "weight_names")]
    if len(names) != len(held):
        return False
    changed = False
    for name, layer in zip(names, held, strict=True):
        keys = _texts(file[name], "weight_names")
        arrays = [np.asarray(file[name][key]) for key in keys]
        found = _converted(layer, arrays, first=first)
        if len(found) == len(arrays) and all(a is b for a, b in zip(arrays, found, strict=True)):
            continue
        changed = True
        del file[name]
        made = file.create_group(name)
        made.attrs["weight_names"] = [f"weight_{index}" for index in range(len(found))]
        for index, array in enumerate(found):
            made.create_dataset(f"weight_{index}", data=array)
    return changed


def _texts(group: Any, name: str) -> list[str]:
    found: list[str] = []
    for key in (name, *(f"{name}{part}" for part in range(len(group.attrs)))):
        if key in group.attrs:
            given = group.attrs[key]
            found += [one.decode() if isinstance(one, bytes) else str(one) for one in given]
    return found


def _converted(layer: Any, arrays: list[Array], *, first: bool) -> list[Array]:
    kind = type(layer).__name__
    if kind == "Bidirectional":
        half = len(arrays) // 2
        return [
            *_converted(layer.forward_layer, arrays[:half], first=first),
            *_converted(layer.backward_layer, arrays[half:], first=first),
        ]
    if kind == "TimeDistributed":
        return _converted(layer.layer, arrays, first=first)
    if kind in ("Sequential", "Functional"):
        return _of_model(layer, arrays, first=first)
    if kind in _GATES:
        arrays = _gates(kind, arrays)
        return _from_cudnn(kind, arrays)
    if first and kind in ("Conv1D", "Conv2D", "Conv3D"):
        return [_kernel(layer, arrays[0]), *arrays[1:]]
    return arrays


def _of_model(model: Any, arrays: list[Array], *, first: bool) -> list[Array]:
    """Convert those of a nested model: all that are trained, then all others."""
    split = len(model.trainable_weights)
    trained, others = arrays[:split], arrays[split:]
    found: tuple[list[Array], list[Array]] = ([], [])
    for layer in model.layers:
        counts = len(layer.trainable_weights), len(layer.non_trainable_weights)
        own = trained[: counts[0]] + others[: counts[1]]
        trained, others = trained[counts[0] :], others[counts[1] :]
        converted = _converted(layer, own, first=first)
        found[0].extend(converted[: counts[0]])
        found[1].extend(converted[counts[0] :])
    return [*found[0], *found[1], *trained, *others]


def _gates(kind: str, arrays: list[Array]) -> list[Array]:
    """Join what Keras 1 wrote gate by gate: kernel, recurrent kernel and bias of each."""
    order = _ORDER_OF_KERAS_1[kind]
    if len(arrays) != 3 * len(order):
        return arrays
    return [
        np.concatenate([arrays[3 * gate + part] for gate in order], axis=-1) for part in range(3)
    ]


def _from_cudnn(kind: str, arrays: list[Array]) -> list[Array]:
    """Convert the arrays of a CuDNNLSTM or CuDNNGRU; its bias is one row of twice the length."""
    if len(arrays) != 3:
        return arrays
    kernel, recurrent, bias = arrays
    gates = _GATES[kind]
    if bias.shape != (2 * gates * recurrent.shape[0],):
        return arrays

    def parts(array: Array) -> Sequence[Array]:
        return np.split(array, gates, axis=1)

    kernel = np.hstack([part.T.reshape(part.shape, order="F") for part in parts(kernel)])
    recurrent = np.hstack([part.T for part in parts(recurrent)])
    halves = bias.reshape(2, -1)
    return [kernel, recurrent, halves.sum(axis=0) if kind == "LSTM" else halves]


def _kernel(layer: Any, kernel: Array) -> Array:
    """Convert a kernel of Keras 1: with another axis in one dimension, or units in front."""
    kind = type(layer).__name__
    if kind == "Conv1D":
        if kernel.shape[:2] != (layer.kernel_size[0], 1) or kernel.shape[3] != layer.filters:
            kernel = kernel.transpose(2, 3, 1, 0)
        return kernel[:, 0]
    if layer.data_format == "channels_first":
        return np.moveaxis(kernel, (0, 1), (-1, -2))
    return kernel


def copied(source: str, target: str) -> Any:
    """Copy the weights in an HDF5 file, and return the copy, open for writing."""
    file = h5py.File(target, "w")
    with h5py.File(source, "r") as given:
        group = given["model_weights"]
        for key, value in group.attrs.items():
            file.attrs[key] = value
        for key in group:
            group.copy(key, file)
    return file
