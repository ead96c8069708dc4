"""Build a model like another one with other layer sizes: new layers, new graph, nothing shared."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
from keras import tree

from keras_nns.engine import operations
from keras_nns.engine.deferred import has_value, read_from
from keras_nns.engine.tensors import as_array, as_tensor, unshared
from keras_nns.errors import SurgeryError
from keras_nns.graph.keras_internals import (
    Call,
    Key,
    calls,
    first_argument,
    functional,
    is_graph,
    structure,
)
from keras_nns.graph.rules import Keep, Stream
from keras_nns.graph.rules.records import Binding, Blueprint, Shape
from keras_nns.graph.tracing import Graph, TracedCall
from keras_nns.surgery import configurations
from keras_nns.surgery.same_class import of_same_class, wrapped
from tflite_export.writing.temporary import held_folder

After = Callable[[TracedCall, list[Any]], list[Any]]
"""Called on the outputs of every call of the new model; returns what takes their place."""


class Rebuilder:
    """Build the smaller model that a traced graph and the units to keep describe.

    Args:
        graph: The traced parent.
        keep: Which of its units stay.
        after: Inserts something behind every call (what `mask` does). The result is then
            functional also where the parent is Sequential.
        dtype: Compute in this type instead of the parent's own, as proofs do.
        closing: Units that do nothing in layers which say how that is (`Site.rebuild`).
    """

    def __init__(
        self,
        graph: Graph,
        keep: Keep,
        *,
        after: After | None = None,
        dtype: str | None = None,
        closing: Keep | None = None,
    ) -> None:
        self._graph = graph
        self._keep = keep
        self._after = after
        self._dtype = dtype
        self._closing = closing
        # By id of the user's layer or model: it, and the new one.
        self._layers: dict[int, tuple[Any, Any]] = {}
        self._models: dict[int, tuple[Any, Any]] = {}

    def run(self) -> Any:
        """Return the new model, its weights set."""
        model = self._model(self._graph.model, (), "")
        for old, new in self._layers.values():
            self._copy_weights(old, new)
        self._restore_trainable()
        return model

    @property
    def layers(self) -> list[tuple[Any, Any]]:
        """Pairs of the user's layers and the new ones, after `run`."""
        return list(self._layers.values())

    def note(self, old: Any, new: Any) -> None:
        """Say which new layer stands for one of the user's."""
        self._layers.setdefault(id(old), (old, new))

    def renewed(self, layer: Any) -> Any:
        """Return the new layer that stands for one of the user's; None where it leaves."""
        return self._layers.get(id(layer), self._models.get(id(layer), (layer, None)))[1]

    # Structure --------------------------------------------------------------------------------

    def _model(self, model: Any, key: Key, path: str) -> Any:
        if id(model) in self._models:
            return self._models[id(model)][1]
        new = self._constructed(model, key, path)
        if new is None and isinstance(model, keras.Sequential) and self._after is None:
            new = self._sequential(model, key, path)
        elif new is None:
            new = self._functional(model, key, path)
            new = wrapped(self, model, new) if self._plain else new
        self._models[id(model)] = (model, new)
        return new

    @property
    def _plain(self) -> bool:
        """Whether the new model can be of the parent's class."""
        return self._after is None and self._dtype is None

    def _constructed(self, model: Any, key: Key, path: str) -> Any:
        """Return a model of the parent's class by its constructor, or None."""
        return of_same_class(self, model, key, path) if self._plain else None

    def _entry_shape(self, tensor: Any, index: int, key: Key) -> tuple[int | None, ...]:
        shape = list(tensor.shape)
        if key:
            stream: Stream = self._graph.entries[key][index]
            for axis, units in stream.units.items():
                shape[axis] = self._keep.count(units)
        return tuple(shape)

    def _inputs(self, model: Any, key: Key) -> list[Any]:
        return [
            keras.Input(
                batch_shape=self._entry_shape(tensor, index, key),
                dtype=self._dtype_of(tensor),
                sparse=tensor.sparse,
                name=tensor._keras_history.operation.name,
                optional=getattr(tensor._keras_history.operation, "optional", False),
            )
            for index, tensor in enumerate(functional(model).inputs)
        ]

    def _dtype_of(self, tensor: Any) -> str:
        floating = "float" in str(tensor.dtype)
        return self._dtype if self._dtype and floating else str(tensor.dtype)

    def _sequential(self, model: Any, key: Key, path: str) -> Any:
        # The operations between them compute masks; a Sequential makes those anew.
        layers = [
            self.operation(call.operation, call.key, call.path)
            for call, _ in calls(model, key=key, path=path)
            if isinstance(call.operation, keras.Layer) and not self._passed_over(call)
        ]
        return keras.Sequential([*self._inputs(model, key), *layers], name=model.name)

    def _functional(self, model: Any, key: Key, path: str) -> Any:
        inputs = self._inputs(model, key)
        graph = functional(model)
        values = {id(old): new for old, new in zip(graph.inputs, inputs, strict=True)}
        for call, fill in calls(model, key=key, path=path):
            results = self._results(call, fill, values)
            for tensor, value in zip(call.outputs, results, strict=True):
                values[id(tensor)] = value
        outputs = [values[id(tensor)] for tensor in graph.outputs]
        inputs_like, outputs_like = structure(model)
        return keras.Model(
            inputs=tree.pack_sequence_as(inputs_like, inputs),
            outputs=tree.pack_sequence_as(outputs_like, outputs),
            name=model.name,
        )

    def _results(self, call: Call, fill: Any, values: dict[int, Any]) -> list[Any]:
        """Make a call in the new model; return its outputs.

        Args:
            call: The user's call.
            fill: Gives its arguments from values.
            values: New tensors by id of the user's.
        """
        args, kwargs = fill(values)
        traced = self._graph.calls.get(call.key)
        if traced is not None:
            for edit in traced.edits:
                args, kwargs = edit(self._keep, args, kwargs)
        if self.skips(call.operation):
            return [first_argument(call.operation, args, kwargs)]
        operation = self.operation(call.operation, call.key, call.path)
        results = list(tree.flatten(operation(*args, **kwargs)))
        if traced is not None and self._after is not None:
            results = self._after(traced, results)
        return results

    def _passed_over(self, call: Call) -> bool:
        """Return whether a layer of a Sequential model is left out of the new one."""
        return self.skips(call.operation)

    def skips(self, operation: Any) -> bool:
        """Return whether a layer is a residual block that leaves as a whole."""
        blueprint = self._graph.blueprints.get(id(operation))
        skip = None if blueprint is None else blueprint.skip
        return skip is not None and not self._keep.all(skip.unit)

    def operation(self, operation: Any, key: Key, path: str) -> Any:
        """Return the new layer, operation or model that stands for one of the user's."""
        if is_graph(operation):
            return self._model(operation, key, path)
        if id(operation) not in self._layers:
            self._layers[id(operation)] = (operation, self._renew(operation, path))
        return self._layers[id(operation)][1]

    def _renew(self, operation: Any, path: str) -> Any:
        if isinstance(operation, keras.layers.Lambda):
            # A Python function cannot be written to a config and read back safely; share it.
            return keras.layers.Lambda(
                operation.function,
                output_shape=operation._output_shape,
                mask=operation.mask,
                arguments=operation.arguments,
                name=operation.name,
                dtype=operation.dtype_policy,
            )
        kind, config = self.plan_of(operation, path)
        configurations.forget_build(config)
        if self._loses(operation):
            configurations.forget_values(config)
        if self._dtype is not None:
            configurations.set_dtype(config, self._dtype)
        try:
            return kind.from_config(config)
        except Exception as error:  # a layer's own constructor may raise anything
            raise SurgeryError(
                f"Layer {path!r} ({type(operation).__name__}) cannot be rebuilt from its own "
                "`get_config`, which has to return what its constructor takes, as for saving: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error

    def plan_of(self, operation: Any, path: str) -> tuple[Any, dict[str, Any]]:
        """Return what a new layer is made of: its type and its configuration."""
        blueprint = self._graph.blueprints.get(id(operation))
        if blueprint is not None and blueprint.make is not None:
            if self._closing is None or blueprint.close is None:
                kind, made = blueprint.make(self._keep)
            else:
                kind, made = blueprint.close(self._closing)
            return kind, configurations.copied(made)
        try:
            with warnings.catch_warnings():
                # A lambda is handed over below, not written down.
                warnings.filterwarnings("ignore", "The object being serialized includes a `lambda`")
                config = configurations.copied(operation.get_config())
        except Exception as error:  # a layer's own `get_config` may raise anything
            missing = isinstance(error, NotImplementedError)
            raise SurgeryError(
                f"Layer {path!r} ({type(operation).__name__}) cannot be rebuilt: "
                f"{'it has no `get_config`' if missing else f'its `get_config` fails, {error!r}'}. "
                "Write one, as Keras asks of layers that are saved."
            ) from error
        configurations.hand_over(operation, config)
        for keys, edit in (blueprint.edits if blueprint else {}).items():
            place = config
            for step in keys[:-1]:
                place = place[step]
            place[keys[-1]] = edit(self._keep)
        return type(operation), config

    def shapes_left(self, operation: Any) -> list[Shape]:
        """Return the shapes of a layer's variables without the units that leave."""
        blueprint = self._graph.blueprints.get(id(operation)) or Blueprint("", operation)
        return blueprint.shapes(self._keep)

    def _loses(self, operation: Any) -> bool:
        """Return whether a weight of a layer loses units."""
        blueprint = self._graph.blueprints.get(id(operation))
        bindings = blueprint.bindings.values() if blueprint else ()
        return not all(self._keep.all(units) for one in bindings for units in one.axes.values())

    # State ------------------------------------------------------------------------------------

    def _copy_weights(self, old: Any, new: Any) -> None:
        _adapt_parts(old, new)
        before = list(getattr(old, "variables", ()))
        after = self._variables(old, new)
        blueprint = self._graph.blueprints.get(id(old))
        if len(before) != len(after):
            raise SurgeryError(
                f"Layer {old.name!r} ({type(old).__name__}) has {len(before)} variables, its copy "
                f"{len(after)}: its `get_config` does not describe it."
            )
        for index, (source, target) in enumerate(zip(before, after, strict=True)):
            binding = blueprint.bindings.get(index) if blueprint else None
            if not has_value(target):
                read_from(target, partial(self._left, source, binding))
                continue
            value = self._left(source, binding)
            if tuple(target.shape) != tuple(value.shape):
                raise SurgeryError(_mismatch(old, source, value, target, blueprint))
            target.assign(value)
        _copy_other_state(old, new)

    def _variables(self, old: Any, new: Any) -> list[Any]:
        """Return the variables of a new layer that stand for those of the user's, in order."""
        return list(getattr(new, "variables", ()))

    def _left(self, source: Any, binding: Binding | None) -> Any:
        """Return what is left of a variable's value, in memory of its own."""
        return unshared(self._slice(source.value, binding))

    def _slice(self, value: Any, binding: Binding | None) -> Any:
        """Return a weight's tensor for the units that stay.

        One that stays whole is not copied before either model writes to it.
        """
        value = as_tensor(value)
        for axis, units in (binding.axes if binding else {}).items():
            if not self._keep.all(units):
                value = operations.gather(value, self._keep.where(units), axis=axis)
        if binding is not None and binding.scale is not None:
            value = as_array(value)
            kind = value.dtype if self._dtype is None else self._dtype
            value = (value.astype(kind) * binding.scale(self._keep)).astype(kind)
        return value

    def _restore_trainable(self) -> None:
        """Carry `trainable` over, outer models first: setting it reaches everything inside."""
        for old, new in [*reversed(self._models.values()), *self._layers.values()]:
            if hasattr(old, "trainable") and new.trainable != old.trainable:
                new.trainable = old.trainable


def _adapt_parts(old: Any, new: Any) -> None:
    """Give the layers inside a new layer the LoRA factors and quantised weights of the user's.

    A layer says in its own configuration that it has them; one that holds others does not.
    """
    if not isinstance(old, keras.Layer):
        return
    pairs = zip(
        old._flatten_layers(include_self=False),
        new._flatten_layers(include_self=False),
        strict=False,
    )
    for one, other in pairs:
        mode = getattr(one, "quantization_mode", None)
        if mode is not None and getattr(other, "quantization_mode", None) is None:
            other.quantize(mode)
        if getattr(one, "lora_enabled", False) and not other.lora_enabled:
            other.enable_lora(one.lora_rank, lora_alpha=one.lora_alpha)


def _copy_other_state(old: Any, new: Any) -> None:
    """Carry over what a preprocessing layer learnt outside its variables (`adapt`)."""
    if hasattr(old, "save_assets") and hasattr(new, "load_assets"):
        with held_folder(Path(tempfile.gettempdir()), "assets") as folder:
            old.save_assets(str(folder))
            new.load_assets(str(folder))
    if hasattr(new, "finalize_state"):
        new.finalize_state()


def _mismatch(old: Any, source: Any, value: Any, target: Any, blueprint: Blueprint | None) -> str:
    return (
        f"Weight {source.name!r} of layer {blueprint.path if blueprint else old.name!r} "
        f"({type(old).__name__}) should become {value.shape} and its smaller layer holds "
        f"{tuple(target.shape)}. The rule of this layer type does not say which units this weight "
        "carries (see keras_nns.rules.register)."
    )
