"""KerasHub's models of any sizes: what a cut is of where KerasHub's own class cannot say it.

A class of KerasHub has one number of heads and of hidden units for all of its blocks, and mostly
divides the width by the number of heads. Its subclass here is given its layers instead: it
generates, and saves and loads as a preset and as `.keras`, as its parent class does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras import tree
from keras_hub import models
from keras_hub.src.models.backbone import Backbone
from keras_hub.src.models.feature_pyramid_backbone import FeaturePyramidBackbone
from keras_hub.src.utils.preset_utils import list_subclasses

from keras_nns.graph.rules.keras_hub.caching import with_room
from keras_nns.graph.rules.model_classes import Renewed, UnlikeError

_PYRAMID = "_pyramid_outputs"

_MODELS: dict[type, type] = {}


class SizedBackbone:
    """A backbone that is given its layers: a mixin in front of KerasHub's class.

    Args:
        graph: The functional model that it is, or what `get_config` of one says.
        layers: Names of the layers that its attributes hold: one, a list or a dict of them. Of a
            layer inside another, the name of that one, a slash, and its attribute.
        pyramid: Of a backbone with outputs inside its graph, where each is: the name of an
            operation, which of its calls, and which of what that gives.
        settings: Its other attributes. Numbers that a cut changed are those of the first parent,
            but for the number of blocks.
        policy: Name of the dtype policy of `graph`.
        dtype: Type or policy, where it is to be another than that of `graph`.
        **kwargs: As in the base class.
    """

    def __init__(
        self,
        *,
        graph: Any,
        layers: Mapping[str, Any],
        settings: Mapping[str, Any],
        pyramid: Mapping[str, Sequence[Any]] | None = None,
        policy: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        held = graph if isinstance(graph, keras.Model) else _read(graph, policy, dtype)
        by_name = {layer.name: layer for layer in held.layers}
        for name, names in layers.items():
            setattr(self, name, _mapped(names, str, functools.partial(_found, by_name)))
        inputs, outputs = held._inputs_struct, held._outputs_struct
        Backbone.__init__(self, inputs=inputs, outputs=outputs, dtype=dtype, **kwargs)
        told = {"layers": dict(layers), "settings": dict(settings), "policy": policy}
        vars(self)["_told"] = {**told, "pyramid": pyramid}
        if pyramid is not None:
            operations = {operation.name: operation for operation in held.operations}
            setattr(self, _PYRAMID, {key: _at(operations, *one) for key, one in pyramid.items()})
        for name, value in settings.items():
            setattr(self, name, _by_block(self, name, _as_set(value)))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """Make one of what `get_config` said; the base class may look for arguments of its own."""
        return Backbone.from_config.__func__(cls, config)

    def get_config(self) -> dict[str, Any]:
        """Return what the backbone was made with."""
        held: Any = self
        graph = keras.Model(held._inputs_struct, held._outputs_struct, name=held.name)
        return {**Backbone.get_config(held), "graph": graph.get_config(), **vars(self)["_told"]}


def blocks_by_name(model: Any) -> dict[str, list[Any]]:
    """Return the lists of layers that a model has as attributes."""
    return {
        name: list(value)
        for name, value in vars(model).items()
        if not name.startswith("_") and isinstance(value, list) and value and _are_layers(value)
    }


def _are_layers(values: list[Any]) -> bool:
    return all(isinstance(value, keras.Layer) for value in values)


def told(backbone: Any) -> dict[str, Any]:
    """Return what a backbone of any class is told beside its layers."""
    if isinstance(backbone, SizedBackbone):
        return dict(vars(backbone)["_told"]["settings"])
    return dict(backbone.get_config())


def told_anew(backbone: Any, settings: Mapping[str, Any], tokens: tuple[int, int]) -> Any:
    """Make a backbone with other settings, its weights new.

    Args:
        backbone: Of any class.
        settings: As `told` gives them, changed.
        tokens: How many its tables have, and how many the new ones get.
    """
    if not isinstance(backbone, SizedBackbone):
        return type(backbone).from_config(dict(settings))
    config = backbone.get_config()
    graph = _with_tokens(config["graph"], *tokens)
    return type(backbone).from_config({**config, "graph": graph, "settings": dict(settings)})


def _with_tokens(written: Any, before: int, after: int) -> Any:
    if isinstance(written, dict):
        return {
            key: after
            if key in ("input_dim", "vocabulary_size") and value == before
            else _with_tokens(value, before, after)
            for key, value in written.items()
        }
    if isinstance(written, list):
        return [_with_tokens(one, before, after) for one in written]
    return written


def _by_block(model: Any, name: str, value: Any) -> Any:
    """Return a number of a model: of each block where blocks have other ones."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    for blocks in blocks_by_name(model).values():
        found = [_number(block, name) for block in blocks]
        if all(type(one) is int for one in found):
            return found if len(set(found)) > 1 else found[0]
    return value


