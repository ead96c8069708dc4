"""Where the layers of a functional model of Keras 1 or 2 were called, as Keras 3 writes it.

An entry `[layer, node, position, arguments]` names a tensor: the output at a position of the call
`node` of a layer. Keras 2 gives a nested model a call of its own before those that were made, so
theirs count from 1; in Keras 3 they count from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_nns.surgery.old_files.arguments import RECURRENT

_CONSTANT = "_CONSTANT_VALUE"


@dataclass(frozen=True)
class Nodes:
    """The calls in one functional model.

    Attributes:
        nested: Whether a layer is a model, by the name of each layer.
    """

    nested: Mapping[str, bool]

    def ends(self, given: Any) -> Any:
        """Translate the inputs or outputs of a model; the only one of a list stands for itself."""
        only = given[0] if isinstance(given, list) and len(given) == 1 else given
        return self._moved(only)

    def _moved(self, ends: Any) -> Any:
        if self._is_entry(ends):
            return [ends[0], self._number(ends), *ends[2:]]
        if isinstance(ends, list):
            return [self._moved(end) for end in ends]
        return {name: self._moved(end) for name, end in ends.items()}

    def call(self, kind: str, config: Mapping[str, Any], node: Any) -> Any:
        """Translate one call of a layer.

        Args:
            kind: The layer's class.
            config: The layer's configuration.
            node: The call, as the file has it.
        """
        if not isinstance(node, list) or not node:
            return node
        entries = [node] if self._is_entry(node) else node
        arguments: dict[str, Any] = {}
        tensors = [self._first(entry, arguments) for entry in entries]
        keywords = {name: self._inner(value) for name, value in arguments.items()}
        if len(tensors) > 1 and kind in (*RECURRENT, "Bidirectional"):
            # An initial state was given: Keras 2 writes it behind the input.
            stop = len(tensors) - (config.get("num_constants") or 0)
            keywords["initial_state"] = tensors[1:stop]
            if tensors[stop:]:
                keywords["constants"] = tensors[stop:]
            tensors = tensors[:1]
        return {"args": [tensors[0] if len(tensors) == 1 else tensors], "kwargs": keywords}

    def _first(self, value: Any, arguments: dict[str, Any]) -> Any:
        """Translate what a layer was called on, and gather the other arguments of the call."""
        if self._is_entry(value):
            if len(value) == 4:
                arguments.update(value[3] or {})
            return value[2] if value[0] == _CONSTANT else self._tensor(value)
        if isinstance(value, dict):
            return {name: self._first(one, arguments) for name, one in value.items()}
        return [self._first(one, arguments) for one in value]

    def _inner(self, value: Any) -> Any:
        """Translate the tensors in another argument of a call."""
        if self._is_entry(value):
            return value[2] if value[0] == _CONSTANT else self._tensor(value)
        if isinstance(value, dict):
            return {name: self._inner(one) for name, one in value.items()}
        return [self._inner(one) for one in value] if isinstance(value, list) else value

    def _is_entry(self, value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) in (3, 4)
            and isinstance(value[0], str)
            and (value[0] in self.nested or value[0] == _CONSTANT)
        )

    def _number(self, entry: list[Any]) -> int:
        return int(entry[1]) - self.nested[entry[0]]

    def _tensor(self, entry: list[Any]) -> dict[str, Any]:
        history = [entry[0], self._number(entry), entry[2]]
        config = {"shape": [None], "dtype": "float32", "keras_history": history}
        return {"class_name": "__keras_tensor__", "config": config}
