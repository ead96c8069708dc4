"""What rules write down: tensors and their units, what is kept, what must change in each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Units = NDArray[np.int64]
"""Unit numbers along one axis of a tensor, in order; `FIXED` where a position cannot be removed."""

FIXED = -1
"""Stands in `Stream.units` where a position cannot be removed.

Example:
    >>> units = np.array([4, 5, nns.rules.FIXED])  # the last position stays, whatever leaves
"""

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Stream:
    """What is known of one tensor: its shape, and which units lie along which of its axes.

    Attributes:
        shape: With the batch axis; None where a dimension is not known.
        units: For each axis that carries units, their numbers. Other axes are fixed.

    Example:
        >>> stream = nns.rules.Stream((None, 3), {1: np.array([4, 5, nns.rules.FIXED])})
        >>> stream.on(-1), stream.on(0)
        (array([ 4,  5, -1]), None)
    """

    shape: Shape
    units: Mapping[int, Units] = field(default_factory=dict)

    def on(self, axis: int) -> Units | None:
        """Return the units on an axis (which may be negative), or None where it is fixed."""
        return self.units.get(axis % len(self.shape))

    @property
    def rank(self) -> int:
        """Number of axes, the batch axis included."""
        return len(self.shape)


class Keep:
    """Which of the graph's units stay, asked by the unit numbers a `Stream` carries."""

    def __init__(self, kept: NDArray[np.bool_]) -> None:
        # One more entry than there are units, so that FIXED (-1) reads as kept.
        self._kept = np.append(kept, True)

    def mask(self, units: Units) -> NDArray[np.bool_]:
        """Return which positions stay, `(positions,)`."""
        return np.asarray(self._kept[units])

    def where(self, units: Units) -> NDArray[np.int64]:
        """Return the positions that stay."""
        return np.flatnonzero(self._kept[units])

    def count(self, units: Units) -> int:
        """Return how many positions stay."""
        return int(np.count_nonzero(self._kept[units]))

    def all(self, units: Units) -> bool:
        """Return whether every position stays."""
        return bool(self._kept[units].all())


Edit = Callable[[Keep], Any]
Path = tuple[str | int, ...]
"""Where an entry lies in a configuration: keys, and positions in lists."""

CallEdit = Callable[[Keep, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


@dataclass
class Binding:
    """One weight: which of its axes belong to which units.

    Attributes:
        axes: Units on each bound axis.
        silence: Axes along which `mask` must zero the removed units inside the layer, because
            they act there before the layer's output can be masked (a recurrent state).
        scale: What the weight is multiplied by in the cut model, where the layer divides by a
            count of units that gets smaller.
    """

    axes: dict[int, Units]
    silence: tuple[int, ...] = ()
    scale: Edit | None = None


@dataclass(frozen=True, eq=False)
class Skip:
    """The unit that stands for a whole residual block, without which it gives its input back.

    Attributes:
        unit: Its number, `(1,)`.
        silenced: Weights by position in `operation.variables` at whose zeros it does so, in the
            order of the branches.
        added: Whether what the branches end in is added as it is, nothing in between.
    """

    unit: Units
    silenced: tuple[int, ...]
    added: bool = True


@dataclass
class Blueprint:
    """What must change in one layer when units leave: gathered over all of its calls.

    Attributes:
        path: Path of the layer in the model.
        operation: The user's layer. Read, never called.
        bindings: Weights by position in `operation.variables`.
        edits: New configuration values by path in `operation.get_config()`.
        make: What the new layer is made of, type and configuration, in place of all edits.
        close: What the layer of the masked model is made of, full-size, where units act inside in a
            way that no zero in a weight ends.
        skip: The unit without which the layer is left out.
    """

    path: str
    operation: Any
    bindings: dict[int, Binding] = field(default_factory=dict)
    edits: dict[Path, Edit] = field(default_factory=dict)
    make: Callable[[Keep], tuple[type, dict[str, Any]]] | None = None
    close: Callable[[Keep], tuple[type, dict[str, Any]]] | None = None
    skip: Skip | None = None

    def shapes(self, keep: Keep) -> list[Shape]:
        """Return the shapes of the layer's variables, in order, once units have left."""
        shapes = []
        for index, variable in enumerate(self.operation.variables):
            axes = self.bindings[index].axes if index in self.bindings else {}
            sizes = enumerate(variable.shape)
            shapes.append(tuple(keep.count(axes[a]) if a in axes else n for a, n in sizes))
        return shapes


@dataclass
class Family:
    """The units that one layer makes.

    Attributes:
        name: Path of the layer, with the kind of unit behind a colon where it makes several.
        layer: Path of the layer.
        units: Their numbers, consecutive.
        kind: Type of the layer, with the kind of unit behind a colon.
    """

    name: str
    layer: str
    units: Units
    kind: str = ""


class Ledger:
    """Everything rules write down while a graph is traced."""

    def __init__(self) -> None:
        self.families: dict[str, Family] = {}
        self.blueprints: dict[int, Blueprint] = {}
        self.couplings: list[tuple[Units, Units, str]] = []
        self.protections: list[tuple[Units, str]] = []
        self.outputs: list[tuple[Units, str]] = []
        self.normalised: list[tuple[Units, str]] = []
        self.floors: list[tuple[Units, int]] = []
        # With the layer that reads them, or nothing where it is an operation.
        self.read: list[tuple[Units, str]] = []
        self.count = 0


@dataclass
class Passing:
    """How one call treats the units that pass through it: what decides where to watch a layer.

    Attributes:
        through: Output units are the input's, one to one.
        merges: Several tensors come together.
        nonlinear: A nonlinearity has been applied.
        nonnegative: What comes out is never below zero.
    """

    through: bool = False
    merges: bool = False
    nonlinear: bool = False
    nonnegative: bool = False


@dataclass(frozen=True, eq=False)
class Through:
    """How a loss depends on units that are not blocks of what they are read from.

    Attributes:
        held: The layer inside whose answer carries what they do.
        products: From what the units are read from, that answer and the loss's gradient there to
            activation times gradient, with the units on the last axis.
    """

    held: Any
    products: Callable[[Any, Any, Any], Any]


@dataclass(frozen=True, eq=False)
class Reading:
    """Where units are seen that act inside a layer and are gone in what it returns.

    Attributes:
        units: Their numbers.
        held: The layer inside on whose input they are seen.
        values: From that input to their values, never negative, with the units on the last axis.
            None: the input's last axis has the values themselves.
        padding: The argument of the call that says which positions count, true where they do.
        through: How a loss depends on them; None where they are equal blocks of the input.
        whole: Whether `held` is the layer itself, and `values` takes what goes in and what comes
            out.
    """

    units: Units
    held: Any
    values: Callable[..., Any] | None
    padding: str | None = None
    through: Through | None = None
    whole: bool = False