def _number(block: Any, name: str) -> Any:
    """Return a number of a block; of heads, the first layer inside it that has one knows."""
    holders = block._flatten_layers() if "heads" in name else [block]
    return next((getattr(one, name) for one in holders if hasattr(one, name)), None)


def _mapped(value: Any, kind: type, change: Any) -> Any:
    """Change what lies in lists and dicts."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(one, kind, change) for key, one in value.items()}
    return [_mapped(one, kind, change) for one in value]


def _at(operations: Mapping[str, Any], name: str, call: int, place: int) -> Any:
    return operations[name]._inbound_nodes[call].output_tensors[place]


def _found(by_name: Mapping[str, Any], path: str) -> Any:
    name, _, attribute = path.partition("/")
    return getattr(by_name[name], attribute) if attribute else by_name[name]


def _as_set(value: Any) -> Any:
    """Return a setting as it is set: a function is written down as Keras does."""
    if isinstance(value, Mapping) and value.keys() == {"callable"}:
        return keras.saving.deserialize_keras_object(value["callable"])
    return value


def _read(graph: Mapping[str, Any], policy: str | None, dtype: Any) -> Any:
    """Make a functional model anew, in another type where one is given."""
    wanted = None if dtype is None else keras.dtype_policies.get(dtype)
    if isinstance(wanted, keras.dtype_policies.DTypePolicyMap) or policy is None:
        wanted = None
    if wanted is not None and wanted.name != policy:
        written = keras.dtype_policies.serialize(wanted)
        layers = [_in_type(layer, policy, written) for layer in graph["layers"]]
        graph = {**graph, "layers": layers}
    return keras.Model.from_config(dict(graph))


def _in_type(layer: dict[str, Any], policy: str | None, written: Any) -> dict[str, Any]:
    config = layer.get("config", {})
    given = config.get("dtype")
    name = given.get("config", {}).get("name") if isinstance(given, dict) else given
    return {**layer, "config": {**config, "dtype": written}} if name == policy else layer


def sized_model(kind: type) -> type:
    """Return the subclass of a backbone's class that is given its layers."""
    return _made(kind, (SizedBackbone,), f"A `keras_hub.models.{kind.__name__}` of any sizes.", {})


def sized_task(kind: Any) -> type:
    """Return the subclass of a task's class over such a backbone.

    Its cache has room for as many heads as a block of the first parent had, so that it stays one
    tensor, which samplers repeat and reorder; a block is given its own part of it.
    """
    cached = [
        name for name in dir(kind) if "cache" in name and inspect.isfunction(getattr(kind, name))
    ]
    own = {name: _in_room(getattr(kind, name)) for name in cached}
    own["backbone_cls"] = sized_model(kind.backbone_cls)
    return _made(kind, (), f"A `keras_hub.models.{kind.__name__}` of any sizes.", own)


