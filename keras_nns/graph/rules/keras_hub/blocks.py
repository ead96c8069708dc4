"""What the blocks of all kinds of transformers have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras_hub.src.utils.keras_utils import gelu_approximate

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.elementwise import is_elementwise, register_elementwise
from keras_nns.graph.rules.records import Units

register_elementwise(gelu_approximate)


def remake(holder: Any, name: str, new: Any, *shapes: Any) -> None:
    """Put a sublayer in the place of one that the base class has built too wide.

    KerasHub divides the width of the stream by the number of heads, which fits no layer that lost
    some of its heads, and takes no other size. So its own `build` runs, and what holds heads is
    made again. It stays at its place among the sublayers, which is the order of the weights.

    Args:
        holder: The layer that holds it.
        name: The attribute that it is.
        new: What takes its place, not yet built.
        *shapes: What `new` is built for.
    """
    old = getattr(holder, name)
    place = next(i for i, layer in enumerate(holder._layers) if layer is old)
    new.build(*shapes)
    holder._tracker.untrack(old)
    setattr(holder, name, new)
    holder._layers.insert(place, holder._layers.pop())


def keep_stream(site: Site) -> None:
    """Protect the residual stream, and say that what comes out carries no units."""
    site.protect_all(f"{site.title} normalises over the features of its stream")
    site.emit(*[{} for _ in site.shapes])


def shared_heads(site: Site, query_heads: int, heads: int) -> tuple[Units, Units | None]:
    """Make heads; one key and value head for all stays, and each query head leaves by itself."""
    made = site.make(query_heads if heads == 1 else heads, "heads")
    site.reads(made)
    return (made, None) if heads == 1 else (np.repeat(made, query_heads // heads), made)


def hidden_units(site: Site, count: int, activation: Any) -> Units:
    """Make the hidden units of a feed-forward part."""
    hidden = site.make(count, "hidden")
    site.reads(hidden)
    if not is_elementwise(activation):
        site.protect(hidden, f"{site.title} has an activation that may mix units")
    return hidden
