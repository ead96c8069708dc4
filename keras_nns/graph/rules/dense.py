"""Layers that multiply by a matrix."""

from __future__ import annotations

from keras import layers

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.elementwise import apply_activation
from keras_nns.graph.rules.records import Keep, Units
from keras_nns.graph.rules.registry import rule


@rule(layers.Dense)
def dense(site: Site) -> None:
    """Kernel `(features, units)`, bias `(units,)`; other axes pass through.

    With LoRA the kernel is `kernel + lora_kernel_a @ lora_kernel_b`: its factors
    `(features, rank)` and `(rank, units)` are sliced alike.
    """
    layer = site.operation
    features, units = site.input.on(-1), site.make(layer.units)
    if layer.quantization_mode is not None:
        quantised(site, units)
    else:
        site.bind(layer._kernel, {0: features, 1: units})
        if layer.lora_enabled:
            site.bind(layer.lora_kernel_a, {0: features})
            site.bind(layer.lora_kernel_b, {1: units})
        site.bind(layer.bias, {0: units})
        site.reads(features)
        site.configure("units", units)
    site.emit({**site.input.units, site.input.rank - 1: units})
    apply_activation(site, layer.activation)


@rule(layers.EinsumDense)
def einsum_dense(site: Site) -> None:
    """Follow the letters of the equation: one in the kernel and the output alone makes units.

    With several of those (`"abc,cde->abde"`) the layer makes units of several kinds, named by
    their letters: `"layer:d"` and `"layer:e"`.
    """
    layer = site.operation
    source, kernel, target = _letters(layer.equation, site.input.rank, len(site.shapes[0]))
    made = [letter for letter in target if letter in kernel and letter not in source]
    units: dict[str, Units | None] = {
        letter: site.input.on(axis) for axis, letter in enumerate(source)
    }
    sizes = dict(zip(target, site.shapes[0], strict=True))
    for letter in made:
        size = sizes[letter]
        assert size is not None
        units[letter] = site.make(size, letter if len(made) > 1 else "")
    if layer.quantization_mode is not None:
        quantised(site, *[units[letter] for letter in made])
    else:
        site.bind(layer._kernel, {axis: units[letter] for axis, letter in enumerate(kernel)})
        if layer.lora_enabled:
            last = len(kernel) - 1
            site.bind(
                layer.lora_kernel_a,
                {axis: units[letter] for axis, letter in enumerate(kernel[:last])},
            )
            site.bind(layer.lora_kernel_b, {1: units[kernel[last]]})
        if layer.bias is not None:
            rank = len(layer.bias.shape)
            site.bind(
                layer.bias,
                {
                    axis: units[letter]
                    for axis, letter in enumerate(target[-rank:])
                    if letter in layer.bias_axes
                },
            )
        for letter in kernel:
            if letter in source:
                site.reads(units[letter])
        _configure_shape(site, target, units)
    site.emit({axis: units[letter] for axis, letter in enumerate(target)})
    apply_activation(site, layer.activation)


def _letters(equation: str, source_rank: int, target_rank: int) -> tuple[str, str, str]:
    """Write an equation without its dots: digits stand for the axes they leave out."""
    left, target = equation.replace(" ", "").split("->")
    source, kernel = left.split(",")
    missing = source_rank - len(source.replace("...", ""))
    dots = "".join(str(i) for i in range(missing))
    # Keras also takes an equation that leaves the dots out of one side and writes 0 for them.
    return source.replace("...", dots), kernel, target.replace("...", dots)


def _configure_shape(site: Site, target: str, units: dict[str, Units | None]) -> None:
    layer = site.operation
    given = list(layer.partial_output_shape)
    # The configured shape leaves the batch axis out, and the axes that dots in front stand for.
    first = 1 if layer.equation.endswith("...") else len(target) - len(given)

    def shape(keep: Keep) -> tuple[int | None, ...]:
        sizes = list(given)
        for place in range(len(sizes)):
            numbers = units[target[first + place]]
            if numbers is not None and sizes[place] is not None:
                sizes[place] = keep.count(numbers)
        return tuple(sizes)

    site.configure("output_shape", shape)


def quantised(site: Site, *made: Units | None) -> None:
    """Protect everything around a quantised layer: its scales belong to its full shape."""
    reason = f"{site.title} is quantised; cut first, quantise the subnetwork afterwards"
    site.protect_all(reason)
    for units in made:
        site.protect(units, reason)
