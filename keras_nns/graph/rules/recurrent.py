"""Recurrent layers: a unit is one cell unit with all its gates and its state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, tree
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.elementwise import is_elementwise
from keras_nns.graph.rules.records import Path, Stream, Units
from keras_nns.graph.rules.registry import rule

GATES = {
    layers.SimpleRNNCell: 1,
    layers.GRUCell: 3,
    layers.LSTMCell: 4,
    ConvLSTMCell: 4,
}
"""How many gates lie behind one another on the last axis of a cell's weights."""

RECURRENT = (
    layers.SimpleRNN,
    layers.GRU,
    layers.LSTM,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
)


@rule(*RECURRENT)
def recurrent(site: Site) -> None:
    """One cell; its configuration is the layer's own."""
    layer = site.operation
    features = step_axis(site)
    units = site.make(size_of_cell(layer.cell))
    cell(site, layer.cell, features, units, config=())
    emit_states(site, units, [units] * states_of(layer.cell))


@rule(layers.RNN)
def any_cell(site: Site) -> None:
    """A cell of Keras or a stack of them; each cell of a stack makes units of its own."""
    layer = site.operation
    stack = type(layer.cell) is layers.StackedRNNCells
    cells: list[Any] = list(layer.cell.cells) if stack else [layer.cell]
    odd = [type(one).__name__ for one in cells if type(one) not in GATES]
    if odd:
        site.protect_all(f"{site.title} runs a cell without a rule ({', '.join(odd)})")
        site.emit(*[{} for _ in site.shapes])
        return
    features = step_axis(site)
    states: list[Units] = []
    for index, one in enumerate(cells):
        last = index == len(cells) - 1
        units = site.make(size_of_cell(one), "" if last else f"cell_{index}")
        place: Path = ("cell", "config")
        if stack:
            place = (*place, "cells", index, "config")
        # Units of an inner cell are gone before the layer's output: mask them where they are read.
        cell(site, one, features, units, config=place, quiet=index > 0)
        states += [units] * states_of(one)
        features = units
    emit_states(site, features, states)  # type: ignore[arg-type]


def cell(
    site: Site,
    one: Any,
    features: Units | None,
    units: Units,
    *,
    config: Path,
    quiet: bool = False,
) -> None:
    """Bind the weights of a cell; every gate loses the same units.

    Kernel `(…, features, gates * units)`, recurrent kernel `(…, units, gates * units)`, bias
    `(gates * units,)`, or `(2, gates * units)` for a GRU that resets after the product. Removed
    units are silenced in the rows of the recurrent kernel: their state does not act on others.

    Args:
        site: The call.
        one: The cell.
        features: Units on its input.
        units: Its own.
        config: Where the cell's settings lie in the layer's configuration.
        quiet: Also silence the rows that read the features.
    """
    gated = np.tile(units, GATES[type(one)])
    site.bind(one.kernel, {-2: features, -1: gated}, silence=(-2,) if quiet else ())
    site.bind(one.recurrent_kernel, {-2: units, -1: gated}, silence=(-2,))
    site.bind(one.bias, {-1: gated})
    site.reads(features)
    site.reads(units)
    key = "filters" if isinstance(one, ConvLSTMCell) else "units"
    site.configure((*config, key), units)
    for function in (one.activation, getattr(one, "recurrent_activation", None)):
        if not is_elementwise(function):
            name = getattr(function, "__name__", type(function).__name__)
            site.protect(
                units,
                f"{site.title} applies {name!r}, which may mix units; declare it with "
                "keras_nns.rules.register_elementwise if it does not",
            )


def size_of_cell(one: Any) -> int:
    """Return how many units a cell has."""
    return int(one.filters if isinstance(one, ConvLSTMCell) else one.units)


def states_of(one: Any) -> int:
    """Return how many states a cell has, each as wide as its units."""
    return 2 if isinstance(one, layers.LSTMCell | ConvLSTMCell) else 1


def step_axis(site: Site) -> Units | None:
    """Return the units of the input that one step sees; protect those along other axes."""
    axis = 2 if getattr(site.operation, "data_format", "") == "channels_first" else -1
    sequence = site.input
    for other, units in sequence.units.items():
        if other != axis % sequence.rank:
            site.protect(units, f"{site.title} runs or convolves along their axis")
    return sequence.on(axis)


def emit_states(site: Site, units: Units, states: Sequence[Units]) -> None:
    """Say what comes out: the output, and the states where they are returned; and what comes in."""
    layer = site.operation
    given = initial_states(site)
    if given:
        for stream, numbers in zip(given, states, strict=True):
            site.couple(stream.on(_channels(layer, stream.rank)), numbers)
    carried = [units, *states] if layer.return_state else [units]
    site.emit(
        *[
            {_channels(layer, len(shape)): numbers}
            for shape, numbers in zip(site.shapes, carried, strict=True)
        ]
    )
    site.passing.nonlinear = True


def initial_states(site: Site) -> list[Stream]:
    """Return the states that the call was given."""
    given = site.kwargs.get("initial_state", site.args[1] if len(site.args) > 1 else None)
    return [one for one in tree.flatten(given) if isinstance(one, Stream)]


def _channels(layer: Any, rank: int) -> int:
    """Return the axis of the units in an output or a state of this rank."""
    if getattr(layer, "data_format", "") != "channels_first":
        return rank - 1
    return rank - 1 - int(layer.cell.rank)
