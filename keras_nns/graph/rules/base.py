"""What a rule is: the contract between the graph and the layer families.

A rule tells, for one call of one layer, which units its inputs carry, which units it makes, which
axis of which weight belongs to which units, and which numbers of its configuration are counts of
units. From that alone the graph is grouped, the smaller model built and the masked one checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nns.errors import SurgeryError
from keras_nns.graph.rules.records import (
    FIXED,
    Binding,
    Blueprint,
    CallEdit,
    Edit,
    Family,
    Keep,
    Ledger,
    Passing,
    Path,
    Reading,
    Shape,
    Skip,
    Stream,
    Through,
    Units,
)


class Site:
    """One call of one layer or operation, as its rule sees it.

    Attributes:
        operation: The layer or operation. A rule reads its settings and never calls it.
        path: Its path in the model, for messages and unit names.
        inputs: The tensors it is called on, in order.
        args: Its positional arguments, tensors replaced by their `Stream`.
        kwargs: Its keyword arguments, likewise.
        shapes: Shapes of the tensors it returns.
        outputs: What the rule has said comes out.
        passing: What the rule has said about how units pass.
        readings: Where the rule has said that units inside the layer are seen.

    Example:
        >>> class Twice(keras.layers.Layer):
        ...     def call(self, inputs):
        ...         return 2 * inputs
        >>> @nns.rules.register(Twice)
        ... def twice(site):
        ...     site.emit(site.input.units)  # each unit comes out where it came in
        ...     site.passes()
    """

    def __init__(
        self,
        ledger: Ledger,
        operation: Any,
        path: str,
        inputs: Sequence[Stream],
        shapes: Sequence[Shape],
        *,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        root: Any = None,
        config: Path = (),
        call_edits: list[CallEdit] | None = None,
    ) -> None:
        self.operation = operation
        self.path = path
        self.inputs = list(inputs)
        self.shapes = list(shapes)
        self.args = args
        self.kwargs = dict(kwargs or {})
        self.outputs: list[Stream] | None = None
        self.passing = Passing()
        self.readings: list[Reading] = []
        self.call_edits = [] if call_edits is None else call_edits
        self._ledger = ledger
        self._root = operation if root is None else root
        self._config = config

    @property
    def input(self) -> Stream:
        """The only input."""
        return self.inputs[0]

    @property
    def title(self) -> str:
        """The layer as messages name it."""
        return f"{type(self.operation).__name__} {self.path!r}"

    def make(self, count: int, kind: str = "") -> Units:
        """Say that the layer makes `count` units; a layer called twice makes them once.

        Args:
            count: How many.
            kind: What they are, where a layer makes units of several kinds (`"heads"`).
        """
        name = f"{self.path}:{kind}" if kind else self.path
        if name not in self._ledger.families:
            units = np.arange(count, dtype=np.int64) + self._ledger.count
            self._ledger.count += count
            of = f"{type(self.operation).__name__}:{kind}"
            self._ledger.families[name] = Family(name, self.path, units, of)
        return self._ledger.families[name].units

    def bind(
        self, variable: Any, axes: Mapping[int, Units | None], *, silence: Iterable[int] = ()
    ) -> None:
        """Say which units lie along which axes of a weight.

        Args:
            variable: The weight; None (a layer without bias) is passed over.
            axes: Units by axis; None for an axis that is fixed.
            silence: Axes along which `mask` zeroes removed units inside the layer.
        """
        if variable is None:
            return
        index = self._index_of(variable)
        rank = len(variable.shape)
        bound: dict[int, Units] = {}
        for axis, given in axes.items():
            size = variable.shape[axis]
            units = np.full(size, FIXED, dtype=np.int64) if given is None else given
            if len(units) != size:
                raise SurgeryError(
                    f"The rule of {self.title} binds {len(units)} units to axis {axis} of weight "
                    f"{variable.name!r} of shape {tuple(variable.shape)}."
                )
            bound[axis % rank] = units
        bindings = self._blueprint().bindings
        quiet = tuple(axis % rank for axis in silence)
        if index not in bindings:
            bindings[index] = Binding(bound, quiet)
            return
        known = bindings[index]
        for axis, units in bound.items():
            # What an earlier call of the same layer did not bind was fixed there.
            known.axes.setdefault(axis, np.full(len(units), FIXED, dtype=np.int64))
            self.couple(known.axes[axis], units)
        for axis in known.axes.keys() - bound.keys():
            self.couple(known.axes[axis], np.full(len(known.axes[axis]), FIXED, dtype=np.int64))
        known.silence = tuple(sorted({*known.silence, *quiet}))

    def rescale(self, variable: Any, factor: Edit) -> None:
        """Say what a bound weight is multiplied by when units leave.

        For a layer that divides by a count of units (the dimensions of attention keys, the features
        of a root mean square), so that the cut model divides by what the parent divided by.

        Args:
            variable: The weight, which `bind` has been told of; None is passed over.
            factor: From what is kept to the factor.
        """
        if variable is not None:
            self._blueprint().bindings[self._index_of(variable)].scale = factor

    def _index_of(self, variable: Any) -> int:
        for index, known in enumerate(self._root.variables):
            if known is variable:
                return index
        raise SurgeryError(
            f"The rule of {self.title} binds {getattr(variable, 'name', variable)!r}, which is not "
            "a variable of the layer."
        )

    def reads(self, units: Units | None) -> None:
        """Say that weights of the layer consume these units (so they are hidden ones)."""
        if units is not None:
            is_layer = hasattr(type(self._root), "weights")
            self._ledger.read.append((units, self.title if is_layer else ""))

    def configure(self, key: str | Path, value: Units | Edit | None) -> None:
        """Say what a number in the layer's configuration becomes.

        Args:
            key: Key of `get_config()`, or a path of keys.
            value: Units whose count it is, or a function of what is kept.
        """
        if value is None:
            return
        if isinstance(value, np.ndarray):
            units = value
            edit: Edit = lambda keep: keep.count(units)  # noqa: E731
        else:
            edit = value
        path: Path = (key,) if isinstance(key, str) else key
        self._blueprint().edits[self._config + path] = edit

    def rebuild(
        self,
        make: Callable[[Keep], tuple[type, dict[str, Any]]],
        *,
        close: Callable[[Keep], tuple[type, dict[str, Any]]] | None = None,
    ) -> None:
        """Say which type and configuration the new layer is made from.

        For a layer whose own configuration cannot express what is left of it: its weights must come
        in the same order. It takes the place of `configure`.

        Args:
            make: From what is kept to the type and the configuration.
            close: The same for the masked model: a full-size layer in which the units that do not
                stay do nothing. None where zeros in weights are enough.
        """
        self._blueprint().make = make
        self._blueprint().close = close

    def skips(self, unit: Units, *silenced: Any, added: bool = True) -> None:
        """Say that without a unit the layer gives its first input back: a residual block.

        Args:
            unit: The one unit that stands for the block.
            *silenced: Weights at the ends of its branches, in order, at whose zeros it does so.
            added: Whether what the branches end in is added as it is.
        """
        ends = tuple(self._index_of(one) for one in silenced if one is not None)
        self._blueprint().skip = Skip(unit, ends, added)

    def rewrite(self, edit: CallEdit) -> None:
        """Say how the arguments of this call change: `edit(keep, args, kwargs)`."""
        self.call_edits.append(edit)

    def couple(self, one: Units | None, other: Units | None) -> Units:
        """Say that positions of two axes stay or go together, and return the units of either.

        Where one side is fixed the other becomes protected.
        """
        if one is None or other is None:
            units = other if one is None else one
            if units is None:
                raise ValueError("couple() needs units on one side at least")
            self.protect(units, f"{self.title} joins them with something that cannot be cut")
            return units
        if len(one) != len(other):
            raise SurgeryError(
                f"The rule of {self.title} couples {len(one)} units with {len(other)}."
            )
        self._ledger.couplings.append((one, other, self.title))
        for fixed, free in ((one, other), (other, one)):
            lone = free[(fixed == FIXED) & (free != FIXED)]
            self.protect(lone, f"{self.title} joins them with something that cannot be cut")
        return np.where(one == FIXED, other, one)

    def protect(self, units: Units | None, reason: str) -> None:
        """Say that units cannot be removed, and why."""
        if units is not None and (units != FIXED).any():
            self._ledger.protections.append((units[units != FIXED], reason))

    def protect_made(self, kind: str, reason: str) -> None:
        """Say that units of a kind that the layer makes cannot be removed, if it makes any."""
        family = self._ledger.families.get(f"{self.path}:{kind}" if kind else self.path)
        if family is not None:
            self.protect(family.units, reason)

    def protect_all(self, reason: str, streams: Iterable[Stream] | None = None) -> None:
        """Protect every unit of the inputs, or of the given streams."""
        for stream in self.inputs if streams is None else streams:
            for units in stream.units.values():
                self.protect(units, reason)

    def at_least(self, units: Units, count: int) -> None:
        """Say how many of these units a layer cannot do without."""
        self._ledger.floors.append((units, count))

    def normalises(self, units: Units | None) -> None:
        """Say that a softmax runs over these units: removing one changes the others.

        Hidden units are protected; labels of the model's output may leave, which renormalises.
        """
        if units is not None:
            self._ledger.normalised.append((units, f"{self.title} normalises over them"))

    def emit(self, *units: Mapping[int, Units | None]) -> None:
        """Say which units lie along which axes of each output tensor."""
        if len(units) != len(self.shapes):
            raise SurgeryError(
                f"The rule of {self.title} describes {len(units)} outputs; it has "
                f"{len(self.shapes)}."
            )
        self.outputs = []
        for shape, axes in zip(self.shapes, units, strict=True):
            known = {axis % len(shape): u for axis, u in axes.items() if u is not None}
            for axis, numbers in known.items():
                if shape[axis] is not None and shape[axis] != len(numbers):
                    raise SurgeryError(
                        f"The rule of {self.title} puts {len(numbers)} units on axis {axis} of an "
                        f"output of shape {shape}."
                    )
            self.outputs.append(Stream(shape, known))

    def passes(
        self, *, nonlinear: bool = False, nonnegative: bool = False, merges: bool = False
    ) -> None:
        """Say that units go through one to one, so that a layer may be watched behind this call."""
        self.passing = Passing(True, merges, nonlinear, nonnegative)

    def watch(
        self,
        units: Units,
        held: Any,
        values: Callable[..., Any] | None = None,
        *,
        padding: str | None = None,
        through: Through | None = None,
    ) -> None:
        """Say where units are seen that act inside the layer (the heads of an attention).

        The units of a layer inside a wrapper are not watched: it is run in the wrapper's own way.

        Args:
            units: Units that are gone in what the layer returns.
            held: A layer that this one holds and calls once; its input carries the units, as equal
                blocks along its last two axes taken together. Or the layer itself, for the unit
                that stands for all of it: `values` takes its first input and its output then.
            values: From that input `(batch, …)` to values `(batch, …, units)`, never negative.
                What lies between is averaged over. None: the values are the input's, one on each
                place of its last axis. An input whose samples and steps lie along one axis is
                taken apart by the samples of what the layer returns.
            padding: Name of the argument of the layer's call that is true at the positions that
                count, `(batch, steps)` or `(batch, 1, steps)`. None goes by the Keras mask of what
                the layer returns, as is done where the argument is not given.
            through: How a loss depends on units that are no blocks of the input.
        """
        whole = held is self.operation
        self.readings.append(Reading(units, held, values, padding, through, whole))

    def part(
        self,
        operation: Any,
        inputs: Sequence[Stream],
        shapes: Sequence[Shape],
        *,
        config: Path,
        name: str | None = None,
    ) -> Site:
        """Describe a layer inside this one (of a wrapper) as a site of its own.

        Args:
            operation: The inner layer.
            inputs: What it is called on.
            shapes: Shapes of what it returns.
            config: Where its configuration lies in the outer `get_config()`.
            name: Name of the part in unit names; units are named after the wrapper without it.
        """
        return Site(
            self._ledger,
            operation,
            self.path if name is None else f"{self.path}/{name}",
            inputs,
            shapes,
            root=self._root,
            config=self._config + config,
            call_edits=self.call_edits,
        )

    def kept_shapes(self, keep: Keep) -> list[Shape]:
        """Return the shapes of the layer's variables, in order, once units have left."""
        return self._blueprint().shapes(keep)

    def _blueprint(self) -> Blueprint:
        blueprints = self._ledger.blueprints
        if id(self._root) not in blueprints:
            blueprints[id(self._root)] = Blueprint(self.path, self._root)
        return blueprints[id(self._root)]
