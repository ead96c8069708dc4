"""Operations that take an axis apart or put copies together: tiles, gates, blocks, patterns.

Like all that moves elements: the unit numbers are carried through, and read where they come out.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from keras.src.ops import nn
from keras.src.ops import numpy as knp
from keras.src.ops.einops import Rearrange

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.convolution import channel_axis, fix_space
from keras_nns.graph.rules.operands import change_argument
from keras_nns.graph.rules.records import Keep, Stream
from keras_nns.graph.rules.registry import known, rule
from keras_nns.graph.rules.shaping import reshape_units


@rule(knp.Tile)
def tile(site: Site) -> None:
    """Put copies behind one another; copies of a unit stay or go with it."""
    rank = len(site.shapes[0])
    times = np.atleast_1d(site.operation.repeats).tolist()
    times = [1] * (rank - len(times)) + times
    shift = rank - site.input.rank
    site.emit(
        {a + shift: np.tile(units, times[a + shift]) for a, units in site.input.units.items()}
    )


@rule(nn.Glu)
def gated_linear_unit(site: Site) -> None:
    """Multiply the first half by the sigmoid of the second: a unit leaves with its gate."""
    axis = site.operation.axis % site.input.rank
    units = dict(site.input.units)
    if axis in units:
        half = len(units[axis]) // 2
        units[axis] = site.couple(units[axis][:half], units[axis][half:])
    site.emit(units)


@rule(*known(nn, "DepthToSpace"))
def depth_to_space(site: Site) -> None:
    """Channel `b * channels + c` becomes channel `c` of pixel `b` of a block."""
    channels = fix_space(site, "moves pixels")
    if channels is not None:
        pixels = channels.reshape(site.operation.block_size**2, -1)
        channels = pixels[0]
        for other in pixels[1:]:
            channels = site.couple(channels, other)
    site.emit({channel_axis(site): channels})


@rule(*known(nn, "SpaceToDepth"))
def space_to_depth(site: Site) -> None:
    """Channel `c` of pixel `b` of a block becomes channel `b * channels + c`."""
    channels = fix_space(site, "moves pixels")
    wide = None if channels is None else np.tile(channels, site.operation.block_size**2)
    site.emit({channel_axis(site): wide})


@rule(Rearrange)
def rearrange(site: Site) -> None:
    """Follow the pattern as Keras does: take axes apart, move them, join them.

    Of an axis that is taken apart, the last part carries the units, as in any reshape. A length
    that the call names for that part becomes what is kept.
    """
    pattern = site.args[1] if len(site.args) > 1 else site.kwargs["pattern"]
    left, right = (re.findall(r"\w+|\(.*?\)", side) for side in pattern.split("->"))
    sizes: dict[str, int | None] = {}
    for axis, size in zip(left, site.input.shape, strict=True):
        parts = re.findall(r"\w+", axis)
        named = int(np.prod([site.kwargs[part] for part in parts if part in site.kwargs]))
        rest = None if size is None else size // named
        sizes |= {part: site.kwargs.get(part, rest) for part in parts}
    before = list(sizes)
    after = [part for axis in right for part in re.findall(r"\w+", axis)]
    apart = reshape_units(site, site.input, tuple(sizes[part] for part in before))
    units = {before[axis]: numbers for axis, numbers in apart.items()}
    moved = Stream(
        tuple(sizes[part] for part in after),
        {after.index(part): numbers for part, numbers in units.items()},
    )
    site.emit(reshape_units(site, moved, site.shapes[0]))
    for part in units.keys() & site.kwargs.keys():

        def length(keep: Keep, _: Any, part: str = part) -> int:
            return keep.count(units[part])

        change_argument(site, part, length)
