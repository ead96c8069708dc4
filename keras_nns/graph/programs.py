"""A model's graph as a list of calls that can be stopped, kept, and gone on with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras import tree

from keras_nns.graph.keras_internals import Call, Key, accepts_training, functional, walk

Run = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]
"""Runs a call on its arguments and returns its outputs."""


@dataclass(frozen=True)
class Slot:
    """A tensor of a graph: which output of which call; of an empty key, which input."""

    key: Key
    output: int


@dataclass(frozen=True, eq=False)
class Instruction:
    """One call with its arguments, a slot in the place of every tensor."""

    call: Call
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def reads(self) -> list[Slot]:
        """The tensors that it takes."""
        return [leaf for leaf in tree.flatten((self.args, self.kwargs)) if isinstance(leaf, Slot)]


class Program:
    """The calls of a model and of those nested in it, in an order in which they can be computed.

    Args:
        model: A Sequential or functional model.

    Attributes:
        instructions: The calls.
        inputs: Where the model's inputs go.
        outputs: Where its outputs come from; what is no slot is a constant.
    """

    def __init__(self, model: Any) -> None:
        self.inputs = [Slot((), place) for place in range(len(functional(model).inputs))]
        self.instructions: list[Instruction] = []
        self.outputs = walk(model, self.inputs, self._visit)
        shown = [slot for slot in self.outputs if isinstance(slot, Slot)]
        self._last = dict.fromkeys(shown, len(self.instructions))
        for number, instruction in enumerate(self.instructions):
            for slot in instruction.reads:
                self._last[slot] = max(self._last.get(slot, 0), number)

    def _visit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Slot]:
        self.instructions.append(Instruction(call, args, kwargs))
        return [Slot(call.key, output) for output in range(len(call.outputs))]

    def places(self, path: str) -> list[int]:
        """Return the numbers of the calls of a layer."""
        return [n for n, one in enumerate(self.instructions) if one.call.path == path]

    def run(
        self, values: Mapping[Slot, Any], start: int, stop: int, run: Run | None = None
    ) -> dict[Slot, Any]:
        """Do the calls from one number to another, in inference mode.

        Args:
            values: What is known before the first of them.
            start: Number of the first call to do.
            stop: Number of the first call that is not done.
            run: Does one call; None lets the layer do it.

        Returns:
            What the calls from `stop` on read, and the model's outputs as far as they are known.
        """
        known = {slot: value for slot, value in values.items() if self._last.get(slot, -1) >= start}

        def filled(leaf: Any) -> Any:
            return known[leaf] if isinstance(leaf, Slot) else leaf

        for number in range(start, stop):
            one = self.instructions[number]
            args, kwargs = tree.map_structure(filled, (one.args, one.kwargs))
            outputs = (run or infer)(one.call, args, kwargs)
            for place, value in enumerate(tree.flatten(outputs)):
                known[Slot(one.call.key, place)] = value
            # What nothing reads any more is let go: that is what bounds the memory.
            for slot in [slot for slot in known if self._last.get(slot, -1) <= number]:
                del known[slot]
        return known


def infer(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a call's own layer in inference mode."""
    if accepts_training(call.operation):
        kwargs = {**kwargs, "training": False}
    return call.operation(*args, **kwargs)
