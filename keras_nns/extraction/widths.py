"""Which widths of layers are worth having on an NPU, as its own compiler says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import keras

from keras_nns.errors import SelectionError
from keras_nns.extraction.devices import NpuEstimates
from keras_nns.files.atomic import Json
from keras_nns.graph.inspection import Steps
from keras_nns.graph.tracing import hidden_layout, trace
from keras_nns.plans.kept_units import Plan
from keras_nns.shipping.forms import Form
from keras_nns.surgery.cutting import cut
from keras_nns.tables import Table, Tabular
from tflite_export.width_steps import nearest

_MOST = 64
"""At how many widths of a layer the compiler is asked, at most."""


@dataclass(frozen=True)
class LayerWidths:
    """What an NPU takes with fewer units of one group, all others as they are.

    Attributes:
        group: Name of the group.
        units: How many units it has.
        cycles: Cycles of the whole network by the width of this group, the widest first.
    """

    group: str
    units: int
    cycles: dict[int, int]

    @property
    def corners(self) -> tuple[int, ...]:
        """The widths at which most is saved for the units that leave, the widest first.

        Corners of the convex hull of cycles over widths: each between them costs as good as what
        the next corner above costs, or more.
        """
        widths = list(self.cycles)
        found, at = [], 0
        while at < len(widths) - 1:
            slopes = [
                (self.cycles[widths[at]] - self.cycles[width]) / (widths[at] - width)
                for width in widths[at + 1 :]
            ]
            if max(slopes) <= 0:
                break
            # Of equals the narrowest.
            at += len(slopes) - slopes[::-1].index(max(slopes))
            found.append(widths[at])
        return tuple(found)

    @property
    def behind_a_step(self) -> bool:
        """Whether a few units are dear: they cost more than twice what one costs on average."""
        if not self.corners:
            return False
        first, last = self.corners[0], min(self.cycles)
        whole = self.cycles[self.units]
        dear = (whole - self.cycles[first]) / (self.units - first)
        return first > last and dear > 2 * (whole - self.cycles[last]) / (self.units - last)


@dataclass(frozen=True, repr=False)
class NpuWidths(Tabular):
    """Which widths are worth having on an NPU. Print it for a table.

    Attributes:
        model: Name of the model.
        target: The NPU.
        cycles: What the whole model takes.
        layers: The groups of units, in the order of the graph.

    Example:
        >>> found = nns.npu_widths(resnet, target="ethos-u55-128")
        >>> found.target, len(found.layers)
        ('ethos-u55-128', 1)
    """

    model: str
    target: str
    cycles: int
    layers: tuple[LayerWidths, ...]

    def to_table(self) -> Table:
        """Return the groups, each with the widths that save most, as a table."""
        rows = tuple(
            (
                layer.group,
                str(layer.units),
                ", ".join(f"{w} ({layer.cycles[w] / self.cycles:.2f})" for w in layer.corners[:4]),
                f"{layer.units - layer.corners[0]} fewer save "
                f"{1 - layer.cycles[layer.corners[0]] / self.cycles:.0%}"
                if layer.behind_a_step
                else "",
            )
            for layer in self.layers
        )
        return Table(
            ("group", "units", "narrower, and cycles of the whole", "just behind a step"),
            rows,
            f"{self.model} on an {self.target}: {self.cycles:,} cycles, estimated by its compiler.",
            prose=(0, 2, 3),
        )

    def to_json(self) -> Json:
        """Return all widths that were asked about as plain data."""
        return {
            "model": self.model,
            "target": self.target,
            "cycles": self.cycles,
            "layers": [
                {
                    "group": layer.group,
                    "units": layer.units,
                    "cycles": {str(width): cycles for width, cycles in layer.cycles.items()},
                    "corners": list(layer.corners),
                    "behind_a_step": layer.behind_a_step,
                }
                for layer in self.layers
            ],
        }


def npu_widths(model: keras.Model, *, target: str = "ethos-u55-128") -> NpuWidths:
    """Ask an NPU's compiler which widths of a model's layers are worth having.

    Hardware computes by blocks of channels: 17 of them may cost what 24 cost. Each group of units
    is made narrower by itself, in an int8 file with made-up ranges, since cycles do not depend on
    them. Nothing is cut; `extract` with a budget of `npu_cycles` uses the same answers.

    Args:
        model: A model that can be cut.
        target: The NPU, one of `tflite_export.NPU_TARGETS`.

    Returns:
        Cycles by width of every group, and those that stand just behind a step.

    Raises:
        SelectionError: Nothing of the model runs on the NPU.
        ModelError: The model has no graph, or nothing that can be cut.
        tflite_export.ExportError: There is no such NPU, its compiler is missing, or there is no
            int8 file of the model.

    Example:
        >>> print(nns.npu_widths(model, target="ethos-u55-128"))
         group     units   narrower, and cycles of the whole   just behind a step
         ────────────────────────────────────────────────────────────────────────
         dense        32   1 (0.39)
         dense_1      16   1 (0.82)
        digits on an ethos-u55-128: 4,409 cycles, estimated by its compiler.
    """
    whole, cycles, sizes = _asking(model, target)
    found = []
    for name, size in sizes.items():
        widths = range(size - 1, 0, -max(1, size // _MOST))
        known = {width: cycles(name, width) for width in (size, *widths)}
        found.append(LayerWidths(name, size, known))
    return NpuWidths(model.name, target, whole, tuple(found))


def steps_of(model: keras.Model, target: str) -> Steps:
    """Find the groups that stand just behind a step of an NPU, asking about few widths.

    Args:
        model: A model that can be cut.
        target: The NPU.

    Returns:
        The groups, with the widest width on the other side of the step.

    Raises:
        SelectionError: As `npu_widths`, and so are the other errors.
    """
    whole, cycles, sizes = _asking(model, target)
    found = {}
    for name, size in sizes.items():
        widths = sorted({max(size - 2**power, 1) for power in range(size.bit_length())})
        layer = LayerWidths(
            name, size, {width: cycles(name, width) for width in (size, *widths[::-1])}
        )
        if layer.behind_a_step:
            better = nearest(partial(cycles, name), size, layer.corners[0])
            found[name] = (better, cycles(name, better))
    return Steps(target, whole, found)


def _asking(
    model: keras.Model, target: str
) -> tuple[int, Callable[[str, int], int], dict[str, int]]:
    """Give the cycles of the whole, those by group and width, and the groups with their sizes."""
    graph = trace(model)
    hidden_layout(graph)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {name: tuple(range(size)) for name, size in sizes.items()}
    everything = Plan(graph.fingerprint, sizes, kept, (0,), ("0",))
    form = Form("int8")
    asked = NpuEstimates(
        graph.layout, everything, lambda plan: form.sized(cut(model, plan)), target
    )
    whole = round(asked.of(everything)["npu_cycles"])
    if not whole:
        raise SelectionError(
            f"Nothing of {model.name!r} runs on an {target}. tflite_export.npu says why, for its "
            "int8 file."
        )

    def cycles(name: str, width: int) -> int:
        plan = replace(everything, kept={**kept, name: tuple(range(width))})
        return round(asked.of(plan)["npu_cycles"])

    return whole, cycles, {name: sizes[name] for name in asked.names}
