"""Model files of Keras 1 and 2, read with the meaning that they had there."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from os import PathLike
from typing import Any

import h5py
import keras
import numpy as np
from keras import activations, layers

from keras_nns.graph.rules.elementwise import hard_sigmoid_of_keras_2

_Path = str | PathLike[str]

_RECURRENT = (
    *(layers.SimpleRNN, layers.LSTM, layers.GRU, layers.RNN),
    *(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D),
)
_CONVOLUTIONS = (
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_NO_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
_SPATIAL = (layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D)

_ANYTHING = object()

_MEANINGLESS: Mapping[str, Mapping[str, Any]] = {
    **{kind.__name__: {"time_major": False} for kind in _RECURRENT},
    **{kind.__name__: {"groups": 1} for kind in _CONVOLUTIONS},
    **{kind.__name__: {"groups": 1, **dict.fromkeys(_NO_KERNEL, _ANYTHING)} for kind in _SEPARABLE},
    **{kind.__name__: {"noise_shape": None, "trainable": True} for kind in _SPATIAL},
}
"""Arguments that Keras 3 refuses, by class, with the only value that says nothing."""

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"GRU": {"reset_after": False}}
"""What a class did before it had an argument: Keras 2.0 has no `reset_after`."""

_HOLDERS = (layers.Bidirectional, layers.TimeDistributed, layers.RNN)
"""Layers that hold the configuration of others."""

_FLIPPED = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv2DTranspose)


def version_of(path: _Path) -> str:
    """Return the version of Keras that wrote a `.keras` or `.h5` file; Keras 1.0 wrote none."""
    if not is_h5(path):
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json")).get("keras_version", "3"))
    return _attribute(path, "keras_version") or "1.0"


def is_h5(path: _Path) -> bool:
    """Return whether a file's name says that it is HDF5."""
    return os.fspath(path).endswith((".h5", ".hdf5"))


def read_h5(path: _Path, *, unsafe: bool) -> Any:
    """Read a model from an `.h5` file, whose configuration may hold what Keras 3 refuses.

    Args:
        path: The file.
        unsafe: Whether code in the file may run.

    Raises:
        ValueError: An argument that Keras 3 does not have says something.
    """
    left: dict[str, str] = {}
    old = version_of(path).startswith(("1.", "2."))
    kinds = (*_RECURRENT, *_CONVOLUTIONS, *_SEPARABLE, *_SPATIAL, *_HOLDERS)
    stand_ins = {kind.__name__: _stand_in(kind, left, old=old) for kind in kinds}
    with keras.saving.custom_object_scope(stand_ins):
        model = keras.saving.load_model(path, safe_mode=not unsafe)
    if left:
        told = "; ".join(left.values())
        warnings.warn(
            f"{os.fspath(path)!r} was written by Keras 2: {told}. Save the model again to be rid "
            "of this.",
            stacklevel=4,
        )
    return model


def _stand_in(kind: Any, left: dict[str, str], *, old: bool) -> type:
    """Make a class that stands for one of Keras's while a file is read, and makes its layer."""

    class StandIn:
        @classmethod
        def from_config(cls, config: dict[str, Any], **kwargs: Any) -> Any:
            """Make the layer without what Keras 3 refuses."""
            kept = _accepted(kind.__name__, config, left, old=old)
            return kind.from_config(kept, **kwargs)

    return StandIn


def _accepted(name: str, config: Mapping[str, Any], left: dict[str, str], *, old: bool) -> Any:
    """Return a configuration without what Keras 3 refuses, also in the layers that it holds.

    Raises:
        ValueError: It says something.
    """
    kept = {**(_DEFAULTS.get(name, {}) if old else {}), **config}
    for argument, nothing in _MEANINGLESS.get(name, {}).items():
        value = kept.pop(argument, nothing)
        if nothing is not _ANYTHING and value != nothing:
            own = config.get("name")
            raise ValueError(f"{name} {own!r} has {argument}={value!r}, which Keras 3 lacks")
        if argument in config and nothing is not _ANYTHING:
            left[name] = (
                f"`{argument}` of its {name} layers, which is {value} and says nothing there, was "
                "left out"
            )
    for argument, value in kept.items():
        if isinstance(value, dict) and isinstance(value.get("config"), dict):
            inner = _accepted(str(value.get("class_name")), value["config"], left, old=old)
            kept[argument] = {**value, "config": inner}
    return kept


def restore_meaning(model: Any, path: _Path) -> None:
    """Make a model that Keras 3 has read from an older file compute what it did when written.

    Keras 2's `hard_sigmoid` is clip(0.2 x + 0.5, 0, 1), Keras 3's relu6(x + 3) / 6. Theano turned
    the kernels of convolutions by half a turn. Each is restored with a warning.

    Args:
        model: The model, just read: nothing of it is compiled yet.
        path: The file.
    """
    version = version_of(path)
    if not version.startswith(("1.", "2.")):
        return
    found: set[str] = set()
    for layer in model._flatten_layers():
        for name, value in list(vars(layer).items()):
            if value is activations.hard_sigmoid:
                setattr(layer, name, hard_sigmoid_of_keras_2)
                found.add(layer.name)
    if found:
        warnings.warn(
            f"{os.fspath(path)!r} was written by Keras {version}, whose hard_sigmoid is another "
            f"function than that of Keras 3: its layers {sorted(found)} got keras_nns's "
            "hard_sigmoid_of_keras_2, clip(0.2 x + 0.5, 0, 1). Read what you save of it with "
            "nns.load_model.",
            stacklevel=3,
        )
    if is_h5(path) and _attribute(path, "backend") == "theano":
        turned = [layer for layer in model._flatten_layers() if _turn(layer)]
        if turned:
            warnings.warn(
                f"{os.fspath(path)!r} was written by Keras {version} on Theano, which turned the "
                "kernels of convolutions by half a turn: those of layers "
                f"{[layer.name for layer in turned]} were turned back.",
                stacklevel=3,
            )


def _turn(layer: Any) -> bool:
    """Turn the kernels of a convolution along its spatial axes."""
    if type(layer) in _FLIPPED:
        kernels = [layer._kernel]
    elif type(layer).__name__ == "ConvLSTMCell":
        kernels = [layer.kernel, layer.recurrent_kernel]
    else:
        return False
    for kernel in kernels:
        value = np.asarray(kernel)
        kernel.assign(np.flip(value, tuple(range(value.ndim - 2))))
    return True


def _attribute(path: _Path, name: str) -> str | None:
    """Read an attribute of an HDF5 file, which stands at its root or beside the weights."""
    with h5py.File(path, "r") as file:
        for group in (file, file.get("model_weights")):
            value = None if group is None else group.attrs.get(name)
            if value is not None:
                return value.decode() if isinstance(value, bytes) else str(value)
    return None
