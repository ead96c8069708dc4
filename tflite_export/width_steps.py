"""Layers whose width an NPU does not like, as its own compiler says of other widths."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tflite_export.ethos_u import compiled, cycles_and_sram
from tflite_export.files import read
from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.one_layer import OneLayer, inner_layers

__all__ = ["NpuStep", "npu_steps"]

_FEW = 4
"""Units that may leave for a step: one in so many."""

_WORTH = 1.5
"""How much more cycles than units must leave, as shares, for a step to be told."""

_CHEAPER = 0.95
"""More units must take less than this share of the cycles to be told."""


@dataclass(frozen=True)
class NpuStep:
    """A layer that stands just behind a step of an NPU, or just before a width that is cheaper.

    Attributes:
        layer: Its name in the file.
        operator: Its operator, such as `"CONV_2D"`.
        units: How many units it has.
        cycles: What it takes alone.
        better: A number of units near it that is better.
        better_cycles: What it would take with those.

    Example:
        >>> step = tflite_export.NpuStep("conv", "CONV_2D", 17, 41_200, 16, 28_483)
        >>> print(step)
        conv has 17 units: 16 would take 0.69 of its cycles
    """

    layer: str
    operator: str
    units: int
    cycles: int
    better: int
    better_cycles: int

    def __str__(self) -> str:
        share = f"{self.better_cycles / self.cycles:.2f} of its cycles"
        return f"{self.layer} has {self.units} units: {self.better} would take {share}"


def npu_steps(
    source: bytes | str | os.PathLike[str], *, target: str = "ethos-u55-128"
) -> tuple[NpuStep, ...]:
    """Ask an NPU's compiler which layers of a file have a width that it does not like.

    Hardware computes by blocks of channels, so that one unit more can cost what eight cost, or one
    more can cost less. Every layer that others read is given to the compiler alone, in the width it
    has and in a dozen near it. Told are widths that save half as many cycles again as units, with
    at most a quarter of the units gone, and larger widths that take fewer cycles. What a layer
    takes in its network differs a little from what it takes alone; `keras_nns.npu_widths` asks
    about whole networks, which needs the Keras model.

    Args:
        source: The file's bytes, or its path: a file with integer arithmetic.
        target: The NPU, one of `tflite_export.NPU_TARGETS`.

    Returns:
        The layers, in the order of the file; none where all widths are well chosen, or nothing runs
        on an NPU.

    Raises:
        OptionError: There is no such target.
        FlatbufferError: Not a TFLite model, or a damaged one.
        ConversionError: Vela is missing, or cannot compile a layer.
        ExportFileError: The path cannot be read.

    Example:
        >>> tflite_export.npu_steps(flat, target="ethos-u55-128")
        ()
    """
    flat = read(source) if isinstance(source, (str, os.PathLike)) else bytes(source)
    ours = container.check(flat) is not None
    found = []
    for layer in inner_layers(container.parse(flat)):
        cycles = _asking(layer, target)
        better = better_width(cycles, layer.units)
        if better is not None:
            name = _named(layer.kernel, scoped=ours)
            costs = cycles(layer.units), cycles(better)
            found.append(NpuStep(name, layer.operator, layer.units, costs[0], better, costs[1]))
    return tuple(found)


def _asking(layer: OneLayer, target: str) -> Callable[[int], int]:
    return cache(lambda units: cycles_and_sram(compiled(layer.file(units), target)[0])[0])


def better_width(cost: Callable[[int], float], units: int) -> int | None:
    """Find a width near one that is clearly better, asking about few.

    Args:
        cost: What a width costs.
        units: The width.

    Returns:
        A larger one that costs less, the cheapest of those asked about; or else a smaller one that
        saves more than its share; `None` where there is neither.
    """
    steps = [2**power for power in range(max(units // 2, 1).bit_length())]
    whole = cost(units)
    if not whole:
        return None
    wider = min((units + step for step in steps), key=cost)
    if cost(wider) < _CHEAPER * whole:
        return nearest(cost, units, wider)
    fewest = units - units // _FEW
    near = sorted({max(units - step, fewest) for step in steps if fewest < units}, reverse=True)
    saved = {width: (1 - cost(width) / whole) / (1 - width / units) for width in near}
    best = max(near, key=lambda width: saved[width], default=units)
    best = nearest(cost, units, best)
    if best < units and 1 - cost(best) / whole > _WORTH * (1 - best / units):
        return best
    return None


def nearest(cost: Callable[[int], float], units: int, found: int) -> int:
    """Halve the way from a width to the nearest that is on the same side of a step as another.

    Args:
        cost: What a width costs.
        units: The width.
        found: A width on the other side of the step.
    """
    far, near = found, units
    between = (cost(units) + cost(found)) / 2
    while abs(far - near) > 1:
        middle = (far + near) // 2
        if cost(middle) <= between:
            far = middle
        else:
            near = middle
    return far


def _named(kernel: str, *, scoped: bool) -> str:
    """Name a layer by its kernel; scopes of Keras end in a number that is none of the layer's."""
    scopes = kernel.split(";", maxsplit=1)[0].split("/")
    if len(scopes) < 2:
        return kernel
    return re.sub(r"_\d+$", "", scopes[-2]) if scoped else scopes[-2]
