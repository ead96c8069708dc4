"""What the blocks of all kinds of transformers have in common: heads and hidden units.

A rule names the attributes of its kind of block. Which axis of a projection carries the units is
read from the projection itself, and from the class's own arguments whether it can be told the size
of a head, so that a cut layer is of the stock class where that can say what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from keras_hub.src.utils.keras_utils import gelu_approximate

from keras_nns.graph.rules.attention import shares
from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.elementwise import is_elementwise, register_elementwise
from keras_nns.graph.rules.keras_hub.sized import (
    Sized,
    at,
    config_of,
    inner,
    is_savable,
    sized,
    stock_of,
)
from keras_nns.graph.rules.records import Edit, Keep, Units

register_elementwise(gelu_approximate)

DENSE = ("_query_dense", "_key_dense", "_value_dense", "_output_dense")
PUBLIC_DENSE = ("query_dense", "key_dense", "value_dense", "output_dense")
PROJECTORS = ("query_projector", "key_projector", "value_projector", "output_projector")

_QUERY_HEADS = (
    *("num_heads", "_num_heads", "num_query_heads", "_num_query_heads", "num_attention_heads"),
)
_SHARED_HEADS = ("num_key_value_heads", "_num_key_value_heads")
_GROUPS = ("num_key_value_groups", "_num_key_value_groups")
_HEAD_SIZE = ("head_dim", "key_value_dim")


class Block:
    """What a rule says of a layer that is a transformer block, or holds several.

    Args:
        site: The call of the layer.
        padding: The argument of its call that is true at the positions that count.
    """

    def __init__(self, site: Site, *, padding: str | None = None) -> None:
        self._site = site
        self._padding = padding
        self._layer = site.operation
        self._config = config_of(self._layer)
        self._attributes: dict[tuple[str, str], Edit] = {}
        self._answers: dict[tuple[str, str], Edit] = {}
        self._edits: dict[str, Edit] = {}
        self._routers: dict[str, Units] = {}
        # Units that no argument of the class counts: without them it is not of the stock class.
        self._untold: list[Units] = []
        self._ends: list[Any] = []

    def attention(
        self,
        path: str,
        names: Sequence[str],
        *,
        part: str = "",
        kind: str = "heads",
        merged: Sequence[str] = (),
        holders: Sequence[str] = ("",),
    ) -> Units:
        """Describe an attention: each key and value head leaves with its query heads.

        One key and value head for all stays, and each query head leaves by itself.

        Args:
            path: Where it lies in the layer.
            names: Its projections: of queries, keys, values, and the output's.
            part: Name of the block that it lies in, where the layer holds several.
            kind: What the heads are called.
            merged: Its attributes that count the dimensions of all heads.
            holders: Where further layers lie that know the number of heads.

        Returns:
            The query heads, one number for each: heads of a group have the same.
        """
        site, layer = self._site, at(self._layer, path)
        *made, out = (getattr(layer, name) for name in names)
        total = _known(layer, _QUERY_HEADS)
        shared = _known(layer, _SHARED_HEADS, total)
        alone = shared == 1
        heads = site.make(total if alone else shared, f"{part}{kind}")
        queries = heads if alone else np.repeat(heads, total // shared)
        groups: list[Units | None] = [queries, *[None if alone else heads] * (len(made) - 1)]
        for dense, units in zip(made, groups, strict=True):
            if units is not None:
                self._make(dense, units)
        self._read(out, queries)
        site.reads(heads)
        if quantised([*made, out]):
            site.protect(heads, _quantised(site))
        else:
            site.watch(heads, out, shares(out, len(heads)), padding=self._padding)
        if any(name in self._config for name in _HEAD_SIZE) and not part:
            for name in (*_QUERY_HEADS, *(_SHARED_HEADS if not alone else ())):
                if name in self._config:
                    self._edits[name] = _count(heads if name in _SHARED_HEADS else queries)
            if self._config.get("head_dim", 0) is None:
                size = made[0].kernel.shape[-1]
                self._edits["head_dim"] = lambda keep: None if keep.all(heads) else size
            return queries
        self._untold.append(queries)
        for holder in (path, *holders):
            self._tell(holder, _QUERY_HEADS, _count(queries))
            if not alone:
                self._tell(holder, _SHARED_HEADS, _count(heads))
            else:
                # Said again of a block that came to one by a cut: its class was made with more.
                self._tell(holder, _SHARED_HEADS, lambda _: 1)
                self._tell(holder, _GROUPS, _count(queries))
        size = out.kernel.shape[inner(out, 0)] // total
        self._tell(path, merged, lambda keep: size * keep.count(queries))
        return queries

    def hidden(
        self,
        up: Sequence[str],
        down: str,
        *,
        activation: Any = None,
        key: str | None = "intermediate_dim",
        times: int = 1,
        part: str = "",
        kind: str = "hidden",
    ) -> Units:
        """Describe a feed-forward part.

        Args:
            up: Where the projections lie that make hidden units (a gate and what it gates).
            down: Where the one lies that reads them.
            activation: What is applied between them.
            key: The argument of the layer's class that counts them; None where none does.
            times: What it counts for each of them.
            part: Name of the block that it lies in, where the layer holds several.
            kind: What the units are called.

        Returns:
            The units.
        """
        site = self._site
        made, out = [at(self._layer, path) for path in up], at(self._layer, down)
        units = site.make(out.kernel.shape[inner(out, 0)], f"{part}{kind}")
        for dense in made:
            self._make(dense, units)
        self._read(out, units)
        site.reads(units)
        if not is_elementwise(activation):
            site.protect(units, f"{site.title} has an activation that may mix units")
        if quantised([*made, out]):
            site.protect(units, _quantised(site))
        else:
            site.watch(units, out, padding=self._padding)
        if key is None:
            self._untold.append(units)
        else:
            self._edits[key] = lambda keep: times * keep.count(units)
        return units

    def residual(self, *, added: bool = True) -> None:
        """Say that the layer adds to its input what its branches give, so that it can leave.

        Args:
            added: Whether it is what the described projections give, no norm in between.
        """
        block = self._site.make(1, "block")
        ends = [w for out in self._ends for w in (out._kernel, out.bias)]
        self._site.skips(block, *ends, added=added)
        self._site.watch(block, self._layer, influence, padding=self._padding)
        if quantised(self._ends):
            self._site.protect(block, _quantised(self._site))

    def tell(self, path: str, name: str, value: Edit) -> None:
        """Say what an attribute of a layer inside becomes."""
        self._attributes[path, name] = value

    def answer(self, path: str, method: str, value: Edit) -> None:
        """Say what a method of a layer inside gives once heads have left."""
        self._answers[path, method] = value

    def route(self, path: str, experts: Units) -> None:
        """Say which projection inside sends tokens to experts."""
        self._routers[path] = experts
        self._make(at(self._layer, path), experts)

    def count(self, key: str, units: Units) -> None:
        """Say which argument of the layer's class counts units."""
        self._edits[key] = _count(units)

    def finish(self, kind: type | None = None) -> None:
        """Say that nothing of the stream leaves, and what the new layer is made of.

        Args:
            kind: The class of the new layer, where a file of KerasHub's own is not read back.
        """
        site, layer = self._site, self._layer
        if site.outputs is None:
            site.protect_all(f"{site.title} normalises over the features of its stream")
            site.emit(*[{} for _ in site.shapes])

        def make(keep: Keep) -> tuple[type, dict[str, Any]]:
            config = {**self._config, **{key: edit(keep) for key, edit in self._edits.items()}}
            new = {place: edit(keep) for place, edit in self._attributes.items()}
            told = not isinstance(layer, Sized) and all(keep.all(one) for one in self._untold)
            if told and is_savable(layer):
                return kind or type(layer), config
            answers = {place: edit(keep) for place, edit in self._answers.items()}
            sizes = {
                "shapes": [list(shape) for shape in site.kept_shapes(keep)],
                "attributes": _by_path(new),
                "answers": _by_path(answers),
                "closed": {},
                "told": told,
            }
            return sized(stock_of(layer)), {**config, "sizes": sizes}

        def close(keep: Keep) -> tuple[type, dict[str, Any]]:
            sizes = {
                "shapes": [list(variable.shape) for variable in layer.variables],
                "attributes": _by_path(
                    {p: getattr(at(layer, p[0]), p[1]) for p in self._attributes}
                ),
                "answers": {},
                "closed": {
                    path: np.flatnonzero(~keep.mask(experts)).tolist()
                    for path, experts in self._routers.items()
                },
            }
            return sized(stock_of(layer)), {**self._config, "sizes": sizes}

        site.rebuild(make, close=close if self._routers else None)

    def _make(self, dense: Any, units: Units) -> None:
        axis = inner(dense, 1)
        self._site.bind(dense._kernel, {axis: _filling(units, dense._kernel.shape[axis])})
        if dense.bias is not None:
            self._site.bind(dense.bias, {0: _filling(units, dense.bias.shape[0])})

    def _read(self, dense: Any, units: Units) -> None:
        self._ends.append(dense)
        axis = inner(dense, 0)
        axes = {axis: _filling(units, dense._kernel.shape[axis])}
        self._site.bind(dense._kernel, axes, silence=(axis,))

    def _tell(self, path: str, names: Sequence[str], value: Edit) -> None:
        for name in names:
            if name in vars(at(self._layer, path)):
                self.tell(path, name, value)


