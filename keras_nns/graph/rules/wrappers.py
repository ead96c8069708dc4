"""Layers that hold another layer, and layers that hold code."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_nns.graph.rules import recurrent
from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.records import Stream, Units
from keras_nns.graph.rules.recurrent import RECURRENT
from keras_nns.graph.rules.registry import rule, rule_of


@rule(layers.TimeDistributed)
def time_distributed(site: Site) -> None:
    """The inner layer's rule, on tensors without the axis of steps."""
    site.protect(site.input.on(1), f"{site.title} runs along their axis")
    inner = site.part(
        site.operation.layer,
        [_without_steps(stream) for stream in site.inputs[:1]],
        [(shape[0], *shape[2:]) for shape in site.shapes],
        config=("layer", "config"),
    )
    _describe(site, inner)
    assert inner.outputs is not None
    site.emit(*[{axis + 1: u for axis, u in s.units.items()} for s in inner.outputs])
    site.passing = inner.passing


def _without_steps(stream: Stream) -> Stream:
    return Stream(
        (stream.shape[0], *stream.shape[2:]),
        {axis - 1: units for axis, units in stream.units.items() if axis > 1},
    )


@rule(layers.SpectralNormalization)
def spectral_normalization(site: Site) -> None:
    """The inner layer's rule: its kernel is normalised while training, and only then.

    What inference uses is the kernel as training left it. `vector_u` `(1, outputs)` is where the
    next training step starts its power iteration; it loses the same positions.
    """
    layer = site.operation
    inner = site.part(layer.layer, site.inputs, site.shapes, config=("layer", "config"))
    _describe(site, inner)
    assert inner.outputs is not None
    units = inner.outputs[0].on(-1) if type(layer.layer) in _LAST_IS_OUTPUT else None
    if units is None:
        site.protect_all(
            f"{site.title} wraps a layer whose kernel it reads otherwise",
            [*site.inputs, *inner.outputs],
        )
    else:
        site.bind(layer.vector_u, {1: units})
    site.emit(*[stream.units for stream in inner.outputs])
    site.passing = inner.passing


_LAST_IS_OUTPUT = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Embedding,
)


def _describe(site: Site, inner: Site) -> None:
    """Run the rule of the wrapped layer, or protect everything where there is none."""
    rule = rule_of(inner.operation)
    if rule is None:
        site.protect_all(
            f"{site.title} wraps a {type(inner.operation).__name__}, which has no rule; write a "
            "wrapped model out with keras_nns.unfold"
        )
    else:
        rule(inner)
    if inner.outputs is None:
        inner.emit(*[{} for _ in inner.shapes])


@rule(layers.Bidirectional)
def bidirectional(site: Site) -> None:
    """Two recurrent layers, one for each direction, that lose the same units.

    Keras takes the output to be twice as wide as the forward layer, so the two must stay equally
    wide: unit `i` of one leaves with unit `i` of the other. Where they are concatenated the layer
    makes `2 n` units; where they are merged element by element, `n`.
    """
    layer = site.operation
    forward, backward = layer.forward_layer, layer.backward_layer
    if type(forward) not in RECURRENT or type(backward) not in RECURRENT:
        site.protect_all(f"{site.title} wraps a layer that is not a recurrent layer of Keras")
        site.emit(*[{} for _ in site.shapes])
        return
    count = recurrent.size_of_cell(forward.cell)
    first, second = _directions(site, count)
    half = len(site.kwargs.get("initial_state") or ()) // 2
    states: list[Units] = []
    for place, (part, units) in enumerate(((forward, first), (backward, second))):
        key = ("layer", "backward_layer")[place]
        inner = site.part(part, site.inputs, [], config=(key, "config"))
        features = recurrent.step_axis(inner)
        recurrent.cell(inner, part.cell, features, units, config=())
        numbers = [units] * recurrent.states_of(part.cell)
        given = recurrent.initial_states(site)[place * half : (place + 1) * half]
        for stream, own in zip(given, numbers, strict=False):
            site.couple(stream.on(-1), own)
        states += numbers
    if layer.merge_mode == "concat":
        results = [np.concatenate([first, second])]
    elif layer.merge_mode is None:
        results = [first, second]
    else:
        results = [first]
    if layer.return_state:
        results += states
    axis = 2 if getattr(forward, "data_format", "") == "channels_first" else -1
    site.emit(*[{axis: units} for units in results])
    site.passing.nonlinear = True


def _directions(site: Site, count: int) -> tuple[Units, Units]:
    mode = site.operation.merge_mode
    if mode == "concat":
        both = site.make(2 * count)
        site.couple(both[:count], both[count:])
        return both[:count], both[count:]
    if mode is None:
        first, second = site.make(count, "forward"), site.make(count, "backward")
        site.couple(first, second)
        return first, second
    units = site.make(count)
    return units, units


@rule(layers.Lambda)
def code(site: Site) -> None:
    """Protect everything: what a function does to units cannot be read from it."""
    site.protect_all(
        f"{site.title} runs code that cannot be read; write it with keras.ops or as a layer with "
        "a rule (keras_nns.rules.register)"
    )
    site.emit(*[{} for _ in site.shapes])
