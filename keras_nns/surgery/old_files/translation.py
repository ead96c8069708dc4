"""The configuration of a model of Keras 1 or 2 in the form that Keras 3 reads.

Every object gets the module that Keras 3 looks it up in, every layer only the arguments that Keras
3 takes, and every call of a layer the form of Keras 3. What says nothing is left out; what says
something that Keras 3 cannot do is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keras_nns.surgery.old_files import keras1
from keras_nns.surgery.old_files.arguments import (
    ACTIVATIONS,
    ANYTHING,
    MEANINGLESS,
    MODELS,
    QUIET,
    RENAMED,
    REPLACED,
    accepted_by,
)
from keras_nns.surgery.old_files.mended import Mended
from keras_nns.surgery.old_files.nodes import Nodes
from keras_nns.surgery.old_files.versions import is_first

Config = dict[str, Any]

_MODULES = {"Sequential": "keras", "Functional": "keras.src.models.functional"}
_INPUT_LAYER = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None}
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "TensorFlowOpLayer")


class RefusedError(Exception):
    """Something in a file that Keras 3 does not have."""


class Translation:
    """Translates one file.

    Args:
        version: The version of Keras that wrote it.
        own: Classes and functions that the user brings, by name: their configurations stay.
        mended: Where to write what was changed.
    """

    def __init__(self, version: str, own: Mapping[str, Any], mended: Mended) -> None:
        self._first = is_first(version)
        self._own = own
        self._mended = mended

    def model(self, config: Config) -> Config:
        """Translate the configuration of a model.

        Raises:
            RefusedError: It holds what Keras 3 does not have.
        """
        found: Config = self._any(config)
        return found

    def _any(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._any(one) for one in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"type", "value"}:
            # A number of numpy, as Keras 2.2 wrote it.
            return value["value"]
        if "class_name" in value and isinstance(value.get("config"), dict | list):
            return self._object(value)
        return {key: self._any(one) for key, one in value.items()}

    def _object(self, value: Config) -> Any:
        name, config = str(value["class_name"]), value["config"]
        if name in self._own or value.get("registered_name") in self._own:
            # Without a module, Keras looks a class up among those that it was given.
            return {key: one for key, one in value.items() if key != "module"}
        if isinstance(config, list):
            # Keras 1 and 2.0 wrote a Sequential as the list of its layers.
            config = {"name": value.get("name", "sequential"), "layers": config}
        if name in ("Policy", "PolicyV1"):
            return None if config.get("name") == "infer" else config.get("name")
        if self._first and "layers" not in config:
            name, config = keras1.translated(name, config, RefusedError)
        name = RENAMED.get(name, name)
        where = str(config.get("name") or name)
        if name == "Sequential":
            config = self._sequential(config, value.get("build_config"))
        elif name == "Functional":
            config = self._functional(config)
        elif name == "Lambda":
            config = _lambda(self._accepted(keras.layers.Lambda, config, where))
        else:
            config = {key: self._any(one) for key, one in config.items()}
            name, config = self._layer(name, config, where)
        found = {key: one for key, one in value.items() if key != "build_config"}
        found.update(class_name=name, config=config)
        if name in MODELS or hasattr(keras.layers, name):
            found["module"] = _MODULES.get(name, "keras.layers")
            found["registered_name"] = "Functional" if name == "Functional" else None
        return found

    def _layer(self, name: str, config: Config, where: str) -> tuple[str, Config]:
        if name in REPLACED:
            new, edit, said = REPLACED[name]
            if said:
                self._mended.add(f"{name} became {new}, which computes the same", where)
            name, config = new, edit(config)
        if name == "RandomCrop":
            raise RefusedError(
                f"RandomCrop {where!r}, which cuts images to size in inference too; Keras 3 does "
                "so in training alone"
            )
        kind = getattr(keras.layers, name, None)
        if kind is None:
            return name, config
        if name == "InputLayer":
            config = _input(config)
        if name == "GRU" and "reset_after" not in config:
            # Keras 2.0 and 1 have no such argument, and reset before.
            config["reset_after"] = False
            self._mended.add("`reset_after` was set to False, as it was before it was named", where)
        for key, one in config.items():
            if key.endswith("activation") and isinstance(one, str):
                # Keras 2 wrote a function of the user's as its name alone.
                config[key] = self._own.get(one, ACTIVATIONS.get(one, one))
        return name, self._accepted(kind, config, where)

    def _accepted(self, kind: type, config: Config, where: str) -> Config:
        """Leave out of a layer's configuration what Keras 3 refuses and what says nothing.

        Raises:
            RefusedError: It says something.
        """
        known = accepted_by(kind)
        kept: Config = {}
        for key, value in config.items():
            if key in known:
                kept[key] = value
                continue
            nothing = MEANINGLESS.get(key, ())
            if value is not None and ANYTHING not in nothing and value not in nothing:
                raise RefusedError(
                    f"{kind.__name__} {where!r} has {key}={value!r}, which Keras 3 lacks"
                )
            if value is not None and key not in QUIET:
                said = key if ANYTHING in nothing else f"{key}={value}"
                self._mended.add(f"left out `{said}`, which says nothing", kind.__name__)
        return kept

    def _sequential(self, config: Config, build: Config | None) -> Config:
        layers = [self._object(layer) for layer in config["layers"]]
        start = config["layers"][0] if layers else None
        kept = {key: one for key, one in config.items() if key in ("name", "build_input_shape")}
        kept.setdefault("name", "sequential")
        if start is not None and start["class_name"] != "InputLayer":
            found = _input_of(start)
            if found is None and build is not None:
                kept.setdefault("build_input_shape", build.get("input_shape"))
            if found is not None:
                name = f"{layers[0]['config'].get('name', 'sequential')}_input"
                layers.insert(0, {**_INPUT_LAYER, "config": {**found, "name": name}})
        return {**kept, "layers": layers}

    def _functional(self, config: Config) -> Config:
        layers = [self._object(layer) for layer in config["layers"]]
        nodes = Nodes({layer["name"]: layer["class_name"] in MODELS for layer in layers})
        for layer in layers:
            kind, own = layer["class_name"], layer["config"]
            if kind in _OPERATIONS:
                raise RefusedError(_operation(layer))
            layer["inbound_nodes"] = [
                nodes.call(kind, own, node) for node in layer.get("inbound_nodes", ())
            ]
        ends = {key: nodes.ends(config[key]) for key in ("input_layers", "output_layers")}
        kept: Config = {key: one for key, one in config.items() if key in ("name", "trainable")}
        return {**kept, "layers": layers, **ends}


def _operation(layer: Config) -> str:
    function = layer["config"].get("function") or layer["config"].get("node_def", {})
    return (
        f"{layer['class_name']} {layer['name']!r} ({str(function)[:60]}), an operation of "
        "TensorFlow between layers"
    )


def _input(config: Config) -> Config:
    kept = dict(config)
    shape = kept.pop("batch_input_shape", None)
    if shape is not None:
        kept["batch_shape"] = shape
    if kept.get("input_dtype"):
        kept["dtype"] = kept.pop("input_dtype")
    return kept


def _input_of(layer: Config) -> Config | None:
    """Return shape and dtype of what the first layer of a Sequential takes, where it says so."""
    config = layer["config"]
    if isinstance(config, list):
        return _input_of(config[0]) if config else None
    if "layers" in config:
        if not config["layers"]:
            return None
        inputs = config.get("input_layers")
        if inputs is None:
            return _input_of(config["layers"][0])
        names = [inputs[0]] if isinstance(inputs[0], str) else [end[0] for end in inputs]
        first = [one for one in config["layers"] if one["name"] in names]
        return _input_of(first[0]) if len(first) == 1 else None
    shape = config.get("batch_input_shape", config.get("batch_shape"))
    if shape is None and config.get("input_dim") and "output_dim" in config:
        # Keras 1: a layer may say its input in numbers of its own.
        shape = _numbered(layer["class_name"], config)
    if shape is None:
        return None
    dtype = config.get("dtype")
    return {"batch_shape": shape, "dtype": dtype if isinstance(dtype, str) else "float32"}


def _numbered(kind: str, config: Config) -> list[int | None]:
    if kind == "Embedding":
        return [None, config.get("input_length")]
    if kind in ("SimpleRNN", "LSTM", "GRU"):
        return [None, config.get("input_length"), config["input_dim"]]
    return [None, config["input_dim"]]


def _lambda(config: Config) -> Config:
    function = config.get("function")
    if isinstance(function, list):
        code, defaults, closure = function
        inner = {"code": code, "defaults": defaults, "closure": closure}
        config["function"] = {"class_name": "__lambda__", "config": inner}
    return config