def _in_room(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of a task that goes through its blocks take them for blocks of one size."""

    @functools.wraps(method)
    def asked(self: Any, *args: Any, **kwargs: Any) -> Any:
        backbone = self.backbone
        numbers = vars(backbone)["_told"]["settings"]
        return method(with_room(self, numbers, blocks_by_name(backbone)), *args, **kwargs)

    return asked


def _made(kind: type, mixins: tuple[type, ...], text: str, own: dict[str, Any]) -> type:
    if kind in _MODELS.values():
        return kind
    if kind not in _MODELS:
        new = type(f"Sized{kind.__name__}", (*mixins, kind), {"__doc__": text, **own})
        _MODELS[kind] = keras.saving.register_keras_serializable("keras_nns")(new)
    return _MODELS[kind]


def wrap(model: Any, new: Any, renewed: Renewed) -> Any:
    """Give what is left of a backbone what its class has beside its graph.

    Args:
        model: The user's backbone.
        new: The functional model that is left of it.
        renewed: Gives its new layers.

    Returns:
        A model of a subclass of the backbone's class over the same layers.

    Raises:
        UnlikeError: It holds something that cannot be taken over.
    """
    layers: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for name, value in _own(model):
        held = tree.flatten(value)
        if any(isinstance(one, keras.Layer) for one in held):
            layers[name] = _names(model, name, value, renewed)
        elif all(isinstance(one, bool | int | float | str | None) for one in held):
            settings[name] = value
        elif callable(value):
            settings[name] = {"callable": keras.saving.serialize_keras_object(value)}
        else:
            raise UnlikeError(f"its attribute {name!r} cannot be written down")
    settings |= vars(model).get("_told", {}).get("settings", {})
    for name, blocks in blocks_by_name(model).items():
        if settings.get("num_layers") == len(blocks):
            settings["num_layers"] = len(layers[name])
    return sized_model(type(model))(
        graph=new,
        layers=layers,
        settings=settings,
        pyramid=_pyramid(model, new, renewed),
        policy=keras.dtype_policies.get(model.dtype_policy).name,
        dtype=model.dtype_policy,
        name=model.name,
    )


def _pyramid(model: Any, new: Any, renewed: Renewed) -> dict[str, tuple[str, int, int]] | None:
    """Say where the new graph gives what a backbone gives inside its graph."""
    if not isinstance(model, FeaturePyramidBackbone):
        return None
    found = {}
    for key, tensor in getattr(model, _PYRAMID).items():
        operation, node, place = tensor._keras_history
        other = renewed(operation)
        calls, others = _calls(model, operation), _calls(new, other)
        if len(calls) != len(others):
            raise UnlikeError(f"its output {key!r} is of a layer that leaves")
        found[key] = (other.name, others[calls.index(node)], place)
    return found


def _calls(model: Any, operation: Any) -> list[int]:
    """Return which calls of an operation are in a model's graph."""
    own = {id(node) for nodes in model._nodes_by_depth.values() for node in nodes}
    nodes = getattr(operation, "_inbound_nodes", ())
    return [place for place, node in enumerate(nodes) if id(node) in own]


@functools.cache
def _known_to_keras() -> frozenset[str]:
    """Return the attributes that any compiled functional model, or any backbone, has."""
    x = keras.Input((1,))
    plain = Backbone(inputs=x, outputs=keras.layers.Identity()(x), dtype="float32")
    plain.compile(optimizer="sgd", loss="mse")
    return frozenset(vars(plain)) | {"_told", "history"}


def _own(model: Any) -> Iterator[tuple[str, Any]]:
    for name, value in vars(model).items():
        known = name in _known_to_keras() or name == _PYRAMID
        if not known and not name.startswith("_keras_nns"):
            yield name, value


def _names(model: Any, attribute: str, value: Any, renewed: Renewed) -> Any:
    """Return the names of the new layers that an attribute holds."""
    own = {id(layer): (layer, "") for layer in model.layers}
    for outer in model.layers:
        for name, inner in vars(outer).items():
            if isinstance(inner, keras.Layer):
                own.setdefault(id(inner), (outer, f"/{name}"))

    def name_of(layer: Any) -> Any:
        if id(layer) not in own:
            raise UnlikeError(f"its attribute {attribute!r} is no layer of its graph")
        outer, inside = own[id(layer)]
        new = renewed(outer)
        return None if new is None else f"{new.name}{inside}"

    found = _mapped(value, keras.Layer, name_of)
    if isinstance(found, list):
        return [name for name in found if name is not None]
    if found is None:
        raise UnlikeError(f"its attribute {attribute!r} is a layer that leaves")
    return found


for _kind in list_subclasses(Backbone):
    if not issubclass(_kind, SizedBackbone):
        sized_model(_kind)
for _kind in list_subclasses(models.Task):
    if getattr(_kind, "backbone_cls", None) in _MODELS:
        sized_task(_kind)
