"""Where what a layer gives is added to something that is there already, as in a residual block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import activations, layers, tree
from keras.src.ops import numpy as knp
from numpy.typing import NDArray

from keras_nns.graph import linear
from keras_nns.graph.keras_internals import Call, Key, functional, walk
from keras_nns.graph.rules.elementwise import IDENTITIES


@dataclass(frozen=True)
class Junction:
    """A sum that a layer's output goes into.

    Attributes:
        key: The call that adds.
        path: Its path.
        others: Which of its operands are not the layer's.
        norm: Path of the batch norm between layer and sum; None where there is none.
        settled: Whether the other operands are computed before the layer is.
    """

    key: Key
    path: str
    others: tuple[int, ...]
    norm: str | None
    settled: bool = True

    def beside(self, operands: Sequence[Any]) -> Any:
        """Return the sum of what the layer's output is added to."""
        first, *rest = (operands[place] for place in self.others)
        return sum(rest, start=first)


@dataclass(frozen=True)
class _Value:
    """A tensor: the call it is of, and where in the graph's order layers with kernels led to it."""

    key: Key
    places: frozenset[int]


@dataclass(frozen=True)
class Remainder:
    """What is left of a sum of which all other summands became constant.

    Attributes:
        norm: Path of the batch norm between the layer and where the sum was; None without one.
        constant: What is added there still: a number, or one for each channel.
    """

    norm: str | None
    constant: NDArray[np.float32]


def junction_of(model: Any, path: str, *, settled: bool = True) -> Junction | None:
    """Return the sum that alone reads what a layer gives, a batch norm and dropout in between.

    None where there is no such sum, where the layer has an activation of its own or is called more
    than once, or where what it is added to is not settled when the layer is: layers are refitted
    in the order of the graph, and one that comes later may still change the other summand.

    Args:
        model: A Sequential or functional model.
        path: A Dense or a convolution.
        settled: Whether only a sum is asked for of which the other summands are settled.
    """
    found = _behind(model, path)
    return found if isinstance(found, Junction) and (found.settled or not settled) else None


def remainder_of(model: Any, path: str, sum_path: str) -> Remainder | None:
    """Return what is left of a sum that a layer's output went into, all else of it gone.

    None where something else than the layer's output is added still.

    Args:
        model: A model that lost branches.
        path: A Dense or a convolution.
        sum_path: Path of what added in the model it was cut from.
    """
    found = _behind(model, path, sum_path)
    return found if isinstance(found, Remainder) else None


def _behind(model: Any, path: str, sum_path: str = "") -> Junction | Remainder | None:
    calls = list(linear.calls_of(model))
    own = [call for call in calls if call.path == path]
    if len(own) != 1:
        return None
    layer = own[0].operation
    if layer.activation is not None and layer.activation is not activations.linear:
        return None
    place = {call.key: number for number, call in enumerate(calls)}
    readers: dict[Key, list[tuple[Call, list[Any]]]] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Value]:
        operands = [a for a in tree.flatten((args, kwargs)) if isinstance(a, _Value)]
        for key in {operand.key for operand in operands}:
            readers.setdefault(key, []).append((call, operands))
        behind: frozenset[int] = frozenset().union(*(o.places for o in operands))
        if linear.why_not(call.operation) is not None or linear.is_kind(call.operation):
            behind |= {place[call.key]}
        return [_Value(call.key, behind)] * len(call.outputs)

    inputs = [_Value((), frozenset())] * len(functional(model).inputs)
    shown = {value.key for value in walk(model, inputs, visit) if isinstance(value, _Value)}
    key, norm = own[0].key, None
    # Where no constant is left of a sum, nothing is left of it.
    nothing = sum_path and all(call.path != sum_path for call in calls)
    while len(readers.get(key, [])) == 1 and key not in shown:
        ((call, operands),) = readers[key]
        if norm is None and type(call.operation) is layers.BatchNormalization:
            key, norm = call.key, call.path
        elif type(call.operation) in IDENTITIES:
            key = call.key
        elif sum_path and call.path == sum_path and type(call.operation) is layers.Rescaling:
            return Remainder(norm, np.asarray(call.operation.offset, np.float32))
        elif nothing:
            break
        else:
            return _sum(call, operands, key, place[own[0].key], norm)
    return Remainder(norm, np.zeros((), np.float32)) if nothing else None


def _sum(
    call: Call, operands: Sequence[_Value], mine: Key, place: int, norm: str | None
) -> Junction | None:
    if type(call.operation) not in (layers.Add, knp.Add):
        return None
    others = tuple(i for i, operand in enumerate(operands) if operand.key != mine)
    if len(others) != len(operands) - 1 or not others:
        return None
    settled = all(max(operands[i].places, default=-1) < place for i in others)
    return Junction(call.key, call.path, others, norm, settled)
