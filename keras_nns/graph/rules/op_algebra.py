"""Sums over axes and products of tensors: `keras.ops` reductions, matmul, einsum, and `Dot`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import layers
from keras.src.ops import linalg, math
from keras.src.ops import numpy as knp

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.normalization import axes_of
from keras_nns.graph.rules.operands import Operand, operands, slice_constant
from keras_nns.graph.rules.records import Units
from keras_nns.graph.rules.registry import known, rule


@rule(knp.Sum, knp.CountNonzero)
def total(site: Site) -> None:
    """Sum over axes: removed units are zero and add nothing."""
    _reduce(site, exact=True)


@rule(linalg.Norm)
def norm(site: Site) -> None:
    """Take a length: zeros add nothing to it, but they are the least of all entries."""
    order = site.operation.ord
    _reduce(site, exact=not isinstance(order, int | float) or order >= 0)


@rule(
    knp.Mean,
    knp.Max,
    knp.Min,
    knp.Amax,
    knp.Amin,
    knp.Prod,
    knp.Median,
    *known(knp, "Ptp"),
    knp.Std,
    knp.Var,
    knp.Any,
    knp.All,
    knp.Argmax,
    knp.Argmin,
    math.Logsumexp,
)
def statistic(site: Site) -> None:
    """Reduce axes: units along them must stay, because zeros would count."""
    _reduce(site, exact=False)


@rule(knp.Average)
def average(site: Site) -> None:
    """Reduce an axis; weights of elements, if any, would have to leave with them."""
    if len(operands(site, ("x", "weights"))) > 1:
        site.protect_all(f"{site.title} weighs elements one by one; multiply and sum instead")
        site.emit({})
    else:
        _reduce(site, exact=False)


def _reduce(site: Site, *, exact: bool) -> None:
    operation, rank = site.operation, site.input.rank
    axes = range(rank) if operation.axis is None else axes_of(operation.axis, rank)
    for axis in axes:
        units = site.input.on(axis)
        if exact:
            site.reads(units)
        else:
            site.protect(units, f"{site.title} reduces their axis, where zeros would count")
    stay = [axis for axis in range(rank) if axis not in axes]
    keepdims = getattr(operation, "keepdims", False)
    site.emit(
        {
            (axis if keepdims else stay.index(axis)): units
            for axis, units in site.input.units.items()
            if axis in stay
        }
    )


@rule(knp.Cumsum)
def running_total(site: Site) -> None:
    """Add up along an axis: removed units are zero and add nothing to what follows."""
    _run(site, exact=True)


@rule(knp.Cumprod)
def running_product(site: Site) -> None:
    """Multiply up along an axis, where zeros would make what follows zero."""
    _run(site, exact=False)


def _run(site: Site, *, exact: bool) -> None:
    axis = site.operation.axis
    if axis is None:
        site.protect_all(f"{site.title} flattens all axes; name one")
        site.emit({})
        return
    units = site.input.on(axis)
    if exact:
        site.reads(units)
    else:
        site.protect(units, f"{site.title} runs along their axis, where zeros would count")
    site.emit(site.input.units)


@rule(knp.Sort, knp.Argsort, knp.Diff, math.TopK)
def along_an_axis(site: Site) -> None:
    """Compare or subtract what lies along one axis; units on the others do not meet."""
    rank = site.input.rank
    given = getattr(site.operation, "axis", -1)
    over = range(rank) if given is None else axes_of(given, rank)
    for axis in over:
        site.protect(site.input.on(axis), f"{site.title} compares what lies along their axis")
    rest = {axis: units for axis, units in site.input.units.items() if axis not in over}
    site.emit(*[rest for _ in site.shapes])


@rule(knp.Dot)
def product(site: Site) -> None:
    """Sum products over the last axis of one and the last but one of the other."""
    given = operands(site, ("x1", "x2"))
    if len(given) < 2:
        site.emit(site.input.units)
        return
    _contract(site, given, [given[0].stream.rank - 1], [max(given[1].stream.rank - 2, 0)])


@rule(knp.Tensordot)
def tensor_product(site: Site) -> None:
    """Sum products over axes of one and axes of the other, pair by pair."""
    given = operands(site, ("x1", "x2"))
    first, second = (one.stream.rank for one in given)
    axes = site.operation.axes
    if isinstance(axes, int):
        pairs = [range(first - axes, first), range(axes)]
    else:
        pairs = [np.atleast_1d(one).tolist() for one in axes]
    _contract(site, given, axes_of(list(pairs[0]), first), axes_of(list(pairs[1]), second))


def _contract(
    site: Site, given: Sequence[Operand], first: Sequence[int], second: Sequence[int]
) -> None:
    """Describe a product that sums over pairs of axes and keeps all the others."""
    sources = []
    for place, (one, over) in enumerate(zip(given, (first, second), strict=True)):
        names = [f"{place}{axis}" for axis in range(one.stream.rank)]
        for number, axis in enumerate(over):
            names[axis] = f"sum{number}"
        sources.append(names)
    target = [name for names in sources for name in names if not name.startswith("sum")]
    multiply(site, given, sources, target)


@rule(knp.Matmul)
def matmul(site: Site) -> None:
    """Multiply matrices; axes in front are aligned at the right."""
    given = operands(site, ("x1", "x2"))
    ranks = [one.stream.rank for one in given]
    batch = max(max(ranks) - 2, 0)
    front = [f"b{i}" for i in range(batch)]
    sources = []
    for own, rank in zip((["row", "sum"], ["sum", "column"]), ranks, strict=True):
        sources.append(["sum"] if rank == 1 else [*front[batch - (rank - 2) :], *own])
    target = [
        *front,
        *(["row"] if ranks[0] > 1 else []),
        *(["column"] if ranks[1] > 1 else []),
    ]
    multiply(site, given, sources, target)


@rule(knp.Einsum)
def einsum(site: Site) -> None:
    """Follow the letters of the equation."""
    given = operands(site, [str(i) for i in range(len(site.args))])
    left, arrow, target = site.operation.subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != len(given):
        site.protect_all(f"{site.title} does not say what comes out: write it with `->`")
        site.emit({})
        return
    dots = max(
        one.stream.rank - len(t.replace("...", "")) for one, t in zip(given, terms, strict=True)
    )
    sources = [_spell(term, one.stream.rank, dots) for term, one in zip(terms, given, strict=True)]
    multiply(site, given, sources, _spell(target, len(site.shapes[0]), dots))


def _spell(term: str, rank: int, dots: int) -> list[str]:
    """Write an einsum term as a list, with names for the axes that its dots stand for."""
    if "..." not in term:
        return list(term)
    before, _, after = term.partition("...")
    missing = rank - len(before) - len(after)
    return [*before, *[f".{i}" for i in range(dots - missing, dots)], *after]


@rule(layers.Dot)
def dot(site: Site) -> None:
    """Sum products over one axis of each of two tensors, sample by sample."""
    given = [Operand(i, stream, False) for i, stream in enumerate(site.inputs)]
    axes = site.operation.axes
    pair = [axes, axes] if isinstance(axes, int) else axes
    over = [axis % one.stream.rank for axis, one in zip(pair, given, strict=True)]
    sources = [
        [
            "batch" if axis == 0 else "sum" if axis == over[place] else f"{place}{axis}"
            for axis in range(one.stream.rank)
        ]
        for place, one in enumerate(given)
    ]
    rest = [name for source in sources for name in source if name not in ("batch", "sum")]
    # Keras puts a last axis of size one behind a result that would have none.
    multiply(site, given, sources, ["batch", *(rest or ["one"])])


def multiply(
    site: Site, given: Sequence[Operand], sources: Sequence[Sequence[str]], target: Sequence[str]
) -> None:
    """Describe a sum of products in which axes of the same name meet.

    A unit on an axis that is summed over must leave every tensor in the product: then its terms,
    zero in the masked model, are missing in the cut one. Constants are sliced along.

    Args:
        site: The call.
        given: The tensors.
        sources: A name for each axis of each of them.
        target: Names of the axes of the result.
    """
    found: dict[str, Units] = {}
    for name in dict.fromkeys(name for source in sources for name in source):
        sizes = [
            (one, one.stream.shape[source.index(name)], one.stream.on(source.index(name)))
            for one, source in zip(given, sources, strict=True)
            if name in source
        ]
        wide = [entry for entry in sizes if entry[1] != 1] or sizes
        carried = [units for one, _, units in wide if not one.constant]
        if all(units is None for units in carried):
            continue
        for _, size, units in sizes:
            if (
                size == 1
                and units is not None
                and len(units) < max(len(u) for u in carried if u is not None)
            ):
                site.protect(units, f"{site.title} repeats them along the axis of other units")
        first = carried[0]
        for units in carried[1:]:
            if first is not None or units is not None:
                first = site.couple(first, units)
        if first is None:
            continue
        found[name] = first
        for one, source in zip(given, sources, strict=True):
            if one.constant and name in source and one.stream.shape[source.index(name)] != 1:
                slice_constant(site, one.place, {source.index(name): first})
        if name not in target:
            site.reads(first)
    site.emit({axis: found[name] for axis, name in enumerate(target) if name in found})
