"""The ends of a residual block's branches: what they give is added to what the block was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from keras import ops, tree

from keras_nns.engine.layers import mask_of, with_mask
from keras_nns.graph.keras_internals import Call, first_argument
from keras_nns.graph.programs import Program, Slot, infer
from keras_nns.graph.tracing import Graph
from keras_nns.observation.probing import listening
from keras_nns.observation.projections import AllFoundError, Projection, map_of
from keras_nns.observation.unit_values import counted_positions


@dataclass(frozen=True, eq=False)
class Branch:
    """One branch of a residual block that is a single layer.

    Attributes:
        projection: The linear map at its end.
        ends: The layers at the ends of all branches of the block.
        number: Which of them is at the end of this one.
        added: Whether what they give is added as it is.
        padding: The argument of the block's call that is true at the positions that count, or None.
    """

    projection: Projection
    ends: tuple[Any, ...]
    number: int
    added: bool
    padding: str | None


def branches_of(graph: Graph, theirs: Any, layer: Any) -> list[Branch]:
    """List the branches of a residual block, in the order in which they are added.

    Args:
        graph: The parent's graph.
        theirs: The parent's layer.
        layer: The same, or what is left of it: its variables are in the same order.

    Returns:
        None where the layer is no such block, or where a branch does not end in a linear map.
    """
    blueprint = graph.blueprints.get(id(theirs))
    if blueprint is None or blueprint.skip is None:
        return []
    variables, skip = list(layer.variables), blueprint.skip
    found = [_holder(layer, variables[place]) for place in skip.silenced]
    ends = tuple(dict.fromkeys(found))
    maps = [map_of(end.name, end) for end in ends]
    padding = _padding(graph, theirs)
    kernels = [one for one in maps if one is not None]
    if len(kernels) < len(ends):
        return []
    return [Branch(one, ends, number, skip.added, padding) for number, one in enumerate(kernels)]


def inputs_of(
    program: Program, path: str, values: Mapping[Slot, Any], branches: Sequence[Branch]
) -> list[list[Any]]:
    """Run a model's layers in inference mode up to a block; return what branches' ends are given.

    What no branch asks for is not computed: a compiled step leaves it out.

    Args:
        program: The calls of a Sequential or functional model.
        path: The block.
        values: What is known before its first call.
        branches: Some of its branches.

    Returns:
        For each call of the block, for each branch, a pair: what the branch's last projection is
        called on, with the mask of the positions that count; and, float32, what its answer is added
        to, or None where it is not added as it is.
    """
    places = program.places(path)
    ends = branches[0].ends
    found: list[list[Any]] = []

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if call.path != path:
            return infer(call, args, kwargs)
        heard: dict[int, tuple[Any, Any]] = {}
        with ExitStack() as stack:
            for number, end in enumerate(ends):

                def hear(asked: Any, answer: Any, number: int = number) -> None:
                    heard[number] = tree.flatten(asked)[0], answer

                stack.enter_context(listening(end, hear))
            outputs = infer(call, args, kwargs)
        stream = first_argument(call.operation, args, kwargs)
        whole = tree.flatten(outputs)[0]
        mask = mask_of(whole)
        found.append([])
        for branch in branches:
            # A copy: other parts of the block may go by a mask of their own.
            x = ops.copy(heard[branch.number][0])
            told = None
            if branch.padding is not None:
                told = counted_positions(call.operation, (args, kwargs), branch.padding)
            x = with_mask(x, mask if told is None else told)
            before = [ops.cast(heard[other][1], "float32") for other in range(branch.number)]
            added = sum(before, start=ops.cast(stream, "float32")) if branch.added else None
            found[-1].append((x, added))
        if len(found) == len(places):
            raise AllFoundError
        return outputs

    with suppress(AllFoundError):
        program.run(values, places[0], len(program.instructions), run)
    return found


def _holder(layer: Any, variable: Any) -> Any:
    """Return the layer inside a layer that has a variable for its own."""
    for part in layer._flatten_layers():
        own = (*part._trainable_variables, *part._non_trainable_variables)
        if any(one is variable for one in own):
            return part
    raise ValueError(f"no layer inside {layer.name!r} holds {variable.path!r}")


def _padding(graph: Graph, layer: Any) -> str | None:
    """Return the argument of a block's call that says which positions count."""
    called = next(t for t in graph.calls.values() if t.call.operation is layer)
    return next((one.padding for one in called.readings if one.padding), None)