def influence(given: Any, returned: Any) -> Any:
    """Return one minus the cosine of what goes into a block and what comes out, `(…, 1)`.

    The block influence of Men et al. 2024 (*ShortGPT*, eq. 1), at each position by itself.
    """
    x, y = ops.cast(given, "float32"), ops.cast(returned, "float32")
    product = ops.sum(x * y, axis=-1, keepdims=True)
    squares = ops.sum(x * x, axis=-1, keepdims=True) * ops.sum(y * y, axis=-1, keepdims=True)
    # Rounding may take what is close to 0 below it.
    return ops.maximum(1 - product * ops.rsqrt(ops.maximum(squares, 1e-30)), 0.0)


def _by_path(found: dict[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for (path, name), value in found.items():
        paths.setdefault(path, {})[name] = value
    return paths


def quantised(projections: Sequence[Any]) -> bool:
    """Return whether projections were given LoRA factors or quantised weights."""
    return any(p.lora_enabled or p.quantization_mode is not None for p in projections)


def _quantised(site: Site) -> str:
    return (
        f"{site.title} has LoRA or quantised projections; merge the factors, quantise what was cut"
    )


def _known(layer: Any, names: Sequence[str], default: int | None = None) -> int:
    found = [getattr(layer, name) for name in names if hasattr(layer, name)]
    return int(found[0] if found or default is None else default)


def _count(units: Units) -> Edit:
    return lambda keep: keep.count(units)


def _filling(units: Units, size: int) -> Units:
    """Return units along an axis on which each has a block of places."""
    return np.repeat(units, size // len(units))
